//! What this worker knows of the breakers that the fleet shares. While one is known to be closed, first calls admit without
//! asking; what became of them rides on the next question. Who asks at the same time asks as one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redial_core::breaker::{BreakerReply, BreakerRequest, BreakerState, BreakerStatus, Decision, Report, Tally};
use redial_core::consumer::{MAX_BATCH, Selection};
use tokio::sync::oneshot;
use url::Url;

use crate::call::Called;
use crate::classify;
use crate::lock::locked;
use crate::persist::persist;
use crate::worker::{Lane, Worker};

/// For how long a breaker is taken to be closed after it was seen so: what an upstream that went down costs idle workers.
const FRESH: Duration = Duration::from_secs(1);
/// Beyond so many upstreams, those not called for a minute are forgotten.
const MANY: usize = 10_000;

/// What this worker knows of all breakers, by upstream.
#[derive(Debug, Default)]
pub struct Breakers(Mutex<HashMap<String, Known>>);

/// What is known of one.
#[derive(Debug, Default)]
struct Known {
    standing: Option<BreakerStatus>,
    learnt: Option<Instant>,
    /// What became of calls since this was last told.
    tally: Tally,
    /// Those who wait to ask.
    asking: Vec<(BreakerRequest, oneshot::Sender<(BreakerStatus, Decision)>)>,
    /// Whether someone sends.
    sends: bool,
    /// Whether it is to be sent though no one asks.
    is_due: bool,
}

/// The leave under which a call is made.
#[derive(Debug, Clone)]
pub struct Let {
    upstream: String,
    epoch: u64,
    /// Whether the upstream is judged by it.
    counts: bool,
    /// Whether its failure should cost the task no attempt, as it goes to see whether the upstream is back.
    pub is_probe: bool,
}

/// What the breaker of a task's upstream says.
#[derive(Debug)]
pub enum Told {
    /// Go.
    Go(Let),
    /// The upstream is up, and its retry budget used up: come back after this.
    Spent(Duration),
    /// The upstream is down, or coming back: wait in line.
    Down(Duration),
}

