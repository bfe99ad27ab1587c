//! A call to make. Parsed and checked here, once; trusted everywhere else.

mod raw;

use std::time::Duration;

use base64::Engine as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::value::RawValue;
use url::Url;

use crate::db::keys;
use crate::protocol::then;
use crate::{Reason, TaskId, UnixMs};

pub use raw::{CacheScope, Effect, Jitter, Limit, RawTask, ReturnAddress};

/// The most bytes of a task as pushed: a body of 1 MiB and 64 KiB for all the rest.
pub const MAX_BYTES: usize = (1 << 20) + (64 << 10);

/// How long a result is kept where the task does not say.
pub const RESULT_TTL: Duration = Duration::from_millis(RESULT_TTL_MS);
const RESULT_TTL_MS: u64 = 3_600_000;

/// The most time for connecting where the task does not say.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(CONNECT_TIMEOUT_MS);
const CONNECT_TIMEOUT_MS: u64 = 5_000;

/// The longest time that may be given in milliseconds, a year: beyond it a mistake in units is likelier than a wish.
const MAX_MS: u64 = 366 * 24 * 3600 * 1000;

/// A checked task.
#[derive(Debug, Clone)]
pub struct Task {
    /// The producer's name for it, if it gave one.
    pub id: Option<TaskId>,
    /// Where to.
    pub url: Url,
    /// How.
    pub method: Method,
    /// The task's own headers and the content type of its body; names and values are valid.
    pub headers: HeaderMap,
    /// The bytes to send; `None` sends no body at all.
    pub body: Option<Vec<u8>>,
    /// The most time for one attempt, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// The most time for connecting.
    pub connect_timeout: Duration,
    /// When and how often to try again.
    pub retry: Retry,
    /// After this moment no attempt starts.
    pub expires_at: Option<UnixMs>,
    /// After this long no attempt starts, counted from [`Task::enqueued_at`] or else from the first claim.
    pub ttl: Option<Duration>,
    /// No attempt starts before this moment.
    pub run_at: Option<UnixMs>,
    /// No attempt starts before this long has passed, counted as for [`Task::ttl`].
    pub delay: Option<Duration>,
    /// Sent as `Idempotency-Key` on every attempt; one call and one answer under it.
    pub idempotency_key: Option<String>,
    /// Whether the call may be made twice.
    pub effect: Effect,
    /// How long the answer is shared and kept; `None` for not at all, zero for shared and not kept.
    pub cache_ttl: Option<Duration>,
    /// The name under which it is, instead of the computed one.
    pub cache_key: Option<String>,
    /// Who may share it.
    pub cache_scope: CacheScope,
    /// The limits that the call is under.
    pub limits: Vec<Limit>,
    /// The list that gets the result as well.
    pub reply_to: Option<String>,
    /// How long result and reply are kept.
    pub result_ttl: Duration,
    /// Where the result is delivered.
    pub callback_url: Option<Url>,
    /// The task whose result is the body.
    pub callback_of: Option<TaskId>,
    /// The task that follows, as it was given.
    pub then: Option<Box<RawValue>>,
    /// W3C trace context, sent along.
    pub traceparent: Option<String>,
    /// Echoed in the result.
    pub meta: Option<Box<RawValue>>,
    /// When its producer says it pushed the task.
    pub enqueued_at: Option<UnixMs>,
    /// Fields that the protocol does not know.
    pub unknown: Vec<String>,
}

/// When and how often to try again.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// The most attempts, the first one included.
    pub max_attempts: u32,
    /// The first wait, before jitter.
    pub base: Duration,
    /// The longest wait, before jitter.
    pub cap: Duration,
    /// How a wait is spread.
    pub jitter: Jitter,
    /// Statuses to retry beyond those that always are.
    pub on: Vec<u16>,
}

/// Why a task can't be taken.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskError {
    /// The reason of the dead letter.
    pub reason: Reason,
    /// What was wrong, where, and what to do.
    pub error: String,
    /// Whom to tell.
    pub sender: ReturnAddress,
}

impl Task {
    /// Parses and checks a task of at most `max_bytes`.
    ///
    /// # Errors
    /// A [`TaskError`] that says what is wrong and where.
    pub fn parse(raw: &[u8], max_bytes: usize) -> Result<Self, Box<TaskError>> {
        let refuse = |reason, error| Box::new(TaskError { reason, error, sender: raw::sender(raw) });
        if raw.len() > max_bytes {
            let error = format!(
                "the task has {} bytes; at most {max_bytes} are allowed: keep large inputs elsewhere and send where they are",
                raw.len()
            );
            return Err(refuse(Reason::TooLarge, error));
        }
        let (raw, unknown) = RawTask::parse(raw).map_err(|error| refuse(Reason::InvalidTask, error))?;
        Self::check(raw, unknown).map_err(|error| refuse(Reason::InvalidTask, error))
    }

