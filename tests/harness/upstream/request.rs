//! A call as the upstream saw it.

use std::time::Instant;

use bytes::Bytes;
use http::Method;
use serde_json::Value;

/// One call, whole. Cloning it copies no body.
#[derive(Clone, Debug)]
pub struct Request {
    /// When its first byte was read.
    pub at: Instant,
    /// The same by the wall clock, in ms since 1970.
    pub unix_ms: u64,
    /// How many calls this upstream had seen before.
    pub nth: u64,
    /// The method.
    pub method: Method,
    /// The path with its query, as it was sent.
    pub path: String,
    /// The headers, as they were sent.
    pub headers: Headers,
    /// The body, its chunks joined.
    pub body: Bytes,
}

impl Request {
    /// The path without its query.
    pub fn route(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    /// A parameter of the query, as it was sent (percent-encoding stays).
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.path.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The body as JSON, or null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// The header lines of a request, looked through only when asked, as a benchmark never asks.
#[derive(Clone, Debug)]
pub struct Headers(Bytes);

impl Headers {
    /// `head`: a valid request's bytes from its first line to the empty one.
    pub(super) fn new(head: Bytes) -> Self {
        Self(head)
    }

    /// The first value under a name, in any case. A value that is not UTF-8 counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All names and values, in the order and case in which they were sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.0.split(|byte| *byte == b'\n').skip(1);
        lines.filter_map(|line| {
            let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
            Some((name, value.trim()))
        })
    }
}
