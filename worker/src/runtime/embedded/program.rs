//! Finds a program that is a Redis server.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use redial_core::container;

/// Names of servers; the first one found is used. The last is in Debian's `redis-tools`: the server's own binary under another name,
/// which acts as the server if its first argument says so.
const NAMES: [&str; 3] = ["valkey-server", "redis-server", "redis-check-rdb"];

/// What to do about Redis in a container.
pub(super) const NO_REDIS_IN_CONTAINER: &str = "A container should not hold its own Redis, as its data would end with it: run Redis beside it, and \
     set REDIS_URL in the container's environment, such as redis://redis:6379 (docker run --env REDIS_URL=..., environment: in \
     docker-compose.yml, the Secret of deploy/kubernetes)";

/// There is no server to start.
#[derive(Debug, thiserror::Error)]
#[error("REDIS_URL is not set, no Redis answers on this machine, and none of {} is on the PATH. {}", NAMES[..2].join(", "), advice())]
pub(super) struct NoServerProgram;

fn advice() -> &'static str {
    container::advice(
        NO_REDIS_IN_CONTAINER,
        "Install one (Debian, Ubuntu: apt-get install redis-server; Fedora: dnf install valkey; macOS: brew install redis) or set REDIS_URL",
    )
}

/// A command that starts the server, and its name.
pub(super) fn find() -> Result<(Command, String), NoServerProgram> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut candidates = NAMES.iter().flat_map(|name| directories.iter().map(move |directory| directory.join(name)));
    let file = candidates.find(|file| is_program(file)).ok_or(NoServerProgram)?;
    let mut command = Command::new(&file);
    if file.ends_with("redis-check-rdb") {
        command.arg0("redis-server");
    }
    Ok((command, file.display().to_string()))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
