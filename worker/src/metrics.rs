//! What the worker counts, for Prometheus. Names are a public interface: `docs/operations.md` lists them. No label ever
//! holds an id or a URL.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use redial_core::memo::MemoPurpose;
use redial_core::queue::Counts;
use redial_core::{Reason, Task};

use crate::call::Called;
use crate::lock::locked;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Queue {
    queue: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueReason {
    queue: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueState {
    queue: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Memo {
    queue: String,
    purpose: &'static str,
    event: &'static str,
}

/// What a memo did for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoEvent {
    /// Its answer was there.
    Hit,
    /// The task makes the call.
    Miss,
    /// The task waited for the call of another one and got its answer.
    Shared,
    /// The idempotency key was used for another call.
    Mismatch,
}

impl MemoEvent {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Shared => "shared",
            Self::Mismatch => "mismatch",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Field {
    field: String,
}

/// All counters, gauges and histograms.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    claimed: Family<Queue, Counter>,
    completed: Family<Queue, Counter>,
    dead: Family<QueueReason, Counter>,
    attempts: Family<QueueReason, Counter>,
    retries: Family<QueueReason, Counter>,
    attempt_seconds: Family<Queue, Histogram>,
    lost_leases: Family<Queue, Counter>,
    reaped: Family<Queue, Counter>,
    memo: Family<Memo, Counter>,
    calls_saved: Family<Queue, Counter>,
    limit_waits: Family<Queue, Counter>,
    held_back: Family<QueueReason, Counter>,
    breakers_opened: Counter,
    fired: Family<Queue, Counter>,
    redis_errors: Counter,
    fields: Family<Field, Counter>,
    tasks: Family<QueueState, Gauge>,
    in_hand: Gauge,
    /// Fields that were logged already: once each is enough.
    named: Mutex<HashSet<String>>,
    last_claim: Mutex<Option<Instant>>,
    last_beat: Mutex<Option<Instant>>,
}

/// The most names of unknown fields that are told apart.
const MAX_FIELDS: usize = 100;

impl Metrics {
    /// All of them, at zero.
    pub fn new() -> Self {
        let seconds =
            || Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0]);
        let mut metrics = Self {
            registry: Registry::with_prefix("redial"),
            claimed: Family::default(),
            completed: Family::default(),
            dead: Family::default(),
            attempts: Family::default(),
            retries: Family::default(),
            attempt_seconds: Family::new_with_constructor(seconds),
            lost_leases: Family::default(),
            reaped: Family::default(),
            memo: Family::default(),
            calls_saved: Family::default(),
            limit_waits: Family::default(),
            held_back: Family::default(),
            breakers_opened: Counter::default(),
            fired: Family::default(),
            redis_errors: Counter::default(),
            fields: Family::default(),
            tasks: Family::default(),
            in_hand: Gauge::default(),
            named: Mutex::default(),
            last_claim: Mutex::default(),
            last_beat: Mutex::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("tasks_claimed", "Tasks taken off the queue, retries included", self.claimed.clone());
        r.register("tasks_completed", "Tasks answered", self.completed.clone());
        r.register("tasks_dead", "Tasks that ended without a good answer, by reason", self.dead.clone());
        r.register("attempts", "Calls on the wire, by how they ended", self.attempts.clone());
        r.register("retries", "Attempts that failed and are made again, by what was wrong", self.retries.clone());
        r.register("attempt_duration_seconds", "Time of one call, connect to last byte", self.attempt_seconds.clone());
        r.register("lost_leases", "Tasks that another worker took over meanwhile", self.lost_leases.clone());
        r.register("tasks_reaped", "Tasks taken back from workers that died", self.reaped.clone());
        r.register("memo", "Tasks by what their memo did for them", self.memo.clone());
        r.register("calls_saved", "Tasks answered without a call of their own", self.calls_saved.clone());
        r.register("limit_waits", "Times that a task was parked for a limit", self.limit_waits.clone());
        r.register(
            "held_back",
            "Times that a task waited for its upstream: down, or its retry budget spent",
            self.held_back.clone(),
        );
        r.register(
            "breakers_opened",
            "Times that this worker saw an upstream's breaker open",
            self.breakers_opened.clone(),
        );
        r.register("schedules_fired", "Tasks that this worker pushed for schedules", self.fired.clone());
        r.register("redis_errors", "Commands that Redis did not answer or refused", self.redis_errors.clone());
        r.register("ignored_fields", "Task fields that this version ignores, by name", self.fields.clone());
        r.register("tasks", "Tasks by where they are; active: in this worker's hands", self.tasks.clone());
        r.register("slots_in_use", "Tasks in this worker's hands, over all queues", self.in_hand.clone());
    }

    /// A claim was answered.
    pub fn claimed(&self, queue: &str, tasks: usize) {
        set_now(&self.last_claim);
        if tasks > 0 {
            self.claimed.get_or_create(&of(queue)).inc_by(tasks as u64);
        }
    }

    /// A heartbeat was answered.
    pub fn beat(&self) {
        set_now(&self.last_beat);
    }

    /// A call ended.
    pub fn attempt(&self, queue: &str, called: &Called, took_ms: u64) {
        let reason = if called.as_ref().is_ok_and(|answer| (200..300).contains(&answer.status)) {
            "ok"
        } else {
            failure_label(called)
        };
        self.attempts.get_or_create(&QueueReason { queue: queue.to_owned(), reason }).inc();
        self.attempt_seconds.get_or_create(&of(queue)).observe(Duration::from_millis(took_ms).as_secs_f64());
    }

    /// An attempt failed and will be made again.
    pub fn retry(&self, queue: &str, reason: &'static str) {
        self.retries.get_or_create(&QueueReason { queue: queue.to_owned(), reason }).inc();
    }

    /// A task was answered.
    pub fn complete(&self, queue: &str) {
        self.completed.get_or_create(&of(queue)).inc();
    }

    /// A task is dead.
    pub fn dead(&self, queue: &str, reason: Reason) {
        self.dead.get_or_create(&QueueReason { queue: queue.to_owned(), reason: reason.as_str() }).inc();
    }

    /// A task was another worker's by the time it was to be settled.
    pub fn lost_lease(&self, queue: &str) {
        self.lost_leases.get_or_create(&of(queue)).inc();
    }

    /// Tasks were taken back from a dead worker.
    pub fn reaped(&self, queue: &str, tasks: usize) {
        self.reaped.get_or_create(&of(queue)).inc_by(tasks as u64);
    }

    /// A memo was asked, or had an answer to share.
    pub fn memo(&self, queue: &str, purpose: MemoPurpose, event: MemoEvent) {
        let label = Memo { queue: queue.to_owned(), purpose: purpose.as_str(), event: event.as_str() };
        self.memo.get_or_create(&label).inc();
        if matches!(event, MemoEvent::Hit | MemoEvent::Shared) {
            self.calls_saved.get_or_create(&of(queue)).inc();
        }
    }

    /// A task was parked for a limit.
    pub fn limit_wait(&self, queue: &str) {
        self.limit_waits.get_or_create(&of(queue)).inc();
    }

    /// A task waits for its upstream: for its `breaker`, or its `retry_budget`.
    pub fn held_back(&self, queue: &str, reason: &'static str) {
        self.held_back.get_or_create(&QueueReason { queue: queue.to_owned(), reason }).inc();
    }

    /// An upstream's breaker has opened.
    pub fn breaker_opened(&self) {
        self.breakers_opened.inc();
    }

    /// A schedule was fired.
    pub fn fired(&self, queue: &str) {
        self.fired.get_or_create(&of(queue)).inc();
    }

    /// Redis did not answer, or refused.
    pub fn redis_error(&self) {
        self.redis_errors.inc();
    }

    /// Counts the fields of a task that this version ignores, and says so once for each.
    pub fn note_fields(&self, task: &Task) {
        for field in &task.unknown {
            self.note(field);
        }
    }

    fn note(&self, field: &str) {
        let mut named = locked(&self.named);
        let known = named.contains(field);
        if !known && named.len() < MAX_FIELDS {
            named.insert(field.to_owned());
            tracing::warn!(
                field,
                "this field is not part of the protocol: it is ignored; said once, counted as redial_ignored_fields_total"
            );
        }
        let field = if named.contains(field) { field } else { "(others)" };
        self.fields.get_or_create(&Field { field: field.to_owned() }).inc();
    }

    /// How many tasks are where.
    pub fn backlog(&self, queue: &str, counts: Counts, active: usize) {
        let states = [
            ("waiting", counts.waiting),
            ("scheduled", counts.scheduled),
            ("parked", counts.parked),
            ("dead", counts.dead),
            ("active", active as u64),
        ];
        for (state, count) in states {
            self.tasks
                .get_or_create(&QueueState { queue: queue.to_owned(), state })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// How long ago a claim was last answered.
    pub fn since_claim(&self) -> Option<Duration> {
        since(&self.last_claim)
    }

    /// How long ago a heartbeat was last answered.
    pub fn since_beat(&self) -> Option<Duration> {
        since(&self.last_beat)
    }

    /// All of them in the text format of Prometheus and OpenMetrics.
    pub fn render(&self, in_hand: usize) -> String {
        self.in_hand.set(i64::try_from(in_hand).unwrap_or(i64::MAX));
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# {error}\n"),
        }
    }
}

/// What was wrong with a call, as a label: the status, or the kind of failure.
pub fn failure_label(called: &Called) -> &'static str {
    match called {
        Err(failure) => failure.label(),
        Ok(answer) => match answer.status {
            408 => "status_408",
            425 => "status_425",
            429 => "status_429",
            500 => "status_500",
            502 => "status_502",
            503 => "status_503",
            504 => "status_504",
            529 => "status_529",
            300..400 => "status_3xx",
            400..500 => "status_4xx",
            _ => "status_5xx",
        },
    }
}

fn of(queue: &str) -> Queue {
    Queue { queue: queue.to_owned() }
}

fn set_now(at: &Mutex<Option<Instant>>) {
    *locked(at) = Some(Instant::now());
}

fn since(at: &Mutex<Option<Instant>>) -> Option<Duration> {
    locked(at).map(|at| at.elapsed())
}
