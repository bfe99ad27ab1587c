//! A call to make. Parsed and checked here, once; trusted everywhere else.

mod body;
mod condition;
mod defaults;
mod error;
mod headers;
mod limit;
mod path;
mod raw;
mod recent_urls;
pub mod then;
mod usage;

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::value::RawValue;
use url::Url;

use crate::db::keys;
use crate::{TaskId, UnixMs};

use body::BodyFields;
pub use body::{Form, RawPart};
pub use condition::{Condition, RawCondition};
pub use defaults::TaskDefaults;
pub use error::{InvalidTask, ReturnAddress, TaskError};
use headers::{headers, idempotency_key};
pub use limit::{InvalidLimit, Limit, OnEmpty};
pub use raw::{CacheScope, Effect, Jitter, OnBreak, RawRetry, RawTask};
pub use usage::{InvalidUsage, Usage, number_at};

/// The maximum size of a task in bytes: a body of 1 MiB, and 64 KiB for everything else.
pub const MAX_BYTES: usize = (1 << 20) + (64 << 10);

/// The most headers of a task. Servers allow about a hundred; the type that holds them ends the process beyond 24,576.
pub const MAX_HEADERS: usize = 100;
/// The longest URL, in bytes. Servers accept 8 to 16 KiB; parsers of host names take time that grows with the square of the length.
pub const MAX_URL_BYTES: usize = 16 << 10;
/// The longest name of a host: what fits into the 255 octets of a name in DNS (RFC 1035 section 2.3.4).
const MAX_HOST_BYTES: usize = 253;
/// The most limits of a task: each is asked by a command of its own, while the task holds its slot.
pub const MAX_LIMITS: usize = 8;
/// The longest name of a tenant, in bytes.
pub const MAX_TENANT_BYTES: usize = 64;
/// The most redirects that a task may follow, as browsers do.
const MAX_REDIRECTS: u32 = 20;
/// The longest name of a reply list, in bytes.
const MAX_REPLY_TO_BYTES: usize = 1024;

/// How long a result is kept by default.
pub const RESULT_TTL: Duration = Duration::from_secs(3600);

/// The timeout of an attempt by default.
const TIMEOUT_MS: u64 = 30_000;

/// The timeout for connecting by default.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The retry policy by default: with eight attempts the waits add up to at least a minute, as long as a deployment or a short
/// outage of an upstream takes.
const MAX_ATTEMPTS: u32 = 8;
const BACKOFF_BASE_MS: u64 = 1_000;
const BACKOFF_CAP_MS: u64 = 60_000;
const JITTER: Jitter = Jitter::Equal;

/// The longest time span that a field may set in milliseconds: a year. A larger number is more likely a mistake in units.
const MAX_MS: u64 = 366 * 24 * 3600 * 1000;

