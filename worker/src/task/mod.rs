//! The life of a task in a worker. `execute` tells it; `gate`, `policy` and `settle` are its chapters.

mod added;
pub mod contain;
#[cfg(debug_assertions)]
mod debug;
pub mod events;
pub mod execute;
pub mod expire;
mod gate;
mod gen_ai;
pub mod heavy;
pub mod job;
pub mod policy;
pub mod refused;
pub mod settle;
pub mod stream;
mod task_trace;
pub mod traces;
pub mod types;
