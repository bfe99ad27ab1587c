//! How Redial tells an OpenTelemetry collector what became of a call, and how long each step took: spans, over OTLP/HTTP.
//!
//! A span is recorded when it has ended, so that nothing is kept of one while it lasts: a task may go through several workers. A collector
//! that is away or slow costs spans, and nothing else: they wait in a bounded queue, a thread of its own sends them, and each one that is
//! lost is counted.
//!
//! - [`collector`]: the way to the collector
//! - [`context`]: the place of a span in its trace, and the headers that carry it
//! - [`load_sample`]: which of many are recorded
//! - [`queue`]: the spans that wait to be sent

pub mod collector;
pub mod context;
pub mod load_sample;
mod queue;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::TraceContextExt as _;
pub use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceId};
pub use opentelemetry::{Array, KeyValue, Value};
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::trace::{Config, SamplingDecision, ShouldSample, SpanData, SpanEvents, SpanLinks};

pub use collector::InvalidCollector;
pub use queue::SpanFate;

use collector::TraceSettings;
use load_sample::LoadSample;
use queue::SpanQueue;

/// How many traces a second begin here at most, unless the environment names a sampler: a trace costs as much as a fifth of a call.
const NEW_TRACES_PER_SECOND: u64 = 100;

/// Where spans go. Clones share the queue; one that is off costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<Arc<Recorder>>);

#[derive(Debug)]
struct Recorder {
    sampler: Box<dyn ShouldSample>,
    /// Which of the traces are recorded that begin here. `None`: the environment names a sampler, which decides alone.
    new_traces: Option<LoadSample>,
    queue: SpanQueue,
    scope: InstrumentationScope,
}

/// A span that has ended.
#[derive(Debug)]
pub struct Span {
    /// Its place in its trace.
    pub context: SpanContext,
    /// The span that it is a part of, of this or another process; an invalid one for none.
    pub parent: SpanContext,
    /// What it is to its neighbours.
    pub kind: SpanKind,
    /// Its name, of which there are few.
    pub name: Cow<'static, str>,
    /// When it began and ended.
    pub time: (SystemTime, SystemTime),
    /// What is known of it.
    pub attributes: Vec<KeyValue>,
    /// What happened meanwhile.
    pub events: Vec<Event>,
    /// Whether it failed.
    pub status: Status,
}

impl Traces {
    /// Nothing is recorded.
    pub fn off() -> Self {
        Self(None)
    }

    /// Records if `settings` or the environment name a collector, under the name of this service. `observe` learns what becomes of spans.
    ///
    /// # Errors
    /// The collector cannot be used as it is named.
    pub fn start(
        settings: &TraceSettings,
        service: &'static str,
        observe: impl Fn(SpanFate, usize) + Send + Sync + 'static,
    ) -> Result<Self, InvalidCollector> {
        let Some(exporter) = collector::exporter(settings)? else { return Ok(Self::off()) };
        let recorder = Recorder {
            // What OTEL_TRACES_SAMPLER says.
            sampler: Config::default().sampler,
            new_traces: (!collector::names_a_sampler()).then(|| LoadSample::new(NEW_TRACES_PER_SECOND)),
            queue: SpanQueue::new(exporter, &collector::resource(service), observe),
            scope: InstrumentationScope::builder(service).with_version(env!("CARGO_PKG_VERSION")).build(),
        };
        Ok(Self(Some(Arc::new(recorder))))
    }

    /// Whether spans are recorded.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a trace is recorded, which is decided where a process meets it first: by its parent, or by its id and how many there are.
    pub fn samples(&self, parent: &SpanContext, trace_id: TraceId, name: &str, kind: &SpanKind) -> bool {
        let Some(recorder) = &self.0 else { return false };
        if let Some(sample) = recorder.new_traces.as_ref().filter(|_| !parent.is_valid()) {
            // Each half of an id is as random as the other.
            let half = || u64::try_from(u128::from_be_bytes(trace_id.to_bytes()) >> 64).unwrap_or(u64::MAX);
            return sample.includes(half) && sample.admits_now();
        }
        let context = Context::new();
        let context = if parent.is_valid() { context.with_remote_span_context(parent.clone()) } else { context };
        let decision = recorder.sampler.should_sample(Some(&context), trace_id, name, kind, &[], &[]).decision;
        decision == SamplingDecision::RecordAndSample
    }

    /// Records a span, unless its trace is not sampled.
    pub fn record(&self, span: Span) {
        let Some(recorder) = self.0.as_ref().filter(|_| span.context.is_sampled()) else { return };
        let mut events = SpanEvents::default();
        events.events = span.events;
        recorder.queue.push(SpanData {
            span_context: span.context,
            parent_span_id: span.parent.span_id(),
            parent_span_is_remote: span.parent.is_remote(),
            span_kind: span.kind,
            name: span.name,
            start_time: span.time.0,
            end_time: span.time.1.max(span.time.0),
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events,
            links: SpanLinks::default(),
            status: span.status,
            instrumentation_scope: recorder.scope.clone(),
        });
    }

    /// Sends what waits, for this long at most. What is recorded afterwards is lost.
    pub async fn end(&self, within: Duration) {
        let Some(recorder) = self.0.clone() else { return };
        let ended = tokio::task::spawn_blocking(move || recorder.queue.end(within));
        // The thread that sends may be stuck with a collector for longer; it does not keep the process.
        let _ = tokio::time::timeout(within, ended).await;
    }
}
