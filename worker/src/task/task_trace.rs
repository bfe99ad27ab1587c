//! The place of a task in its trace, which follows from the task: every worker finds the same one.

use http::HeaderValue;
use redial_core::Task;
use redial_traces::context::{self, TRACEPARENT, TRACESTATE};
use redial_traces::{SpanContext, SpanKind, Traces};

/// The place of a task in a trace that is recorded.
#[derive(Debug)]
pub struct TaskTrace {
    /// The producer's span.
    pub parent: SpanContext,
    /// That of the task.
    pub task: SpanContext,
    /// That of the attempt which is made, or about to be.
    pub attempt: SpanContext,
}

impl TaskTrace {
    /// The trace of the task with this serial. `None` if it is not recorded, which is decided here.
    pub fn of(traces: &Traces, task: &Task, serial: &str) -> Option<Box<Self>> {
        if !traces.is_on() {
            return None;
        }
        let parent = producers_span(task);
        let trace_id = context::trace_named(serial, &parent);
        if !traces.samples(&parent, trace_id, "process", &SpanKind::Consumer) {
            return None;
        }
        let task = context::span_named(serial, trace_id, &parent);
        Some(Box::new(Self { attempt: context::sibling(&task), parent, task }))
    }

    /// Its id.
    pub fn id(&self) -> String {
        self.task.trace_id().to_string()
    }

    /// What the upstream gets in place of the producer's context, if there is one.
    pub fn header(&self) -> Option<HeaderValue> {
        self.parent.is_valid().then(|| HeaderValue::from_str(&context::traceparent(&self.attempt)).ok()).flatten()
    }
}

/// What the task says of where it comes from: in its field, which is a header of its call too, or in that header.
pub fn producers_span(task: &Task) -> SpanContext {
    let header = |name: &str| task.headers.get(name).and_then(|value| value.to_str().ok());
    match header(TRACEPARENT) {
        Some(traceparent) => context::from_headers(Some(traceparent), header(TRACESTATE)),
        None => SpanContext::NONE,
    }
}
