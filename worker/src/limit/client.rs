//! Asks the limits that the fleet shares. Calls of this worker that ask the same limit at the same time share one command.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redial_core::UnixMs;
use redial_core::consumer::MAX_BATCH;
use redial_core::limit::{DefinedBy, Grant, GrantWindow, LimitRequest, Limits, definition};
use redial_core::protocol::id::Token;
use redial_core::protocol::task::Limit;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::clock::{LEAST_WINDOW, LimitClock};
use super::configured::since::ConfiguredSince;
use crate::queue::pending::PendingRequests;
use crate::queue::redis_retry::{NotStored, RedisRetry};
use crate::queue::vital;

/// How often the name of a limit in use is registered, so that it can be listed.
const REGISTER_INTERVAL: Duration = Duration::from_secs(60);

/// How many limits' clocks are kept.
const MAX_CLOCKS: usize = 10_000;

/// A worker's connection to the fleet's limits.
#[derive(Debug)]
pub struct LimitClient {
    limits: Limits,
    retry: Arc<RedisRetry>,
    /// How long a concurrency slot lasts unless it is extended.
    lease: Duration,
    background: TaskTracker,
    /// Names the set of queues that this worker serves.
    group: String,
    /// Where the names of limits go for which calls may wait.
    drains: mpsc::UnboundedSender<DrainSignal>,
    clocks: Mutex<Clocks>,
    configured: ConfiguredSince,
    /// The limits that an answer to this worker has closed, since when and until when.
    closed: Mutex<HashMap<String, (Instant, Instant)>>,
    /// Requests that wait to be sent, by limit and definition.
    pending: PendingRequests<Waiting>,
    /// The concurrency slots of calls in flight, by limit.
    slots: Mutex<HashMap<String, Vec<Token>>>,
    /// When a limit's name was last registered.
    registered: Mutex<HashMap<String, Instant>>,
}

/// The clocks of limits that were asked lately.
#[derive(Debug, Default)]
struct Clocks {
    known: HashMap<String, LimitClock>,
    /// The last one that was read: for a limit that was not asked yet, it says how far Redis is.
    last: Option<LimitClock>,
}

/// A reason to look whether calls that wait for a limit can go.
#[derive(Debug)]
pub struct DrainSignal {
    /// The limit's name.
    pub limit: String,
    /// Why.
    pub reason: DrainReason,
}

/// Why calls that wait for a limit may be able to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainReason {
    /// Calls wait, and no worker was known to drain their list.
    Unattended,
    /// Calls wait, and another worker leads their drain for this long.
    Attended(Duration),
    /// A concurrency slot has become free.
    FreeSlot,
    /// A call has taken less than was estimated: the next one may go earlier. Only matters to a drain that runs.
    Refunded,
}

#[derive(Debug)]
struct Waiting {
    request: LimitRequest,
    first_seen: UnixMs,
    reply: oneshot::Sender<Result<Grant, NotStored>>,
}

/// A limit to ask, and how the task or the configuration defines it.
#[derive(Debug, Clone)]
struct Target {
    limit: Limit,
    defined_by: DefinedBy,
    key: String,
}

/// A concurrency slot of a call in flight. Released when dropped.
#[derive(Debug)]
pub struct ConcurrencySlot {
    client: Arc<LimitClient>,
    limit: String,
    token: Token,
}

impl LimitClient {
    /// A client that holds no slots yet.
    pub fn new(
        limits: Limits,
        retry: Arc<RedisRetry>,
        lease: Duration,
        background: TaskTracker,
        group: String,
        drains: mpsc::UnboundedSender<DrainSignal>,
    ) -> Self {
        Self {
            limits,
            retry,
            lease,
            background,
            group,
            drains,
            clocks: Mutex::default(),
            configured: ConfiguredSince::default(),
            closed: Mutex::default(),
            pending: PendingRequests::default(),
            slots: Mutex::default(),
            registered: Mutex::default(),
        }
    }

    /// The fleet's limits, for commands that are sent once.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How long a concurrency slot lasts unless it is extended.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// Names the set of queues that this worker serves: of those that serve the same ones, one leads the drain of a limit.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Work that outlives the task that started it.
    pub fn background(&self) -> &TaskTracker {
        &self.background
    }

