//! Whether this program runs in a container, where the usual advice of an error would mislead: 127.0.0.1 is the container itself, nothing
//! can be installed, and settings are given from outside.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::LazyLock;

/// Docker leaves the first in every container, and Podman the second.
const MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
/// Kubernetes sets it in every container of a pod, whatever runs them.
const KUBERNETES: &str = "KUBERNETES_SERVICE_HOST";

static IS_INSIDE: LazyLock<bool> = LazyLock::new(|| {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    has_signs(|mark| Path::new(mark).exists(), &mounts, std::env::var_os(KUBERNETES).as_deref())
});

/// Whether this program runs in a container.
pub fn is_inside() -> bool {
    *IS_INSIDE
}

/// The advice of an error: the first in a container, and the second elsewhere.
pub fn advice<'a>(inside: &'a str, elsewhere: &'a str) -> &'a str {
    if is_inside() { inside } else { elsewhere }
}

fn has_signs(exists: impl Fn(&str) -> bool, mounts: &str, kubernetes: Option<&OsStr>) -> bool {
    let is_marked = MARKS.into_iter().any(exists) && !is_on_its_own_disk(mounts);
    is_marked || kubernetes.is_some_and(|host| !host.is_empty())
}

/// Whether the root directory is that of a disk, by proc_pid_mountinfo(5): a virtual machine that was made from the file system of a container
/// has its mark as well. The root of a container is an overlay, or a folder of a disk.
fn is_on_its_own_disk(mounts: &str) -> bool {
    mounts.lines().any(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let source = fields.iter().position(|field| *field == "-").and_then(|dash| fields.get(dash + 2));
        fields.get(3..5) == Some(&["/", "/"]) && source.is_some_and(|source| source.starts_with("/dev/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVERLAY: &str = "612 534 0:65 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/a:/b\n613 612 0:68 / /proc rw - proc proc rw\n";
    const FOLDER: &str = "612 534 254:0 /var/lib/docker/vfs/dir/1f / rw,relatime - ext4 /dev/vda rw\n";
    const DISK: &str =
        "22 27 0:20 / /sys rw - sysfs sysfs rw\n27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n";

    #[test]
    fn docker_podman_and_kubernetes_leave_signs() {
        for mounts in [OVERLAY, FOLDER, ""] {
            assert!(has_signs(|mark| mark == "/.dockerenv", mounts, None));
            assert!(has_signs(|mark| mark == "/run/.containerenv", mounts, None));
        }
        assert!(has_signs(|_| false, DISK, Some(OsStr::new("10.96.0.1"))));
        assert!(!has_signs(|_| false, OVERLAY, None) && !has_signs(|_| false, OVERLAY, Some(OsStr::new(""))));
        assert!(!has_signs(|_| true, DISK, None), "a machine made from a container");
    }
}
