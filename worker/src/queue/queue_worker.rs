//! A worker at one of its queues: the handles that the steps of a task use.
//!
//! Only handles are here. State belongs to the part that changes it: held tasks to [`HeldTasks`], "Redis is away" to [`RedisRetry`],
//! claims and pauses to the fetcher.

use std::sync::Arc;

use redial_core::protocol::id::Token;
use redial_core::{Consumer, Queue, QueueName};
use redial_traces::Traces;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::activity::QueueActivity;
use super::checks::Checks;
use super::clock::Clock;
use super::held_tasks::{HeldTask, HeldTasks, SucceededTask};
use super::joined_requests::JoinedRequests;
use super::redis_retry::RedisRetry;
use super::slots::Slots;
use super::start_markers::StartRequest;
use super::wait_lists::RecentWaitLists;
use super::wakeups::{QueueWakeups, Wakeups};
use crate::breaker::client::BreakerClient;
use crate::breaker::drain_tasks::DrainTasks;
use crate::config::Config;
use crate::http::answer_memory::AnswerMemory;
use crate::http::client::HttpClient;
use crate::in_flight::calls::CallsInFlight;
use crate::limit::client::LimitClient;
use crate::limit::parking::Parking;
use crate::memo::client::MemoClient;
use crate::observe::events::{EventRecorder, EventRecorders};
use crate::observe::metrics::Metrics;
use crate::observe::statistics::{StatisticsRecorder, StatisticsRecorders};

/// A worker at one queue. A clone costs two reference counts.
#[derive(Debug, Clone)]
pub struct QueueWorker {
    /// What all queues of the worker share.
    pub shared: Arc<SharedHandles>,
    /// What belongs to this queue.
    pub queue: Arc<QueueHandles>,
}

/// What all queues of a worker share.
#[derive(Debug)]
pub struct SharedHandles {
    pub config: Config,
    pub slots: Slots,
    pub http: HttpClient,
    pub answers: Arc<AnswerMemory>,
    pub metrics: Arc<Metrics>,
    pub events: EventRecorders,
    pub statistics: StatisticsRecorders,
    pub memos: MemoClient,
    pub limits: Arc<LimitClient>,
    pub in_flight: Arc<CallsInFlight>,
    pub breakers: Arc<BreakerClient>,
    pub drains: DrainTasks,
    pub wakeups: Arc<QueueWakeups>,
    pub wait_lists: RecentWaitLists,
    pub traces: Traces,
    /// One permit: quarantined tasks run one at a time.
    pub quarantine: Arc<Semaphore>,
    /// Work that outlives the task that started it and that a drain waits for.
    pub background: TaskTracker,
    /// Cancelled when no new task may be claimed.
    pub stop: CancellationToken,
    /// Cancelled when calls in flight must be aborted.
    pub abort: CancellationToken,
}

/// What belongs to one queue of a worker.
#[derive(Debug)]
pub struct QueueHandles {
    pub consumer: Arc<Consumer>,
    /// The queue as its users know it: another one than the consumer's if that is a partition.
    pub whole: QueueName,
    pub clock: Clock,
    pub retry: Arc<RedisRetry>,
    pub held: Arc<HeldTasks>,
    pub wakeups: Arc<Wakeups>,
    pub activity: QueueActivity,
    pub completer: mpsc::UnboundedSender<SucceededTask>,
    pub checks: Checks,
    pub parking: Arc<Parking>,
    pub start_markers: Arc<JoinedRequests<StartRequest>>,
    pub events: Arc<EventRecorder>,
    pub statistics: Arc<StatisticsRecorder>,
}

impl QueueWorker {
    /// The queue in Redis.
    pub fn redis_queue(&self) -> &Queue {
        self.queue.consumer.queue()
    }

    /// The name of the queue in Redis, which may be that of a partition: by it, workers tell each other of wait lists.
    pub fn queue_name(&self) -> &QueueName {
        self.redis_queue().name()
    }

    /// The name of the queue as its users know it, for logs, metric labels, and fairness between queues.
    pub fn name(&self) -> &str {
        self.queue.whole.as_str()
    }

    /// Registers a claimed task in its slot.
    pub fn hold(&self, token: &Token, slot: OwnedSemaphorePermit) -> HeldTask {
        self.queue.held.hold(token, slot)
    }
}
