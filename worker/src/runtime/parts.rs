//! Puts the parts of a worker together.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use redial_core::{Consumer, Db, QueueName, WorkerId};
use redial_traces::Traces;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::breaker::client::BreakerClient;
use crate::breaker::drain_tasks::DrainTasks;
use crate::config::Config;
use crate::http::answer_memory::AnswerMemory;
use crate::http::client::HttpClient;
use crate::http::connection::descriptors::Descriptors;
use crate::http::connection::guard::Guard;
use crate::http::connection::names::Names;
use crate::in_flight::calls::{CallsInFlight, UpstreamCalls};
use crate::limit::client::{DrainSignal, LimitClient};
use crate::limit::parking::Parking;
use crate::memo::client::MemoClient;
use crate::observe::events::EventRecorders;
use crate::observe::metrics::Metrics;
use crate::observe::statistics::StatisticsRecorders;
use crate::queue::activity::QueueActivity;
use crate::queue::checks::Checks;
use crate::queue::clock::Clock;
use crate::queue::completer::Completer;
use crate::queue::held_tasks::{HeldTasks, SucceededTask};
use crate::queue::joined_requests::JoinedRequests;
use crate::queue::queue_worker::{QueueHandles, QueueWorker, SharedHandles};
use crate::queue::redis_retry::RedisRetry;
use crate::queue::slots::Slots;
use crate::queue::vital;
use crate::queue::wait_lists::RecentWaitLists;
use crate::queue::wakeups::QueueWakeups;

/// The name under which failures of commands about limits and breakers are logged.
const FLEET: &str = "(fleet)";

/// Builds what all queues of a worker share.
///
/// # Errors
/// The HTTP client cannot be built, or the collector of traces is not named by an address.
pub fn shared_handles(
    config: Config,
    db: &Db,
    descriptors: Descriptors,
    drains: mpsc::UnboundedSender<DrainSignal>,
    busy: mpsc::UnboundedSender<Arc<UpstreamCalls>>,
) -> anyhow::Result<Arc<SharedHandles>> {
    let metrics = Arc::new(Metrics::new());
    let (of_spans, of_redis) = (metrics.clone(), metrics.clone());
    let traces = Traces::start(&config.traces, "redial-worker", move |fate, spans| of_spans.spans(fate, spans))?;
    db.observe_round_trips(move |took| of_redis.redis_answered(took));
    let abort = CancellationToken::new();
    let background = TaskTracker::new();
    let wakeups = Arc::new(QueueWakeups::default());
    let retry = Arc::new(RedisRetry::new(FLEET.to_owned(), db.clone(), metrics.redis_errors(), abort.clone()));
    let group = group_of(&config);
    let limits = LimitClient::new(db.limits(), retry.clone(), config.lease, background.clone(), group, drains);
    let breakers = BreakerClient::new(db.breakers(), config.breaker.clone(), retry, metrics.clone());
    let guard = Guard::new(&config.allow_private, Names::new(&config.name_servers, descriptors.for_calls()));
    Ok(Arc::new(SharedHandles {
        http: HttpClient::new(
            guard,
            config.max_answer_bytes,
            config.concurrency,
            config.upstreams.clone(),
            descriptors,
        )?,
        answers: Arc::new(AnswerMemory::new(config.max_answers_bytes, metrics.answer_waits())),
        metrics,
        events: EventRecorders::new(db.clone(), config.events.clone(), background.clone()),
        statistics: StatisticsRecorders::new(db.clone(), config.statistics),
        memos: MemoClient::new(db.memos()),
        limits: Arc::new(limits),
        in_flight: Arc::new(CallsInFlight::new(config.concurrency, busy)),
        breakers: Arc::new(breakers),
        drains: DrainTasks::default(),
        wakeups,
        slots: Slots::new(config.concurrency),
        wait_lists: RecentWaitLists::default(),
        traces,
        quarantine: Arc::new(Semaphore::new(1)),
        background,
        stop: CancellationToken::new(),
        abort,
        config,
    }))
}

/// The same for all workers that serve the same queues.
fn group_of(config: &Config) -> String {
    let mut names: Vec<&str> = config.queues.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let mut hasher = DefaultHasher::new();
    names.hash(&mut hasher);
    format!("{:x}", hasher.finish())
}

/// Builds a worker's queues, in the order of the configuration, each with its weight, and starts their completers.
pub fn queue_workers(shared: &Arc<SharedHandles>, db: &Db, id: &WorkerId) -> Vec<(QueueWorker, u32)> {
    let queues = shared.config.queues.iter().enumerate();
    queues.map(|(n, (name, weight))| (queue_worker(shared, db, name.clone(), id.for_queue(n)), *weight)).collect()
}

/// Builds what serves one queue, or one partition of a queue, and starts its completer.
pub fn queue_worker(shared: &Arc<SharedHandles>, db: &Db, name: QueueName, id: WorkerId) -> QueueWorker {
    let whole = db.whole_name(&name);
    let consumer = Arc::new(Consumer::new(db.queue(name).single(), id, shared.config.lease));
    of_consumer(shared, whole, consumer)
}

fn of_consumer(shared: &Arc<SharedHandles>, whole: QueueName, consumer: Arc<Consumer>) -> QueueWorker {
    let (completer, succeeded) = mpsc::unbounded_channel::<SucceededTask>();
    let (name, db) = (consumer.queue().name().to_string(), consumer.queue().db().clone());
    let retry = Arc::new(RedisRetry::new(name, db, shared.metrics.redis_errors(), shared.abort.clone()));
    let events = shared.events.of(&whole);
    let statistics = shared.statistics.of(&whole);
    let completer_part = Completer {
        consumer: consumer.clone(),
        whole: whole.clone(),
        retry: retry.clone(),
        shared: shared.clone(),
        events: events.clone(),
    };
    vital::spawn("completer", completer_part.run(succeeded));
    let wakeups = shared.wakeups.of(consumer.queue().name());
    let held = Arc::new(HeldTasks::new(shared.slots.clone()));
    let (limits, in_flight) = (shared.limits.clone(), shared.in_flight.clone());
    let parking = Arc::new(Parking::new(consumer.clone(), retry.clone(), limits, in_flight));
    let start_markers = Arc::new(JoinedRequests::new(consumer.clone()));
    let queue = QueueHandles {
        consumer,
        whole,
        clock: Clock::new(),
        retry,
        held,
        wakeups,
        activity: QueueActivity::new(),
        completer,
        checks: Checks::default(),
        parking,
        start_markers,
        events,
        statistics,
    };
    QueueWorker { shared: shared.clone(), queue: Arc::new(queue) }
}
