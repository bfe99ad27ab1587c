//! A task as it is written in JSON: the fields of the protocol, in the order of `docs/protocol.md`.
//!
//! The comments on the fields are the descriptions in the published JSON Schema.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Form, InvalidTask, Limit, RawCondition, RawPart};
use crate::UnixMs;
use crate::protocol::json;
use crate::shown::redact::parser_message;

/// One HTTP call to make. Only `url` is required. A field that is `null` counts as absent; unknown fields are ignored, and
/// counted.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(title = "Redial task", rename = "Task"))]
pub struct RawTask {
    /// Your name for the task, 1 to 200 printable ASCII characters. Without one the worker assigns a UUIDv7.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 200), regex(pattern = "^[ -~]+$")))]
    pub id: Option<String>,
    /// An absolute http or https URL.
    pub url: String,
    /// GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS. Default: POST with a body, else GET.
    pub method: Option<String>,
    /// Request headers. Those of the connection (Host, Content-Length, ...) are refused.
    pub headers: Option<BTreeMap<String, String>>,
    /// Any JSON, sent as JSON, byte for byte as it is in the task.
    #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Value>"))]
    pub body: Option<Box<RawValue>>,
    /// Text to send, instead of `body`.
    pub body_text: Option<String>,
    /// Bytes to send, in base64, instead of `body`.
    pub body_base64: Option<String>,
    /// Fields to send as a form (`application/x-www-form-urlencoded`), instead of `body`: text, numbers, booleans, or lists of these.
    #[cfg_attr(feature = "schema", schemars(with = "Option<BTreeMap<String, super::body::FormValue>>"))]
    pub form: Option<Form>,
    /// The parts of an upload (`multipart/form-data`), instead of `body`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 1000)))]
    #[serde(default, deserialize_with = "json::optional_objects")]
    pub parts: Option<Vec<RawPart>>,
    /// The timeout of one attempt, from connecting to the last byte. Default 30000.
    pub timeout_ms: Option<u64>,
    /// The timeout for connecting. Default 5000.
    pub connect_timeout_ms: Option<u64>,
    /// When and how often to try again.
    #[serde(default, deserialize_with = "json::optional_object")]
    pub retry: Option<RawRetry>,
    /// What a good response is. A 2xx for which it does not hold ends the task as `rejected`; a response of another status for which it
    /// holds is good. Default: every 2xx.
    #[serde(default, deserialize_with = "json::optional_object")]
    pub ok_when: Option<RawCondition>,
    /// After which responses to try again, besides those that always are.
    #[serde(default, deserialize_with = "json::optional_object")]
    pub retry_when: Option<RawCondition>,
    /// How many redirects to follow. Default 0.
    #[cfg_attr(feature = "schema", schemars(range(max = 20)))]
    pub redirects: Option<u32>,
    /// No attempt starts after this time (Unix ms); the task dies with `expired`.
    pub expires_at_ms: Option<UnixMs>,
    /// The same, counted from `enqueued_at_ms`, or else from when a worker first saw the task.
    pub ttl_ms: Option<u64>,
    /// No attempt starts before this time (Unix ms).
    pub run_at_ms: Option<UnixMs>,
    /// The same, counted as `ttl_ms` is.
    pub delay_ms: Option<u64>,
    /// Sent as `Idempotency-Key` on every attempt. For a day, tasks with the same key share one call and its answer.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 255)))]
    pub idempotency_key: Option<String>,
    /// Whether the call may be made twice. Default `idempotent`, even for a POST.
    pub effect: Option<Effect>,
    /// Share the answer among all tasks that make the same call, and keep it this long; 0 shares it without keeping it. Absent: no
    /// cache.
    pub cache_ttl_ms: Option<u64>,
    /// The key that the answer is cached under within its origin, 1 to 1024 bytes, instead of method, URL, headers and body.
    pub cache_key: Option<String>,
    /// Who may share the answer: `private`, calls with the same credentials; `public`, all calls of the same tenant to the same origin.
    /// Default `private`.
    pub cache_scope: Option<CacheScope>,
    /// On whose behalf the call is made, 1 to 64 printable ASCII characters. Tenants share no answers, whatever else is the same, and have
    /// equal shares of a limit that they wait for.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64), regex(pattern = "^[ -~]+$")))]
    pub tenant: Option<String>,
    /// The limits that the call is under: one or a list, each a name or an object.
    #[serde(default, deserialize_with = "one_or_many")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<OneOrMany>"))]
    pub limit: Option<Vec<Limit>>,
    /// Also append the answer, as it arrives, to the Redis Stream `redial:{<queue>}:stream:<id>`. Default false.
    pub stream: Option<bool>,
    /// What becomes of the task if its answer breaks off after a part of it is in the stream. Default `fail`.
    pub on_break: Option<OnBreak>,
    /// A Redis list that the result is also pushed to, by LPUSH.
    pub reply_to: Option<String>,
    /// How long the result and the reply are kept. Default 3600000.
    pub result_ttl_ms: Option<u64>,
    /// Where the result is delivered, by a POST that is a task of its own, `<id>.callback`.
    pub callback_url: Option<String>,
    /// Only in a delivery, which Redial makes: the id of the task whose result is the body.
    pub callback_of: Option<String>,
    /// The task that is pushed when this one is complete. In its strings `{{$.body.text}}` is replaced by a value of the result, by
    /// JSONPath (RFC 9535).
    #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Map<String, serde_json::Value>>"))]
    pub then: Option<Box<RawValue>>,
    /// In a task of a chain that could not be made: why.
    pub then_error: Option<String>,
    /// W3C trace context, sent as a header.
    pub traceparent: Option<String>,
    /// Any JSON, echoed in the result.
    #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Value>"))]
    pub meta: Option<Box<RawValue>>,
    /// When you pushed the task (Unix ms); echoed in the result, and what `ttl_ms` and `delay_ms` count from.
    pub enqueued_at_ms: Option<UnixMs>,
}

