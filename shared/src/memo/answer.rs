//! An answer as memos store it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::protocol::json;
use crate::protocol::result::{Attempt, Source};
use crate::{Reason, Status, TaskResult, UnixMs};

/// An answer in its stored form, JSON.
#[derive(Debug, Clone)]
pub struct StoredAnswer {
    pub(super) json: Arc<str>,
    pub(super) is_good: bool,
}

/// The fields of a [`TaskResult`] but those that are its task's alone. Those that are null would take memory for each memo.
#[derive(Serialize)]
struct StoredFields<'a> {
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: &'a Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: &'a Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_text: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_error: &'a Option<String>,
    #[serde(serialize_with = "without_nulls")]
    attempts: &'a [Attempt],
    source: Source,
    finished_at_ms: UnixMs,
}

/// The same of an [`Attempt`].
#[derive(Serialize)]
struct StoredAttempt<'a> {
    at_ms: UnixMs,
    took_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_ms: Option<u64>,
}

fn without_nulls<S: Serializer>(attempts: &[Attempt], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(attempts.iter().map(|Attempt { at_ms, took_ms, http_status, error, wait_ms }| {
        StoredAttempt { at_ms: *at_ms, took_ms: *took_ms, http_status: *http_status, error, wait_ms: *wait_ms }
    }))
}

impl StoredAnswer {
    /// What a memo stores of a result: everything but what is its task's alone.
    pub fn of(result: &TaskResult) -> Self {
        let TaskResult {
            id: _,
            status,
            http_status,
            headers,
            body,
            body_text,
            body_base64,
            reason,
            error,
            stream_error,
            attempts,
            source,
            enqueued_at_ms: _,
            finished_at_ms,
            meta: _,
        } = result;
        let fields = StoredFields {
            status: *status,
            http_status: *http_status,
            headers,
            body,
            body_text,
            body_base64,
            reason: *reason,
            error,
            stream_error,
            attempts,
            source: *source,
            finished_at_ms: *finished_at_ms,
        };
        // It cannot fail: the keys are strings, and every value is plain data or valid JSON.
        let json = json::to_string(&fields, result.usual_bytes()).unwrap_or_default();
        Self { json: json.into(), is_good: *status == Status::Ok }
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.json.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_lacks_what_is_null_and_what_is_its_tasks_and_is_read_as_it_was() {
        let full = r#"{"id":"a","status":"dead","http_status":400,"headers":{"x":"y"},"body":{"a": 1},"reason":"rejected","error":"why","attempts":[{"at_ms":1,"took_ms":2,"http_status":null,"error":"lost","wait_ms":3},{"at_ms":6,"took_ms":1,"http_status":400,"error":null,"wait_ms":null}],"source":"call","enqueued_at_ms":3,"finished_at_ms":7,"meta":{"m":1}}"#;
        let plain = r#"{"id":"a","status":"ok","http_status":null,"headers":null,"reason":null,"error":null,"attempts":[],"source":"call","finished_at_ms":7,"meta":null}"#;
        let stored = |result: &str| {
            let result: TaskResult = serde_json::from_str(result).ok()?;
            let answer = StoredAnswer::of(&result);
            let kept: TaskResult = serde_json::from_str(&answer.json).ok()?;
            Some((answer.json.to_string(), kept.to_line(), answer.is_good))
        };
        let own = |line: &str| line.replace(r#""id":"a""#, r#""id":null"#).replace(r#""enqueued_at_ms":3,"#, "");
        let of_task = |line: &str| own(line).replace(r#""meta":{"m":1}"#, r#""meta":null"#);
        let short = r#"{"status":"ok","attempts":[],"source":"call","finished_at_ms":7}"#.to_owned();
        assert_eq!(stored(plain), Some((short, own(plain), true)));
        let short = r#"{"status":"dead","http_status":400,"headers":{"x":"y"},"body":{"a": 1},"reason":"rejected","error":"why","attempts":[{"at_ms":1,"took_ms":2,"error":"lost","wait_ms":3},{"at_ms":6,"took_ms":1,"http_status":400}],"source":"call","finished_at_ms":7}"#;
        assert_eq!(stored(full), Some((short.to_owned(), of_task(full), false)));
    }
}