/// A checked task.
#[derive(Debug, Clone)]
pub struct Task {
    /// The producer's name for it, if it set one.
    pub id: Option<TaskId>,
    /// What to call.
    pub url: Url,
    /// The method of the call.
    pub method: Method,
    /// The task's own headers and the content type of its body; names and values are valid.
    pub headers: HeaderMap,
    /// The bytes to send; `None` sends no body at all.
    pub body: Option<Vec<u8>>,
    /// The timeout of one attempt, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// The timeout for connecting.
    pub connect_timeout: Duration,
    /// When and how often to try again.
    pub retry: Retry,
    /// What a good response is, if it is not every 2xx.
    pub ok_when: Option<Condition>,
    /// After which responses to try again, besides those that always are.
    pub retry_when: Option<Condition>,
    /// How many redirects are followed.
    pub redirects: u32,
    /// No attempt starts after this time.
    pub expires_at: Option<UnixMs>,
    /// No attempt starts after this long, counted from [`Task::enqueued_at`] or else from the first claim.
    pub ttl: Option<Duration>,
    /// No attempt starts before this time.
    pub run_at: Option<UnixMs>,
    /// No attempt starts before this long has passed, counted as for [`Task::ttl`].
    pub delay: Option<Duration>,
    /// Sent as `Idempotency-Key` on every attempt; tasks with the same key share one call and its answer.
    pub idempotency_key: Option<String>,
    /// Whether the call may be made twice.
    pub effect: Effect,
    /// How long the answer is shared and kept; `None` for not at all, zero for shared but not kept.
    pub cache_ttl: Option<Duration>,
    /// The key that the answer is cached under, instead of the computed one.
    pub cache_key: Option<String>,
    /// Who may share the answer.
    pub cache_scope: CacheScope,
    /// On whose behalf the call is made.
    pub tenant: Option<String>,
    /// The limits that the call is under.
    pub limits: Vec<Limit>,
    /// Whether the answer is also appended to a stream as it arrives.
    pub stream: bool,
    /// What becomes of the task if its answer breaks off after a part of it is in the stream.
    pub on_break: OnBreak,
    /// The list that the result is also pushed to.
    pub reply_to: Option<String>,
    /// How long the result and the reply are kept.
    pub result_ttl: Duration,
    /// Where the result is delivered.
    pub callback_url: Option<Url>,
    /// In a delivery: the task whose result is the body.
    pub callback_of: Option<TaskId>,
    /// The next task of the chain, as the producer wrote it.
    pub then: Option<Box<RawValue>>,
    /// W3C trace context, sent as a header.
    pub traceparent: Option<String>,
    /// Echoed in the result.
    pub meta: Option<Box<RawValue>>,
    /// When the producer pushed the task, by its own clock.
    pub enqueued_at: Option<UnixMs>,
    /// Fields that the protocol does not define.
    pub unknown: Vec<String>,
}

/// When and how often to try again.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// The maximum number of attempts, the first one included.
    pub max_attempts: u32,
    /// The first backoff, before jitter.
    pub base: Duration,
    /// The longest backoff, before jitter.
    pub cap: Duration,
    /// How the backoff is randomized.
    pub jitter: Jitter,
    /// Statuses to retry in addition to those that always are.
    pub on: Vec<u16>,
}

impl Task {
    /// Parses and checks a task of at most `max_bytes`.
    ///
    /// # Errors
    /// The task is invalid: the [`TaskError`] says what is wrong and where.
    pub fn parse(raw: &[u8], max_bytes: usize) -> Result<Self, Box<TaskError>> {
        let defaults = TaskDefaults::default();
        Self::parse_with(raw, max_bytes, |_| &defaults)
    }