/// When and how often to try again.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Retry"))]
pub struct RawRetry {
    /// The maximum number of attempts, the first one included. Default 8.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1000)))]
    pub max_attempts: Option<u32>,
    /// The first backoff, before jitter; it doubles with each attempt. Default 1000.
    pub base_ms: Option<u64>,
    /// The longest backoff, before jitter. Default 60000.
    pub cap_ms: Option<u64>,
    /// How the backoff is randomized. Default `equal`.
    pub jitter: Option<Jitter>,
    /// Statuses to retry in addition to those that always are.
    pub on: Option<Vec<u16>>,
}

/// How a backoff is randomized, so that calls that failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Jitter {
    /// Anywhere from 0 to the backoff.
    Full,
    /// Half the backoff, plus anywhere from 0 to the other half.
    Equal,
    /// Anywhere from the base to three times the last wait.
    Decorrelated,
    /// Exactly the backoff.
    None,
}

/// Whether a call may be made twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Making it twice does no harm: an attempt with an unknown outcome is repeated.
    Idempotent,
    /// Never made twice, unless it is certain that the upstream did not act.
    Once,
}

/// What becomes of a task with `stream` whose answer breaks off after a part of it is in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnBreak {
    /// It is dead, with `outcome_unknown`: readers have acted on that part.
    #[default]
    Fail,
    /// It is retried as ever, and readers are told to forget that part.
    Restart,
}

/// Who may share an answer. The words are those of Cache-Control (RFC 9111 section 5.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum CacheScope {
    /// Calls with the same credentials.
    #[default]
    Private,
    /// All calls of the same tenant to the same origin, whatever their credentials.
    Public,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
enum OneOrMany {
    One(NameOrLimit),
    Many(Vec<NameOrLimit>),
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
enum NameOrLimit {
    Name(String),
    Limit(#[serde(deserialize_with = "json::object")] Limit),
}

impl From<NameOrLimit> for Limit {
    fn from(limit: NameOrLimit) -> Self {
        match limit {
            NameOrLimit::Name(name) => Self::named(name),
            NameOrLimit::Limit(limit) => limit,
        }
    }
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Vec<Limit>>, D::Error> {
    let limits = Option::<OneOrMany>::deserialize(from).map_err(|_| {
        serde::de::Error::custom(
            "use a name, an object {name, cost, rate, per_ms, burst, concurrency, usage, unit, on_empty, max_wait_ms}, or a list of these",
        )
    })?;
    Ok(limits.map(|limits| match limits {
        OneOrMany::One(limit) => vec![limit.into()],
        OneOrMany::Many(limits) => limits.into_iter().map(Limit::from).collect(),
    }))
}

impl RawTask {
    /// Parses a task and names the fields that the protocol does not define.
    pub(super) fn parse(raw: &[u8]) -> Result<(Self, Vec<String>), InvalidTask> {
        let text =
            std::str::from_utf8(raw).map_err(|error| InvalidTask::NotUtf8 { valid_up_to: error.valid_up_to() })?;
        if json::too_deep(raw) {
            return Err(InvalidTask::TooDeep);
        }
        if !text.trim_start().starts_with('{') {
            return Err(not_an_object(text));
        }
        let mut unknown = Vec::new();
        let mut from = serde_json::Deserializer::from_str(text);
        let task = serde_ignored::deserialize(&mut from, |path| {
            unknown.push(path.to_string().replace("?.", ""));
        });
        match task.and_then(|task| from.end().map(|()| task)) {
            Ok(task) => Ok((task, unknown)),
            Err(error) => Err(explain(text, &error)),
        }
    }
}

fn not_an_object(text: &str) -> InvalidTask {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => InvalidTask::NotAnObject,
        Err(error) => InvalidTask::NotJson(error.to_string()),
    }
}

/// Why a task could not be parsed, with the path of the field. Slower than the first parse, so only after it failed.
fn explain(text: &str, first_error: &serde_json::Error) -> InvalidTask {
    let mut from = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, RawTask>(&mut from) {
        Err(error) if error.inner().is_data() && error.path().iter().len() > 0 => {
            InvalidTask::WrongType(format!("`{}`: {}", error.path(), parser_message(&error.inner().to_string())))
        }
        Err(error) if error.inner().is_data() => InvalidTask::WrongType(parser_message(&error.inner().to_string())),
        Err(error) => InvalidTask::NotJson(error.inner().to_string()),
        Ok(_) => InvalidTask::TrailingData(first_error.to_string()),
    }
}
