//! Building a call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use redial_core::UnixMs;
use redial_core::protocol::task::{CacheScope, Effect, Jitter, Limit, OnBreak};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::{Error, Part};

/// A call to make, built field by field: a method for every field of a task. A field that is not set has the default of the
/// protocol.
///
/// The call is checked as a whole when it is enqueued, by the same code as in the worker.
///
/// ```no_run
/// # async fn example(client: redial::Client) -> Result<(), redial::Error> {
/// use redial::{Call, Limit};
/// use std::time::Duration;
///
/// let call = Call::post("https://api.example.com/v1/extract")
///     .json(&["some", "text"])
///     .header("Accept", "application/json")
///     .idempotency_key("invoice-17")
///     .limit(Limit::named("example.com").rate(50.0, Duration::from_secs(1)))
///     .ttl(Duration::from_secs(600));
/// let id = client.enqueue(call).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a call does nothing until it is enqueued"]
pub struct Call {
    /// Fields of the task, each as the JSON that will be sent.
    fields: BTreeMap<&'static str, Box<RawValue>>,
    headers: BTreeMap<String, String>,
    retry: RetryFields,
    limits: Vec<Limit>,
    parts: Vec<Part>,
    ok_when: ConditionFields,
    retry_when: ConditionFields,
    /// The first value that could not be serialized. It is reported when the call is enqueued.
    failure: Option<(&'static str, Arc<serde_json::Error>)>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct RetryFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cap_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<Jitter>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    on: Vec<u16>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct ConditionFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Vec<u16>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

impl Call {
    /// A call with this method.
    pub fn new(method: &str, url: impl AsRef<str>) -> Self {
        let call = Self {
            fields: BTreeMap::new(),
            headers: BTreeMap::new(),
            retry: RetryFields::default(),
            limits: Vec::new(),
            parts: Vec::new(),
            ok_when: ConditionFields::default(),
            retry_when: ConditionFields::default(),
            failure: None,
        };
        call.set("url", url.as_ref()).set("method", method)
    }

    /// A GET.
    pub fn get(url: impl AsRef<str>) -> Self {
        Self::new("GET", url)
    }

    /// A POST. It may be made twice unless [`Call::once`] or an idempotency key prevents it.
    pub fn post(url: impl AsRef<str>) -> Self {
        Self::new("POST", url)
    }

    /// A PUT.
    pub fn put(url: impl AsRef<str>) -> Self {
        Self::new("PUT", url)
    }

    /// A PATCH.
    pub fn patch(url: impl AsRef<str>) -> Self {
        Self::new("PATCH", url)
    }

    /// A DELETE.
    pub fn delete(url: impl AsRef<str>) -> Self {
        Self::new("DELETE", url)
    }

    /// Your name for the call, unique for as long as its result is kept. Default: a new UUIDv7.
    pub fn id(self, id: impl AsRef<str>) -> Self {
        self.set("id", id.as_ref())
    }

    /// A JSON body.
    pub fn json(self, body: &(impl Serialize + ?Sized)) -> Self {
        self.set("body", body)
    }

    /// A text body, sent as `text/plain` unless a `Content-Type` header is set.
    pub fn text(self, body: impl AsRef<str>) -> Self {
        self.set("body_text", body.as_ref())
    }

    /// A body of bytes, sent as `application/octet-stream` unless a `Content-Type` header is set.
    pub fn bytes(self, body: impl AsRef<[u8]>) -> Self {
        self.set("body_base64", &base64::engine::general_purpose::STANDARD.encode(body))
    }

    /// A form, sent as `application/x-www-form-urlencoded`: a struct or map of text, numbers, booleans, or lists of these.
    pub fn form(self, fields: &(impl Serialize + ?Sized)) -> Self {
        self.set("form", fields)
    }

    /// A part of an upload, sent as `multipart/form-data`. Can be called several times.
    pub fn part(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    /// A request header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// The timeout of one attempt, from connecting to the last byte. Default 30 s.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.set("timeout_ms", &ms(timeout))
    }

    /// The timeout for connecting. Default 5 s.
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        self.set("connect_timeout_ms", &ms(timeout))
    }

    /// The maximum number of attempts, the first one included. Default 8.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.retry.max_attempts = Some(attempts);
        self
    }

