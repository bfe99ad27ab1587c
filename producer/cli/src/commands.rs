//! The subcommands, a file each. `redial batch` has a folder of its own.

pub mod breakers;
pub mod cache;
pub mod cancel;
pub mod dead;
pub mod enqueue;
pub mod events;
pub mod limits;
pub mod list;
pub mod queues;
pub mod result;
pub mod schedule;
pub mod serve;
pub mod status;
pub mod stream;
pub mod wait;

use std::process::ExitCode;

/// The exit code if what the command names does not exist.
pub(crate) const NOT_FOUND: u8 = 3;
/// The exit code if a result is that of a dead call.
const DEAD_CALL: u8 = 5;

/// The exit code of a command that prints results: that one is missing counts more than that one is of a dead call.
fn exit_code(is_missing: bool, is_dead: bool) -> ExitCode {
    match (is_missing, is_dead) {
        (true, _) => ExitCode::from(NOT_FOUND),
        (false, true) => ExitCode::from(DEAD_CALL),
        (false, false) => ExitCode::SUCCESS,
    }
}

/// Where Redis is if nothing says so.
pub(crate) const DEFAULT_REDIS_URL: &str = "redis://127.0.0.1:6379";
