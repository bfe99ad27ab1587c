//! What Redial's worker and its producers share: the protocol, the keys, and the only code that speaks to Redis.
//!
//! In reading order:
//!
//! - [`id`]: the names of things: tasks, queues, workers, leases
//! - [`task`]: a call to make, as producers push it; parsed and checked here, trusted everywhere else
//! - [`result`]: what became of it, and the fixed list of reasons
//! - [`entry`]: what Redial keeps of a task beyond the producer's bytes
//! - [`keys`]: every key, in one place
//! - [`script`]: every Lua script, each with one typed function
//! - [`queue`]: the producer's side: enqueue, read the result, count
//! - [`waiter`]: waiting for results without polling
//! - [`overview`], [`find`]: how full queues are, who works on them, where a task is; pausing a queue
//! - [`schedule`]: tasks that are pushed by the clock
//! - [`batch`]: a file of tasks, pushed once each, and their answers
//! - [`consumer`]: the worker's side, a task's life: claim, begin, finish, retry, bury; heartbeat and reap
//! - [`memo`]: what the fleet remembers of a call: in flight, or its answer
//! - [`limiter`]: token buckets and places in flight, shared by the fleet
//! - [`credentials`]: what carries them: the one list
//! - [`cancel`]: end a task wherever it is
//! - [`dead`]: dead letters: list, replay, drop
//! - [`store`]: connections to one node, to Sentinel, to a Cluster
//! - [`error`]: what can go wrong between here and Redis
//! - [`schema`]: the protocol as JSON Schema
//!
//! What makes a decision about a call is not here but in the worker.

pub mod batch;
pub mod breaker;
pub mod cancel;
mod canonical;
pub mod consumer;
pub mod credentials;
pub mod dead;
pub mod entry;
pub mod error;
pub mod find;
pub mod id;
mod json;
pub mod keys;
pub mod limiter;
pub mod memo;
mod noted;
pub mod overview;
pub mod queue;
pub mod result;
pub mod schedule;
pub mod schema;
pub mod script;
pub mod store;
pub mod task;
pub mod waiter;

pub use consumer::Consumer;
pub use error::Error;
pub use id::{QueueName, TaskId, UnixMs, WorkerId};
pub use queue::Queue;
pub use result::{Attempt, Reason, Source, Status, TaskResult};
pub use store::Store;
pub use task::Task;
pub use waiter::Waiter;
