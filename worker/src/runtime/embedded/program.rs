//! Finds a program that is a Redis server.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names of servers; the first one found is used. The last is in Debian's `redis-tools`: the server's own binary under another name,
/// which acts as the server if its first argument says so.
const NAMES: [&str; 3] = ["valkey-server", "redis-server", "redis-check-rdb"];

/// There is no server to start.
#[derive(Debug, thiserror::Error)]
#[error(
    "REDIS_URL is not set, no Redis answers on this machine, and none of {names} is on the PATH. Install one (Debian, Ubuntu: apt-get install redis-server; Fedora: dnf install valkey; macOS: brew install redis) or set REDIS_URL",
    names = NAMES[..2].join(", ")
)]
pub(super) struct NoServerProgram;

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
