//! The subcommands, a file each. `redial batch` has a folder of its own.

pub mod breakers;
pub mod cache;
pub mod cancel;
pub mod dead;
pub mod enqueue;
pub mod limits;
pub mod queues;
pub mod result;
pub mod schedule;
pub mod status;
pub mod wait;

/// The exit code if what the command names does not exist.
pub(crate) const NOT_FOUND: u8 = 3;
