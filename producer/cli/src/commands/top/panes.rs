//! What each pane shows of a fleet.

use redial_core::QueueName;
use redial_core::breaker::BreakerState;
use redial_core::consumer::WaitReason;
use redial_core::limit::LimitStatus;
use redial_core::queue::batch_progress::BatchProgress;
use redial_core::queue::dead_groups::DeadLetterGroup;
use redial_core::statistics::counts::UpstreamStatistics;

use super::observe::{FleetFrame, ObservedLetters, ObservedQueue};
use super::table::{PaneCell, PaneColumn, PaneOrder, PaneRow, PaneTable, RowSubject, left, right, span};
use crate::output::escaped;

/// Below this share of good answers an upstream is shown as failing.
const FAILING: f64 = 0.9;
/// How many characters the gauge of a limit has.
const GAUGE: u8 = 10;

/// A part of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pane {
    Queues,
    Upstreams,
    Waits,
    Workers,
    Limits,
    DeadLetters,
    Batches,
}

impl Pane {
    /// From above to below.
    pub const ALL: [Self; 7] =
        [Self::Queues, Self::Upstreams, Self::Waits, Self::Workers, Self::Limits, Self::DeadLetters, Self::Batches];

    pub fn title(self) -> &'static str {
        match self {
            Self::Queues => "Queues",
            Self::Upstreams => "Upstreams",
            Self::Waits => "Why work waits",
            Self::Workers => "Workers",
            Self::Limits => "Limits",
            Self::DeadLetters => "Dead letters",
            Self::Batches => "Batches",
        }
    }

    pub fn columns(self) -> &'static [PaneColumn] {
        const QUEUES: [PaneColumn; 9] = [
            left("QUEUE", 0),
            right("RATE/S", 7),
            right("WAITING", 7),
            right("ACTIVE", 6),
            right("SCHED", 6),
            right("PARKED", 6),
            right("DEAD", 6),
            right("WORKERS", 7),
            left("STATE", 7),
        ];
        const UPSTREAMS: [PaneColumn; 9] = [
            left("UPSTREAM", 0),
            right("RATE/S", 7),
            right("GOOD", 6),
            right("P50", 5),
            right("P95", 5),
            right("P99", 5),
            right("429S", 5),
            right("RETRIES", 7),
            left("BREAKER", 14),
        ];
        const WAITS: [PaneColumn; 4] = [left("CAUSE", 22), left("NAME", 0), left("QUEUE", 16), right("TASKS", 8)];
        const WORKERS: [PaneColumn; 4] = [left("WORKER", 26), right("TASKS", 6), left("LEASE", 12), left("HOLDS", 0)];
        const LIMITS: [PaneColumn; 5] =
            [left("LIMIT", 0), left("LEVEL", 12), left("USE", 22), right("WAITING", 8), left("CLOSED", 8)];
        const DEAD: [PaneColumn; 6] = [
            left("REASON", 20),
            left("UPSTREAM", 0),
            left("QUEUE", 12),
            right("LETTERS", 7),
            right("OLDEST", 6),
            right("NEWEST", 6),
        ];
        const BATCHES: [PaneColumn; 8] = [
            left("OUTPUT", 0),
            left("QUEUE", 12),
            left("STATE", 7),
            left("PROGRESS", 12),
            right("DONE", 6),
            right("LINES", 6),
            right("FAILED", 6),
            right("UPDATED", 7),
        ];
        match self {
            Self::Queues => &QUEUES,
            Self::Upstreams => &UPSTREAMS,
            Self::Waits => &WAITS,
            Self::Workers => &WORKERS,
            Self::Limits => &LIMITS,
            Self::DeadLetters => &DEAD,
            Self::Batches => &BATCHES,
        }
    }

    /// How its rows are sorted until a key changes that.
    pub fn order(self) -> PaneOrder {
        let (column, is_descending) = match self {
            Self::Queues => (0, false),
            Self::Upstreams | Self::Workers => (1, true),
            Self::Waits | Self::Limits | Self::DeadLetters => (3, true),
            Self::Batches => (7, false),
        };
        PaneOrder { column, is_descending }
    }

    /// What it says if there is nothing to show.
    pub fn empty(self) -> &'static str {
        match self {
            Self::Queues => "no queue has had a worker yet",
            Self::Upstreams => "no attempts in the last minute",
            Self::Waits => "nothing waits",
            Self::Workers => "no workers are running",
            Self::Limits => "no limit is in use",
            Self::DeadLetters => "none",
            Self::Batches => "none within a day",
        }
    }

    /// What it shows, in this order.
    pub fn table(self, frame: &FleetFrame, letters: &ObservedLetters, order: PaneOrder) -> PaneTable {
        let (mut rows, note) = match self {
            Self::Queues => (frame.queues.iter().map(queue_row).collect(), String::new()),
            Self::Upstreams => (upstream_rows(frame), "last minute".to_owned()),
            Self::Waits => (frame.queues.iter().flat_map(wait_rows).collect(), waits_note(frame)),
            Self::Workers => (worker_rows(frame), String::new()),
            Self::Limits => (frame.limits.iter().map(limit_row).collect(), String::new()),
            Self::DeadLetters => (letter_rows(frame, letters), dead_note(frame, letters)),
            Self::Batches => (batch_rows(frame), String::new()),
        };
        order.sort(&mut rows);
        PaneTable { columns: self.columns(), rows, note }
    }
}

