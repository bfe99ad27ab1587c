//! Starts the parts of a worker in order, and stops them in order: no new claim, calls in flight finish, what did not finish
//! goes back, the worker signs off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use redial_core::consumer::TakenBack;
use redial_core::{Consumer, Db, WorkerId};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::config::Config;
use crate::embedded::Embedded;
use crate::metrics::Metrics;
use crate::worker::{Lane, Worker};
use crate::{fetcher, finisher, heartbeat, pages, scheduler};

/// How long giving back may take once calls in flight were given up, and signing off after that.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// Runs a worker until it is told to end.
///
/// # Errors
/// What kept it from starting, or that it was told to end at once.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let embedded = Embedded::ensure(&config).await?;
    let db = Db::open(embedded.url(), &config.prefix)?;
    let parts = Parts::start(config, &db).await?;

    signals.next().await;
    tracing::info!(in_hand = parts.worker.in_hand(), "draining: no new task is claimed");
    tokio::select! {
        () = parts.stop() => {}
        () = signals.second() => anyhow::bail!("stopped at once: the tasks in hand come back when their lease ends"),
    }
    embedded.end().await;
    tracing::info!("drained");
    Ok(())
}

/// The running parts.
struct Parts {
    worker: Arc<Worker>,
    fetcher: JoinHandle<JoinSet<()>>,
    heartbeats: Vec<JoinHandle<()>>,
}

impl Parts {
    async fn start(config: Config, db: &Db) -> anyhow::Result<Self> {
        let id = WorkerId::random();
        let (lanes, finished): (Vec<_>, Vec<_>) = config
            .queues
            .iter()
            .enumerate()
            .map(|(n, (name, weight))| {
                let consumer = Consumer::new(db.queue(name.clone()), id.for_queue(n), config.lease);
                let (to_finisher, finished) = mpsc::unbounded_channel();
                (Arc::new(Lane::new(consumer, *weight, to_finisher)), finished)
            })
            .unzip();
        let metrics_addr = config.metrics_addr;
        let worker = Arc::new(Worker::new(id, config, Metrics::new(), lanes)?);
        if let Some(addr) = metrics_addr {
            pages::serve(worker.clone(), addr).await?;
        }
        tracing::info!(worker = %worker.id, concurrency = worker.config.concurrency, queues = queues_in_words(&worker.config), "ready to claim");
        let mut heartbeats = Vec::new();
        for (lane, finished) in worker.lanes.iter().zip(finished) {
            tokio::spawn(finisher::run(worker.clone(), lane.clone(), finished));
            heartbeats.push(tokio::spawn(heartbeat::run(worker.clone(), lane.clone())));
            tokio::spawn(scheduler::run(worker.clone(), lane.clone()));
        }
        let fetcher = tokio::spawn(fetcher::run(worker.clone()));
        Ok(Self { worker, fetcher, heartbeats })
    }

    /// Drains and signs off.
    async fn stop(self) {
        let Self { worker, fetcher, heartbeats } = self;
        worker.stop.cancel();
        let waits = fetcher.await;
        if waits.is_err() {
            tracing::error!("the fetcher has panicked");
        }
        if tokio::time::timeout(worker.config.drain, all_slots_free(&worker)).await.is_err() {
            tracing::warn!(
                in_hand = worker.in_hand(),
                "the drain's deadline has come: what is in flight goes back, uncounted"
            );
            worker.abort.cancel();
            let _ = tokio::time::timeout(GIVE_BACK, all_slots_free(&worker)).await;
        }
        // What is on its way to followers soon ends; whoever is left out is looked after by another worker.
        worker.sharing.close();
        let _ = tokio::time::timeout(GIVE_BACK, worker.sharing.wait()).await;
        worker.abort.cancel();
        // A heartbeat after the sign-off would register the worker anew.
        for heartbeat in heartbeats {
            heartbeat.abort();
            let _ = heartbeat.await;
        }
        let sign_off = async {
            if let Ok(waits) = waits {
                fetcher::end_waits(&worker, waits).await;
            }
            for lane in &worker.lanes {
                sign_off(lane).await;
            }
        };
        if tokio::time::timeout(GIVE_BACK, sign_off).await.is_err() {
            tracing::warn!("Redis does not answer: what was in hand comes back when the lease ends");
        }
    }
}

fn queues_in_words(config: &Config) -> String {
    let words: Vec<String> = config.queues.iter().map(|(name, weight)| format!("{name}={weight}")).collect();
    words.join(",")
}

async fn all_slots_free(worker: &Worker) {
    let all = u32::try_from(worker.config.concurrency).unwrap_or(u32::MAX);
    let _ = worker.slots.acquire_many(all).await;
}

/// Gives back whatever Redis still has in this worker's name, and has it forgotten.
async fn sign_off(lane: &Lane) {
    loop {
        match lane.consumer.release().await {
            Ok(TakenBack { remaining: 0, .. }) => return,
            Ok(TakenBack { moved, remaining }) => {
                tracing::info!(queue = %lane.name, moved, remaining, "released tasks");
            }
            Err(error) => {
                tracing::warn!(queue = %lane.name, %error, "could not sign off: the lease ends by itself");
                return;
            }
        }
    }
}

/// What tells a worker to end: SIGTERM (systemd, Kubernetes, docker stop) and SIGINT (Ctrl-C).
struct Signals {
    term: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("signals can't be received");
        Ok(Self { term: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    /// A second one that was meant as such: `timeout`, shells and init processes send one stop to a process and to its group.
    async fn second(&mut self) {
        const ECHO: Duration = Duration::from_millis(20);
        let first = Instant::now();
        loop {
            self.next().await;
            if first.elapsed() > ECHO {
                return;
            }
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
