//! Which limits a call is under, and what its answer says of them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use redial_core::Task;
use redial_core::limit::{Adjustment, DefinedBy};
use redial_core::protocol::task::Limit;
use serde::Deserialize;
use serde_json::Value;

use crate::call::{Answer, Called};
use crate::config::Config;
use crate::job::Job;
use crate::persist::persist;
use crate::rate_headers;
use crate::retry_after::stated_wait;
use crate::worker::{Lane, Worker};

/// Where an answer says what the call took, unless it is said otherwise: OpenAI's place and that of all who follow it.
const USAGE: &str = "usage.total_tokens";

/// All `[[limit]]` blocks.
#[derive(Debug, Clone, Default)]
pub struct Limits(Vec<Limit>);

/// A block as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    name: String,
    cost: Option<f64>,
    rate: Option<f64>,
    per_ms: Option<u64>,
    burst: Option<f64>,
    concurrency: Option<u32>,
    usage: Option<String>,
}

/// A limit that a call is under.
#[derive(Debug, Clone)]
pub struct Limited {
    pub limit: Limit,
    pub source: DefinedBy,
    /// How much the call takes.
    pub cost: f64,
    /// Where the answer says how much it really took.
    pub usage: Option<String>,
    /// Whether it is that of the upstream, not of the task.
    pub of_upstream: bool,
    /// When it was last asked, or a little before.
    pub asked: Instant,
    /// How long after that it let the call go.
    pub wait: Duration,
    /// When it let the call go, by its own clock in us.
    pub admitted_at: f64,
}

impl Limited {
    /// What share of the time that this call takes of a slow limit, of two calls a second or fewer, a span is. `None`: it has no rate
    /// that is known here, or a faster one.
    pub fn share_of_turn(&self, span: Duration) -> Option<f64> {
        const SLOW_MS: f64 = 500.0;
        #[expect(clippy::cast_precision_loss)] // a year in ms
        let per_ms = self.limit.per_ms.unwrap_or(1_000) as f64;
        let turn_ms = self.cost * per_ms / self.limit.rate?;
        (turn_ms >= SLOW_MS).then_some(span.as_secs_f64() * 1e3 / turn_ms)
    }
}

impl Limits {
    /// Checks the blocks.
    ///
    /// # Errors
    /// What is wrong with which block.
    pub fn new(written: Vec<Written>) -> anyhow::Result<Self> {
        let mut limits: Vec<Limit> = Vec::new();
        for Written { name, cost, rate, per_ms, burst, concurrency, usage } in written {
            let limit = Limit { name, cost, rate, per_ms, burst, concurrency, usage };
            limit.check().map_err(anyhow::Error::msg).context("[[limit]]")?;
            let name = &limit.name;
            ensure!(
                limit.rate.is_some() || limit.concurrency.is_some(),
                "[[limit]] {name:?} limits nothing: give it a rate or a concurrency"
            );
            ensure!(limits.iter().all(|other| other.name != *name), "[[limit]] {name:?} is there twice");
            limits.push(limit);
        }
        Ok(Self(limits))
    }

    /// Whether there is one of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn require(&self, name: &str) -> anyhow::Result<()> {
        self.get(name)
            .map(|_| ())
            .with_context(|| format!("[[upstream]] names the limit {name:?}, and there is no [[limit]] of that name"))
    }

    fn get(&self, name: &str) -> Option<&Limit> {
        self.0.iter().find(|limit| limit.name == name)
    }
}

