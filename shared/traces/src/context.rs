//! The place of a span in its trace: an id of the trace, an id of the span, and whether the trace is recorded. Between processes it travels
//! in `traceparent` and `tracestate` (W3C Trace Context).

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// The header, and the field of a task, that carries the ids.
pub const TRACEPARENT: &str = "traceparent";
/// The header that carries what tracing systems add.
pub const TRACESTATE: &str = "tracestate";

/// The context that these headers carry, or an invalid one if they carry no context that can be read.
pub fn from_headers(traceparent: Option<&str>, tracestate: Option<&str>) -> SpanContext {
    let Some(traceparent) = traceparent else { return SpanContext::NONE };
    let given = [(TRACEPARENT, Some(traceparent)), (TRACESTATE, tracestate)];
    let carried: HashMap<String, String> =
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carried).span().span_context().clone()
}

/// The value of `traceparent` that carries a context.
pub fn traceparent(context: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8() & 1)
}

/// A new span in the trace of `parent`, or in a new trace.
pub fn child_of(parent: &SpanContext, is_sampled: impl FnOnce(TraceId) -> bool) -> SpanContext {
    let trace_id = if parent.is_valid() { parent.trace_id() } else { TraceId::from(nonzero(rand::random())) };
    context(trace_id, random_span_id(), is_sampled(trace_id), parent.trace_state().clone())
}

/// The trace of something that several processes have a part in, under a name that all of them know: that of `parent`, or one whose id
/// follows from the name. It does so by XXH3, whose values are the same in all versions and on all machines, and spread evenly, as samplers
/// need it.
pub fn trace_named(name: &str, parent: &SpanContext) -> TraceId {
    if parent.is_valid() { parent.trace_id() } else { TraceId::from(nonzero(xxh3_128(name.as_bytes()))) }
}

/// Its span in that trace, which is recorded; the id follows from the name as well.
pub fn span_named(name: &str, trace_id: TraceId, parent: &SpanContext) -> SpanContext {
    let span_id = SpanId::from(xxh3_64(name.as_bytes()).max(1));
    context(trace_id, span_id, true, parent.trace_state().clone())
}

/// A new span in the trace of another span of this process.
pub fn sibling(of: &SpanContext) -> SpanContext {
    context(of.trace_id(), random_span_id(), of.is_sampled(), of.trace_state().clone())
}

fn context(trace_id: TraceId, span_id: SpanId, is_sampled: bool, state: TraceState) -> SpanContext {
    SpanContext::new(trace_id, span_id, TraceFlags::default().with_sampled(is_sampled), false, state)
}

fn random_span_id() -> SpanId {
    SpanId::from(rand::random::<u64>().max(1))
}

/// Zero is no id.
fn nonzero(id: u128) -> u128 {
    id.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_carried_is_read_and_written_and_nonsense_is_no_context() {
        let context = from_headers(Some(GIVEN), Some("vendor=1"));
        assert_eq!(traceparent(&context), GIVEN);
        assert_eq!(context.trace_state().get("vendor"), Some("1"));
        let child = child_of(&context, |_| context.is_sampled());
        assert!(child.trace_id() == context.trace_id() && child.span_id() != context.span_id() && child.is_sampled());
        let zero = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        for bad in ["", "x", zero, &GIVEN[..30], "zz-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"] {
            let none = from_headers(Some(bad), None);
            assert!(!none.is_valid(), "{bad}");
            assert!(child_of(&none, |_| true).is_valid());
        }
        assert!(!from_headers(None, Some("a=1")).is_valid());
    }

    #[test]
    fn whoever_knows_the_name_gets_the_same_span() {
        let none = SpanContext::NONE;
        let named = |name, parent| span_named(name, trace_named(name, parent), parent);
        let one = named("task w:1:1", &none);
        assert_eq!(one, named("task w:1:1", &none));
        let other = named("task w:1:2", &none);
        assert!(other.trace_id() != one.trace_id() && other.span_id() != one.span_id());
        let parent = from_headers(Some(GIVEN), None);
        let inside = named("task w:1:1", &parent);
        assert_eq!((inside.trace_id(), inside.span_id()), (parent.trace_id(), one.span_id()));
    }
}