    /// Parses and checks a task, with the defaults for its URL.
    ///
    /// # Errors
    /// As [`Task::parse`].
    pub fn parse_with<'a>(
        raw: &[u8],
        max_bytes: usize,
        defaults: impl FnOnce(&Url) -> &'a TaskDefaults,
    ) -> Result<Self, Box<TaskError>> {
        Self::try_parse(raw, max_bytes, defaults)
            .map_err(|cause| Box::new(TaskError { cause, return_address: ReturnAddress::read(raw) }))
    }

    fn try_parse<'a>(
        raw: &[u8],
        max_bytes: usize,
        defaults: impl FnOnce(&Url) -> &'a TaskDefaults,
    ) -> Result<Self, InvalidTask> {
        if raw.len() > max_bytes {
            return Err(InvalidTask::TooLarge { bytes: raw.len(), limit: max_bytes });
        }
        let (raw, unknown) = RawTask::parse(raw)?;
        Self::check(raw, unknown, defaults)
    }

    fn check<'a>(
        raw: RawTask,
        unknown: Vec<String>,
        defaults: impl FnOnce(&Url) -> &'a TaskDefaults,
    ) -> Result<Self, InvalidTask> {
        if let Some(then) = raw.then.as_deref() {
            then::check(then).map_err(|cause| InvalidTask::Then(Box::new(cause)))?;
        }
        Self::check_alone(raw, unknown, defaults)
    }

    /// Checks everything but the rest of its chain.
    fn check_alone<'a>(
        raw: RawTask,
        unknown: Vec<String>,
        defaults: impl FnOnce(&Url) -> &'a TaskDefaults,
    ) -> Result<Self, InvalidTask> {
        let id = raw.id.as_deref().map(TaskId::new).transpose()?;
        let url = url("url", &raw.url)?;
        let defaults = defaults(&url);
        let mut headers = headers(raw.headers.as_ref())?;
        let body = BodyFields {
            json: raw.body.as_deref(),
            text: raw.body_text,
            base64: raw.body_base64.as_deref(),
            form: raw.form,
            parts: raw.parts,
        };
        let body = body.encode(&mut headers)?;
        let method = method(raw.method.as_deref(), body.is_some() || raw.callback_of.is_some())?;
        let idempotency_key = raw.idempotency_key.map(|key| idempotency_key(key, &mut headers)).transpose()?;
        if let Some(trace) = &raw.traceparent {
            let value = HeaderValue::from_str(trace).map_err(|_| InvalidTask::Traceparent)?;
            headers.entry(HeaderName::from_static("traceparent")).or_insert(value);
        }
        let callback_url = raw.callback_url.as_deref().map(|text| self::url("callback_url", text)).transpose()?;
        let callback_of = raw.callback_of.as_deref().map(TaskId::new).transpose().map_err(InvalidTask::CallbackOf)?;
        if callback_of.is_some() && body.is_some() {
            return Err(InvalidTask::BodyOfDelivery);
        }
        if let Some(error) = raw.then_error {
            return Err(InvalidTask::ThenFailed(error));
        }
        if let Some(key) = &raw.cache_key {
            check_length("cache_key", key, 1024)?;
        }
        if let Some(limits) = raw.limit.as_ref().filter(|limits| limits.len() > MAX_LIMITS) {
            return Err(InvalidTask::TooMany { field: "limit", count: limits.len(), limit: MAX_LIMITS });
        }
        raw.limit.iter().flatten().try_for_each(Limit::check)?;
        match raw.reply_to.as_deref() {
            Some("") => return Err(InvalidTask::EmptyReplyTo),
            Some(list) if list.len() > MAX_REPLY_TO_BYTES => check_length("reply_to", list, MAX_REPLY_TO_BYTES)?,
            Some(list) if keys::is_reserved(list) => return Err(InvalidTask::ReservedReplyTo),
            _ => {}
        }
        Ok(Self {
            id,
            url,
            method,
            headers,
            body,
            timeout: ms("timeout_ms", raw.timeout_ms, defaults.timeout, 1)?,
            connect_timeout: ms("connect_timeout_ms", raw.connect_timeout_ms, CONNECT_TIMEOUT, 1)?,
            retry: retry(raw.retry, &defaults.retry)?,
            ok_when: raw.ok_when.map(|raw| raw.check("ok_when")).transpose()?,
            retry_when: raw.retry_when.map(|raw| raw.check("retry_when")).transpose()?,
            redirects: redirects(raw.redirects, defaults.redirects)?,
            expires_at: raw.expires_at_ms,
            ttl: optional_ms("ttl_ms", raw.ttl_ms)?,
            run_at: raw.run_at_ms,
            delay: optional_ms("delay_ms", raw.delay_ms)?,
            idempotency_key,
            // A POST that does not state its effect counts as idempotent, as calls to AI APIs are; docs/protocol.md stresses it.
            effect: raw.effect.unwrap_or(Effect::Idempotent),
            cache_ttl: optional_ms("cache_ttl_ms", raw.cache_ttl_ms)?,
            cache_key: raw.cache_key,
            cache_scope: raw.cache_scope.unwrap_or_default(),
            tenant: raw.tenant.map(tenant).transpose()?,
            limits: raw.limit.unwrap_or_default(),
            stream: raw.stream.unwrap_or_default(),
            on_break: raw.on_break.unwrap_or_default(),
            reply_to: raw.reply_to,
            result_ttl: ms("result_ttl_ms", raw.result_ttl_ms, RESULT_TTL, 1)?,
            callback_url,
            callback_of,
            then: raw.then,
            traceparent: raw.traceparent,
            meta: raw.meta,
            enqueued_at: raw.enqueued_at_ms,
            unknown,
        })
    }

    /// The time after which no attempt starts.
    pub fn deadline(&self, first_seen: UnixMs) -> Option<UnixMs> {
        let by_ttl = self.ttl.map(|ttl| self.counted_from(first_seen, ttl));
        [self.expires_at, by_ttl].into_iter().flatten().min()
    }

    /// The time before which no attempt starts.
    pub fn not_before(&self, first_seen: UnixMs) -> Option<UnixMs> {
        let by_delay = self.delay.map(|delay| self.counted_from(first_seen, delay));
        [self.run_at, by_delay].into_iter().flatten().max()
    }

    fn counted_from(&self, first_seen: UnixMs, span: Duration) -> UnixMs {
        let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.enqueued_at.unwrap_or(first_seen).plus(ms)
    }
}

