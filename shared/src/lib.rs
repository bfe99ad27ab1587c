//! The protocol, Redis keys and Lua scripts that Redial's workers and producers share, and the only code that talks to Redis.
//!
//! To enqueue calls from Rust, use the crate `redial`, which builds on this one.
//!
//! In reading order:
//!
//! - [`protocol`]: tasks and results as programs in any language push and read them; checked here, trusted everywhere else
//! - [`db`]: the handle on Redis: its address, its connections, and every key
//! - [`script`]: every Lua script as a typed call
//! - [`queue`]: a queue as producers and operators see it: enqueue, results, counts, search, cancellation, dead letters, batches
//! - [`consumer`]: a queue as workers see it: claim, complete, reschedule, park, bury; heartbeat and reap
//! - [`memo`]: what the fleet remembers about a call: that it is in flight, or its answer
//! - [`limit`]: rate and concurrency limits that the fleet shares
//! - [`breaker`]: circuit breakers and retry budgets that the fleet shares
//! - [`schedule`]: tasks that are pushed at the times of a cron expression
//! - [`stream`]: the answer of a task while it arrives: appending it, and reading many of them
//! - [`event`]: what happens to tasks: recording it, and reading it as it happens
//! - [`statistics`]: what the workers of a queue count, and adding that up
//! - [`fleet`]: the workers, as they announce themselves
//! - [`shown`]: what people may see of tasks and answers: escaped, and without credentials
//! - [`private_files`]: files that belong to one user; [`watched_files`]: noticing that files have changed
//! - [`container`]: whether the program runs in a container, for the advice of errors
//! - [`served_hosts`]: under which names a server answers
//! - [`error`]: what can go wrong between this crate and Redis
//!
//! Decisions about a call, such as what to retry and how long to wait, are made in the worker.

pub mod breaker;
pub mod consumer;
pub mod container;
pub mod db;
pub mod error;
pub mod event;
pub mod fleet;
pub mod limit;
pub mod memo;
pub mod private_files;
pub mod protocol;
pub mod queue;
pub mod schedule;
pub mod script;
pub mod served_hosts;
pub mod shown;
pub mod statistics;
pub mod stream;
pub mod watched_files;

pub use consumer::Consumer;
pub use db::Db;
pub use error::{Error, ErrorRecovery};
pub use event::feed::{EventFeed, EventReader};
pub use event::history::TaskEventReader;
pub use event::log::EventPage;
pub use protocol::event::{TaskEvent, TaskEventKind, WaitCause};
pub use protocol::id::{QueueName, TaskId, UnixMs, WorkerId};
pub use protocol::result::{Attempt, Reason, Source, Status, TaskResult};
pub use protocol::stream::{EntryId, StreamEntry, StreamEvent};
pub use protocol::task::Task;
pub use queue::Queue;
pub use queue::waiter::Waiter;
pub use stream::reader::{AnswerStream, StreamReader};
