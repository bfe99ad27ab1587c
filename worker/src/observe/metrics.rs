//! What a worker counts, for Prometheus. The names are a public interface: `docs/operations.md` lists them. No label ever
//! contains an id or a URL.

use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use redial_core::Reason;
use redial_core::breaker::BreakerState;
use redial_core::memo::MemoPurpose;
use redial_traces::SpanFate;

use super::attempt_metrics::AttemptMetrics;
use super::exposition::ExpositionFormat;
use super::known_names::{KnownNames, OTHERS, Occurrence};
use super::limit_metrics::LimitMetrics;
use super::queue_metrics::{QueueLabel, QueueMetrics, whole};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    queue: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MemoLabels {
    queue: String,
    purpose: &'static str,
    event: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BreakerLabel {
    upstream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FateLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TenantLabels {
    tenant: String,
    reason: &'static str,
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
    dead: Family<ReasonLabels, Counter>,
    /// The queues.
    pub queues: QueueMetrics,
    /// The calls, by queue and upstream.
    pub attempts: AttemptMetrics,
    /// The limits of the configuration.
    pub limits: LimitMetrics,
    tenant_attempts: Family<TenantLabels, Counter>,
    lost_leases: Family<QueueLabel, Counter>,
    reaped: Family<QueueLabel, Counter>,
    given_up: Family<QueueLabel, Counter>,
    memo: Family<MemoLabels, Counter>,
    calls_saved: Family<QueueLabel, Counter>,
    limit_waits: Family<QueueLabel, Counter>,
    held_back: Family<ReasonLabels, Counter>,
    usage_capped: Counter,
    answer_waits: Counter,
    local_shortages: Family<QueueLabel, Counter>,
    breakers_opened: Counter,
    fired: Family<QueueLabel, Counter>,
    redis_errors: Counter,
    redis_refusals: Counter,
    fields: Family<FieldLabel, Counter>,
    slots_in_use: Gauge,
    slots: Gauge,
    redis_seconds: Histogram,
    breakers: Family<BreakerLabel, Gauge>,
    spans: Family<FateLabel, Counter>,
    /// The ignored fields that have a label of their own.
    known_fields: KnownNames,
    /// Held while gauges are set and shown together.
    rendering: Mutex<()>,
}

/// How many ignored fields get a label of their own, and how long its name may be. Tasks choose the names.
const MAX_FIELDS: usize = 100;
const MAX_FIELD_NAME: usize = 64;
/// How many breakers are shown, those that are not closed first.
const MAX_BREAKERS: usize = 100;
/// The bounds of the buckets of how long Redis takes for a round trip, in seconds.
const ROUND_TRIP_SECONDS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0];

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("redial");
        let queues = QueueMetrics::new(&mut registry);
        let attempts = AttemptMetrics::new(&mut registry);
        let limits = LimitMetrics::new(&mut registry);
        let mut metrics = Self {
            registry,
            claimed: Family::default(),
            dead: Family::default(),
            queues,
            attempts,
            limits,
            tenant_attempts: Family::default(),
            lost_leases: Family::default(),
            reaped: Family::default(),
            given_up: Family::default(),
            memo: Family::default(),
            calls_saved: Family::default(),
            limit_waits: Family::default(),
            held_back: Family::default(),
            usage_capped: Counter::default(),
            answer_waits: Counter::default(),
            local_shortages: Family::default(),
            breakers_opened: Counter::default(),
            fired: Family::default(),
            redis_errors: Counter::default(),
            redis_refusals: Counter::default(),
            fields: Family::default(),
            slots_in_use: Gauge::default(),
            slots: Gauge::default(),
            redis_seconds: Histogram::new(ROUND_TRIP_SECONDS),
            breakers: Family::default(),
            spans: Family::default(),
            known_fields: KnownNames::new(MAX_FIELDS),
            rendering: Mutex::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("tasks_claimed", "Tasks claimed, retries included", self.claimed.clone());
        r.register("tasks_dead", "Tasks that ended without a good answer, by reason", self.dead.clone());
        r.register("tenant_attempts", "HTTP calls by tenant and how they ended", self.tenant_attempts.clone());
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
        r.register("answer_waits", "Times that a call waited for memory for its answer", self.answer_waits.clone());
        r.register("limit_waits", "Times that a task was rescheduled because of a limit", self.limit_waits.clone());
        r.register(
            "held_back",
            "Times that a task had to wait for its upstream: its breaker was open, its retry budget exhausted, or enough calls in flight",
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
        r.register("slots_in_use", "Slots occupied by a task, over all queues", self.slots_in_use.clone());
        r.register("slots", "Slots of this worker", self.slots.clone());
        r.register(
            "redis_round_trip_seconds",
            "Time that Redis took to answer, for each command, script or pipeline",
            self.redis_seconds.clone(),
        );
        r.register(
            "breaker_state",
            "Breakers that this worker has seen in the last two minutes: 0 closed, 1 half open, 2 open",
            self.breakers.clone(),
        );
        r.register("trace_spans", "Spans of traces, by whether the collector took them", self.spans.clone());
    }

    /// Tasks were claimed.
    pub fn claimed(&self, queue: &str, tasks: usize) {
        if tasks > 0 {
            self.claimed.get_or_create(&QueueLabel::new(queue)).inc_by(tasks as u64);
        }
    }

    /// An attempt ended, by its tenant as the settings know it.
    pub fn tenant_attempt(&self, tenant: String, reason: &'static str) {
        self.tenant_attempts.get_or_create(&TenantLabels { tenant, reason }).inc();
    }

    /// A task ended as a dead letter.
    pub fn dead(&self, queue: &str, reason: Reason) {
        self.dead.get_or_create(&ReasonLabels { queue: queue.to_owned(), reason: reason.as_str() }).inc();
    }

    /// A task's lease was lost before its result was stored.
    pub fn lost_lease(&self, queue: &str) {
        self.lost_leases.get_or_create(&QueueLabel::new(queue)).inc();
    }

    /// Tasks were taken back from a worker that died.
    pub fn reaped(&self, queue: &str, tasks: usize) {
        self.reaped.get_or_create(&QueueLabel::new(queue)).inc_by(tasks as u64);
    }

    /// This worker could not go on with a task.
    pub fn given_up(&self, queue: &str) {
        self.given_up.get_or_create(&QueueLabel::new(queue)).inc();
    }

    /// A memo did something for a task.
    pub fn memo(&self, queue: &str, purpose: MemoPurpose, event: MemoEvent) {
        let labels = MemoLabels { queue: queue.to_owned(), purpose: purpose.as_str(), event: event.as_str() };
        self.memo.get_or_create(&labels).inc();
        if matches!(event, MemoEvent::Hit | MemoEvent::Shared) {
            self.calls_saved.get_or_create(&QueueLabel::new(queue)).inc();
        }
    }

    /// A task was rescheduled because of a limit.
    pub fn limit_wait(&self, queue: &str) {
        self.limit_waits.get_or_create(&QueueLabel::new(queue)).inc();
    }

    /// A task was rescheduled because this machine lacks what a connection needs.
    pub fn local_shortage(&self, queue: &str) {
        self.local_shortages.get_or_create(&QueueLabel::new(queue)).inc();
    }

    /// A response stated a usage that is not believable.
    pub fn usage_capped(&self) {
        self.usage_capped.inc();
    }

    /// Counts how often a call waits for memory for its answer.
    pub fn answer_waits(&self) -> Counter {
        self.answer_waits.clone()
    }

    /// A task has to wait because of its upstream's `breaker`, its `retry_budget` or the calls `in_flight` to it.
    pub fn held_back(&self, queue: &str, reason: &'static str) {
        self.held_back.get_or_create(&ReasonLabels { queue: queue.to_owned(), reason }).inc();
    }

    /// An upstream's breaker has opened.
    pub fn breaker_opened(&self) {
        self.breakers_opened.inc();
    }

    /// A schedule was fired.
    pub fn fired(&self, queue: &str) {
        self.fired.get_or_create(&QueueLabel::new(queue)).inc();
    }

    /// Counts the commands that Redis did not answer or refused.
    pub fn redis_errors(&self) -> RedisErrorMetrics {
        RedisErrorMetrics { errors: self.redis_errors.clone(), refusals: self.redis_refusals.clone() }
    }

    /// A task has a field that this version ignores. Beyond [`MAX_FIELDS`] names, others share a label and count as repeated,
    /// and so do names that are long or not plain text.
    pub fn ignored_field(&self, field: &str) -> Occurrence {
        let is_short = field.len() <= MAX_FIELD_NAME;
        let (occurrence, field) =
            if is_short { self.known_fields.name_and_occurrence(field) } else { (Occurrence::Repeated, OTHERS) };
        self.fields.get_or_create(&FieldLabel { field: field.to_owned() }).inc();
        occurrence
    }

    /// Redis took this long to answer.
    pub fn redis_answered(&self, took: Duration) {
        self.redis_seconds.observe(took.as_secs_f64());
    }

    /// This became of some spans.
    pub fn spans(&self, fate: SpanFate, spans: usize) {
        self.spans.get_or_create(&FateLabel { outcome: fate.as_str() }).inc_by(spans as u64);
    }

    /// All metrics, in a format of [`ExpositionFormat`].
    pub fn render(&self, format: ExpositionFormat, slots: SlotCounts, breakers: Vec<(String, BreakerState)>) -> String {
        let _rendering = self.rendering.lock();
        self.slots_in_use.set(whole(slots.in_use as u64));
        self.slots.set(whole(slots.total as u64));
        self.show_breakers(breakers);
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => format.render(text),
            Err(error) => format!("# {error}\n"),
        }
    }

    fn show_breakers(&self, mut breakers: Vec<(String, BreakerState)>) {
        breakers.sort_by_key(|(_, state)| std::cmp::Reverse(level(*state)));
        self.breakers.clear();
        for (upstream, state) in breakers.into_iter().take(MAX_BREAKERS) {
            self.breakers.get_or_create(&BreakerLabel { upstream }).set(level(state));
        }
    }
}

/// The slots of a worker.
#[derive(Debug, Clone, Copy)]
pub struct SlotCounts {
    pub in_use: usize,
    pub total: usize,
}

fn level(state: BreakerState) -> i64 {
    match state {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    }
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
        let slots = SlotCounts { in_use: 0, total: 1 };
        let text = metrics.render(ExpositionFormat::PlainText, slots, Vec::new());
        assert!(text.contains(r#"field="timeout""#) && text.contains(r#"field="(others)""#), "{text}");
        assert_eq!(text.matches("redial_ignored_fields_total{").count(), MAX_FIELDS + 1);
        assert!(text.len() < 64 << 10, "{} bytes", text.len());
    }
}