/// The limits that a task is under: its own, in its order, then those of the upstream.
pub fn of(task: &Task, config: &Config) -> Vec<Limited> {
    let of_upstream = config.upstreams.limits_for(task);
    let mut all: Vec<Limited> = Vec::new();
    for own in &task.limits {
        if all.iter().all(|other| other.limit.name != own.name) {
            let configured = config.limits.get(&own.name);
            let limit = configured.unwrap_or(own).clone();
            let source = match configured {
                Some(_) => DefinedBy::Config,
                None if own.rate.is_some() || own.concurrency.is_some() => DefinedBy::Inline,
                None => DefinedBy::Name,
            };
            all.push(limited(limit, source, own.cost, own.usage.clone(), of_upstream.contains(&own.name)));
        }
    }
    for name in of_upstream {
        if let Some(limit) = config.limits.get(name)
            && all.iter().all(|other| other.limit.name != *name)
        {
            all.push(limited(limit.clone(), DefinedBy::Config, None, None, true));
        }
    }
    all
}

fn limited(limit: Limit, source: DefinedBy, cost: Option<f64>, usage: Option<String>, of_upstream: bool) -> Limited {
    let stated = cost.or(limit.cost);
    let usage = usage.or_else(|| limit.usage.clone()).or_else(|| stated.map(|_| USAGE.to_owned()));
    let usage = usage.filter(|path| !path.is_empty());
    Limited {
        source,
        cost: stated.unwrap_or(1.0),
        usage,
        of_upstream,
        limit,
        asked: Instant::now(),
        wait: Duration::ZERO,
        admitted_at: 0.0,
    }
}

/// On whose behalf a call asks a limit: the task's own first other limit, which is a tenant's most often; else its queue.
pub fn flow<'a>(all: &'a [Limited], limited: &Limited, queue: &'a str) -> &'a str {
    let mut others = all.iter().filter(|other| !other.of_upstream && other.limit.name != limited.limit.name);
    others.next().map_or(queue, |other| &other.limit.name)
}

/// Tells the limits of a call what came of it: how long the upstream wants no calls, what it has left, what the call took.
pub async fn learn(worker: &Worker, lane: &Lane, job: &Job, called: &Called) {
    let Ok(answer) = called else { return };
    let now = lane.clock.now();
    let mut heard = rate_headers::heard(&answer.headers, now);
    if answer.status == 429 {
        heard.closed = heard.closed.max(stated_wait(&answer.headers, now));
    }
    let closed = heard.closed.unwrap_or_default().min(worker.config.max_stated_wait);
    let of_upstream = job.limits.iter().any(|limited| limited.of_upstream);
    let json = job.limits.iter().any(|limited| limited.usage.is_some()).then(|| json_of(answer)).flatten();
    for limited in &job.limits {
        // What an upstream says of itself is none of a tenant's, where the two are told apart.
        let meant = limited.of_upstream || !of_upstream;
        let left = if limited.usage.is_some() { heard.tokens } else { heard.requests };
        let more = json.as_ref().zip(limited.usage.as_deref()).and_then(|(json, path)| used(json, path));
        let more = more.map_or(0.0, |used| used - limited.cost);
        let (closed, left) = if meant { (closed, left) } else { (Duration::ZERO, None) };
        if closed.is_zero() && left.is_none() && more == 0.0 {
            continue;
        }
        if !closed.is_zero() {
            tracing::info!(limit = %limited.limit.name, queue = %lane.name, wait_ms = crate::clock::ms(closed), "the upstream asks for a pause: the limit is closed");
        }
        let flow = flow(&job.limits, limited, &lane.name);
        let adjustment = Adjustment {
            close_for: closed,
            charge: more,
            fairness_key: flow,
            remaining: left,
            admitted_at: limited.admitted_at,
        };
        let adjust = || lane.limits.adjust(&limited.limit.name, &adjustment);
        persist(worker, lane, "adjust", adjust).await;
    }
}

/// A good answer, if it is JSON.
fn json_of(answer: &Answer) -> Option<Value> {
    (200..300).contains(&answer.status).then(|| serde_json::from_slice(&answer.body).ok()).flatten()
}

/// What it says at a path of member names with dots between.
fn used(json: &Value, path: &str) -> Option<f64> {
    let mut at = json;
    for name in path.split('.') {
        at = at.get(name)?;
    }
    at.as_f64().filter(|used| *used >= 0.0)
}
