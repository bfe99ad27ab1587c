//! The subcommands, a file each. `redial batch` has a folder of its own.

pub mod breakers;
pub mod cache;
pub mod cancel;
pub mod dead;
pub mod enqueue;
pub mod events;
pub mod limits;
pub mod list;
pub mod partition;
pub mod queues;
pub mod result;
pub mod schedule;
pub mod serve;
pub mod status;
pub mod stream;
pub mod top;
pub mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use redial_core::db::embedded;

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

/// Where Redis is if nothing says so: at its usual port on this machine, with the password of the embedded Redis if it has one.
///
/// # Errors
/// The password cannot be read.
pub(crate) fn default_redis_url() -> anyhow::Result<String> {
    let port = std::env::var("REDIAL_EMBEDDED_PORT").ok().map_or(Ok(6379), |port| port.parse());
    let port = port.context("REDIAL_EMBEDDED_PORT is not a port")?;
    let given = std::env::var_os("REDIAL_STATE_DIR").filter(|state| !state.is_empty()).map(PathBuf::from);
    let state_dir = given.or_else(embedded::default_state_dir);
    embedded::url(state_dir.as_deref(), port)
        .context("the password of the embedded Redis; REDIS_URL names another Redis")
}
