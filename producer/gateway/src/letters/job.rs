//! Replaying or dropping many dead letters at a rate. A job runs in this gateway and ends with it; it can be started again, as what is
//! done is done.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redial_core::queue::dead_page::{DeadLetterFilter, DeadLetterSummary};
use redial_core::queue::dead_walk::{DeadLetterWalk, LetterAction, LetterOutcome};
use redial_core::{Error, Queue};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};

/// How many jobs run at a time, and how many are remembered.
const MAX_RUNNING: usize = 4;
const MAX_KEPT: usize = 50;
/// How often in a row a job repeats a command while Redis is away, and how long it waits in between.
const MAX_TRIES: u32 = 60;
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What a job does with each letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JobAction {
    Replay,
    Drop,
}

/// A job as it is asked for.
#[derive(Debug)]
pub(crate) struct JobRequest {
    pub action: JobAction,
    pub filter: DeadLetterFilter,
    /// How many letters it acts on a second.
    pub per_second: f64,
    /// Whether it also replays letters whose idempotency key the upstream may have forgotten.
    pub forgotten_keys: bool,
}

/// A job, running or ended.
#[derive(Debug)]
pub(crate) struct DeadLetterJob {
    number: u64,
    queue: Queue,
    request: JobRequest,
    total: u64,
    looked_at: AtomicU64,
    done: AtomicU64,
    passed_over: AtomicU64,
    is_running: AtomicBool,
    cancelled: Notify,
    is_cancelled: AtomicBool,
    error: Mutex<Option<String>>,
}

/// The jobs of this gateway, newest first.
#[derive(Debug, Default)]
pub(crate) struct DeadLetterJobs {
    jobs: Mutex<VecDeque<Arc<DeadLetterJob>>>,
    started: AtomicU64,
}

impl DeadLetterJobs {
    fn all(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<DeadLetterJob>>> {
        // Nothing panics while it holds the lock.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The jobs of a queue.
    pub fn of(&self, queue: &Queue) -> Vec<Arc<DeadLetterJob>> {
        self.all().iter().filter(|job| job.queue.name() == queue.name()).cloned().collect()
    }

    /// Starts a job, if not too many run already; it ends when the gateway does.
    ///
    /// # Errors
    /// Redis is unreachable or refuses a command.
    pub async fn start(
        &self,
        queue: Queue,
        request: JobRequest,
        draining: watch::Receiver<bool>,
    ) -> Result<Option<Arc<DeadLetterJob>>, Error> {
        let total = queue.counts().await?.dead;
        let mut jobs = self.all();
        if jobs.iter().filter(|job| job.is_running.load(Ordering::Relaxed)).count() >= MAX_RUNNING {
            return Ok(None);
        }
        let job = Arc::new(DeadLetterJob {
            number: self.started.fetch_add(1, Ordering::Relaxed) + 1,
            queue,
            request,
            total,
            looked_at: AtomicU64::new(0),
            done: AtomicU64::new(0),
            passed_over: AtomicU64::new(0),
            is_running: AtomicBool::new(true),
            cancelled: Notify::new(),
            is_cancelled: AtomicBool::new(false),
            error: Mutex::new(None),
        });
        jobs.push_front(job.clone());
        while jobs.len() > MAX_KEPT
            && let Some(oldest) = jobs.iter().rposition(|job| !job.is_running.load(Ordering::Relaxed))
        {
            jobs.remove(oldest);
        }
        tokio::spawn(job.clone().run(draining));
        Ok(Some(job))
    }
}

impl DeadLetterJob {
    /// Its progress.
    pub fn to_json(&self) -> Value {
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let state = match (self.is_running.load(Ordering::Relaxed), self.is_cancelled.load(Ordering::Relaxed), &error) {
            (true, _, _) => "running",
            (false, _, Some(_)) => "failed",
            (false, true, None) => "cancelled",
            (false, false, None) => "done",
        };
        let DeadLetterFilter { reason, upstream, text } = &self.request.filter;
        json!({
            "job": self.number, "action": if self.request.action == JobAction::Replay { "replay" } else { "drop" }, "state": state,
            "reason": reason, "upstream": upstream, "text": text, "per_second": self.request.per_second,
            "letters": self.total, "looked_at": count(&self.looked_at), "done": count(&self.done),
            "passed_over": count(&self.passed_over), "error": error,
        })
    }

    /// Its number in this gateway.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Ends it. What it has done stays done.
    pub fn cancel(&self) {
        if self.is_running.load(Ordering::Relaxed) {
            self.is_cancelled.store(true, Ordering::Relaxed);
            self.cancelled.notify_one();
        }
    }

    /// Runs until all letters were looked at, it is cancelled, or the gateway ends.
    async fn run(self: Arc<Self>, mut draining: watch::Receiver<bool>) {
        let ended = tokio::select! {
            ended = self.act_on_all() => ended,
            () = self.cancelled.notified() => Ok(()),
            _ = draining.wait_for(|is_draining| *is_draining) => Ok(()),
        };
        if let Err(error) = ended {
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        }
        self.is_running.store(false, Ordering::Relaxed);
        tracing::info!(job = %self.to_json(), queue = %self.queue.name(), "a job on dead letters has ended");
    }

    async fn act_on_all(&self) -> Result<(), Error> {
        let mut pace = interval(Duration::from_secs_f64(1.0 / self.request.per_second));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let action = match self.request.action {
            JobAction::Replay => LetterAction::Replay { forgotten_keys: self.request.forgotten_keys },
            JobAction::Drop => LetterAction::Drop,
        };
        let mut walk = DeadLetterWalk::begin(&self.queue).await?;
        while let Some(letter) = next(&mut walk).await? {
            self.looked_at.fetch_add(1, Ordering::Relaxed);
            if letter.serial.is_empty() || !self.request.filter.matches(&letter) {
                walk.leave();
                continue;
            }
            pace.tick().await;
            let count = match act(&mut walk, &letter, action).await? {
                LetterOutcome::Done | LetterOutcome::NotThere => &self.done,
                LetterOutcome::KeyForgotten => &self.passed_over,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The next letter, also if Redis is away meanwhile.
async fn next(walk: &mut DeadLetterWalk) -> Result<Option<DeadLetterSummary>, Error> {
    let mut outage = Outage::default();
    loop {
        match walk.next().await {
            Err(error) => outage.wait(error).await?,
            letter => return letter,
        }
    }
}

/// Acts on a letter, also if Redis is away meanwhile.
async fn act(
    walk: &mut DeadLetterWalk,
    letter: &DeadLetterSummary,
    action: LetterAction,
) -> Result<LetterOutcome, Error> {
    let mut outage = Outage::default();
    loop {
        match walk.act(letter, action).await {
            Err(error) => outage.wait(error).await?,
            outcome => return outcome,
        }
    }
}

/// How often a command has failed in a row because Redis is away.
#[derive(Default)]
struct Outage {
    tries: u32,
}

impl Outage {
    /// Waits before the command is sent again.
    ///
    /// # Errors
    /// The error, if it stays or has lasted for a minute.
    async fn wait(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_temporary() || self.tries >= MAX_TRIES {
            return Err(error);
        }
        self.tries += 1;
        tokio::time::sleep(TRY_AGAIN).await;
        Ok(())
    }
}
