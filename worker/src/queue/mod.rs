//! A worker at its queues: claims, slots, completions, heartbeats, and what is taken over from workers that died.

pub mod activity;
pub mod announcer;
pub mod backlog;
pub mod cancellations;
pub mod checker;
pub mod checks;
pub mod clock;
pub mod completer;
pub mod fetcher;
pub mod heartbeat;
pub mod held_tasks;
pub mod idle_queues;
mod lease_observer;
pub mod misplaced_pushes;
pub mod overdue;
mod push_listener;
pub mod queue_fetcher;
pub mod queue_worker;
pub mod redis_retry;
mod rotation;
pub mod scheduler;
mod slot_allocator;
pub mod slots;
pub mod sweeper;
pub mod vital;
pub mod wait_lists;
pub mod wakeups;