    /// Has the calls looked at that wait for a limit.
    pub fn signal(&self, limit: &str, reason: DrainReason) {
        // Without a receiver, the worker has stopped.
        let _ = self.drains.send(DrainSignal { limit: limit.to_owned(), reason });
    }

    /// Takes over what a reply says about a limit's clock.
    pub fn read_clock(&self, limit: &str, sent: Instant, received: Instant, now_us: f64) {
        let read = LimitClock::new(sent, received, now_us);
        let mut clocks = self.clocks.lock();
        if clocks.known.len() >= MAX_CLOCKS && !clocks.known.contains_key(limit) {
            clocks.known.clear();
        }
        let known = clocks.known.entry(limit.to_owned()).or_insert(read);
        known.update(&read);
        clocks.last = Some(*known);
    }

    /// What is known about a limit's clock, or at least about that of another limit.
    pub fn clock(&self, limit: &str) -> Option<LimitClock> {
        let clocks = self.clocks.lock();
        clocks.known.get(limit).copied().or(clocks.last)
    }

    /// When a moment of a limit's clock is here.
    pub fn local(&self, limit: &str, at_us: f64) -> Instant {
        self.clock(limit).map_or_else(Instant::now, |clock| clock.local(at_us))
    }

    /// A call that waited for a limit was ready this much later than its moment.
    pub fn note_start(&self, limit: &str, late: Duration) {
        if let Some(clock) = self.clocks.lock().known.get_mut(limit) {
            clock.note_start(late, Instant::now());
        }
    }

    /// An answer closes a limit: what it has granted for a moment before is not used.
    pub fn close(&self, limit: &str, wait: Duration) {
        let now = Instant::now();
        let Some(until) = now.checked_add(wait) else { return };
        let mut closed = self.closed.lock();
        closed.retain(|_, (_, until)| *until > now);
        let (since, known) = closed.entry(limit.to_owned()).or_insert((now, until));
        (*since, *known) = (now, until.max(*known));
    }

    /// Whether an answer has closed a limit for a moment since a call asked it. What it grants later, because somebody has opened it, counts.
    pub fn is_closed(&self, limit: &str, asked: Instant, at: Instant) -> bool {
        self.closed.lock().get(limit).is_some_and(|(since, until)| asked < *since && at < *until)
    }

    /// Since when this worker has been configured with its limits.
    pub fn configured(&self) -> &ConfiguredSince {
        &self.configured
    }

    /// What retries commands about limits.
    pub fn retry(&self) -> &Arc<RedisRetry> {
        &self.retry
    }

    /// Asks a limit for one call of a task that was first seen at a time.
    ///
    /// # Errors
    /// The worker aborts, or Redis refuses the question.
    pub async fn acquire(
        self: &Arc<Self>,
        limit: &Limit,
        defined_by: DefinedBy,
        first_seen: UnixMs,
        request: LimitRequest,
    ) -> Result<Grant, NotStored> {
        let (reply, granted) = oneshot::channel();
        let key = format!("{} {} {}", defined_by.as_str(), definition(limit), limit.name);
        if self.pending.push(&key, Waiting { request, first_seen, reply }) {
            let target = Target { limit: limit.clone(), defined_by, key };
            vital::spawn("limits", self.clone().send(target));
        }
        granted.await.unwrap_or(Err(NotStored::Aborted))
    }

    /// Sends the requests that wait for one limit, and those that arrive meanwhile.
    async fn send(self: Arc<Self>, target: Target) {
        self.register(&target.limit.name).await;
        if self.clock(&target.limit.name).is_none() {
            // How far away the limit is, and so how far ahead the call is to be granted.
            let _ = self.ask(&target, &[]).await;
        }
        while let Some(batch) = self.pending.next_batch(&target.key) {
            // If Redis refuses a batch, one request in it may be why.
            let answer = self.ask(&target, &batch).await;
            if batch.len() > 1 && matches!(answer, Err(NotStored::Refused(_))) {
                for one in batch {
                    let answer = self.ask(&target, std::slice::from_ref(&one)).await;
                    reply(vec![one], answer);
                }
            } else {
                reply(batch, answer);
            }
        }
    }

