//! What a worker counts, for Prometheus. The names are a public interface: `docs/operations.md` lists them. No label ever
//! contains an id or a URL.

use std::collections::HashSet;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use redial_core::Reason;
use redial_core::memo::MemoPurpose;
use redial_core::queue::Counts;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    queue: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    queue: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    queue: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MemoLabels {
    queue: String,
    purpose: &'static str,
    event: &'static str,
}

/// The counters of failed commands to Redis.
#[derive(Debug, Clone)]
pub struct RedisErrorMetrics {
    /// All of them.
    pub errors: Counter,
    /// Those that Redis refused for good.
    pub refusals: Counter,
}

/// What a memo did for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoEvent {
    /// It had the answer.
    Hit,
    /// The task leads and makes the call.
    Miss,
    /// The task waited for another task's call and got its answer.
    Shared,
    /// The idempotency key belongs to another call.
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
struct FieldLabel {
    field: String,
}

/// All counters, gauges and histograms.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    claimed: Family<QueueLabel, Counter>,
    completed: Family<QueueLabel, Counter>,
    dead: Family<ReasonLabels, Counter>,
    attempts: Family<ReasonLabels, Counter>,
    retries: Family<ReasonLabels, Counter>,
    attempt_seconds: Family<QueueLabel, Histogram>,
    lost_leases: Family<QueueLabel, Counter>,
    reaped: Family<QueueLabel, Counter>,
    given_up: Family<QueueLabel, Counter>,
    memo: Family<MemoLabels, Counter>,
    calls_saved: Family<QueueLabel, Counter>,
    limit_waits: Family<QueueLabel, Counter>,
    held_back: Family<ReasonLabels, Counter>,
    usage_capped: Counter,
    local_shortages: Family<QueueLabel, Counter>,
    breakers_opened: Counter,
    fired: Family<QueueLabel, Counter>,
    redis_errors: Counter,
    redis_refusals: Counter,
    fields: Family<FieldLabel, Counter>,
    tasks: Family<StateLabels, Gauge>,
    slots_in_use: Gauge,
    /// The ignored fields that have a label of their own.
    known_fields: Mutex<HashSet<String>>,
}

/// How many ignored fields get a label of their own, and how long its name may be. Tasks choose the names.
const MAX_FIELDS: usize = 100;
const MAX_FIELD_NAME: usize = 64;

/// Whether an ignored field was counted for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occurrence {
    First,
    Repeated,
}

