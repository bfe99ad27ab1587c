//! What responses mean, as one table: a row is a host, a status, headers and a body, and what follows for the task and the limits. Each row
//! has its source: the page of a vendor, or the document that defines the header.

#![expect(clippy::unwrap_used, reason = "a row that cannot be read fails the test")]

mod conditions;
mod limits;
mod properties;
mod statuses;
mod vendors;
mod waits;

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use redial_core::UnixMs;
use redial_core::protocol::task::{Effect, Jitter, Retry};

use super::advice::Advice;
use super::classify::{Outcome, Policy, classify};
use super::judge::{Criteria, Judgement};
use crate::http::presets::{Preset, Presets};
use crate::http::types::{Redirection, Response};

/// Its source, the host, the status, the headers (`name: value`, separated by ` | `), the body, and what follows, as [`meaning`] puts it.
type Row = (&'static str, &'static str, u16, &'static str, &'static str, &'static str);

/// Fri, 15 Jan 2027 08:00:00 GMT.
const NOW: UnixMs = UnixMs(1_800_000_000_000);
/// The bound of what an upstream may ask for.
const BOUND: Duration = Duration::from_secs(3_600);
/// The backoff of the rows, without jitter.
const BACKOFF: Duration = Duration::from_millis(100);
/// A host that no preset knows.
const ANY: &str = "service.example.com";

static PRESETS: LazyLock<Presets> = LazyLock::new(|| Presets::built_in().unwrap());

fn preset(host: &str) -> &'static Preset {
    PRESETS.for_host(Some(host))
}

fn headers(text: &str) -> HeaderMap {
    let lines = text.split(" | ").filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        })
        .collect()
}

fn outcome(response: &Response, preset: &Preset) -> Outcome {
    outcome_judged(response, &Criteria::new(None, None, preset).judge(response), preset)
}

fn outcome_judged(response: &Response, judgement: &Judgement, preset: &Preset) -> Outcome {
    let retry = Retry { max_attempts: 5, base: BACKOFF, cap: BACKOFF, jitter: Jitter::None, on: vec![] };
    let policy = Policy {
        retry: &retry,
        effect: Effect::Idempotent,
        preset,
        judgement,
        has_key: false,
        counted: 0,
        free_waits: 0,
        max_free_waits: 20,
        is_probe: false,
        previous: Duration::ZERO,
        max_stated_wait: BOUND,
        now: NOW,
        deadline: None,
        random: 0.0,
    };
    classify(&Ok(response.clone()), &policy)
}

/// An outcome in words, as [`meaning`] has it.
fn put(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Complete => "complete".to_owned(),
        Outcome::Dead { reason, .. } => reason.as_str().to_owned(),
        Outcome::Retry { wait, counts, .. } => {
            let kind = if *counts { "retry" } else { "free" };
            if *wait == BACKOFF { kind.to_owned() } else { format!("{kind} {}", wait.as_millis()) }
        }
    }
}

/// `complete`; `retry`, or `free` if it uses no attempt, with the wait in ms unless it is the backoff; or the reason why the task is
/// dead. Then for how many ms the limits close, what remains, and whether a value is ignored.
fn meaning(response: &Response, preset: &Preset) -> String {
    let mut text = put(&outcome(response, preset));
    let advice = Advice::read(response, preset, NOW, BOUND);
    if let Some(close) = advice.closes_for(response.status) {
        write!(text, ", close {}", close.as_millis()).unwrap();
    }
    if let Some(requests) = advice.limits.requests {
        write!(text, ", requests {requests}").unwrap();
    }
    if let Some(tokens) = advice.limits.tokens {
        write!(text, ", tokens {tokens}").unwrap();
    }
    if advice.ignored.is_some() {
        text.push_str(", ignored");
    }
    text
}

#[test]
fn every_response_means_what_its_source_says() {
    let rows = [statuses::ROWS, waits::ROWS, limits::ROWS, vendors::ROWS].concat();
    assert!(rows.len() >= 150, "{} rows", rows.len());
    let mut faults = Vec::new();
    for (source, host, status, lines, body, expected) in &rows {
        assert!(source.starts_with("https://"), "{source}");
        let response = Response {
            status: *status,
            headers: headers(lines),
            body: body.as_bytes().to_vec(),
            redirection: Redirection::default(),
        };
        let found = meaning(&response, preset(host));
        if found != *expected {
            faults.push(format!(
                "{host} {status} [{lines}] {body}\n    means {found:?}, expected {expected:?} ({source})"
            ));
        }
    }
    assert!(faults.is_empty(), "{} of {} rows:\n{}", faults.len(), rows.len(), faults.join("\n"));
}