    async fn ask(&self, target: &Target, batch: &[Waiting]) -> Result<Vec<Grant>, NotStored> {
        let name = &target.limit.name;
        let newest = match target.defined_by {
            DefinedBy::Config => self.configured.since(&target.limit),
            _ => batch.iter().map(|waiting| waiting.first_seen).max().unwrap_or(UnixMs(0)),
        };
        let requests: Vec<LimitRequest> = batch.iter().map(|waiting| waiting.request.clone()).collect();
        let near = GrantWindow { lead: Duration::ZERO, length: LEAST_WINDOW };
        let window = self.clock(name).map_or(near, |clock| clock.window_for_call());
        let sent = Mutex::new(Instant::now());
        let acquire = || {
            *sent.lock() = Instant::now();
            self.limits.acquire(&target.limit, target.defined_by, newest, self.lease, window, &requests)
        };
        let acquired = self.retry.retry("acquire", acquire).await?;
        self.read_clock(name, sent.into_inner(), Instant::now(), acquired.now);
        Ok(acquired.grants)
    }

    pub(super) async fn register(&self, name: &str) {
        let is_due = {
            let mut registered = self.registered.lock();
            let is_due = registered.get(name).is_none_or(|at| at.elapsed() > REGISTER_INTERVAL);
            if is_due {
                registered.retain(|_, at| at.elapsed() <= REGISTER_INTERVAL);
                registered.insert(name.to_owned(), Instant::now());
            }
            is_due
        };
        if is_due && let Err(error) = self.limits.register(name).await {
            tracing::debug!(%error, limit = name, "could not register a limit's name");
        }
    }

    /// Extends the concurrency slots of all calls in flight, at every beat. All limits are asked at the same time, so that neither their
    /// number nor one that does not answer delays any; such a one is asked again when it has answered, or failed to.
    pub async fn keep_slots(self: Arc<Self>, beat: Duration) {
        let mut beats = tokio::time::interval(beat);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut extensions = JoinSet::new();
        let mut in_progress: HashSet<(String, usize)> = HashSet::new();
        loop {
            beats.tick().await;
            while let Some(ended) = extensions.try_join_next() {
                in_progress.remove(&ended.unwrap_or_default());
            }
            for (name, tokens) in self.slots.lock().clone() {
                for (n, some) in tokens.chunks(MAX_BATCH).enumerate() {
                    let part = (name.clone(), n);
                    if in_progress.insert(part.clone()) {
                        extensions.spawn(self.clone().extend_slots(part, some.to_vec()));
                    }
                }
            }
        }
    }

    /// Extends some slots of a limit. If that fails, a later beat tries again.
    async fn extend_slots(self: Arc<Self>, part: (String, usize), tokens: Vec<Token>) -> (String, usize) {
        if let Err(error) = self.limits.extend_slots(&part.0, self.lease, &tokens).await {
            tracing::debug!(%error, limit = part.0, "could not extend concurrency slots");
        }
        part
    }
}

/// Tells the tasks of a batch what the limit says. Without an answer there are no grants, and the calls are not made.
fn reply(batch: Vec<Waiting>, answer: Result<Vec<Grant>, NotStored>) {
    match answer {
        Ok(grants) => batch.into_iter().zip(grants).for_each(|(waiting, grant)| drop(waiting.reply.send(Ok(grant)))),
        Err(why) => batch.into_iter().for_each(|waiting| drop(waiting.reply.send(Err(why.clone())))),
    }
}

impl ConcurrencySlot {
    /// Takes over a slot that `limit` granted.
    pub fn new(client: &Arc<LimitClient>, limit: &str, token: &Token) -> Self {
        client.slots.lock().entry(limit.to_owned()).or_default().push(token.clone());
        Self { client: client.clone(), limit: limit.to_owned(), token: token.clone() }
    }
}

impl Drop for ConcurrencySlot {
    fn drop(&mut self) {
        {
            let mut slots = self.client.slots.lock();
            if let Some(tokens) = slots.get_mut(&self.limit) {
                tokens.retain(|token| *token != self.token);
                if tokens.is_empty() {
                    slots.remove(&self.limit);
                }
            }
        }
        let (client, limit) = (self.client.clone(), std::mem::take(&mut self.limit));
        let ended = [self.token.clone()];
        self.client.background.spawn(async move {
            // If that is refused, they end with their lease.
            let released = client.retry.retry("release_slots", || client.limits.release_slots(&limit, &ended)).await;
            if matches!(released, Ok(true)) {
                client.signal(&limit, DrainReason::FreeSlot);
            }
        });
    }
}
