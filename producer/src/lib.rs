//! HTTP calls that succeed: push calls to a [Redial](https://github.com/redial-project/redial) queue and wait for their answers.
//!
//! A worker makes each call until it succeeds: it retries with backoff, stays within limits that all workers share, and never does
//! what has been done. Programs in any language enqueue calls with a single `LPUSH`. This crate adds a typed [`Call`], a check before
//! the push, and waiting for any number of results over one connection, without polling.
//!
//! ```no_run
//! use redial::{Call, Client};
//! use std::time::Duration;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::open("redis://127.0.0.1:6379", "default")?;
//!
//!     // One call and its answer.
//!     let call = Call::post("https://api.example.com/v1/extract").json(&["some text"]);
//!     let Some(completed) = client.enqueue_and_wait(call, Duration::from_secs(60)).await? else {
//!         return Err("no answer within a minute: is a worker running?".into());
//!     };
//!     println!("{} {:?}", completed.id, completed.result()?.http_status);
//!
//!     // Many calls, and their answers as they arrive.
//!     let calls = (0..100).map(|page| Call::get(format!("https://api.example.com/v1/pages/{page}")).meta(&page));
//!     let mut results = client.enqueue_all_and_wait(calls).await?;
//!     while let Some(completed) = results.next().await {
//!         println!("{}", completed.json);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! [`Results`] is a [`Stream`](futures_core::Stream). The package's `examples` folder has a small program for each of: a call, the
//! cache, a call that is made once, a rate limit, a chain, a schedule and a stream.
//!
//! Modules, in reading order: `call` builds a task, `part` the parts of an upload, `prepare` checks it, `client` pushes it, `results` waits, `error` lists the causes
//! of failure.

mod call;
mod client;
mod error;
mod part;
mod prepare;
mod results;

pub use call::Call;
pub use client::{Client, IntoScheduledTask};
pub use error::Error;
pub use part::Part;
pub use prepare::{IntoTask, PreparedTask, prepare};
pub use results::{Completed, Results};

// Everything that the functions above take, return or report, so that a program needs no other crate of Redial.
/// The error of [`Queue`] and of Redis itself.
pub use redial_core::Error as CoreError;
pub use redial_core::protocol::id::{InvalidId, InvalidQueueName};
pub use redial_core::protocol::stream::{AnswerHead, StreamFailure};
pub use redial_core::protocol::task::{
    CacheScope, InvalidLimit, InvalidTask, Jitter, Limit, OnBreak, OnEmpty, ReturnAddress, TaskError,
};
pub use redial_core::protocol::then::{InvalidThen, PathError};
pub use redial_core::queue::cancel::Cancelled;
pub use redial_core::queue::find::{Search, TaskLocation};
pub use redial_core::queue::once::TaskFingerprint;
pub use redial_core::schedule::{Schedule, ScheduleError, When};
pub use redial_core::{AnswerStream, EntryId, StreamEntry, StreamEvent, StreamReader};
pub use redial_core::{Attempt, Queue, QueueName, Reason, Source, Status, TaskId, TaskResult, UnixMs, WorkerId};
pub use redial_core::{EventFeed, EventPage, EventReader, TaskEvent, TaskEventKind, TaskEventReader, WaitCause};
