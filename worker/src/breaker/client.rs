//! What this worker knows about the breakers that the fleet shares. While a breaker is known to be closed, first calls go without
//! asking, and their outcomes travel with the next question. Requests for the same breaker at the same time share one command.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redial_core::breaker::{
    BreakerConfig, BreakerReply, BreakerRequest, BreakerState, BreakerStatus, Breakers, Decision, Report, Tally,
};
use redial_core::consumer::{MAX_BATCH, Selection};
use redial_core::{Task, UnixMs};
use tokio::sync::oneshot;
use url::Url;

use crate::http::types::Failure;
use crate::observe::metrics::Metrics;
use crate::queue::redis_retry::{NotStored, RedisRetry};
use crate::queue::vital;

/// How long a breaker that was seen closed is assumed to stay closed. An upstream that goes down may be called for this long.
const CLOSED_FOR: Duration = Duration::from_secs(1);
/// How often a call that waits for its breaker looks whether its node is still there.
const AWAY_LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Beyond this many upstreams, those that were not called for [`FORGET_AFTER`] are forgotten.
const MAX_UPSTREAMS: usize = 10_000;
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// How long the state of a breaker is shown after it was seen. An open one is looked at every minute at least, by one of the workers.
const SHOWN_FOR: Duration = Duration::from_secs(120);
/// An upstream that does not answer in less than this may be well: its tasks may just ask for too little time.
const MIN_FAIR_TIME: Duration = Duration::from_secs(1);
/// Calls that took longer, such as those of one tenant, do not make the default timeout of tasks say nothing.
const MAX_FAIR_TIME: Duration = Duration::from_secs(30);
/// What the last call counts in the average of how long calls take.
const LAST_SHARE: f64 = 0.1;

/// A worker's connection to the fleet's breakers.
#[derive(Debug)]
pub struct BreakerClient {
    breakers: Breakers,
    config: BreakerConfig,
    retry: Arc<RedisRetry>,
    metrics: Arc<Metrics>,
    /// What is known, by upstream.
    known: Mutex<HashMap<String, Knowledge>>,
}

/// What is known about one breaker.
#[derive(Debug, Default)]
struct Knowledge {
    status: Option<BreakerStatus>,
    learned_at: Option<Instant>,
    /// The outcomes of calls since the last report.
    tally: Tally,
    /// Requests that wait to be sent.
    waiting: Vec<(BreakerRequest, oneshot::Sender<(BreakerStatus, Decision)>)>,
    /// Whether a task is sending.
    is_sending: bool,
    /// Whether to report even if nothing asks.
    report_due: bool,
    /// How long calls take that are answered: a moving average.
    usual_time: Option<Duration>,
}

impl Knowledge {
    /// Takes a call that was answered into the average.
    fn learn_time(&mut self, took: Duration) {
        let usual = self.usual_time.unwrap_or(took);
        self.usual_time = Some(usual.mul_f64(1.0 - LAST_SHARE) + took.mul_f64(LAST_SHARE));
    }

    /// The time from which on a call that is not answered says something about the upstream.
    fn fair_time(&self) -> Duration {
        self.usual_time.unwrap_or_default().clamp(MIN_FAIR_TIME, MAX_FAIR_TIME)
    }
}

/// The permission of a breaker for one call.
#[derive(Debug, Clone)]
pub struct BreakerPermit {
    upstream: String,
    epoch: u64,
    /// Whether the call's outcome is evidence about the upstream.
    counts: bool,
    /// Whether the call is a probe, whose failure costs the task no attempt.
    pub is_probe: bool,
    /// Whether the upstream was down when the call was admitted.
    was_down: bool,
}

impl BreakerPermit {
    /// The upstream, as `host:port`.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// The upstream that the call found up again after it was down.
    pub fn recovered(&self, is_up: bool) -> Option<&str> {
        (self.was_down && is_up).then_some(self.upstream.as_str())
    }
}

/// What a breaker says about one call.
#[derive(Debug)]
pub enum BreakerVerdict {
    /// Make the call.
    Allowed(BreakerPermit),
    /// The upstream is up, but its retry budget is exhausted: ask again after this time.
    BudgetExhausted(Duration),
    /// The upstream is down or recovering: wait in its wait list.
    Open(Duration),
}

/// The name of an upstream: its host and port.
pub fn upstream_of(url: &Url) -> String {
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
    [host, ":", &port.to_string()].concat()
}

/// What is assumed of a breaker that Redis refuses to tell about, because its key has another type or may not be read, or that is on a
/// node which does not answer: the breaker protects the upstream, and its tasks do not have to wait for someone to mend it.
const WITHOUT_BREAKER: BreakerStatus = BreakerStatus { epoch: 0, state: BreakerState::Closed, since: UnixMs(0) };