impl Metrics {
    /// All metrics, at zero.
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
            given_up: Family::default(),
            memo: Family::default(),
            calls_saved: Family::default(),
            limit_waits: Family::default(),
            held_back: Family::default(),
            usage_capped: Counter::default(),
            local_shortages: Family::default(),
            breakers_opened: Counter::default(),
            fired: Family::default(),
            redis_errors: Counter::default(),
            redis_refusals: Counter::default(),
            fields: Family::default(),
            tasks: Family::default(),
            slots_in_use: Gauge::default(),
            known_fields: Mutex::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("tasks_claimed", "Tasks claimed, retries included", self.claimed.clone());
        r.register("tasks_completed", "Tasks that ended with a good answer", self.completed.clone());
        r.register("tasks_dead", "Tasks that ended without a good answer, by reason", self.dead.clone());
        r.register("attempts", "HTTP calls, by how they ended", self.attempts.clone());
        r.register("retries", "Failed attempts that will be retried, by what went wrong", self.retries.clone());
        r.register(
            "attempt_duration_seconds",
            "Duration of a call, from connecting to the last byte",
            self.attempt_seconds.clone(),
        );
        r.register(
            "lost_leases",
            "Tasks whose lease was lost before this worker finished them",
            self.lost_leases.clone(),
        );
        r.register("tasks_reaped", "Tasks taken back from workers that died", self.reaped.clone());
        r.register(
            "tasks_given_up",
            "Times that this worker could not go on with a task: it panicked, or Redis refused every way to end it",
            self.given_up.clone(),
        );
        r.register("memo", "Tasks with a memo, by what it did for them", self.memo.clone());
        r.register("calls_saved", "Tasks that got their answer without a call of their own", self.calls_saved.clone());
        r.register(
            "local_shortages",
            "Times that a task was rescheduled because this machine lacked descriptors, ports or memory",
            self.local_shortages.clone(),
        );
        r.register("usage_capped", "Responses that stated an unbelievable usage", self.usage_capped.clone());
        r.register("limit_waits", "Times that a task was rescheduled because of a limit", self.limit_waits.clone());
        r.register(
            "held_back",
            "Times that a task had to wait for its upstream: its breaker was open or its retry budget exhausted",
            self.held_back.clone(),
        );
        r.register(
            "breakers_opened",
            "Times that this worker saw an upstream's breaker open",
            self.breakers_opened.clone(),
        );
        r.register("schedules_fired", "Firings of schedules by this worker", self.fired.clone());
        r.register("redis_errors", "Commands to Redis that failed", self.redis_errors.clone());
        r.register(
            "redis_refusals",
            "Commands to Redis that it refused for good, so that they were not sent again",
            self.redis_refusals.clone(),
        );
        r.register("ignored_fields", "Task fields that this version ignores, by name", self.fields.clone());
        r.register("tasks", "Tasks by state; active: held by this worker", self.tasks.clone());
        r.register("slots_in_use", "Slots occupied by a task, over all queues", self.slots_in_use.clone());
    }

    /// Tasks were claimed.
    pub fn claimed(&self, queue: &str, tasks: usize) {
        if tasks > 0 {
            self.claimed.get_or_create(&label(queue)).inc_by(tasks as u64);
        }
    }

    /// An attempt ended, as `reason` says.
    pub fn attempt(&self, queue: &str, reason: &'static str, took_ms: u64) {
        self.attempts.get_or_create(&ReasonLabels { queue: queue.to_owned(), reason }).inc();
        self.attempt_seconds.get_or_create(&label(queue)).observe(Duration::from_millis(took_ms).as_secs_f64());
    }

    /// An attempt failed and will be retried.
    pub fn retry(&self, queue: &str, reason: &'static str) {
        self.retries.get_or_create(&ReasonLabels { queue: queue.to_owned(), reason }).inc();
    }

    /// A task ended with a good answer.
    pub fn completed(&self, queue: &str) {
        self.completed.get_or_create(&label(queue)).inc();
    }

    /// A task ended as a dead letter.
    pub fn dead(&self, queue: &str, reason: Reason) {
        self.dead.get_or_create(&ReasonLabels { queue: queue.to_owned(), reason: reason.as_str() }).inc();
    }

    /// A task's lease was lost before its result was stored.
    pub fn lost_lease(&self, queue: &str) {
        self.lost_leases.get_or_create(&label(queue)).inc();
    }

    /// Tasks were taken back from a worker that died.
    pub fn reaped(&self, queue: &str, tasks: usize) {
        self.reaped.get_or_create(&label(queue)).inc_by(tasks as u64);
    }

    /// This worker could not go on with a task.
    pub fn given_up(&self, queue: &str) {
        self.given_up.get_or_create(&label(queue)).inc();
    }

    /// A memo did something for a task.
    pub fn memo(&self, queue: &str, purpose: MemoPurpose, event: MemoEvent) {
        let labels = MemoLabels { queue: queue.to_owned(), purpose: purpose.as_str(), event: event.as_str() };
        self.memo.get_or_create(&labels).inc();
        if matches!(event, MemoEvent::Hit | MemoEvent::Shared) {
            self.calls_saved.get_or_create(&label(queue)).inc();
        }
    }

    /// A task was rescheduled because of a limit.
    pub fn limit_wait(&self, queue: &str) {
        self.limit_waits.get_or_create(&label(queue)).inc();
    }

    /// A task was rescheduled because this machine lacks what a connection needs.
    pub fn local_shortage(&self, queue: &str) {
        self.local_shortages.get_or_create(&label(queue)).inc();
    }

    /// A response stated a usage that is not believable.
    pub fn usage_capped(&self) {
        self.usage_capped.inc();
    }

    /// A task has to wait because of its upstream's `breaker` or `retry_budget`.
    pub fn held_back(&self, queue: &str, reason: &'static str) {
        self.held_back.get_or_create(&ReasonLabels { queue: queue.to_owned(), reason }).inc();
    }

    /// An upstream's breaker has opened.
    pub fn breaker_opened(&self) {
        self.breakers_opened.inc();
    }

    /// A schedule was fired.
    pub fn fired(&self, queue: &str) {
        self.fired.get_or_create(&label(queue)).inc();
    }

    /// Counts the commands that Redis did not answer or refused.
    pub fn redis_errors(&self) -> RedisErrorMetrics {
        RedisErrorMetrics { errors: self.redis_errors.clone(), refusals: self.redis_refusals.clone() }
    }

    /// A task has a field that this version ignores. Beyond [`MAX_FIELDS`] names, others share a label and count as repeated,
    /// and so do names that are long or not plain text.
    pub fn ignored_field(&self, field: &str) -> Occurrence {
        let mut known = self.known_fields.lock();
        let mut occurrence = Occurrence::Repeated;
        let is_plain = field.len() <= MAX_FIELD_NAME && !field.chars().any(char::is_control);
        if is_plain && known.len() < MAX_FIELDS && !known.contains(field) {
            known.insert(field.to_owned());
            occurrence = Occurrence::First;
        }
        let field = if known.contains(field) { field } else { "(others)" };
        self.fields.get_or_create(&FieldLabel { field: field.to_owned() }).inc();
        occurrence
    }

    /// How many tasks of a queue are in which state.
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
                .get_or_create(&StateLabels { queue: queue.to_owned(), state })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// All metrics in the text format of Prometheus and OpenMetrics.
    pub fn render(&self, slots_in_use: usize) -> String {
        self.slots_in_use.set(i64::try_from(slots_in_use).unwrap_or(i64::MAX));
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# {error}\n"),
        }
    }
}

fn label(queue: &str) -> QueueLabel {
    QueueLabel { queue: queue.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_cannot_make_the_metrics_large() {
        let metrics = Metrics::new();
        let long = "x".repeat(300_000);
        for n in 0..1_000 {
            metrics.ignored_field(&format!("{long}{n}"));
            metrics.ignored_field(&format!("line\n{n}"));
        }
        assert_eq!(metrics.ignored_field("timeout"), Occurrence::First);
        assert_eq!(metrics.ignored_field("timeout"), Occurrence::Repeated);
        for n in 0..1_000 {
            metrics.ignored_field(&format!("field{n}"));
        }
        let text = metrics.render(0);
        assert!(text.contains(r#"field="timeout""#) && text.contains(r#"field="(others)""#), "{text}");
        assert_eq!(text.matches("redial_ignored_fields_total{").count(), MAX_FIELDS + 1);
        assert!(text.len() < 64 << 10, "{} bytes", text.len());
    }
}
