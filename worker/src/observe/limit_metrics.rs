//! What a worker shows of the limits of its configuration. Those that only tasks define are not shown: there may be one for each tenant.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use redial_core::limit::LimitStatus;

use super::known_names::{KnownNames, OTHERS};
use super::queue_metrics::whole;

/// How many limits are shown.
const MAX_LIMITS: usize = 100;

type FloatGauge = Gauge<f64, std::sync::atomic::AtomicU64>;
type FloatCounter = Counter<f64, std::sync::atomic::AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnitLabels {
    limit: String,
    unit: String,
}

/// The gauges and counters of limits.
#[derive(Debug)]
pub struct LimitMetrics {
    rate: Family<LimitLabel, FloatGauge>,
    left: Family<LimitLabel, FloatGauge>,
    in_flight: Family<LimitLabel, Gauge>,
    concurrency: Family<LimitLabel, Gauge>,
    waiting: Family<LimitLabel, Gauge>,
    closed: Family<LimitLabel, FloatGauge>,
    used: Family<UnitLabels, FloatCounter>,
    names: KnownNames,
}

impl LimitMetrics {
    /// All of them, registered.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            rate: Family::default(),
            left: Family::default(),
            in_flight: Family::default(),
            concurrency: Family::default(),
            waiting: Family::default(),
            closed: Family::default(),
            used: Family::default(),
            names: KnownNames::new(MAX_LIMITS),
        };
        registry.register("limit_rate_per_second", "Rate of a limit, in its unit", metrics.rate.clone());
        registry.register("limit_left", "What is left in the bucket of a limit, in its unit", metrics.left.clone());
        registry.register("limit_in_flight", "Calls in flight under a limit", metrics.in_flight.clone());
        registry.register("limit_concurrency", "Calls that a limit allows in flight", metrics.concurrency.clone());
        registry.register("limit_waiting", "Tasks that wait for a limit, in all queues", metrics.waiting.clone());
        registry.register(
            "limit_closed_seconds",
            "For how much longer an upstream has a limit closed",
            metrics.closed.clone(),
        );
        registry.register("limit_used", "What calls of this worker took of a limit, by its unit", metrics.used.clone());
        metrics
    }

    /// Whether the limit is one of those that are shown.
    pub fn shows(&self, limit: &str) -> bool {
        self.names.name(limit) != OTHERS
    }

    /// How a limit stands.
    pub fn status(&self, status: &LimitStatus) {
        let limit = self.names.name(&status.name);
        if limit == OTHERS {
            return;
        }
        let label = LimitLabel { limit: limit.to_owned() };
        let definition = &status.limit;
        if let Some(rate) = definition.rate {
            // Exact up to 2^53 ms.
            #[expect(clippy::cast_precision_loss)]
            let per_ms = definition.per_ms.unwrap_or(1_000).max(1) as f64;
            self.rate.get_or_create(&label).set(rate * 1_000.0 / per_ms);
        }
        if let Some(left) = status.left {
            self.left.get_or_create(&label).set(left);
        }
        if let Some(concurrency) = definition.concurrency {
            self.concurrency.get_or_create(&label).set(i64::from(concurrency));
            self.in_flight.get_or_create(&label).set(whole(status.in_flight));
        }
        self.waiting.get_or_create(&label).set(whole(status.calls_waiting() as u64));
        let closed = status.closed.as_ref().map_or(0.0, |closed| closed.ends_in.as_secs_f64());
        self.closed.get_or_create(&label).set(closed);
    }

    /// A call took this much of a limit of the configuration.
    pub fn used(&self, limit: &str, unit: Option<&str>, amount: f64) {
        let labels =
            UnitLabels { limit: self.names.name(limit).to_owned(), unit: unit.unwrap_or("requests").to_owned() };
        // A counter never falls, whatever a response states.
        self.used.get_or_create(&labels).inc_by(amount.max(0.0));
    }
}
