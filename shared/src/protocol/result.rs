//! The result of a task, as programs in any language read it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::protocol::json;
use crate::{TaskId, UnixMs};

/// The result of a task, as it is stored under its result key and pushed to its reply list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(title = "Redial result", rename = "Result"))]
pub struct TaskResult {
    /// The task's id; null only in a dead letter whose id could not be read.
    pub id: Option<TaskId>,
    /// Whether the call succeeded.
    pub status: Status,
    /// The HTTP status of the upstream's last answer, if there was one.
    pub http_status: Option<u16>,
    /// The headers of that answer: a bounded number, with names in lower case.
    pub headers: Option<BTreeMap<String, String>>,
    /// The answer's body if it is JSON, byte for byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Value>"))]
    pub body: Option<Box<RawValue>>,
    /// The answer's body if it is other text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_text: Option<String>,
    /// The answer's body if it is neither, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Why the task is dead; null if it is not.
    pub reason: Option<Reason>,
    /// What went wrong, in words; null if nothing did.
    pub error: Option<String>,
    /// Why the stream of a task with `stream` lacks a part of the answer; absent if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_error: Option<String>,
    /// Every attempt, oldest first; at most the last 32.
    pub attempts: Vec<Attempt>,
    /// Where the answer came from.
    pub source: Source,
    /// When the producer pushed the task, as it stated in `enqueued_at_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enqueued_at_ms: Option<UnixMs>,
    /// When the task finished.
    pub finished_at_ms: UnixMs,
    /// The task's `meta`, unchanged.
    #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Value>"))]
    pub meta: Option<Box<RawValue>>,
}

/// One attempt: a call that was sent to the upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Attempt {
    /// When it began.
    pub at_ms: UnixMs,
    /// How long it took, to the last byte or the failure.
    pub took_ms: u64,
    /// The HTTP status of the answer, if there was one.
    pub http_status: Option<u16>,
    /// Why it failed; null for the attempt that succeeded.
    pub error: Option<String>,
    /// The wait before the next attempt; null if there was none.
    pub wait_ms: Option<u64>,
}

/// Whether the call succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The upstream answered with a 2xx.
    Ok,
    /// It did not, and no further attempt will be made.
    Dead,
}

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A call made for this task.
    Call,
    /// An earlier answer from the cache.
    Cache,
    /// The call of another task that ran at the same time.
    Shared,
    /// The answer stored under the idempotency key.
    Idempotency,
}

impl Source {
    /// The source as it appears in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Cache => "cache",
            Self::Shared => "shared",
            Self::Idempotency => "idempotency",
        }
    }
}

/// Why a task is dead. The list is fixed: programs rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It cannot be parsed, or a field is invalid.
    InvalidTask,
    /// The task or its answer has too many bytes.
    TooLarge,
    /// Its deadline passed before it succeeded.
    Expired,
    /// Its producer cancelled it.
    Cancelled,
    /// Its address must not be called.
    ForbiddenTarget,
    /// Every attempt failed.
    AttemptsExhausted,
    /// The upstream answered with a final 3xx, 4xx or 5xx.
    Rejected,
    /// Its idempotency key was used for a different call.
    IdempotencyMismatch,
    /// It may have been carried out, and must not be sent twice.
    OutcomeUnknown,
    /// The workers that ran it crashed.
    CrashedWorker,
    /// A limit is spent, and it does not wait for that limit, or not for so long.
    OverBudget,
}

impl Reason {
    /// The reason as it appears in results, dead letters and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidTask => "invalid_task",
            Self::TooLarge => "too_large",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::ForbiddenTarget => "forbidden_target",
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::Rejected => "rejected",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::CrashedWorker => "crashed_worker",
            Self::OverBudget => "over_budget",
        }
    }
}

/// An answer's body in whichever of three forms fits it.
#[derive(Debug, Clone)]
pub enum Body {
    /// Valid JSON, byte for byte.
    Json(Box<RawValue>),
    /// Other UTF-8.
    Text(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl Body {
    /// The form that fits `bytes`: JSON only if the upstream declares it (`application/json`, `text/json`, or `...+json` as in RFC 6839),
    /// or declares nothing and sends an object or an array; if it is valid; and if parsers will accept its nesting. A byte order mark is
    /// not part of it.
    pub fn new(bytes: Vec<u8>, content_type: Option<&str>) -> Self {
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => return Self::Bytes(error.into_bytes()),
        };
        let json = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let is_declared = match content_type.map(str::trim).filter(|given| !given.is_empty()) {
            None => json.trim_start().starts_with(['{', '[']),
            given => json::is_declared_by(given),
        };
        if !is_declared || json::too_deep(json.as_bytes()) {
            return Self::Text(text);
        }
        match serde_json::from_str::<&RawValue>(json) {
            Ok(value) => Self::Json(value.to_owned()),
            Err(_) => Self::Text(text),
        }
    }
}

impl TaskResult {
    /// A result without an answer; the caller fills in the fields that apply.
    pub fn new(id: Option<TaskId>, status: Status, finished_at: UnixMs) -> Self {
        Self {
            id,
            status,
            http_status: None,
            headers: None,
            body: None,
            body_text: None,
            body_base64: None,
            reason: None,
            error: None,
            stream_error: None,
            attempts: Vec::new(),
            source: Source::Call,
            enqueued_at_ms: None,
            finished_at_ms: finished_at,
            meta: None,
        }
    }