fn queue_row(queue: &ObservedQueue) -> PaneRow {
    let at = &queue.at;
    let state = if at.paused { "paused" } else { "" };
    let cells = vec![
        PaneCell::text(queue.name.as_str()),
        rate(queue.rate),
        PaneCell::count(at.waiting),
        PaneCell::count(at.active),
        PaneCell::count(at.scheduled),
        PaneCell::count(at.parked),
        PaneCell::count(at.dead).bad_if(at.dead > 0),
        PaneCell::count(at.workers.len() as u64).bad_if(at.workers.is_empty() && at.waiting > 0),
        // Not a text: the row stays the same one when it is paused.
        PaneCell::number(f64::from(u8::from(at.paused)), state.to_owned()).bad_if(at.paused),
    ];
    let subject = RowSubject::Queue { name: queue.name.clone(), is_paused: at.paused };
    PaneRow { cells, subject }
}

fn rate(per_second: f64) -> PaneCell {
    let text = if per_second >= 100.0 { format!("{per_second:.0}") } else { format!("{per_second:.1}") };
    PaneCell::number(per_second, text)
}

#[expect(clippy::cast_precision_loss, reason = "shares and rates need no more than 52 bits")]
fn upstream_rows(frame: &FleetFrame) -> Vec<PaneRow> {
    let (statistics, silent) = (&frame.statistics, UpstreamStatistics::default());
    let unheard = frame.breakers.iter().filter(|(name, ..)| !statistics.total.upstreams.contains_key(name));
    let all = statistics.total.upstreams.iter().chain(unheard.map(|(name, ..)| (name, &silent)));
    let row = |(name, upstream): (&String, &UpstreamStatistics)| {
        let attempts = upstream.attempts();
        let good = if attempts > 0 { upstream.good as f64 / attempts as f64 } else { 1.0 };
        let breaker = frame.breakers.iter().find(|(of, ..)| of == name);
        let is_failing = breaker.is_some() || good < FAILING;
        let state = match breaker {
            Some((_, state, since)) => {
                format!("{} {}", state.as_str().replace('_', "-"), span(frame.now.since(*since)))
            }
            None if is_failing => "failing".to_owned(),
            None => "closed".to_owned(),
        };
        let state_order = match breaker {
            Some((_, BreakerState::HalfOpen, _)) => 2.0,
            Some(_) => 3.0,
            None => f64::from(u8::from(is_failing)),
        };
        let share = if attempts == 0 { "-".to_owned() } else { percent(good) };
        let latency = |share| {
            let ms = upstream.latency.percentile(share);
            PaneCell::number(ms.unwrap_or(0) as f64, ms.map_or_else(|| "-".to_owned(), span))
        };
        PaneRow::new(vec![
            PaneCell::text(name).bad_if(is_failing),
            rate(attempts as f64 / statistics.window.length().as_secs_f64()),
            PaneCell::number(good, share).bad_if(is_failing),
            latency(0.5),
            latency(0.95),
            latency(0.99),
            PaneCell::count(upstream.rate_limited()).bad_if(upstream.rate_limited() > 0),
            PaneCell::count(upstream.retries),
            PaneCell::number(state_order, state).bad_if(is_failing),
        ])
    };
    all.map(row).collect()
}

