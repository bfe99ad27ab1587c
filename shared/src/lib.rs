//! What Redial's worker and its producers share: the protocol, the keys, the scripts, and the only code that speaks to Redis.
//!
//! In reading order:
//!
//! - [`protocol`]: tasks and results as programs in any language push and read them; checked here, trusted everywhere else
//! - [`db`]: the handle on Redis: its address, its connections, every key
//! - [`script`]: every Lua script as a typed call
//! - [`queue`]: a queue from outside: enqueue, results, counts, search, cancellation, dead letters, batches
//! - [`consumer`]: a queue from a worker's side: claim, complete, reschedule, park, bury; heartbeat and reap
//! - [`memo`]: what the fleet remembers of a call: in flight, or its answer
//! - [`limit`]: rate and concurrency limits that the fleet shares
//! - [`breaker`]: circuit breakers and retry budgets that the fleet shares
//! - [`schedule`]: tasks that are pushed by the clock
//! - [`error`]: what can go wrong between here and Redis
//!
//! Decisions about a call (what to retry, how long to wait) are not made here but in the worker.

pub mod breaker;
pub mod consumer;
pub mod db;
pub mod error;
pub mod limit;
pub mod memo;
pub mod protocol;
pub mod queue;
pub mod schedule;
pub mod script;

pub use consumer::Consumer;
pub use db::Db;
pub use error::Error;
pub use protocol::id::{QueueName, TaskId, UnixMs, WorkerId};
pub use protocol::result::{Attempt, Reason, Source, Status, TaskResult};
pub use protocol::task::Task;
pub use queue::Queue;
pub use queue::waiter::Waiter;
