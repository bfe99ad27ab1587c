//! What a gateway counts, for Prometheus. No label contains an id or a URL.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
    status: u16,
}

/// The counters of a gateway.
#[derive(Debug)]
pub(crate) struct GatewayMetrics {
    registry: Registry,
    requests: Family<RouteLabels, Counter>,
    waiting: Gauge,
}

impl Default for GatewayMetrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("redial_gateway");
        let (requests, waiting) = (Family::default(), Gauge::default());
        registry.register("requests", "Requests that were answered, by route and status", requests.clone());
        registry.register("waiting", "Requests that wait for results", waiting.clone());
        Self { registry, requests, waiting }
    }
}

impl GatewayMetrics {
    /// Counts a request that was answered.
    pub fn count(&self, route: &'static str, status: u16) {
        self.requests.get_or_create(&RouteLabels { route, status }).inc();
    }

    /// All of it, in the text format of OpenMetrics.
    pub fn render(&self, waiting: usize) -> String {
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let mut text = String::new();
        // It cannot fail: writing to a String does not.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
