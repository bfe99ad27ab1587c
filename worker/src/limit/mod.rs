//! Limits in a worker: which ones apply to a call, asking them for many calls at once, and what a response reveals about them.

pub mod applied;
mod budget;
pub mod client;
pub mod configured;
pub mod feedback;
pub mod gate;
pub mod usage;
