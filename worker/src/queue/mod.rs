//! A worker at its queues: claims, slots, completions, heartbeats, and what is taken over from workers that died.

pub mod clock;
pub mod completer;
pub mod fetcher;
pub mod heartbeat;
pub mod held_tasks;
mod push_listener;
mod queue_fetcher;
pub mod queue_worker;
pub mod redis_retry;
mod rotation;
pub mod scheduler;
mod slot_allocator;
mod sweeper;
pub mod wakeups;
