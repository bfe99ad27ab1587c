//! The events of a queue: what happened to its tasks, recorded for a while, and read by any number of readers over one connection.

pub mod feed;
pub mod history;
pub mod log;
pub mod story;
