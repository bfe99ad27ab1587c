//! Finds a program that is a Redis server.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names of servers, the first found wins. The last is in Debian's `redis-tools`: the server's own binary under another
/// name, which asks only that its first argument says what it is.
const NAMES: [&str; 3] = ["valkey-server", "redis-server", "redis-check-rdb"];

/// A command that starts the server, and its name; or what to install.
pub(super) fn find() -> Result<(Command, String), String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let found =
        NAMES.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|file| is_program(file)));
    let Some(file) = found else {
        return Err(format!(
            "REDIS_URL is not set, no Redis answers on this machine, and none of {} is on the PATH. \
             Install one (Debian, Ubuntu: apt-get install redis-server; Fedora: dnf install valkey; macOS: brew install redis) or set REDIS_URL",
            NAMES[..2].join(", ")
        ));
    };
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