fn without_breaker(request: BreakerRequest) -> Decision {
    let (admit, retry_in) = match request {
        BreakerRequest::WaitList(_) => (Selection::Next(MAX_BATCH), CLOSED_FOR),
        BreakerRequest::First | BreakerRequest::Retry | BreakerRequest::ReservedRetry => {
            (Selection::Next(1), Duration::ZERO)
        }
    };
    Decision { admit, retry_in, is_probe: false }
}

impl BreakerClient {
    /// A client that knows nothing yet.
    pub fn new(breakers: Breakers, config: BreakerConfig, retry: Arc<RedisRetry>, metrics: Arc<Metrics>) -> Self {
        Self { breakers, config, retry, metrics, known: Mutex::default() }
    }

    /// Whether an upstream was down or recovering when its breaker was last seen, and the breaker is on a node of a Cluster that does not
    /// answer now.
    pub fn is_out_of_reach(&self, upstream: &str) -> bool {
        self.breakers.is_away(upstream) && !self.was_closed(upstream)
    }

    /// The states of the breakers that were seen lately.
    pub fn recent_states(&self) -> Vec<(String, BreakerState)> {
        let all = self.known.lock();
        let seen = all.iter().filter(|(_, known)| known.learned_at.is_some_and(|at| at.elapsed() < SHOWN_FOR));
        seen.filter_map(|(upstream, known)| Some((upstream.clone(), known.status?.state))).collect()
    }

    /// Whether a breaker was closed when it was last seen. One that was never seen counts as closed.
    fn was_closed(&self, upstream: &str) -> bool {
        self.with(upstream, |known| known.status.is_none_or(|status| status.state == BreakerState::Closed))
    }

    /// Asks for one call. `None` if the worker aborts.
    pub async fn ask(self: &Arc<Self>, upstream: String, request: BreakerRequest) -> Option<BreakerVerdict> {
        let known = if request == BreakerRequest::First { self.known_closed(&upstream) } else { None };
        let (status, decision) = if let Some((status, refresh)) = known {
            if refresh {
                self.send_soon(&upstream);
            }
            (status, Decision { admit: Selection::Next(1), retry_in: Duration::ZERO, is_probe: false })
        } else {
            Box::pin(self.ask_if_there(&upstream, request)).await?
        };
        let is_closed = status.state == BreakerState::Closed;
        Some(match decision.admit {
            Selection::NONE if is_closed => BreakerVerdict::BudgetExhausted(decision.retry_in),
            Selection::NONE => BreakerVerdict::Open(decision.retry_in),
            _ => BreakerVerdict::Allowed(BreakerPermit {
                upstream,
                epoch: status.epoch,
                counts: request == BreakerRequest::First || !is_closed,
                is_probe: decision.is_probe,
                was_down: status.state == BreakerState::Open,
            }),
        })
    }

    /// Asks Redis, whatever is known here. `None` if the worker aborts.
    pub async fn ask_redis(
        self: &Arc<Self>,
        upstream: &str,
        request: BreakerRequest,
    ) -> Option<(BreakerStatus, Decision)> {
        let (sender, reply) = oneshot::channel();
        self.with(upstream, |known| known.waiting.push((request, sender)));
        self.send_soon(upstream);
        reply.await.ok()
    }

    /// The same, unless the breaker is on a node of a Cluster that does not answer and was closed when it was last seen: then it is taken
    /// to be closed still.
    async fn ask_if_there(
        self: &Arc<Self>,
        upstream: &str,
        request: BreakerRequest,
    ) -> Option<(BreakerStatus, Decision)> {
        let away = async {
            while !(self.breakers.is_away(upstream) && self.was_closed(upstream)) {
                tokio::time::sleep(AWAY_LOOK_INTERVAL).await;
            }
        };
        tokio::select! {
            biased;
            () = away => Some((WITHOUT_BREAKER, without_breaker(request))),
            reply = self.ask_redis(upstream, request) => reply,
        }
    }

    /// Whether a failure says something about the upstream. A timeout does not if it is shorter than the upstream usually needs: whoever sets
    /// it could close the upstream for all others.
    pub fn is_evidence(&self, permit: &BreakerPermit, failure: &Failure, task: &Task) -> bool {
        match failure {
            Failure::Timeout => task.timeout >= self.with(&permit.upstream, |known| known.fair_time()),
            Failure::ConnectTimeout => task.connect_timeout.min(task.timeout) >= MIN_FAIR_TIME,
            _ => true,
        }
    }

