//! A call in the making.

use std::time::Duration;

use redial_core::UnixMs;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{Error, Stamped, add_field, stamp};

/// A call to make, built field by field. It is checked as a whole when it is pushed, by the same code as in the worker; the
/// protocol's page says what each field means and what holds without it.
#[derive(Debug, Clone)]
#[must_use = "a call does nothing until it is enqueued"]
pub struct Call {
    fields: Map<String, Value>,
    /// As it will be sent, byte for byte.
    body: Option<String>,
    then: Option<String>,
    problem: Option<String>,
}

/// What can be pushed: a [`Call`], a task as JSON, or one that was checked before.
pub trait IntoTask {
    /// Checks it.
    ///
    /// # Errors
    /// What is wrong with it.
    fn into_task(self) -> Result<Stamped, Error>;
}

impl Call {
    /// A call of this method.
    pub fn new(method: &str, url: impl Into<String>) -> Self {
        let fields = Map::from_iter([("url".to_owned(), json!(url.into())), ("method".to_owned(), json!(method))]);
        Self { fields, body: None, then: None, problem: None }
    }

    /// A GET.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// A POST. It may be made twice unless [`Call::once`] or an idempotency key says otherwise.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// A PUT.
    pub fn put(url: impl Into<String>) -> Self {
        Self::new("PUT", url)
    }

    /// A PATCH.
    pub fn patch(url: impl Into<String>) -> Self {
        Self::new("PATCH", url)
    }

    /// A DELETE.
    pub fn delete(url: impl Into<String>) -> Self {
        Self::new("DELETE", url)
    }

    /// Its body, as JSON.
    pub fn json(mut self, body: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_string(body) {
            Ok(body) => self.body = Some(body),
            Err(error) => self.problem = Some(format!("the body can't be written as JSON: {error}")),
        }
        self
    }

    /// Its body, as text.
    pub fn text(self, body: impl Into<String>) -> Self {
        self.with("body_text", body.into())
    }

    /// A request header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let headers = self.fields.entry("headers").or_insert_with(|| json!({}));
        headers[name] = json!(value);
        self
    }

    /// Your name for it. Without one it is given a UUIDv7.
    pub fn id(self, id: impl Into<String>) -> Self {
        self.with("id", id.into())
    }

    /// One call and one answer for all tasks of this key, which is sent on every attempt.
    pub fn idempotency_key(self, key: impl Into<String>) -> Self {
        self.with("idempotency_key", key.into())
    }

    /// Never sent twice unless it is certain that the upstream did not act.
    pub fn once(self) -> Self {
        self.with("effect", "once")
    }

    /// Shares the answer with all who make the same call, and keeps it this long.
    pub fn cache_ttl(self, ttl: Duration) -> Self {
        self.with("cache_ttl_ms", ms(ttl))
    }

    /// A name for the shared answer, instead of the call's method, URL, headers and body.
    pub fn cache_key(self, key: impl Into<String>) -> Self {
        self.with("cache_key", key.into())
    }

    /// The most time for one attempt, connect to last byte.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with("timeout_ms", ms(timeout))
    }

    /// The most attempts, the first one included.
    pub fn max_attempts(self, most: u32) -> Self {
        self.retry("max_attempts", json!(most))
    }

    /// The backoff before the first retry, which doubles with each up to `cap`, before jitter.
    pub fn backoff(self, base: Duration, cap: Duration) -> Self {
        self.retry("base_ms", ms(base)).retry("cap_ms", ms(cap))
    }

    /// More statuses to retry.
    pub fn retry_on(self, statuses: &[u16]) -> Self {
        self.retry("on", json!(statuses))
    }

    /// After this long from the push no attempt starts.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.with("ttl_ms", ms(ttl))
    }

    /// After this moment no attempt starts.
    pub fn expires_at(self, at: UnixMs) -> Self {
        self.with("expires_at_ms", at.0)
    }

    /// No attempt before this long from the push.
    pub fn delay(self, delay: Duration) -> Self {
        self.with("delay_ms", ms(delay))
    }

    /// No attempt before this moment.
    pub fn run_at(self, at: UnixMs) -> Self {
        self.with("run_at_ms", at.0)
    }

    /// A limit that it counts against, by name. Several may be given.
    pub fn limit(mut self, name: &str) -> Self {
        let limits = self.fields.entry("limit").or_insert_with(|| json!([]));
        if let Some(limits) = limits.as_array_mut() {
            limits.push(json!({ "name": name }));
        }
        self
    }

    /// A list that gets the result as well, for someone else to pop.
    pub fn reply_to(self, list: impl Into<String>) -> Self {
        self.with("reply_to", list.into())
    }

    /// Where the result is delivered, by a POST that is a task of its own: `<id>.callback`.
    pub fn callback_url(self, url: impl Into<String>) -> Self {
        self.with("callback_url", url.into())
    }

    /// The call that is pushed when this one is complete: `<id>.then` unless it has an id. In its strings `{{$.body.text}}` stands for
    /// a value of this one's result, by JSONPath.
    pub fn then(mut self, next: Self) -> Self {
        match next.into_json() {
            Ok(json) => self.then = Some(json),
            Err(problem) => self.problem = Some(format!("`then`: {problem}")),
        }
        self
    }

    /// How long the result is kept.
    pub fn result_ttl(self, ttl: Duration) -> Self {
        self.with("result_ttl_ms", ms(ttl))
    }

    /// W3C trace context, sent along.
    pub fn traceparent(self, trace: impl Into<String>) -> Self {
        self.with("traceparent", trace.into())
    }

    /// Anything, echoed in the result.
    pub fn meta(mut self, meta: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_value(meta) {
            Ok(meta) => self.with("meta", meta),
            Err(error) => {
                self.problem = Some(format!("`meta` can't be written as JSON: {error}"));
                self
            }
        }
    }

    /// The task as JSON, or what is wrong with it.
    fn into_json(self) -> Result<String, String> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let mut json = Value::Object(self.fields).to_string();
        for (field, value) in [("body", self.body), ("then", self.then)] {
            if let Some(value) = value {
                add_field(&mut json, field, &value);
            }
        }
        Ok(json)
    }

    fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(field.to_owned(), value.into());
        self
    }

    fn retry(mut self, field: &str, value: Value) -> Self {
        self.fields.entry("retry").or_insert_with(|| json!({}))[field] = value;
        self
    }
}

