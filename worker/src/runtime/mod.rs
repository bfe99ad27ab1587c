//! Starts the parts of a worker in order, and stops them in order: it claims nothing more, calls in flight finish, what did not finish
//! is given back, and the worker signs off.

mod embedded;
mod parts;
mod queue_parts;
mod redis_checks;
mod reload;
mod signals;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use redial_core::consumer::TakenBack;
use redial_core::{Db, WorkerId};
use sd_notify::NotifyState;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Config;
use crate::http::connection::descriptors::{self, Descriptors};
use crate::in_flight::drain::UpstreamDrains;
use crate::limit;
use crate::limit::drain::LimitDrains;
use crate::observe::health::Health;
use crate::observe::http_server::Endpoints;
use crate::queue::announcer::WorkerAnnouncer;
use crate::queue::fetcher::{EndedFetcher, Fetcher};
use crate::queue::heartbeat::BEATS_PER_LEASE;
use crate::queue::idle_queues::IdleQueues;
use crate::queue::misplaced_pushes;
use crate::queue::queue_worker::{QueueWorker, SharedHandles};
use crate::queue::served_queues::ServedQueues;
use crate::queue::{cancellations, overdue, vital};
use embedded::Embedded;
use queue_parts::{PartitionStarter, QueueParts};
use signals::Signals;

/// How long all of giving back and signing off may take after the drain's deadline, whatever Redis does.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_millis(4_500);
/// The last part of that time, for signing off.
const SIGN_OFF_TIME: Duration = Duration::from_millis(1_500);
/// How long the last spans of traces may take to their collector, while the embedded Redis ends.
const LAST_SPANS_TIME: Duration = Duration::from_millis(400);
/// How long a start waits to learn of partitions.
const PARTITIONS_TIME: Duration = Duration::from_secs(1);
/// How long an embedded Redis is waited for at least.
const EMBEDDED_EXIT_TIME: Duration = Duration::from_millis(400);

/// Runs a worker until a signal stops it.
///
/// # Errors
/// It could not start, or a second signal stopped it at once.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("cannot receive signals")?;
    let embedded = Embedded::ensure(&config).await?;
    let db = Db::open(embedded.url(), &config.prefix)?;
    let reloader = config.reloader();
    let worker = Runtime::start(config, &db).await?;
    tokio::spawn(reload::run(reloader, signals.hangups(), worker.shared.stop.clone()));
    tell_systemd(NotifyState::Ready);

    signals.next().await;
    tell_systemd(NotifyState::Stopping);
    tracing::info!(tasks = worker.shared.slots.held(), "draining: no new task is claimed");
    let deadline = Instant::now() + worker.shared.config.drain + GIVE_BACK_TIMEOUT;
    let (slots, traces) = (worker.shared.slots.clone(), worker.shared.traces.clone());
    let stopped = tokio::select! {
        stopped = timeout_at(deadline, worker.stop(deadline)) => stopped.unwrap_or(false),
        () = signals.second() => anyhow::bail!("stopped at once: its tasks become available when its lease ends"),
    };
    // A server that needs longer has been told to end, and goes on by itself.
    let embedded_ends = timeout_at(deadline.max(Instant::now() + EMBEDDED_EXIT_TIME), embedded.end());
    let _ = tokio::join!(embedded_ends, traces.end(LAST_SPANS_TIME));
    if stopped {
        tracing::info!("drained");
    } else {
        tracing::warn!(
            tasks = slots.held(),
            "stopped without an answer of Redis: what this worker still holds becomes available when its lease ends"
        );
    }
    Ok(())
}

/// Tells systemd, if it started this worker and wants to know (`Type=notify`).
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd could not be told: see NOTIFY_SOCKET");
    }
}

/// Checks what a worker needs from its settings before it connects to anything. Reading them has checked all of the rest.
///
/// # Errors
/// A worker could not start with them.
pub fn check(config: &Config) -> anyhow::Result<()> {
    if let Some(url) = &config.redis_url {
        Db::open(url, &config.prefix).context("REDIS_URL")?;
    }
    Ok(())
}