/// A share that is not rounded up to all.
fn percent(share: f64) -> String {
    if share > 0.99 && share < 1.0 {
        return format!("{:.1}%", (share * 1_000.0).floor() / 10.0);
    }
    format!("{:.0}%", share * 100.0)
}

fn wait_rows(queue: &ObservedQueue) -> Vec<PaneRow> {
    let waits = &queue.waits;
    let lists = waits.lists.iter().map(|(list, tasks)| {
        let cause = match list.reason {
            WaitReason::Limit => "limit",
            WaitReason::Breaker => "upstream is down",
            WaitReason::Memo => "answer of same call",
            WaitReason::InFlight => "calls in flight",
        };
        (cause, list.name.as_str(), *tasks)
    });
    let for_a_slot = if queue.at.paused { "queue is paused" } else { "free slot" };
    let others = [
        ("answer of same call", "", waits.answers),
        ("retry or delay", "", waits.scheduled),
        (for_a_slot, "", waits.waiting),
    ];
    let row = |(cause, name, tasks)| {
        PaneRow::new(vec![
            PaneCell::text(cause),
            PaneCell::text(name),
            PaneCell::text(queue.name.as_str()),
            PaneCell::count(tasks),
        ])
    };
    lists.chain(others).filter(|(_, _, tasks)| *tasks > 0).map(row).collect()
}

/// Why tasks began to wait lately.
fn waits_note(frame: &FleetFrame) -> String {
    let causes = frame.statistics.total.waits.iter().map(|(cause, times)| format!("{} {times}", escaped(cause)));
    let causes: Vec<String> = causes.collect();
    if causes.is_empty() { String::new() } else { format!("began in the last minute: {}", causes.join(", ")) }
}

#[expect(clippy::cast_precision_loss, reason = "it is sorted by, not counted with")]
fn worker_rows(frame: &FleetFrame) -> Vec<PaneRow> {
    let rows = frame.workers.iter().map(|worker| {
        let is_gone = worker.lease_until <= frame.now;
        let left = worker.lease_until.since(frame.now);
        let lease = if is_gone { "gone".to_owned() } else { format!("ends in {}", span(left)) };
        let holds: Vec<String> = worker.holds.iter().map(|(queue, tasks)| format!("{queue} {tasks}")).collect();
        PaneRow::new(vec![
            PaneCell::text(worker.worker.as_str()),
            PaneCell::count(worker.holds.iter().map(|(_, tasks)| tasks).sum()),
            PaneCell::number(left as f64, lease).bad_if(is_gone),
            // Not a text: the row stays the same one when it holds other tasks.
            PaneCell::number(worker.holds.len() as f64, holds.join(", ")),
        ])
    });
    rows.collect()
}

