//! Asks the limits that the fleet shares. Calls of this worker that meet at one limit ask as one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redial_core::UnixMs;
use redial_core::consumer::MAX_BATCH;
use redial_core::limit::{Acquired, Grant, LimitRequest, definition};
use redial_core::protocol::id::Token;
use tokio::sync::oneshot;

use crate::limits::Limited;
use crate::lock::locked;
use crate::persist::persist;
use crate::worker::{Lane, Worker};

type Waiting = (LimitRequest, UnixMs, oneshot::Sender<Grant>);

/// What asks limits.
#[derive(Debug, Default)]
pub struct Limiter {
    /// Those who wait to ask, by limit and definition. An entry stands for as long as someone sends for it.
    waiting: Mutex<HashMap<String, Vec<Waiting>>>,
    /// Places in flight, by limit.
    places: Mutex<HashMap<String, Vec<Token>>>,
    /// When a limit's name was last put down as being in use.
    noted: Mutex<HashMap<String, Instant>>,
}

/// A place in flight. Given back when dropped.
#[derive(Debug)]
pub struct Place {
    worker: Arc<Worker>,
    lane: Arc<Lane>,
    limit: String,
    token: Token,
    since: Instant,
}

/// Asks a limit for one call, whose task came at a time. `None` when the worker gives up.
pub async fn ask(
    worker: &Arc<Worker>,
    lane: &Arc<Lane>,
    limited: &Limited,
    came: UnixMs,
    ask: LimitRequest,
) -> Option<Grant> {
    let (answer, granted) = oneshot::channel();
    let key = format!("{} {} {}", limited.source.as_str(), definition(&limited.limit), limited.limit.name);
    let is_first = {
        let mut waiting = locked(&worker.limiter.waiting);
        let is_first = !waiting.contains_key(&key);
        waiting.entry(key.clone()).or_default().push((ask, came, answer));
        is_first
    };
    if is_first {
        tokio::spawn(send(worker.clone(), lane.clone(), limited.clone(), key));
    }
    granted.await.ok()
}

/// Sends what waits for one limit, and what comes meanwhile.
async fn send(worker: Arc<Worker>, lane: Arc<Lane>, limited: Limited, key: String) {
    note(&worker, &lane, &limited.limit.name).await;
    loop {
        let batch: Vec<Waiting> = {
            let mut waiting = locked(&worker.limiter.waiting);
            let most = waiting.get(&key).map_or(0, Vec::len).min(MAX_BATCH);
            let batch: Vec<_> = waiting.get_mut(&key).into_iter().flat_map(|all| all.drain(..most)).collect();
            if batch.is_empty() {
                waiting.remove(&key);
                return;
            }
            batch
        };
        let newest = batch.iter().map(|(_, came, _)| *came).max().unwrap_or(UnixMs(0));
        let (asks, answers): (Vec<LimitRequest>, Vec<_>) =
            batch.into_iter().map(|(ask, _, answer)| (ask, answer)).unzip();
        let lease = worker.config.lease;
        let acquire = || lane.limits.acquire(&limited.limit, limited.source, newest, lease, &asks);
        // No answer, no call: without one the senders are dropped, and those who wait are told.
        let Acquired { definition_changed, grants } =
            persist(&worker, &lane, "acquire", acquire).await.unwrap_or_default();
        for (answer, grant) in answers.into_iter().zip(grants) {
            let _ = answer.send(grant);
        }
        if definition_changed {
            tracing::info!(limit = limited.limit.name, "limit definition changed; waking the tasks that wait for it");
            persist(&worker, &lane, "hasten", || lane.limits.wake_waiters(&limited.limit.name)).await;
            worker.wake.notify_one();
        }
    }
}

/// Puts a limit's name down, so that it can be listed: once a minute.
async fn note(worker: &Worker, lane: &Lane, name: &str) {
    const EVERY: Duration = Duration::from_secs(60);
    let due = {
        let mut noted = locked(&worker.limiter.noted);
        let due = noted.get(name).is_none_or(|at| at.elapsed() > EVERY);
        if due {
            noted.retain(|_, at| at.elapsed() <= EVERY);
            noted.insert(name.to_owned(), Instant::now());
        }
        due
    };
    if due && let Err(error) = lane.limits.register(name).await {
        tracing::debug!(%error, "a limit's name was not put down");
    }
}

impl Limiter {
    /// Keeps the places of all calls in flight for another lease. What fails is left for the next beat.
    pub async fn extend_slots(&self, lane: &Lane, lease: Duration) {
        let held = locked(&self.places).clone();
        for (name, tokens) in held {
            if let Err(error) = lane.limits.extend_slots(&name, lease, &tokens).await {
                tracing::debug!(%error, limit = name, "places in flight were not kept");
            }
        }
    }
}

impl Place {
    /// Takes note of a place that was granted.
    pub fn new(worker: &Arc<Worker>, lane: &Arc<Lane>, limit: &str, token: &Token) -> Self {
        let mut places = locked(&worker.limiter.places);
        places.entry(limit.to_owned()).or_default().push(token.clone());
        drop(places);
        let (worker, lane) = (worker.clone(), lane.clone());
        Self { worker, lane, limit: limit.to_owned(), token: token.clone(), since: Instant::now() }
    }

    /// Whether it is one of this limit.
    pub fn is_of(&self, limit: &str) -> bool {
        self.limit == limit
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut places = locked(&self.worker.limiter.places);
            if let Some(tokens) = places.get_mut(&self.limit) {
                tokens.retain(|token| *token != self.token);
                if tokens.is_empty() {
                    places.remove(&self.limit);
                }
            }
        }
        let (worker, lane, limit) = (self.worker.clone(), self.lane.clone(), std::mem::take(&mut self.limit));
        let ended = vec![(self.token.clone(), self.since.elapsed())];
        self.worker.sharing.spawn(async move {
            persist(&worker, &lane, "give a place back", || lane.limits.release_slots(&limit, &ended)).await;
        });
    }
}
