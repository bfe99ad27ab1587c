//! A task as it stands in JSON: the fields of the protocol, in the order of `docs/protocol.md`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::Url;

use crate::protocol::json;
use crate::{TaskId, UnixMs};

/// One HTTP call to make. Only `url` is required. A field that is `null` counts as absent; unknown fields are kept and
/// ignored, and counted.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(title = "Redial task", rename = "Task")]
pub struct RawTask {
    /// Your name for it, 1 to 200 printable ASCII characters; without one the worker gives a UUIDv7.
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[ -~]+$"))]
    pub id: Option<String>,
    /// Where to: an absolute http or https URL.
    pub url: String,
    /// GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS. Default: POST with a body, else GET.
    pub method: Option<String>,
    /// Request headers. Those of the connection (Host, Content-Length, ...) are refused.
    pub headers: Option<BTreeMap<String, String>>,
    /// Any JSON, sent as JSON, byte for byte as it stands in the task.
    #[schemars(with = "Option<serde_json::Value>")]
    pub body: Option<Box<RawValue>>,
    /// Text to send, instead of `body`.
    pub body_text: Option<String>,
    /// Bytes to send, in base64, instead of `body`.
    pub body_base64: Option<String>,
    /// The most time for one attempt, connect to last byte. Default 30000.
    pub timeout_ms: Option<u64>,
    /// The most time for connecting. Default 5000.
    pub connect_timeout_ms: Option<u64>,
    /// When and how often to try again.
    pub retry: Option<RawRetry>,
    /// After this moment (Unix ms) no attempt starts; the task dies with `expired`.
    pub expires_at_ms: Option<UnixMs>,
    /// The same, counted from `enqueued_at_ms`, or else from when a worker first saw the task.
    pub ttl_ms: Option<u64>,
    /// No attempt before this moment (Unix ms).
    pub run_at_ms: Option<UnixMs>,
    /// The same, counted as `ttl_ms` is.
    pub delay_ms: Option<u64>,
    /// Sent as `Idempotency-Key` on every attempt; tasks of one key make one call and get one answer, for a day.
    #[schemars(length(min = 1, max = 255))]
    pub idempotency_key: Option<String>,
    /// Whether the call may be made twice. Default `idempotent`, also for a POST without a word.
    pub effect: Option<Effect>,
    /// Share the answer among all who ask for it, and keep it this long; 0 keeps nothing. Absent: no cache.
    pub cache_ttl_ms: Option<u64>,
    /// The name under which the answer is kept, 1 to 1024 bytes, instead of method, URL, headers and body.
    pub cache_key: Option<String>,
    /// Who may share the answer: `private`, calls with the same credentials; `public`, all. Default `private`.
    pub cache_scope: Option<CacheScope>,
    /// The limits that the call is under: one or a list, each a name or an object.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "Option<OneOrMany>")]
    pub limit: Option<Vec<Limit>>,
    /// A Redis list that gets the result as well, by LPUSH.
    pub reply_to: Option<String>,
    /// How long result and reply are kept. Default 3600000.
    pub result_ttl_ms: Option<u64>,
    /// Where the result is delivered, by a POST that is a task of its own, `<id>.callback`.
    pub callback_url: Option<String>,
    /// In a delivery: the id of the task whose result is the body.
    pub callback_of: Option<String>,
    /// The task that is pushed when this one is complete; `{{$.body.text}}` in its strings stands for a value of the result, by
    /// JSONPath (RFC 9535).
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub then: Option<Box<RawValue>>,
    /// In a task that was to follow another one: why it could not be made.
    pub then_error: Option<String>,
    /// W3C trace context, sent along.
    pub traceparent: Option<String>,
    /// Any JSON, echoed in the result.
    #[schemars(with = "Option<serde_json::Value>")]
    pub meta: Option<Box<RawValue>>,
    /// When you pushed it (Unix ms); echoed in the result, and what `ttl_ms` and `delay_ms` count from.
    pub enqueued_at_ms: Option<UnixMs>,
}

/// When and how often to try again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "Retry")]
pub struct RawRetry {
    /// The most attempts, the first one included. Default 5.
    #[schemars(range(min = 1, max = 1000))]
    pub max_attempts: Option<u32>,
    /// The first wait, before jitter; it doubles with each attempt. Default 500.
    pub base_ms: Option<u64>,
    /// The longest wait, before jitter. Default 60000.
    pub cap_ms: Option<u64>,
    /// How a wait is spread. Default `full`.
    pub jitter: Option<Jitter>,
    /// Statuses to retry beyond those that always are.
    pub on: Option<Vec<u16>>,
}

/// How a wait is spread, so that clients that failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Jitter {
    /// Anywhere from 0 to the backoff.
    Full,
    /// Half the backoff, and anywhere from 0 to the other half.
    Equal,
    /// Anywhere from the base to three times the last wait.
    Decorrelated,
    /// The backoff itself.
    None,
}

/// Whether a call may be made twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Twice does no harm: an attempt of unknown outcome is repeated.
    Idempotent,
    /// Never twice, unless it is certain that the upstream did not act.
    Once,
}

/// Who may share an answer. The words are those of Cache-Control (RFC 9111 §5.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CacheScope {
    /// Calls with the same credentials.
    #[default]
    Private,
    /// All calls, whatever their credentials.
    Public,
}