fn limit_row(status: &LimitStatus) -> PaneRow {
    let LimitStatus { name, limit, .. } = status;
    let (used, of, text) = match (limit.concurrency, limit.rate) {
        (Some(max), _) => {
            let in_flight = u32::try_from(status.in_flight).unwrap_or(u32::MAX);
            (f64::from(in_flight), f64::from(max), format!("{in_flight} of {max} in flight"))
        }
        (None, rate) => {
            let per_second = rate.unwrap_or_default() * 1_000.0
                / f64::from(u32::try_from(limit.per_ms.unwrap_or(1_000)).unwrap_or(u32::MAX));
            let (all, left) = (limit.burst.unwrap_or(per_second.max(1.0)), status.left.unwrap_or_default());
            (all - left, all, format!("{:.1} of {all:.1} left", left.max(0.0)))
        }
    };
    let share = if of > 0.0 { (used / of).clamp(0.0, 1.0) } else { 1.0 };
    let (closed_ms, closed) = match &status.closed {
        Some(closure) => {
            let ms = u64::try_from(closure.ends_in.as_millis()).unwrap_or(u64::MAX);
            (closure.ends_in.as_secs_f64(), span(ms))
        }
        None => (0.0, String::new()),
    };
    PaneRow::new(vec![
        PaneCell::text(name),
        PaneCell::number(share, gauge(share)).bad_if(share >= 1.0),
        PaneCell::number(used, text),
        PaneCell::count(status.calls_waiting() as u64),
        PaneCell::number(closed_ms, closed).bad_if(status.closed.is_some()),
    ])
}

/// A bar for a share between 0 and 1. It is full only if all is used.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is between 0 and 1")]
fn gauge(share: f64) -> String {
    let full = ((share * f64::from(GAUGE)) as u8).min(GAUGE);
    format!("[{}{}]", "#".repeat(full.into()), "-".repeat((GAUGE - full).into()))
}

fn letter_rows(frame: &FleetFrame, letters: &ObservedLetters) -> Vec<PaneRow> {
    let groups = letters.iter().flat_map(|(queue, counted)| counted.groups.iter().map(move |group| (queue, group)));
    let row = |(queue, group): (&QueueName, &DeadLetterGroup)| PaneRow {
        cells: vec![
            PaneCell::text(if group.reason.is_empty() { "unknown" } else { &group.reason }).bad_if(true),
            PaneCell::text(&group.upstream),
            PaneCell::text(queue.as_str()),
            PaneCell::count(group.letters),
            PaneCell::age(frame.now, group.oldest),
            PaneCell::age(frame.now, group.newest),
        ],
        subject: RowSubject::Letters {
            queue: queue.clone(),
            reason: group.reason.clone(),
            upstream: group.upstream.clone(),
        },
    };
    groups.map(row).collect()
}

fn dead_note(frame: &FleetFrame, letters: &ObservedLetters) -> String {
    let dead: u64 = frame.queues.iter().map(|queue| queue.at.dead).sum();
    let counted: usize = letters.iter().map(|(_, counts)| counts.counted).sum();
    match dead {
        0 => String::new(),
        _ if letters.iter().any(|(_, counts)| counts.is_partial()) => {
            format!("{dead} in all, the newest {counted} counted")
        }
        _ => format!("{dead} in all"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
fn batch_rows(frame: &FleetFrame) -> Vec<PaneRow> {
    let batches = frame.queues.iter().flat_map(|queue| queue.batches.iter().map(move |batch| (&queue.name, batch)));
    let row = |(queue, batch): (&QueueName, &BatchProgress)| {
        let is_silent = batch.is_silent(frame.now);
        let failed = batch.failed + batch.invalid;
        let share = if batch.lines > 0 { (batch.finished() as f64 / batch.lines as f64).clamp(0.0, 1.0) } else { 1.0 };
        PaneRow::new(vec![
            PaneCell::text(&batch.name),
            PaneCell::text(queue.as_str()),
            PaneCell::text(if is_silent { "silent" } else { batch.state.as_str() }).bad_if(is_silent),
            PaneCell::number(share, gauge(share)),
            PaneCell::count(batch.finished()),
            PaneCell::count(batch.lines),
            PaneCell::count(failed).bad_if(failed > 0),
            PaneCell::age(frame.now, batch.updated_at_ms),
        ])
    };
    batches.map(row).collect()
}
