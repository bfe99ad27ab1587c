//! Whether this program runs in a container, where the usual advice of an error would mislead: 127.0.0.1 is the container itself, nothing
//! can be installed, and settings are given from outside.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::LazyLock;

/// Docker leaves the first in every container, and Podman the second.
const MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
/// Kubernetes sets it in every container of a pod, whatever runs them.
const KUBERNETES: &str = "KUBERNETES_SERVICE_HOST";

static IS_INSIDE: LazyLock<bool> =
    LazyLock::new(|| has_signs(|mark| Path::new(mark).exists(), std::env::var_os(KUBERNETES).as_deref()));

/// Whether this program runs in a container.
pub fn is_inside() -> bool {
    *IS_INSIDE
}

/// The advice of an error: the first in a container, and the second elsewhere.
pub fn advice<'a>(inside: &'a str, elsewhere: &'a str) -> &'a str {
    if is_inside() { inside } else { elsewhere }
}

fn has_signs(exists: impl Fn(&str) -> bool, kubernetes: Option<&OsStr>) -> bool {
    MARKS.into_iter().any(exists) || kubernetes.is_some_and(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_podman_and_kubernetes_leave_signs() {
        assert!(has_signs(|mark| mark == "/.dockerenv", None));
        assert!(has_signs(|mark| mark == "/run/.containerenv", None));
        assert!(has_signs(|_| false, Some(OsStr::new("10.96.0.1"))));
        assert!(!has_signs(|_| false, None) && !has_signs(|_| false, Some(OsStr::new(""))));
    }
}