    /// Records whether a call found the upstream up, and how long it took. Reported at once if it did not, or if the breaker is not closed.
    pub fn record(self: &Arc<Self>, permit: &BreakerPermit, is_up: bool, took: Duration) {
        let is_urgent = self.with(&permit.upstream, |known| {
            if is_up {
                known.learn_time(took);
            }
            let status = known.status.filter(|status| status.epoch == permit.epoch)?;
            known.tally.add(is_up, permit.counts);
            Some(status.state != BreakerState::Closed || (!is_up && permit.counts))
        });
        if is_urgent == Some(true) {
            self.send_soon(&permit.upstream);
        }
    }

    /// Makes sure that reports and requests are sent.
    fn send_soon(self: &Arc<Self>, upstream: &str) {
        let is_first = self.with(upstream, |known| {
            known.report_due = true;
            !std::mem::replace(&mut known.is_sending, true)
        });
        if is_first {
            vital::spawn("breakers", self.clone().send(upstream.to_owned()));
        }
    }

    /// Sends what waits for one breaker, and what arrives meanwhile.
    async fn send(self: Arc<Self>, upstream: String) {
        loop {
            let taken = self.with(&upstream, |known| {
                if !std::mem::take(&mut known.report_due) && known.waiting.is_empty() {
                    known.is_sending = false;
                    return None;
                }
                let size = known.waiting.len().min(MAX_BATCH);
                let waiting: Vec<_> = known.waiting.drain(..size).collect();
                let epoch = known.status.map_or(0, |status| status.epoch);
                Some((Report { epoch, tally: std::mem::take(&mut known.tally) }, waiting))
            });
            let Some((report, waiting)) = taken else { return };
            let (requests, senders): (Vec<BreakerRequest>, Vec<_>) = waiting.into_iter().unzip();
            let ask = || self.breakers.ask(&upstream, &self.config, report, &requests);
            let BreakerReply { status, decisions } = match self.retry.retry("breaker", ask).await {
                Ok(reply) => reply,
                // The senders are dropped, and so the calls are not made.
                Err(NotStored::Aborted) => continue,
                Err(NotStored::Refused(_)) => {
                    for (sender, request) in senders.into_iter().zip(requests) {
                        let _ = sender.send((WITHOUT_BREAKER, without_breaker(request)));
                    }
                    continue;
                }
            };
            self.learn(&upstream, status).await;
            for (sender, decision) in senders.into_iter().zip(decisions) {
                let _ = sender.send((status, decision));
            }
        }
    }

    async fn learn(&self, upstream: &str, status: BreakerStatus) {
        let before = self.with(upstream, |known| {
            if known.status.is_some_and(|before| before.epoch != status.epoch) {
                known.tally = Tally::default();
            }
            known.learned_at = Some(Instant::now());
            known.status.replace(status)
        });
        if before.map_or(BreakerState::Closed, |before| before.state) == status.state {
            return;
        }
        match status.state {
            BreakerState::Closed => tracing::info!(upstream, "the upstream is up again: its breaker is closed"),
            BreakerState::HalfOpen => {
                tracing::info!(
                    upstream,
                    "the upstream answers again: its breaker is half open and admits more and more calls"
                );
            }
            BreakerState::Open => self.opened(upstream, status.since).await,
        }
    }

    async fn opened(&self, upstream: &str, since: UnixMs) {
        self.metrics.breaker_opened();
        let since_ms = since.0;
        tracing::warn!(upstream, since_ms, "the upstream is down: its breaker is open; tasks wait and use no attempts");
        if let Err(error) = self.breakers.register(upstream).await {
            tracing::debug!(%error, upstream, "could not register a breaker's name");
        }
    }

    /// The status of a breaker that is known to be closed, and whether to refresh it.
    fn known_closed(&self, upstream: &str) -> Option<(BreakerStatus, bool)> {
        self.with(upstream, |known| {
            let status = known.status.filter(|status| status.state == BreakerState::Closed)?;
            let age = known.learned_at?.elapsed();
            (age < CLOSED_FOR).then_some((status, age > CLOSED_FOR / 2 && !known.is_sending))
        })
    }

    fn with<T>(&self, upstream: &str, act: impl FnOnce(&mut Knowledge) -> T) -> T {
        let mut all = self.known.lock();
        if let Some(known) = all.get_mut(upstream) {
            return act(known);
        }
        if all.len() >= MAX_UPSTREAMS {
            all.retain(|_, known| known.is_sending || known.learned_at.is_none_or(|at| at.elapsed() < FORGET_AFTER));
        }
        act(all.entry(upstream.to_owned()).or_default())
    }
}