    /// The backoff before the first retry, which doubles with each further one up to `cap`, before jitter. Default 1 s and 60 s.
    pub fn backoff(mut self, base: Duration, cap: Duration) -> Self {
        (self.retry.base_ms, self.retry.cap_ms) = (Some(ms(base)), Some(ms(cap)));
        self
    }

    /// How the backoff is randomized. Default [`Jitter::Equal`].
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.retry.jitter = Some(jitter);
        self
    }

    /// Statuses to retry in addition to those that always are.
    pub fn retry_on(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.retry.on.extend(statuses);
        self
    }

    /// A good answer has something at this JSONPath (RFC 9535): a value other than `null`, `false`, `0`, `""`, `[]` and `{}`. A 2xx without it
    /// ends the call as [`Reason::Rejected`](crate::Reason::Rejected); one that is not JSON is retried.
    pub fn ok_when_path(mut self, path: impl Into<String>) -> Self {
        self.ok_when.path = Some(path.into());
        self
    }

    /// A good answer has one of these statuses. Default: 200 to 299.
    pub fn ok_when_status(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.ok_when.status = Some(statuses.into_iter().collect());
        self
    }

    /// Tries again after an answer that has something at this JSONPath, such as `$.error`.
    pub fn retry_when_path(mut self, path: impl Into<String>) -> Self {
        self.retry_when.path = Some(path.into());
        self
    }

    /// Tries again after an answer with one of these statuses; with [`Call::retry_when_path`], if both hold. Default: 200 to 299.
    pub fn retry_when_status(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.retry_when.status = Some(statuses.into_iter().collect());
        self
    }

    /// How many redirects to follow. Default 0.
    pub fn redirects(self, count: u32) -> Self {
        self.set("redirects", &count)
    }

    /// No attempt starts after this time.
    pub fn expires_at(self, at: UnixMs) -> Self {
        self.set("expires_at_ms", &at)
    }

    /// No attempt starts after this long from now.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.set("ttl_ms", &ms(ttl))
    }

    /// No attempt starts before this time.
    pub fn run_at(self, at: UnixMs) -> Self {
        self.set("run_at_ms", &at)
    }

    /// No attempt starts before this long from now.
    pub fn delay(self, delay: Duration) -> Self {
        self.set("delay_ms", &ms(delay))
    }

    /// Sends this as `Idempotency-Key` on every attempt. For a day, calls with the same key are made once and share the answer.
    pub fn idempotency_key(self, key: impl AsRef<str>) -> Self {
        self.set("idempotency_key", key.as_ref())
    }

    /// Never makes the call twice, unless it is certain that the upstream did not act.
    pub fn once(self) -> Self {
        self.set("effect", &Effect::Once)
    }

    /// Shares the answer with all tasks that make the same call, and keeps it this long.
    pub fn cache_ttl(self, ttl: Duration) -> Self {
        self.set("cache_ttl_ms", &ms(ttl))
    }

    /// The key that the answer is cached under. Default: method, URL, headers and body.
    pub fn cache_key(self, key: impl AsRef<str>) -> Self {
        self.set("cache_key", key.as_ref())
    }

    /// Who may share the answer. Default [`CacheScope::Private`]: calls with the same credentials.
    pub fn cache_scope(self, scope: CacheScope) -> Self {
        self.set("cache_scope", &scope)
    }

    /// On whose behalf the call is made: tenants share no answers, and have equal shares of a limit that they wait for. 1 to 64 printable
    /// ASCII characters.
    pub fn tenant(self, name: impl AsRef<str>) -> Self {
        self.set("tenant", name.as_ref())
    }

    /// A limit that the call counts against: a name, or a [`Limit`] with its definition. Can be called several times.
    pub fn limit(mut self, limit: impl Into<Limit>) -> Self {
        self.limits.push(limit.into());
        self
    }

    /// Lets the answer be read while it arrives: [`Client::stream`](crate::Client::stream).
    pub fn stream(self) -> Self {
        self.set("stream", &true)
    }

    /// What becomes of the call if its answer breaks off after a part of it could be read. By default it fails.
    pub fn on_break(self, then: OnBreak) -> Self {
        self.set("on_break", &then)
    }

    /// A Redis list that the result is also pushed to.
    pub fn reply_to(self, list: impl AsRef<str>) -> Self {
        self.set("reply_to", list.as_ref())
    }

    /// How long the result is kept. Default one hour.
    pub fn result_ttl(self, ttl: Duration) -> Self {
        self.set("result_ttl_ms", &ms(ttl))
    }

    /// Where the result is delivered, by a POST that is a task of its own, `<id>.callback`.
    pub fn callback_url(self, url: impl AsRef<str>) -> Self {
        self.set("callback_url", url.as_ref())
    }

    /// The call that is pushed when this one is complete. Its id is `<id>.then` unless it has one. In its strings,
    /// `{{$.body.text}}` is replaced by a value of this call's result, by JSONPath.
    pub fn then(mut self, next: Self) -> Self {
        match next.into_raw() {
            Ok(task) => self.set("then", &task),
            Err(failure) => {
                self.failure.get_or_insert(failure);
                self
            }
        }
    }

    /// W3C trace context, sent as a header.
    pub fn traceparent(self, context: impl AsRef<str>) -> Self {
        self.set("traceparent", context.as_ref())
    }

    /// Any JSON, echoed in the result.
    pub fn meta(self, meta: &(impl Serialize + ?Sized)) -> Self {
        self.set("meta", meta)
    }

    /// When the call was enqueued, which [`Call::ttl`] and [`Call::delay`] count from. Default: now, by this machine's clock.
    pub fn enqueued_at(self, at: UnixMs) -> Self {
        self.set("enqueued_at_ms", &at)
    }

    /// The task as JSON.
    pub(crate) fn into_json(self) -> Result<String, Error> {
        let task = self.into_raw().map_err(|(field, error)| Error::Serialize { index: 0, field, error })?;
        Ok(Box::<str>::from(task).into_string())
    }

    fn into_raw(mut self) -> Result<Box<RawValue>, (&'static str, Arc<serde_json::Error>)> {
        let (headers, limits) = (std::mem::take(&mut self.headers), std::mem::take(&mut self.limits));
        let (retry, parts) = (std::mem::take(&mut self.retry), std::mem::take(&mut self.parts));
        let conditions =
            [("ok_when", std::mem::take(&mut self.ok_when)), ("retry_when", std::mem::take(&mut self.retry_when))];
        for (field, condition) in conditions {
            if condition != ConditionFields::default() {
                self = self.set(field, &condition);
            }
        }
        if !parts.is_empty() {
            self = self.set("parts", &parts);
        }
        if !headers.is_empty() {
            self = self.set("headers", &headers);
        }
        if retry != RetryFields::default() {
            self = self.set("retry", &retry);
        }
        if !limits.is_empty() {
            self = self.set("limit", &limits);
        }
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        to_raw_value(&self.fields).map_err(|error| ("task", Arc::new(error)))
    }

    fn set(mut self, field: &'static str, value: &(impl Serialize + ?Sized)) -> Self {
        match to_raw_value(value) {
            Ok(json) => {
                self.fields.insert(field, json);
            }
            Err(error) => {
                self.failure.get_or_insert((field, Arc::new(error)));
            }
        }
        self
    }
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
