//! Asks the limits that the fleet shares. Calls of this worker that ask the same limit at the same time share one command.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redial_core::UnixMs;
use redial_core::consumer::MAX_BATCH;
use redial_core::limit::{Acquired, DefinedBy, Grant, LimitRequest, Limits, definition};
use redial_core::protocol::id::Token;
use redial_core::protocol::task::Limit;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::configured::since::ConfiguredSince;
use crate::queue::redis_retry::{NotStored, RedisRetry};
use crate::queue::vital;
use crate::queue::wakeups::QueueWakeups;

/// How often the name of a limit in use is registered, so that it can be listed.
const REGISTER_INTERVAL: Duration = Duration::from_secs(60);

/// A worker's connection to the fleet's limits.
#[derive(Debug)]
pub struct LimitClient {
    limits: Limits,
    retry: Arc<RedisRetry>,
    /// How long a concurrency slot lasts unless it is extended.
    lease: Duration,
    wakeups: Arc<QueueWakeups>,
    background: TaskTracker,
    /// Requests that wait to be sent, by limit and definition. An entry exists as long as a task sends them.
    waiting: Mutex<HashMap<String, Vec<Waiting>>>,
    /// The concurrency slots of calls in flight, by limit.
    slots: Mutex<HashMap<String, Vec<Token>>>,
    configured: ConfiguredSince,
    /// When a limit's name was last registered.
    registered: Mutex<HashMap<String, Instant>>,
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
    since: Instant,
}

impl LimitClient {
    /// A client that holds no slots yet.
    pub fn new(
        limits: Limits,
        retry: Arc<RedisRetry>,
        lease: Duration,
        wakeups: Arc<QueueWakeups>,
        background: TaskTracker,
    ) -> Self {
        Self {
            limits,
            retry,
            lease,
            wakeups,
            background,
            waiting: Mutex::default(),
            slots: Mutex::default(),
            configured: ConfiguredSince::default(),
            registered: Mutex::default(),
        }
    }

    /// The fleet's limits, for commands that are sent once.
    pub fn limits(&self) -> &Limits {
        &self.limits
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
        let is_first = {
            let mut waiting = self.waiting.lock();
            let is_first = !waiting.contains_key(&key);
            waiting.entry(key.clone()).or_default().push(Waiting { request, first_seen, reply });
            is_first
        };
        if is_first {
            let target = Target { limit: limit.clone(), defined_by, key };
            vital::spawn("limits", self.clone().send(target));
        }
        granted.await.unwrap_or(Err(NotStored::Aborted))
    }

    /// Sends the requests that wait for one limit, and those that arrive meanwhile.
    async fn send(self: Arc<Self>, target: Target) {
        self.register(&target.limit.name).await;
        while let Some(batch) = self.next_batch(&target.key) {
            let mut definition_changed = false;
            // If Redis refuses a batch, one request in it may be why.
            let answer = self.ask(&target, &batch).await;
            let is_refused = matches!(answer, Err(NotStored::Refused(_)));
            if is_refused && batch.len() > 1 {
                for one in batch {
                    let answer = self.ask(&target, std::slice::from_ref(&one)).await;
                    definition_changed |= reply(vec![one], answer);
                }
            } else {
                definition_changed = reply(batch, answer);
            }
            if definition_changed {
                self.definition_changed(&target.limit.name).await;
            }
        }
    }

    /// Makes the tasks that wait for a limit ask again.
    pub(super) async fn definition_changed(&self, name: &str) {
        tracing::info!(limit = name, "limit definition changed; waking the tasks that wait for it");
        // If that is refused, they ask again when their time comes.
        let _woken = self.retry.retry("wake_waiters", || self.limits.wake_waiters(name)).await;
        self.wakeups.wake_all();
    }

    async fn ask(&self, target: &Target, batch: &[Waiting]) -> Result<Acquired, NotStored> {
        let newest = match target.defined_by {
            DefinedBy::Config => self.configured.since(&target.limit),
            _ => batch.iter().map(|waiting| waiting.first_seen).max().unwrap_or(UnixMs(0)),
        };
        let requests: Vec<LimitRequest> = batch.iter().map(|waiting| waiting.request.clone()).collect();
        let acquire = || self.limits.acquire(&target.limit, target.defined_by, newest, self.lease, &requests);
        self.retry.retry("acquire", acquire).await
    }

    fn next_batch(&self, key: &str) -> Option<Vec<Waiting>> {
        let mut waiting = self.waiting.lock();
        let size = waiting.get(key).map_or(0, Vec::len).min(MAX_BATCH);
        if size == 0 {
            waiting.remove(key);
            return None;
        }
        waiting.get_mut(key).map(|all| all.drain(..size).collect())
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

/// Tells the tasks of a batch what the limit says. Returns whether its definition has changed.
fn reply(batch: Vec<Waiting>, answer: Result<Acquired, NotStored>) -> bool {
    match answer {
        Ok(Acquired { definition_changed, grants }) => {
            for (waiting, grant) in batch.into_iter().zip(grants) {
                let _ = waiting.reply.send(Ok(grant));
            }
            definition_changed
        }
        // Without an answer there are no grants, and the calls are not made.
        Err(why) => {
            for waiting in batch {
                let _ = waiting.reply.send(Err(why.clone()));
            }
            false
        }
    }
}

impl ConcurrencySlot {
    /// Takes over a slot that `limit` granted.
    pub fn new(client: &Arc<LimitClient>, limit: &str, token: &Token) -> Self {
        client.slots.lock().entry(limit.to_owned()).or_default().push(token.clone());
        Self { client: client.clone(), limit: limit.to_owned(), token: token.clone(), since: Instant::now() }
    }

    /// Whether `limit` granted it.
    pub fn is_of(&self, limit: &str) -> bool {
        self.limit == limit
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
        let ended = vec![(self.token.clone(), self.since.elapsed())];
        self.client.background.spawn(async move {
            // If that is refused, they end with their lease.
            let _released = client.retry.retry("release_slots", || client.limits.release_slots(&limit, &ended)).await;
        });
    }
}