/// A limit that a call is under.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Limit {
    /// Its name; what is not given here comes from the configuration under this name.
    pub name: String,
    /// How much of it this call takes. Default 1.
    pub cost: Option<f64>,
    /// How much comes back in `per_ms`.
    pub rate: Option<f64>,
    /// The span of `rate`. Default 1000.
    pub per_ms: Option<u64>,
    /// How much may be taken at once.
    pub burst: Option<f64>,
    /// The most calls in flight.
    pub concurrency: Option<u32>,
    /// Where in a JSON answer it stands what the call really took, by which `cost` is settled; "" for nowhere. Default
    /// `usage.total_tokens` where `cost` is given.
    pub usage: Option<String>,
}

impl Limit {
    /// Checks what the types can't say.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let name = &self.name;
        if name.is_empty() || name.len() > 200 || name.contains(['{', '}']) {
            return Err(format!("`limit` has the name {name:?}: use 1 to 200 characters without braces"));
        }
        for (field, value) in [("cost", self.cost), ("rate", self.rate), ("burst", self.burst)] {
            if value.is_some_and(|value| !value.is_finite() || value <= 0.0) {
                return Err(format!("`limit` {name:?} has a `{field}` that is not above 0"));
            }
        }
        if self.per_ms == Some(0) || self.concurrency == Some(0) {
            return Err(format!("`limit` {name:?} has a `per_ms` or `concurrency` of 0: nothing could ever pass"));
        }
        Ok(())
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum OneOrMany {
    One(NameOrLimit),
    Many(Vec<NameOrLimit>),
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum NameOrLimit {
    Name(String),
    Limit(Limit),
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Vec<Limit>>, D::Error> {
    let given = Option::<OneOrMany>::deserialize(from).map_err(|_| {
        serde::de::Error::custom(
            "`limit` is a name, an object {name, cost, rate, per_ms, burst, concurrency}, or a list of these",
        )
    })?;
    let limit = |given| match given {
        NameOrLimit::Limit(limit) => limit,
        NameOrLimit::Name(name) => {
            Limit { name, cost: None, rate: None, per_ms: None, burst: None, concurrency: None, usage: None }
        }
    };
    Ok(given.map(|given| match given {
        OneOrMany::One(one) => vec![limit(one)],
        OneOrMany::Many(many) => many.into_iter().map(limit).collect(),
    }))
}

impl RawTask {
    /// Parses a task and names the fields that it does not know.
    pub(super) fn parse(raw: &[u8]) -> Result<(Self, Vec<String>), String> {
        let text = std::str::from_utf8(raw)
            .map_err(|error| format!("the task is not UTF-8: byte {} is wrong", error.valid_up_to()))?;
        if json::too_deep(raw) {
            let max = json::MAX_DEPTH;
            return Err(format!("the task nests deeper than {max} levels"));
        }
        let mut unknown = Vec::new();
        let mut from = serde_json::Deserializer::from_str(text);
        let wire = serde_ignored::deserialize(&mut from, |path| {
            unknown.push(path.to_string().replace("?.", ""));
        });
        match wire.and_then(|wire| from.end().map(|()| wire)) {
            Ok(wire) => Ok((wire, unknown)),
            Err(_) => Err(explain(text)),
        }
    }
}

/// Why a task could not be parsed, with the path of the field. Slower than the first parse, so only after it failed.
fn explain(text: &str) -> String {
    if !text.trim_start().starts_with('{') && serde_json::from_str::<&RawValue>(text).is_ok() {
        return "the task is JSON but no object: push {\"url\": \"https://...\"}".into();
    }
    let mut from = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, RawTask>(&mut from) {
        Err(error) if error.inner().is_data() && error.path().iter().len() > 0 => {
            format!("`{}`: {}", error.path(), error.inner())
        }
        Err(error) if error.inner().is_data() => error.inner().to_string(),
        Err(error) => format!("the task is not JSON: {}", error.inner()),
        Ok(_) => match from.end() {
            Err(error) => format!("the task is not one JSON object: {error}"),
            Ok(()) => "the task can't be read".into(),
        },
    }
}

/// Whom to tell of a task that is otherwise wrong.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReturnAddress {
    /// The task's id, where it can be read.
    pub id: Option<TaskId>,
    /// The list for its reply, where it can be read.
    pub reply_to: Option<String>,
    /// Where its result is delivered, where that can be read.
    pub callback_url: Option<Url>,
}

/// What can be read of them.
pub(super) fn sender(raw: &[u8]) -> ReturnAddress {
    #[derive(Default, Deserialize)]
    struct Read {
        id: Option<serde_json::Value>,
        reply_to: Option<serde_json::Value>,
        callback_url: Option<serde_json::Value>,
    }
    let read: Read = serde_json::from_slice(raw).unwrap_or_default();
    let text = |field: Option<serde_json::Value>| match field {
        Some(serde_json::Value::String(text)) => Some(text),
        _ => None,
    };
    ReturnAddress {
        id: text(read.id).and_then(|id| TaskId::new(&id).ok()),
        reply_to: text(read.reply_to).filter(|list| !list.is_empty()),
        callback_url: text(read.callback_url).and_then(|url| super::url(&url).ok()),
    }
}
