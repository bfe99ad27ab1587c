//! Breakers in a worker: what it knows about upstreams, asking before a call, and draining the wait lists of upstreams that recover.

pub mod client;
pub mod drain;
pub mod drain_tasks;
pub mod gate;