    /// Sets the field that fits the answer's body.
    pub fn set_body(&mut self, body: Body) {
        match body {
            Body::Json(json) => self.body = Some(json),
            Body::Text(text) => self.body_text = Some(text),
            Body::Bytes(bytes) => self.body_base64 = Some(BASE64.encode(bytes)),
        }
    }

    /// The bytes of its body.
    pub fn body_as_bytes(&self) -> Vec<u8> {
        match (&self.body, &self.body_text, &self.body_base64) {
            (Some(json), ..) => json.get().as_bytes().to_vec(),
            (_, Some(text), _) => text.as_bytes().to_vec(),
            // What Redial has encoded can be decoded.
            (.., Some(encoded)) => BASE64.decode(encoded).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// How large its body is, as it is stored.
    pub fn body_bytes(&self) -> usize {
        let json = self.body.as_ref().map(|body| body.get().len());
        let text = [&self.body_text, &self.body_base64].into_iter().flatten().map(String::len);
        json.into_iter().chain(text).sum()
    }

    /// The result as one line of JSON. Line breaks in a JSON body, which can only occur between values, become spaces.
    pub fn to_line(&self) -> String {
        // It cannot fail: the keys are strings, and every value is plain data or valid JSON.
        let line = json::to_string(self, self.usual_bytes()).unwrap_or_default();
        // Strings have them escaped.
        let verbatim = [&self.body, &self.meta].into_iter().flatten();
        if verbatim.map(|json| json.get().as_bytes()).any(|json| memchr::memchr2(b'\n', b'\r', json).is_some()) {
            return line.replace(['\n', '\r'], " ");
        }
        line
    }

    /// How long the line is of a result that says nothing unusual, so that it is written without being moved.
    pub(crate) fn usual_bytes(&self) -> usize {
        const FIELDS: usize = 256;
        const ATTEMPT: usize = 96;
        let header = |(name, value): (&String, &String)| name.len() + value.len() + 6;
        let headers: usize = self.headers.iter().flatten().map(header).sum();
        let meta = self.meta.as_ref().map_or(0, |meta| meta.get().len());
        FIELDS + headers + self.body_bytes() + meta + self.attempts.len() * ATTEMPT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_takes_the_form_that_fits_it() {
        let json = Some("application/problem+json; charset=utf-8");
        let form = |bytes: &[u8], content_type| match Body::new(bytes.to_vec(), content_type) {
            Body::Json(json) => format!("json {json}"),
            Body::Text(text) => format!("text {text}"),
            Body::Bytes(bytes) => format!("{} bytes", bytes.len()),
        };
        assert_eq!(form(b"{\"n\": 9007199254740993}", json), "json {\"n\": 9007199254740993}");
        assert_eq!(form(b"{\"n\"", json), "text {\"n\"");
        assert_eq!(form(b"{}", Some("text/plain")), "text {}");
        assert_eq!(form(b"{}", Some("text/json")), "json {}");
        assert_eq!(form(b" {}", None), "json {}");
        assert_eq!(form(b"[1]", Some("")), "json [1]");
        assert_eq!(form(b"12", None), "text 12");
        assert_eq!(form(b"{1", None), "text {1");
        assert_eq!(form(b"\xef\xbb\xbf{\"n\":1}", json), "json {\"n\":1}");
        assert_eq!(form(b"\xef\xbb\xbf{}", None), "json {}");
        assert_eq!(form(b"\xef\xbb\xbfhi", Some("text/plain")), "text \u{feff}hi");
        assert_eq!(form(b"", json), "text ");
        assert_eq!(form(&[0xff, 0xfe], json), "2 bytes");
        let deep = "[".repeat(500) + &"]".repeat(500);
        assert_eq!(form(deep.as_bytes(), json), format!("text {deep}"));
    }

    #[test]
    fn a_result_is_one_line() -> Result<(), serde_json::Error> {
        let mut result = TaskResult::new(None, Status::Ok, UnixMs(1));
        result.set_body(Body::new(b"{\n\"a\": \"x\\ny\"\r\n}".to_vec(), Some("application/json")));
        let line = result.to_line();
        assert!(!line.contains(['\n', '\r']));
        let back: serde_json::Value = serde_json::from_str(&line)?;
        assert_eq!(back["body"]["a"], "x\ny");
        Ok(())
    }
}