    fn check(raw: RawTask, unknown: Vec<String>) -> Result<Self, String> {
        let id = raw.id.as_deref().map(TaskId::new).transpose()?;
        let url = url(&raw.url)?;
        let mut headers = headers(raw.headers.as_ref())?;
        let body = body(raw.body.as_deref(), raw.body_text, raw.body_base64.as_deref(), &mut headers)?;
        let method = method(raw.method.as_deref(), body.is_some() || raw.callback_of.is_some())?;
        let idempotency_key = raw.idempotency_key.map(|key| idempotency_key(key, &mut headers)).transpose()?;
        if let Some(trace) = &raw.traceparent {
            let value = HeaderValue::from_str(trace).map_err(|_| "`traceparent` is no header value".to_owned())?;
            headers.entry(HeaderName::from_static("traceparent")).or_insert(value);
        }
        let callback_url = raw.callback_url.as_deref().map(self::url).transpose();
        let callback_url = callback_url.map_err(|error| format!("`callback_url`: {error}"))?;
        let callback_of = raw.callback_of.as_deref().map(TaskId::new).transpose();
        let callback_of = callback_of.map_err(|error| format!("`callback_of`: {error}"))?;
        if callback_of.is_some() && body.is_some() {
            return Err("`callback_of` and a body are given: the body of a delivery is the result".into());
        }
        if let Some(error) = raw.then_error {
            return Err(format!("the task before it is complete, but `then` could not be made of its result: {error}"));
        }
        raw.then.as_deref().map_or(Ok(()), then::check)?;
        if let Some(key) = raw.cache_key.as_ref().filter(|key| !(1..=1024).contains(&key.len())) {
            return Err(format!("`cache_key` has {} bytes: use 1 to 1024", key.len()));
        }
        raw.limit.iter().flatten().try_for_each(Limit::check)?;
        if raw.reply_to.as_deref() == Some("") {
            return Err("`reply_to` is empty: name a list, or leave it out".into());
        }
        if raw.reply_to.as_deref().is_some_and(keys::is_reserved) {
            return Err("`reply_to` names a key of Redial's own: name a list of yours, as in answers:{default}".into());
        }
        Ok(Self {
            id,
            url,
            method,
            headers,
            body,
            timeout: ms("timeout_ms", raw.timeout_ms, 30_000, 1)?,
            connect_timeout: ms("connect_timeout_ms", raw.connect_timeout_ms, CONNECT_TIMEOUT_MS, 1)?,
            retry: retry(raw.retry)?,
            expires_at: raw.expires_at_ms,
            ttl: opt_ms("ttl_ms", raw.ttl_ms)?,
            run_at: raw.run_at_ms,
            delay: opt_ms("delay_ms", raw.delay_ms)?,
            idempotency_key,
            // A POST without a word about its effect is idempotent, as AI calls are: docs/protocol.md says so loudly.
            effect: raw.effect.unwrap_or(Effect::Idempotent),
            cache_ttl: opt_ms("cache_ttl_ms", raw.cache_ttl_ms)?,
            cache_key: raw.cache_key,
            cache_scope: raw.cache_scope.unwrap_or_default(),
            limits: raw.limit.unwrap_or_default(),
            reply_to: raw.reply_to,
            result_ttl: ms("result_ttl_ms", raw.result_ttl_ms, RESULT_TTL_MS, 1)?,
            callback_url,
            callback_of,
            then: raw.then,
            traceparent: raw.traceparent,
            meta: raw.meta,
            enqueued_at: raw.enqueued_at_ms,
            unknown,
        })
    }

    /// The moment after which no attempt starts.
    pub fn deadline(&self, first_seen: UnixMs) -> Option<UnixMs> {
        let by_ttl = self.ttl.map(|ttl| self.counted_from(first_seen, ttl));
        [self.expires_at, by_ttl].into_iter().flatten().min()
    }

    /// The moment before which no attempt starts.
    pub fn not_before(&self, first_seen: UnixMs) -> Option<UnixMs> {
        let by_delay = self.delay.map(|delay| self.counted_from(first_seen, delay));
        [self.run_at, by_delay].into_iter().flatten().max()
    }

    fn counted_from(&self, first_seen: UnixMs, span: Duration) -> UnixMs {
        let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.enqueued_at.unwrap_or(first_seen).plus(ms)
    }
}

fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("`url` {error}: give it whole, as in \"https://api.example.com/v1/extract\""))?;
    if !matches!(url.scheme(), "http" | "https") {
        let scheme = url.scheme();
        return Err(format!("`url` has the scheme {scheme:?}: only http and https are called"));
    }
    Ok(url)
}

fn method(given: Option<&str>, has_body: bool) -> Result<Method, String> {
    let Some(given) = given else {
        return Ok(if has_body { Method::POST } else { Method::GET });
    };
    match given.to_ascii_uppercase().as_str() {
        "GET" => Ok(Method::GET),
        "HEAD" => Ok(Method::HEAD),
        "POST" => Ok(Method::POST),
        "PUT" => Ok(Method::PUT),
        "PATCH" => Ok(Method::PATCH),
        "DELETE" => Ok(Method::DELETE),
        "OPTIONS" => Ok(Method::OPTIONS),
        _ => Err(format!("`method` {given:?} is unknown: use GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS")),
    }
}

/// Headers that belong to the connection, not to the task (RFC 9110 §7.6.1): set by a task they could smuggle a request.
const CONNECTION_HEADERS: [HeaderName; 10] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
];

fn headers(given: Option<&std::collections::BTreeMap<String, String>>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in given.into_iter().flatten() {
        let parsed =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`headers` {name:?} is no header name"))?;
        if CONNECTION_HEADERS.contains(&parsed) {
            return Err(format!("`headers` {name:?} belongs to the connection: leave it out, the worker sets it"));
        }
        let value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| format!("`headers` {name:?} has a value with a control character, such as a line break"))?;
        headers.append(parsed, value);
    }
    Ok(headers)
}

fn body(
    json: Option<&RawValue>,
    text: Option<String>,
    base64: Option<&str>,
    headers: &mut HeaderMap,
) -> Result<Option<Vec<u8>>, String> {
    let (bytes, content_type) = match (json, text, base64) {
        (None, None, None) => return Ok(None),
        (Some(json), None, None) => (json.get().as_bytes().to_vec(), "application/json"),
        (None, Some(text), None) => (text.into_bytes(), "text/plain; charset=utf-8"),
        (None, None, Some(base64)) => (from_base64(base64)?, "application/octet-stream"),
        _ => {
            return Err("more than one of `body`, `body_text` and `body_base64` is given: a call has one body".into());
        }
    };
    headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
    Ok(Some(bytes))
}

fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    LENIENT.decode(text).map_err(|error| format!("`body_base64` can't be decoded: {error}"))
}

/// The header is bare, as Stripe and most take it; the IETF draft's quoted form is a setting of the upstream.
fn idempotency_key(key: String, headers: &mut HeaderMap) -> Result<String, String> {
    if key.is_empty() || key.len() > 255 {
        return Err(format!("`idempotency_key` has {} bytes: use 1 to 255", key.len()));
    }
    let value = HeaderValue::from_str(&key)
        .map_err(|_| "`idempotency_key` holds what no header may: use printable ASCII".to_owned())?;
    headers.insert(HeaderName::from_static("idempotency-key"), value);
    Ok(key)
}

fn retry(raw: Option<raw::RawRetry>) -> Result<Retry, String> {
    let raw = raw.unwrap_or_default();
    let max_attempts = raw.max_attempts.unwrap_or(5);
    if !(1..=1000).contains(&max_attempts) {
        return Err(format!("`retry.max_attempts` is {max_attempts}: use 1 to 1000"));
    }
    let on = raw.on.unwrap_or_default();
    if let Some(status) = on.iter().find(|status| !(300..600).contains(*status)) {
        return Err(format!("`retry.on` holds {status}: use statuses from 300 to 599"));
    }
    Ok(Retry {
        max_attempts,
        base: ms("retry.base_ms", raw.base_ms, 500, 0)?,
        cap: ms("retry.cap_ms", raw.cap_ms, 60_000, 0)?,
        jitter: raw.jitter.unwrap_or(Jitter::Full),
        on,
    })
}

fn ms(field: &str, given: Option<u64>, default: u64, least: u64) -> Result<Duration, String> {
    let value = given.unwrap_or(default);
    if !(least..=MAX_MS).contains(&value) {
        return Err(format!("`{field}` is {value}: use milliseconds from {least} to {MAX_MS}"));
    }
    Ok(Duration::from_millis(value))
}

fn opt_ms(field: &str, given: Option<u64>) -> Result<Option<Duration>, String> {
    given.map(|value| ms(field, Some(value), 0, 0)).transpose()
}

#[cfg(test)]
mod tests;