/// By what an upstream is known: its host and port.
pub fn upstream_of(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

/// Asks for one call. `None` when the worker gives up.
pub async fn ask(worker: &Arc<Worker>, lane: &Arc<Lane>, upstream: String, ask: BreakerRequest) -> Option<Told> {
    let known = if ask == BreakerRequest::First { worker.breakers.known_closed(&upstream) } else { None };
    let (standing, leave) = if let Some((standing, must_look)) = known {
        if must_look {
            send_soon(worker, lane, &upstream);
        }
        (standing, Decision { admit: Selection::Next(1), retry_in: Duration::ZERO, is_probe: false })
    } else {
        ask_redis(worker, lane, &upstream, ask).await?
    };
    let is_closed = standing.state == BreakerState::Closed;
    Some(match leave.admit {
        Selection::NONE if is_closed => Told::Spent(leave.retry_in),
        Selection::NONE => Told::Down(leave.retry_in),
        _ => Told::Go(Let {
            upstream,
            epoch: standing.epoch,
            counts: ask == BreakerRequest::First || !is_closed,
            is_probe: leave.is_probe,
        }),
    })
}

/// Asks the breaker itself. `None` when the worker gives up.
pub async fn ask_redis(
    worker: &Arc<Worker>,
    lane: &Arc<Lane>,
    upstream: &str,
    ask: BreakerRequest,
) -> Option<(BreakerStatus, Decision)> {
    let (answer, told) = oneshot::channel();
    worker.breakers.with(upstream, |known| known.asking.push((ask, answer)));
    send_soon(worker, lane, upstream);
    told.await.ok()
}

/// Takes note of what became of a call. A failure is told at once, and all is while the breaker is not closed.
pub fn record(worker: &Arc<Worker>, lane: &Arc<Lane>, leave: &Let, called: &Called) {
    let Some(is_up) = classify::is_up(called) else { return };
    let is_urgent = worker.breakers.with(&leave.upstream, |known| {
        let standing = known.standing.filter(|standing| standing.epoch == leave.epoch)?;
        known.tally.add(is_up, leave.counts);
        Some(standing.state != BreakerState::Closed || (!is_up && leave.counts))
    });
    if is_urgent == Some(true) {
        send_soon(worker, lane, &leave.upstream);
    }
}

/// Sees to it that what there is to tell and to ask is sent.
fn send_soon(worker: &Arc<Worker>, lane: &Arc<Lane>, upstream: &str) {
    let is_first = worker.breakers.with(upstream, |known| {
        known.is_due = true;
        !std::mem::replace(&mut known.sends, true)
    });
    if is_first {
        tokio::spawn(send(worker.clone(), lane.clone(), upstream.to_owned()));
    }
}

/// Sends what waits for one breaker, and what comes meanwhile.
async fn send(worker: Arc<Worker>, lane: Arc<Lane>, upstream: String) {
    loop {
        let taken = worker.breakers.with(&upstream, |known| {
            if !std::mem::take(&mut known.is_due) && known.asking.is_empty() {
                known.sends = false;
                return None;
            }
            let most = known.asking.len().min(MAX_BATCH);
            let asking: Vec<_> = known.asking.drain(..most).collect();
            let epoch = known.standing.map_or(0, |standing| standing.epoch);
            Some((Report { epoch, tally: std::mem::take(&mut known.tally) }, asking))
        });
        let Some((report, asking)) = taken else { return };
        let (asks, answers): (Vec<BreakerRequest>, Vec<_>) = asking.into_iter().unzip();
        let rules = &worker.config.breaker;
        let told = persist(&worker, &lane, "breaker", || lane.breakers.ask(&upstream, rules, report, &asks));
        // No answer, no call: without one the senders are dropped, and those who wait are told.
        let Some(BreakerReply { status: standing, decisions: leaves }) = told.await else { continue };
        learn(&worker, &lane, &upstream, standing).await;
        for (answer, leave) in answers.into_iter().zip(leaves) {
            let _ = answer.send((standing, leave));
        }
    }
}

async fn learn(worker: &Worker, lane: &Lane, upstream: &str, standing: BreakerStatus) {
    let before = worker.breakers.with(upstream, |known| {
        if known.standing.is_some_and(|before| before.epoch != standing.epoch) {
            known.tally = Tally::default();
        }
        known.learnt = Some(Instant::now());
        known.standing.replace(standing)
    });
    let was = before.map_or(BreakerState::Closed, |before| before.state);
    if was == standing.state {
        return;
    }
    match standing.state {
        BreakerState::Closed => tracing::info!(upstream, "the upstream is back: its breaker is closed"),
        BreakerState::HalfOpen => tracing::info!(upstream, "the upstream answers again: admitting more and more calls"),
        BreakerState::Open => {
            worker.metrics.breaker_opened();
            let down_ms = lane.clock.now().since(standing.since);
            tracing::warn!(
                upstream,
                down_ms,
                "the upstream is down: its breaker is open, tasks wait and use no attempt"
            );
            if let Err(error) = lane.breakers.register(upstream).await {
                tracing::debug!(%error, "a breaker's name was not put down");
            }
        }
    }
}

impl Breakers {
    /// That a breaker is closed, if that is known, and whether it is time to look again.
    fn known_closed(&self, upstream: &str) -> Option<(BreakerStatus, bool)> {
        self.with(upstream, |known| {
            let standing = known.standing.filter(|standing| standing.state == BreakerState::Closed)?;
            let age = known.learnt?.elapsed();
            (age < FRESH).then_some((standing, age > FRESH / 2 && !known.sends))
        })
    }

    fn with<T>(&self, upstream: &str, what: impl FnOnce(&mut Known) -> T) -> T {
        let mut all = locked(&self.0);
        if let Some(known) = all.get_mut(upstream) {
            return what(known);
        }
        if all.len() >= MANY {
            let minute = Duration::from_secs(60);
            all.retain(|_, known| known.sends || known.learnt.is_none_or(|learnt| learnt.elapsed() < minute));
        }
        what(all.entry(upstream.to_owned()).or_default())
    }
}
