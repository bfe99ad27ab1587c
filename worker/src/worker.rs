//! What the parts of a running worker share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use redial_core::breaker::Breakers;
use redial_core::limit::Limits;
use redial_core::memo::Memos;
use redial_core::protocol::id::Token;
use redial_core::queue::entry::Entry;
use redial_core::{Consumer, WorkerId};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::breaker;
use crate::call::Caller;
use crate::clock::Clock;
use crate::config::Config;
use crate::finisher::Finished;
use crate::limiter::Limiter;
use crate::line::Tended;
use crate::lock::locked;
use crate::metrics::Metrics;

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    /// Its id, new at every start.
    pub id: WorkerId,
    pub config: Config,
    pub caller: Caller,
    pub metrics: Metrics,
    /// One permit for each task that may be in this worker's hands.
    pub slots: Arc<Semaphore>,
    /// What asks the limits that the fleet shares.
    pub limiter: Limiter,
    /// What is known of the breakers that it shares.
    pub breakers: breaker::Breakers,
    /// The lines that this worker looks after.
    pub tended: Tended,
    /// Answers on their way to the followers of a memo.
    pub sharing: TaskTracker,
    /// One permit for tasks that are suspected of killing workers: they run one at a time.
    pub alone: Arc<Semaphore>,
    /// The queues, in the order of the configuration.
    pub lanes: Vec<Arc<Lane>>,
    /// Set when no new task may be claimed any more.
    pub stop: CancellationToken,
    /// Set when calls in flight must be given up.
    pub abort: CancellationToken,
    /// Rung when the fetcher should look again.
    pub wake: Notify,
    /// When the next scheduled task that this worker knows of is due.
    next_due: Mutex<Option<Instant>>,
}

/// One queue of a worker.
#[derive(Debug)]
pub struct Lane {
    pub consumer: Consumer,
    /// What the fleet remembers of the calls that this queue's tasks ask for.
    pub memos: Memos,
    /// The limits that its tasks are under.
    pub limits: Limits,
    /// The breakers of the upstreams that they call.
    pub breakers: Breakers,
    /// The queue's name, for logs and metrics.
    pub name: String,
    /// Its share of the free slots.
    pub weight: u32,
    pub clock: Clock,
    /// Set while Redis is known not to answer, so that each of the many who wait does not say it again.
    pub redis_away: AtomicBool,
    /// Where finished tasks go.
    pub finisher: mpsc::UnboundedSender<Finished>,
    /// The tasks in this worker's hands, and how to tell each that its lease is gone.
    held: Mutex<HashMap<Token, CancellationToken>>,
    /// The number of the next claim.
    pub next_claim: AtomicU64,
    /// Set when a push has woken this worker, until the fetcher has looked.
    pub heard: AtomicBool,
    /// Whether the queue was paused at the last claim.
    pub paused: AtomicBool,
}

/// The right to have one task in hand. Dropped when the task is out of it.
#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
    lane: Arc<Lane>,
    token: Token,
    lost: CancellationToken,
}

impl Worker {
    /// A worker with nothing in hand.
    ///
    /// # Errors
    /// See [`Caller::new`].
    pub fn new(id: WorkerId, config: Config, metrics: Metrics, lanes: Vec<Arc<Lane>>) -> anyhow::Result<Self> {
        Ok(Self {
            id,
            caller: Caller::new(&config)?,
            metrics,
            slots: Arc::new(Semaphore::new(config.concurrency)),
            limiter: Limiter::default(),
            breakers: breaker::Breakers::default(),
            tended: Tended::default(),
            sharing: TaskTracker::new(),
            alone: Arc::new(Semaphore::new(1)),
            lanes,
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            wake: Notify::new(),
            next_due: Mutex::default(),
            config,
        })
    }

    /// How many tasks are in hand.
    pub fn in_hand(&self) -> usize {
        self.config.concurrency.saturating_sub(self.slots.available_permits())
    }

    /// A task was scheduled: the fetcher must know if that is before all it knows of.
    pub fn scheduled_in(&self, wait: Duration) {
        let due = Instant::now() + wait;
        let mut next_due = locked(&self.next_due);
        if next_due.is_none_or(|known| due < known) {
            *next_due = Some(due);
            self.wake.notify_one();
        }
    }

    /// What the fetcher has just learnt of the next due time.
    pub fn set_next_due(&self, due: Option<Instant>) {
        *locked(&self.next_due) = due;
    }
}

impl Lane {
    /// A queue of which nothing is in hand.
    pub fn new(consumer: Consumer, weight: u32, finisher: mpsc::UnboundedSender<Finished>) -> Self {
        Self {
            name: consumer.queue().name().to_string(),
            memos: consumer.queue().db().memos(),
            limits: consumer.queue().db().limits(),
            breakers: consumer.queue().db().breakers(),
            consumer,
            weight,
            clock: Clock::new(),
            redis_away: AtomicBool::new(false),
            finisher,
            held: Mutex::default(),
            next_claim: AtomicU64::new(0),
            heard: AtomicBool::new(false),
            paused: AtomicBool::new(false),
        }
    }

    /// Takes a claimed task in hand.
    pub fn hold(self: &Arc<Self>, entry: &Entry, permit: OwnedSemaphorePermit) -> Slot {
        let lost = CancellationToken::new();
        self.held().insert(entry.token.clone(), lost.clone());
        Slot { _permit: permit, lane: self.clone(), token: entry.token.clone(), lost }
    }

    /// Whether a token is of a task that this worker knows it has.
    pub fn holds(&self, token: &Token) -> bool {
        self.held().contains_key(token)
    }

    /// The tokens of all that this worker knows it has.
    pub fn tokens(&self) -> Vec<Token> {
        self.held().keys().cloned().collect()
    }

    /// Tells those of these tasks whose call goes on that they are not this worker's any more.
    pub fn lose(&self, tokens: impl IntoIterator<Item = Token>) {
        let held = self.held();
        for lost in tokens.into_iter().filter_map(|token| held.get(&token)) {
            lost.cancel();
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Token, CancellationToken>> {
        // A panic of another thread leaves a map that is whole.
        locked(&self.held)
    }
}

impl Slot {
    /// Waits until it is known that the lease is gone.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.lane.held().remove(&self.token);
    }
}
