//! The spans that wait to be sent: a bounded number, so that a collector that is away costs spans and nothing else.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor as _};
use parking_lot::Mutex;

/// How many spans wait at most.
const MAX_WAITING: usize = 8_192;
/// How many are sent together.
const BATCH_SIZE: usize = 512;
/// For how long spans are collected before they are sent.
const COLLECT_FOR: Duration = Duration::from_secs(1);
/// How often it is logged that spans are lost; all are counted.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What became of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanFate {
    /// The collector has it.
    Exported,
    /// The collector did not take it, or too many waited already.
    Dropped,
}

impl SpanFate {
    /// Its value of a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exported => "exported",
            Self::Dropped => "dropped",
        }
    }
}

/// The spans that wait to be sent.
#[derive(Debug)]
pub(crate) struct SpanQueue {
    processor: BatchSpanProcessor,
    waiting: Arc<Waiting>,
}

/// How many wait, and who learns what becomes of them.
struct Waiting {
    spans: AtomicUsize,
    observe: Box<dyn Fn(SpanFate, usize) + Send + Sync>,
    logged: Mutex<Option<Instant>>,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Waiting").field("spans", &self.spans).finish_non_exhaustive()
    }
}

impl Waiting {
    fn lost(&self, spans: usize, why: &dyn fmt::Display) {
        (self.observe)(SpanFate::Dropped, spans);
        let mut logged = self.logged.lock();
        if logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            *logged = Some(Instant::now());
            tracing::warn!(spans, %why, "spans of traces are lost; logged once a minute, counted in redial_trace_spans_total");
        }
    }
}

impl SpanQueue {
    pub fn new(
        exporter: impl SpanExporter + 'static,
        resource: &Resource,
        observe: impl Fn(SpanFate, usize) + Send + Sync + 'static,
    ) -> Self {
        let waiting =
            Arc::new(Waiting { spans: AtomicUsize::new(0), observe: Box::new(observe), logged: Mutex::default() });
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_WAITING)
            .with_max_export_batch_size(BATCH_SIZE)
            .with_scheduled_delay(COLLECT_FOR)
            .build();
        let exporter = CountingExporter { exporter, waiting: waiting.clone() };
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        processor.set_resource(resource);
        Self { processor, waiting }
    }

    /// Adds a span, unless too many wait.
    pub fn push(&self, span: SpanData) {
        // The processor's queue has room for all that are counted here, so that it drops none uncounted.
        if self.waiting.spans.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.spans.fetch_sub(1, Ordering::Relaxed);
            return self.waiting.lost(1, &"the collector is slower than the calls, or away");
        }
        self.processor.on_end(span);
    }

    /// Sends what waits, and ends.
    pub fn end(&self, within: Duration) {
        // What could not be sent has been counted.
        let _ = self.processor.shutdown_with_timeout(within);
    }
}

/// Counts what another exporter takes.
#[derive(Debug)]
struct CountingExporter<E> {
    exporter: E,
    waiting: Arc<Waiting>,
}

impl<E: SpanExporter> SpanExporter for CountingExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        self.waiting.spans.fetch_sub(spans, Ordering::Relaxed);
        match &exported {
            Ok(()) => (self.waiting.observe)(SpanFate::Exported, spans),
            Err(error) => self.waiting.lost(spans, error),
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