/// A running worker.
struct Runtime {
    shared: Arc<SharedHandles>,
    served: ServedQueues,
    fetcher: JoinHandle<EndedFetcher>,
    queue_parts: QueueParts,
    heartbeats: JoinSet<()>,
    slot_keeper: AbortHandle,
    announcer: WorkerAnnouncer,
}

impl Runtime {
    async fn start(config: Config, db: &Db) -> anyhow::Result<Self> {
        // If it is not known in time, the partitions are served a little later.
        let partitions = timeout(PARTITIONS_TIME, db.partitions()).await.ok().and_then(Result::ok).unwrap_or_default();
        let partitions = config.queues.iter().map(|(name, _)| partitions.count(name)).sum();
        let descriptors = descriptors_for(&config, partitions);
        let id = WorkerId::random();
        let (drains, drain_signals) = mpsc::unbounded_channel();
        let (busy, busy_signals) = mpsc::unbounded_channel();
        let shared = parts::shared_handles(config, db, descriptors, drains, busy)?;
        let (config, slots) = (&shared.config, shared.slots.clone());
        let health = Arc::new(Health::new(slots.clone(), config.lease, shared.stop.clone()));
        if let Some(addr) = config.metrics_addr {
            let (metrics, breakers) = (shared.metrics.clone(), shared.breakers.clone());
            let (health, slots) = (health.clone(), slots.clone());
            Endpoints { metrics, breakers, health, slots }.serve(addr, config.metrics_hosts.clone()).await?;
        }
        tracing::info!(worker = %id, concurrency = config.concurrency, queues = describe_queues(config), "ready to claim");
        tokio::spawn(redis_checks::report(db.clone()));
        let queues = parts::queue_workers(&shared, db, &id);
        let served = ServedQueues::default();
        let queue_parts = QueueParts::new(health.clone());
        let mut heartbeats = JoinSet::new();
        health.watch_commands(shared.limits.retry().clone());
        for (worker, _) in &queues {
            served.add(worker.clone());
            queue_parts.start(worker);
        }
        let numbers = Arc::default();
        let drains = LimitDrains::new(served.clone(), slots.clone(), &id, Arc::clone(&numbers));
        vital::spawn("limit drains", drains.run(drain_signals));
        let drains = UpstreamDrains::new(served.clone(), slots.clone(), numbers);
        vital::spawn("upstream drains", drains.run(busy_signals));
        vital::spawn("cancellations", cancellations::run(db.clone(), id.clone(), served.clone()));
        let announcer = WorkerAnnouncer::new(db.clone(), id.clone(), served.clone(), config.lease);
        heartbeats.spawn(vital::guard("announcer", announcer.clone().run()));
        heartbeats.spawn(vital::guard("statistics", publish_statistics(served.clone())));
        vital::spawn("misplaced pushes", misplaced_pushes::watch(served.clone(), shared.stop.clone()));
        vital::spawn("idle queues", IdleQueues::new(served.clone(), health.clone()).run(shared.stop.clone()));
        vital::spawn("overdue slots", overdue::run(shared.clone(), served.clone()));
        vital::spawn("configured limits", limit::configured::state_limits(shared.clone()));
        let keep_slots = shared.limits.clone().keep_slots(config.lease / BEATS_PER_LEASE);
        let slot_keeper = vital::spawn("slot keeper", keep_slots).abort_handle();
        let (added, partitions) = mpsc::unbounded_channel();
        let fetcher = Fetcher::new(queues, partitions, served.clone(), slots.clone(), health);
        let fetcher = vital::spawn("fetcher", fetcher.run());
        let partitions = PartitionStarter {
            db: db.clone(),
            id,
            shared: shared.clone(),
            served: served.clone(),
            queue_parts: queue_parts.clone(),
            added,
        };
        vital::spawn("partitions", partitions.watch());
        Ok(Self { shared, served, fetcher, queue_parts, heartbeats, slot_keeper, announcer })
    }

