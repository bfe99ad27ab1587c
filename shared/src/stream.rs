//! The answer of a task while it arrives, in a Redis Stream: workers append it, any number of readers read it.

pub mod append;
mod feed;
pub mod reader;
mod reply;
