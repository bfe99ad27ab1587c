//! The span of a request, whose context the tasks of the request carry on.

use std::time::SystemTime;

use http::{HeaderMap, Method, StatusCode};
use redial_traces::context::{self, TRACEPARENT, TRACESTATE};
use redial_traces::{KeyValue, Span, SpanContext, SpanKind, Status, Traces};

use crate::problem::ID;
use crate::route_pattern::RoutePattern;

/// The span of a request that is being answered.
#[derive(Debug)]
pub(crate) struct RequestTrace {
    parent: SpanContext,
    span: SpanContext,
    began: SystemTime,
    method: Method,
}

/// What the tasks of a request carry on, in the form of the header.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext(pub String);

impl RequestTrace {
    /// Begins where the caller's context says. `None` if traces are off.
    pub fn begin(traces: &Traces, method: &Method, headers: &HeaderMap) -> Option<Self> {
        if !traces.is_on() {
            return None;
        }
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let parent = context::from_headers(header(TRACEPARENT), header(TRACESTATE));
        let span = context::child_of(&parent, |id| traces.samples(&parent, id, "request", &SpanKind::Server));
        Some(Self { parent, span, began: SystemTime::now(), method: method.clone() })
    }

    /// What the tasks of the request carry on.
    pub fn context(&self) -> RequestContext {
        RequestContext(context::traceparent(&self.span))
    }

    /// Records the span.
    pub fn end(self, traces: &Traces, route: &RoutePattern, status: StatusCode, headers: &HeaderMap) {
        let Self { parent, span, began, method } = self;
        let mut attributes = vec![
            KeyValue::new("http.request.method", method.to_string()),
            KeyValue::new("http.route", route.as_str().to_owned()),
            KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
        ];
        let id = headers.get(ID).and_then(|id| id.to_str().ok());
        attributes.extend(id.map(|id| KeyValue::new("redial.task.id", id.to_owned())));
        let outcome = if status.is_server_error() {
            attributes.push(KeyValue::new("error.type", status.as_u16().to_string()));
            Status::error("")
        } else {
            Status::Unset
        };
        traces.record(Span {
            context: span,
            parent,
            kind: SpanKind::Server,
            name: format!("{method} {}", route.as_str()).into(),
            time: (began, SystemTime::now()),
            attributes,
            events: Vec::new(),
            status: outcome,
        });
    }
}