    /// Drains and signs off, until `deadline` at most. Returns whether everything was finished or given back.
    async fn stop(self, deadline: Instant) -> bool {
        let Self { shared, served, fetcher, queue_parts, mut heartbeats, slot_keeper, announcer } = self;
        shared.stop.cancel();
        let fetcher = fetcher.await.inspect_err(|error| tracing::error!(%error, "the fetcher panicked")).ok();
        let give_back_until = deadline - SIGN_OFF_TIME;
        drain(&shared, give_back_until).await;
        // Answers on their way to followers arrive soon; another worker takes care of any follower that is left out.
        shared.background.close();
        let _ = timeout_at(give_back_until, async {
            shared.background.wait().await;
            if let Some(worker) = served.first() {
                worker.redis_queue().db().deliveries_done().await;
            }
        })
        .await;
        shared.abort.cancel();
        slot_keeper.abort();
        // A heartbeat after the sign-off would register the worker again.
        heartbeats.shutdown().await;
        queue_parts.end().await;
        if let Some(fetcher) = fetcher {
            fetcher.end().await;
        }
        let mut sign_offs = JoinSet::new();
        if let Some(worker) = served.first() {
            let (now, shared) = (worker.queue.clock.now(), shared.clone());
            sign_offs.spawn(async move {
                // What was counted is for people to look at. Without it, a worker has signed off just as well.
                let _ = timeout_at(deadline, shared.statistics.publish(now, true)).await;
                true
            });
        }
        for worker in &*served.all() {
            let worker = worker.clone();
            sign_offs.spawn(async move { sign_off(&worker).await });
        }
        sign_offs.spawn(async move { announcer.withdraw().await });
        sign_offs.join_all().await.into_iter().all(|signed_off| signed_off)
    }
}

/// Publishes what the worker counts, until it is aborted.
async fn publish_statistics(served: ServedQueues) {
    // All of them estimate the same clock.
    let Some(worker) = served.first() else { return };
    worker.shared.statistics.publish_regularly(|| worker.queue.clock.now()).await;
}

/// Waits for the calls in flight. After the drain's time they are aborted and their tasks given back, until `deadline`.
async fn drain(shared: &SharedHandles, deadline: Instant) {
    let slots = &shared.slots;
    if timeout(shared.config.drain, slots.all_free()).await.is_err() {
        tracing::warn!(
            tasks = slots.held(),
            "the drain's deadline has passed: giving back the calls in flight, uncounted"
        );
        shared.abort.cancel();
        let _ = timeout_at(deadline, slots.all_free()).await;
    }
}

/// Gives back every task that Redis still has in this worker's name, and removes the worker. Returns whether it could.
async fn sign_off(worker: &QueueWorker) -> bool {
    loop {
        match worker.queue.consumer.release().await {
            Ok(TakenBack { remaining: 0, .. }) => return true,
            Ok(TakenBack { moved, remaining }) => {
                tracing::info!(queue = worker.name(), moved, remaining, "released tasks");
            }
            Err(error) => {
                tracing::warn!(queue = worker.name(), %error, "could not sign off: the lease will end by itself");
                return false;
            }
        }
    }
}

/// Raises the limit of descriptors, and says if it allows fewer calls at a time than there are slots.
fn descriptors_for(config: &Config, partitions: usize) -> Descriptors {
    let limit = descriptors::raise_limit();
    // One blocking connection for each queue and partition, and one that hears of cancellations.
    let descriptors = Descriptors::new(limit, config.queues.len() + partitions + 1);
    if let Some(limit) = limit.filter(|_| descriptors.for_calls() < config.concurrency * 2) {
        tracing::warn!(
            limit,
            concurrency = config.concurrency,
            "there are few file descriptors for so many calls at a time, and for keeping connections open between calls: raise the hard limit \
             (ulimit -Hn, LimitNOFILE, --ulimit nofile), or lower REDIAL_CONCURRENCY"
        );
    }
    descriptors
}

fn describe_queues(config: &Config) -> String {
    let queues: Vec<String> = config.queues.iter().map(|(name, weight)| format!("{name}={weight}")).collect();
    queues.join(",")
}
