//! What a gateway counts, for Prometheus. No label contains an id or a URL.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use redial_traces::SpanFate;

use crate::route_pattern::RoutePattern;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: RoutePattern,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: RoutePattern,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FateLabel {
    outcome: &'static str,
}

/// The bounds of the buckets of how long requests take, in seconds. Some wait for minutes.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0, 1_800.0];

/// The counters of a gateway.
#[derive(Debug)]
pub(crate) struct GatewayMetrics {
    registry: Registry,
    requests: Family<RouteLabels, Counter>,
    seconds: Family<RouteLabel, Histogram>,
    waiting: Gauge,
    streams: Gauge,
    spans: Family<FateLabel, Counter>,
}

/// A stream that is being passed on. It has ended when this is dropped.
#[derive(Debug)]
pub(crate) struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for GatewayMetrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("redial_gateway");
        let (requests, waiting, streams, spans) =
            (Family::default(), Gauge::default(), Gauge::default(), Family::default());
        let seconds: Family<RouteLabel, Histogram> = Family::new_with_constructor(|| Histogram::new(SECONDS));
        registry.register("requests", "Requests that were answered, by route and status", requests.clone());
        registry.register("waiting", "Requests that wait for results", waiting.clone());
        registry.register(
            "request_duration_seconds",
            "Time until the response to a request began, by route; that of a call includes the call",
            seconds.clone(),
        );
        registry.register("streams", "Answers that are being passed on while they arrive", streams.clone());
        registry.register("trace_spans", "Spans of traces, by whether the collector took them", spans.clone());
        Self { registry, requests, seconds, waiting, streams, spans }
    }
}

impl GatewayMetrics {
    /// Counts a request that was answered after this time.
    pub fn count(&self, route: RoutePattern, status: u16, took: Duration) {
        self.requests.get_or_create(&RouteLabels { route: route.clone(), status }).inc();
        self.seconds.get_or_create(&RouteLabel { route }).observe(took.as_secs_f64());
    }

    /// Counts a stream for as long as it is passed on.
    pub fn stream(&self) -> OpenStream {
        self.streams.inc();
        OpenStream(self.streams.clone())
    }

    /// This became of some spans.
    pub fn spans(&self, fate: SpanFate, spans: usize) {
        self.spans.get_or_create(&FateLabel { outcome: fate.as_str() }).inc_by(spans as u64);
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
