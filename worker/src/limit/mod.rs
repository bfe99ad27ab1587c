//! Limits in a worker: which ones apply to a call, asking them for many calls at once, waiting for them, and what a response reveals
//! about them.

pub mod applied;
pub mod budget;
pub mod client;
pub mod clock;
pub mod configured;
pub mod drain;
pub mod feedback;
pub mod gate;
pub mod grant;
pub mod parking;
pub mod usage;
