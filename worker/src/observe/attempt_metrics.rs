//! What a worker counts of its calls, by queue and upstream.
//!
//! The series of a queue and an upstream are looked up once for each call, without building a label. Upstreams are bounded, because tasks
//! choose them: those beyond the bound share one name.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::known_names::{KnownNames, OTHERS};

/// How many upstreams of a worker have a name of their own, and how many pairs of a queue and an upstream have their own series.
const MAX_UPSTREAMS: usize = 100;
const MAX_PAIRS: usize = 500;
/// How many ways in which attempts end are told apart for each pair: an upstream may answer with any status.
const MAX_ENDINGS: usize = 40;
/// The bounds of the buckets of durations, in seconds.
pub const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    queue: String,
    upstream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    queue: String,
    upstream: String,
    reason: &'static str,
    /// Empty without a response.
    status: Option<u16>,
}

/// Names the trace of one of the observations in a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TraceLabel {
    trace_id: String,
}

type Seconds = HistogramWithExemplars<TraceLabel>;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptEnding {
    /// `ok`, or what went wrong.
    pub reason: &'static str,
    /// The status of the response, if there was one.
    pub status: Option<u16>,
}

/// The counters and histograms of attempts.
#[derive(Debug)]
pub struct AttemptMetrics {
    attempts: Family<AttemptLabels, Counter>,
    retries: Family<AttemptLabels, Counter>,
    seconds: Family<UpstreamLabels, Seconds>,
    upstreams: KnownNames,
    /// The series by queue and upstream.
    by_queue: RwLock<HashMap<String, HashMap<String, Arc<PairSeries>>>>,
}

/// The series of one queue and one upstream.
#[derive(Debug)]
struct PairSeries {
    labels: UpstreamLabels,
    seconds: Seconds,
    attempts: RwLock<Vec<(AttemptEnding, Counter)>>,
    retries: RwLock<Vec<(AttemptEnding, Counter)>>,
}

impl AttemptMetrics {
    /// All of them at zero, registered.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            attempts: Family::default(),
            retries: Family::default(),
            seconds: Family::new_with_constructor(|| Seconds::new(SECONDS.into_iter())),
            upstreams: KnownNames::new(MAX_UPSTREAMS),
            by_queue: RwLock::default(),
        };
        registry.register("attempts", "HTTP calls, by how they ended", metrics.attempts.clone());
        registry.register(
            "retries",
            "Failed attempts that will be retried, by what went wrong",
            metrics.retries.clone(),
        );
        registry.register(
            "attempt_duration_seconds",
            "Duration of a call, from connecting to the last byte",
            metrics.seconds.clone(),
        );
        metrics
    }

    /// An attempt ended. Its trace, if it is recorded, becomes an example of what took so long.
    pub fn attempt(&self, queue: &str, upstream: &str, ending: AttemptEnding, took: Duration, trace: Option<String>) {
        let pair = self.pair(queue, upstream);
        pair.count(&pair.attempts, &self.attempts, ending);
        pair.seconds.observe(took.as_secs_f64(), trace.map(|trace_id| TraceLabel { trace_id }), None);
    }

    /// An attempt failed and will be retried.
    pub fn retry(&self, queue: &str, upstream: &str, ending: AttemptEnding) {
        let pair = self.pair(queue, upstream);
        pair.count(&pair.retries, &self.retries, ending);
    }

    fn pair(&self, queue: &str, upstream: &str) -> Arc<PairSeries> {
        let known = |all: &HashMap<String, HashMap<String, Arc<PairSeries>>>, upstream: &str| {
            all.get(queue).and_then(|pairs| pairs.get(upstream)).cloned()
        };
        let name = {
            let all = self.by_queue.read();
            if let Some(pair) = known(&all, upstream) {
                return pair;
            }
            let is_room = all.values().map(HashMap::len).sum::<usize>() < MAX_PAIRS;
            let name = if is_room { self.upstreams.name(upstream) } else { OTHERS };
            if let Some(pair) = known(&all, name) {
                return pair;
            }
            name
        };
        let mut all = self.by_queue.write();
        if let Some(pair) = known(&all, name) {
            return pair;
        }
        let labels = UpstreamLabels { queue: queue.to_owned(), upstream: name.to_owned() };
        let pair = Arc::new(PairSeries {
            seconds: self.seconds.get_or_create_owned(&labels),
            attempts: RwLock::default(),
            retries: RwLock::default(),
            labels,
        });
        all.entry(queue.to_owned()).or_default().insert(name.to_owned(), pair.clone());
        pair
    }
}

impl PairSeries {
    fn count(
        &self,
        counters: &RwLock<Vec<(AttemptEnding, Counter)>>,
        family: &Family<AttemptLabels, Counter>,
        ending: AttemptEnding,
    ) {
        let known = |all: &[(AttemptEnding, Counter)], ending: AttemptEnding| {
            all.iter().find(|(known, _)| *known == ending).map(|(_, counter)| counter.inc()).is_some()
        };
        if known(&counters.read(), ending) {
            return;
        }
        let mut all = counters.write();
        let ending = if all.len() < MAX_ENDINGS { ending } else { AttemptEnding { status: None, ..ending } };
        if known(&all, ending) {
            return;
        }
        let UpstreamLabels { queue, upstream } = self.labels.clone();
        let AttemptEnding { reason, status } = ending;
        let counter = family.get_or_create_owned(&AttemptLabels { queue, upstream, reason, status });
        counter.inc();
        all.push((ending, counter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(registry: &Registry) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry)?;
        Ok(text)
    }

    #[test]
    fn ten_thousand_upstreams_and_every_status_make_a_bounded_number_of_series() -> Result<(), std::fmt::Error> {
        let mut registry = Registry::with_prefix("redial");
        let metrics = AttemptMetrics::new(&mut registry);
        let took = Duration::from_millis(3);
        for n in 0..10_000_u16 {
            let ending = AttemptEnding { reason: "status_4xx", status: Some(400 + n % 600) };
            for queue in ["a", "b"] {
                metrics.attempt(queue, &format!("h{n}:443"), ending, took, None);
                metrics.retry(queue, &format!("h{n}:443"), ending);
            }
        }
        let text = text(&registry)?;
        let upstreams = text.matches("redial_attempt_duration_seconds_count{").count();
        assert_eq!(upstreams, 2 * (MAX_UPSTREAMS + 1), "{text}");
        let all = text.lines().filter(|line| line.contains("upstream=\"(others)\"") && line.contains("_count"));
        assert!(all.clone().all(|line| line.ends_with(" 9900")), "{:?}", all.collect::<Vec<_>>());
        assert!(text.matches("redial_attempts_total{").count() <= 2 * (MAX_UPSTREAMS + MAX_ENDINGS + 1));
        // Which status it was is not said any more, but it is counted.
        assert!(text.contains(r#"upstream="(others)",reason="status_4xx",status="""#), "{text}");
        Ok(())
    }

    #[test]
    fn many_queues_do_not_multiply_the_upstreams_without_a_bound() -> Result<(), std::fmt::Error> {
        let mut registry = Registry::with_prefix("redial");
        let metrics = AttemptMetrics::new(&mut registry);
        for n in 0..50_000 {
            let (queue, upstream) = (format!("q{}", n % 300), format!("h{}:443", n / 300));
            metrics.attempt(&queue, &upstream, AttemptEnding { reason: "ok", status: Some(200) }, Duration::ZERO, None);
        }
        let series = text(&registry)?.matches("redial_attempts_total{").count();
        assert!(series <= MAX_PAIRS + 300, "{series}");
        Ok(())
    }
}
