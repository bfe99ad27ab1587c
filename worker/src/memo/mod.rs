//! Memos in a worker: asking before a call, leading a call for many tasks, and sharing its answer.

pub mod client;
pub mod gate;
pub mod leader;
pub mod sharer;
