//! A call as the upstream received it.

use std::time::Instant;

use bytes::Bytes;
use http::Method;
use serde_json::Value;

/// One complete call. Cloning it does not copy the body.
#[derive(Clone, Debug)]
pub struct Request {
    /// When its first byte arrived.
    pub at: Instant,
    /// The same moment by the wall clock, in Unix ms.
    pub unix_ms: u64,
    /// How many calls this upstream had received before.
    pub nth: u64,
    /// The method.
    pub method: Method,
    /// The path with its query, as sent.
    pub path: String,
    /// The headers, as sent.
    pub headers: Headers,
    /// The body, with chunks joined.
    pub body: Bytes,
}

impl Request {
    /// The path without its query.
    pub fn route(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    /// A query parameter as sent, not percent-decoded.
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.path.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The body as JSON; null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// The header lines of a request. They are parsed on demand, because benchmarks never read them.
#[derive(Clone, Debug)]
pub struct Headers(Bytes);

impl Headers {
    /// `head` is a valid request from its first line to the empty line.
    pub(super) fn new(head: Bytes) -> Self {
        Self(head)
    }

    /// The first value of a header; names are case-insensitive. A value that is not UTF-8 counts as absent.
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