fn url(field: &'static str, text: &str) -> Result<Url, InvalidTask> {
    if text.len() > MAX_URL_BYTES {
        check_length(field, text, MAX_URL_BYTES)?;
    }
    let url = recent_urls::parse(text).map_err(|cause| InvalidTask::Url { field, cause })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(InvalidTask::Scheme { field, scheme: url.scheme().to_owned() });
    }
    if let Some(bytes) = url.host_str().map(str::len).filter(|bytes| *bytes > MAX_HOST_BYTES) {
        return Err(InvalidTask::Host { field, bytes });
    }
    Ok(url)
}

/// Checks the name of a tenant.
///
/// # Errors
/// It is empty, too long, or has characters other than printable ASCII.
pub fn tenant(name: String) -> Result<String, InvalidTask> {
    check_length("tenant", &name, MAX_TENANT_BYTES)?;
    if name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) { Ok(name) } else { Err(InvalidTask::Tenant(name)) }
}

fn method(name: Option<&str>, has_body: bool) -> Result<Method, InvalidTask> {
    let Some(name) = name else {
        return Ok(if has_body { Method::POST } else { Method::GET });
    };
    match name.to_ascii_uppercase().as_str() {
        "GET" => Ok(Method::GET),
        "HEAD" => Ok(Method::HEAD),
        "POST" => Ok(Method::POST),
        "PUT" => Ok(Method::PUT),
        "PATCH" => Ok(Method::PATCH),
        "DELETE" => Ok(Method::DELETE),
        "OPTIONS" => Ok(Method::OPTIONS),
        _ => Err(InvalidTask::Method(name.to_owned())),
    }
}

fn check_length(field: &'static str, text: &str, limit: usize) -> Result<(), InvalidTask> {
    if (1..=limit).contains(&text.len()) {
        return Ok(());
    }
    Err(InvalidTask::Length { field, bytes: text.len(), limit })
}

fn retry(raw: Option<RawRetry>, defaults: &Retry) -> Result<Retry, InvalidTask> {
    let raw = raw.unwrap_or_default();
    let max_attempts = raw.max_attempts.unwrap_or(defaults.max_attempts);
    if !(1..=1000).contains(&max_attempts) {
        return Err(InvalidTask::MaxAttempts(max_attempts));
    }
    let on = raw.on.unwrap_or_else(|| defaults.on.clone());
    if let Some(status) = on.iter().find(|status| !(300..600).contains(*status)) {
        return Err(InvalidTask::RetryStatus(*status));
    }
    Ok(Retry {
        max_attempts,
        base: ms("retry.base_ms", raw.base_ms, defaults.base, 0)?,
        cap: ms("retry.cap_ms", raw.cap_ms, defaults.cap, 0)?,
        jitter: raw.jitter.unwrap_or(defaults.jitter),
        on,
    })
}

fn redirects(count: Option<u32>, default: u32) -> Result<u32, InvalidTask> {
    match count {
        Some(count) if count > MAX_REDIRECTS => Err(InvalidTask::Redirects(count)),
        count => Ok(count.unwrap_or(default)),
    }
}

fn ms(field: &'static str, value: Option<u64>, default: Duration, min: u64) -> Result<Duration, InvalidTask> {
    let Some(value) = value else { return Ok(default) };
    if !(min..=MAX_MS).contains(&value) {
        return Err(InvalidTask::Milliseconds { field, value, min });
    }
    Ok(Duration::from_millis(value))
}

fn optional_ms(field: &'static str, value: Option<u64>) -> Result<Option<Duration>, InvalidTask> {
    value.map(|value| ms(field, Some(value), Duration::ZERO, 0)).transpose()
}

#[cfg(test)]
mod tests;
