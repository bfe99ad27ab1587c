//! The route of a request as metrics and traces name it: one of a fixed number, whatever the path.

use std::fmt;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request};
use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// What begins with this is a call to an upstream.
const CALLS: &str = "/u";
/// All paths that no route has.
const OTHER: &str = "other";

/// The pattern of the paths of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RoutePattern(Arc<str>);

impl RoutePattern {
    /// That of what a request asks for.
    pub fn of(request: &Request) -> Self {
        let pattern = request.extensions().get::<MatchedPath>().map_or(OTHER, MatchedPath::as_str);
        let is_call = pattern.strip_prefix(CALLS).is_some_and(|rest| rest.starts_with('/'));
        Self(if is_call { CALLS } else { pattern }.into())
    }

    /// Whether requests for it are part of traces: those that make calls, or ask about one.
    pub fn is_traced(&self) -> bool {
        &*self.0 == CALLS || self.0.starts_with("/v1/tasks")
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl EncodeLabelValue for RoutePattern {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}
