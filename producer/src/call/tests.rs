use redial_core::Task;
use redial_core::protocol::task::MAX_BYTES;
use serde_json::json;

use super::*;
use crate::IntoTask as _;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_field_of_a_call_is_one_of_the_protocol() -> Result<(), Box<dyn std::error::Error>> {
    let call = Call::post("http://h/")
        .json(&json!({"n": 1}))
        .header("A", "b")
        .header("C", "d")
        .id("x")
        .idempotency_key("k")
        .once()
        .cache_ttl(SECOND)
        .cache_key("c")
        .cache_scope(CacheScope::Public)
        .timeout(SECOND)
        .connect_timeout(SECOND)
        .max_attempts(3)
        .backoff(SECOND, SECOND * 2)
        .jitter(Jitter::Full)
        .retry_on([418])
        .ok_when_path("$.data")
        .ok_when_status([200, 404])
        .retry_when_path("$.error")
        .retry_when_status([200])
        .redirects(3)
        .ttl(SECOND * 10)
        .expires_at(UnixMs(9))
        .delay(SECOND)
        .run_at(UnixMs(7))
        .limit("a")
        .limit(Limit::named("b").rate(5.0, SECOND * 2).burst(3.0).concurrency(4).cost(2.0).usage([("usage.n", 1.5)]))
        .stream()
        .on_break(OnBreak::Restart)
        .reply_to("list")
        .result_ttl(SECOND)
        .traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .callback_url("https://me/hook")
        .then(Call::post("http://h/{{$.body.id}}").json(&json!({"m": 2})).then(Call::get("http://h/")))
        .enqueued_at(UnixMs(5))
        .meta(&[1, 2]);
    let prepared = call.into_task()?;
    let task = Task::parse(prepared.json.as_bytes(), MAX_BYTES)?;
    assert_eq!((prepared.id.as_str(), task.unknown.len()), ("x", 0), "{:?}", task.unknown);
    assert!(task.callback_url.is_some() && task.then.is_some_and(|then| then.get().contains(r#""body":{"m":2}"#)));
    assert_eq!(task.body.as_deref(), Some(&br#"{"n":1}"#[..]));
    assert_eq!((task.retry.max_attempts, task.retry.cap, task.retry.on), (3, SECOND * 2, vec![418]));
    assert_eq!((task.retry.jitter, task.cache_scope, task.effect), (Jitter::Full, CacheScope::Public, Effect::Once));
    let (Some(ok), Some(retry)) = (&task.ok_when, &task.retry_when) else { return Err("two conditions".into()) };
    assert_eq!((ok.path(), ok.has_status(404), retry.path()), (Some("$.data"), true, Some("$.error")));
    assert_eq!((retry.has_status(201), task.redirects), (false, 3));
    assert_eq!((task.stream, task.on_break), (true, OnBreak::Restart));
    assert_eq!((task.headers["c"].to_str()?, task.timeout, task.delay), ("d", SECOND, Some(SECOND)));
    assert_eq!((task.connect_timeout, task.cache_ttl, task.result_ttl), (SECOND, Some(SECOND), SECOND));
    assert_eq!((task.expires_at, task.run_at, task.enqueued_at), (Some(UnixMs(9)), Some(UnixMs(7)), Some(UnixMs(5))));
    let [a, b] = &task.limits[..] else { return Err("two limits".into()) };
    assert_eq!((a, b.rate, b.per_ms, b.burst), (&Limit::named("a"), Some(5.0), Some(2_000), Some(3.0)));
    assert_eq!((b.concurrency, b.cost, &b.usage), (Some(4), Some(2.0), &Some([("usage.n", 1.5)].into())));
    Ok(())
}

#[test]
fn a_body_may_be_json_text_or_bytes() -> Result<(), Box<dyn std::error::Error>> {
    for (call, body, content_type) in [
        (Call::post("http://h/").json("é"), "\"é\"".as_bytes(), "application/json"),
        (Call::post("http://h/").text("é"), "é".as_bytes(), "text/plain; charset=utf-8"),
        (Call::post("http://h/").bytes([0xff, 0]), &[0xff, 0], "application/octet-stream"),
        (Call::post("http://h/").form(&json!({"a": [1, "é"]})), b"a=1&a=%C3%A9", "application/x-www-form-urlencoded"),
    ] {
        let task = Task::parse(call.into_task()?.json.as_bytes(), MAX_BYTES)?;
        assert_eq!((task.body.as_deref(), &task.headers["content-type"]), (Some(body), &content_type.try_into()?));
    }
    Ok(())
}

#[test]
fn parts_are_an_upload() -> Result<(), Box<dyn std::error::Error>> {
    let call = Call::post("http://h/")
        .part(Part::text("a", "é"))
        .part(Part::bytes("b", [0xff]).filename("f.bin").content_type("image/png"));
    let task = Task::parse(call.into_task()?.json.as_bytes(), MAX_BYTES)?;
    assert!(task.headers["content-type"].to_str()?.starts_with("multipart/form-data; boundary="));
    let body = String::from_utf8_lossy(task.body.as_deref().unwrap_or_default()).into_owned();
    assert!(body.contains("filename=\"f.bin\"\r\nContent-Type: image/png\r\n\r\n\u{fffd}\r\n"), "{body}");
    Ok(())
}

#[test]
fn an_invalid_call_is_refused_with_its_cause() {
    let refused = |call: Call| call.into_task().map_or_else(|error| error.to_string(), |task| task.json);
    assert!(refused(Call::get("/v1")).contains("`url`"));
    assert!(refused(Call::get("http://h/").then(Call::get("/v1"))).contains("`then`: `url`"));
    assert!(refused(Call::post("http://h/").text("a").json("b")).contains("body"));
    let unserializable = std::collections::HashMap::from([((1, 2), 3)]);
    let error = Call::post("http://h/").json(&unserializable).into_task();
    assert!(matches!(error, Err(Error::Serialize { field: "body", .. })), "{error:?}");
    let error = Call::get("http://h/").then(Call::get("http://h/").meta(&unserializable)).into_task();
    assert!(matches!(error, Err(Error::Serialize { field: "meta", .. })), "{error:?}");
}