fn ms(span: Duration) -> Value {
    u64::try_from(span.as_millis()).map_or(Value::Null, Value::from)
}

impl IntoTask for Call {
    fn into_task(self) -> Result<Stamped, Error> {
        stamp(&self.into_json().map_err(Error::Task)?)
    }
}

impl IntoTask for &str {
    fn into_task(self) -> Result<Stamped, Error> {
        stamp(self)
    }
}

impl IntoTask for &String {
    fn into_task(self) -> Result<Stamped, Error> {
        stamp(self)
    }
}

impl IntoTask for String {
    fn into_task(self) -> Result<Stamped, Error> {
        stamp(&self)
    }
}

impl IntoTask for Stamped {
    fn into_task(self) -> Result<Stamped, Error> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use redial_core::Task;

    use super::*;

    #[test]
    fn every_field_of_a_call_is_one_of_the_protocol() -> Result<(), Box<dyn std::error::Error>> {
        let second = Duration::from_secs(1);
        let call = Call::post("http://h/")
            .json(&json!({"n": 1}))
            .header("A", "b")
            .header("C", "d")
            .id("x")
            .idempotency_key("k")
            .once()
            .cache_ttl(second)
            .cache_key("c")
            .timeout(second)
            .max_attempts(3)
            .backoff(second, second * 2)
            .retry_on(&[418])
            .ttl(second * 10)
            .delay(second)
            .limit("a")
            .limit("b")
            .reply_to("list")
            .result_ttl(second)
            .traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            .callback_url("https://me/hook")
            .then(Call::post("http://h/{{$.body.id}}").json(&json!({"m": 2})).then(Call::get("http://h/")))
            .meta(&[1, 2]);
        let stamped = call.into_task()?;
        let task = Task::parse(stamped.json.as_bytes(), redial_core::protocol::task::MAX_BYTES)
            .map_err(|refusal| refusal.error)?;
        assert_eq!((stamped.id.as_str(), task.unknown.len()), ("x", 0), "{:?}", task.unknown);
        assert!(task.callback_url.is_some() && task.then.is_some_and(|then| then.get().contains(r#""body":{"m":2}"#)));
        assert_eq!(task.body.as_deref(), Some(&br#"{"n":1}"#[..]));
        assert_eq!((task.retry.max_attempts, task.retry.cap, task.retry.on), (3, second * 2, vec![418]));
        assert_eq!((task.headers["c"].to_str()?, task.timeout, task.delay), ("d", second, Some(second)));
        Ok(())
    }

    #[test]
    fn what_is_wrong_with_a_call_is_said() {
        let wrong = |call: Call| call.into_task().map_or_else(|error| error.to_string(), |task| task.json);
        assert!(wrong(Call::get("/v1")).contains("`url`"));
        assert!(wrong(Call::get("http://h/").then(Call::get("/v1"))).contains("`then`: `url`"));
        assert!(wrong(Call::post("http://h/").text("a").json("b")).contains("body"));
        assert!(wrong(Call::post("http://h/").json(&std::collections::HashMap::from([((1, 2), 3)]))).contains("JSON"));
    }
}
