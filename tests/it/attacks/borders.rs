//! What the tenant `b` tries with the things of the tenant `a`: each line is a task of `b` or a request with its token, and what has to
//! come of it.

use redial_tests::{Cli, GatewayProcess, RedisServer, Reply, TestQueue, Upstream, Worker};
use serde_json::{Value, json};

use super::{SOON, is_well};
use crate::gateway::token_block;

/// What `b` pushes to a queue, besides the URL of the upstream; and the reason of its dead letter, or "own" for an answer of its own.
const TASKS: &[(&str, &str, &str, &str)] = &[
    ("a's tenant on b's queue", "b", r#"{"tenant":"a"}"#, "invalid_task"),
    ("a's tenant on a shared queue", "default", r#"{"tenant":"a"}"#, "invalid_task"),
    ("a's tenant in other letters", "b", r#"{"tenant":"A"}"#, "invalid_task"),
    ("a's tenant with a space", "b", r#"{"tenant":"a "}"#, "invalid_task"),
    ("a's tenant in a chain", "b", r#"{"then":{"url":"URL","tenant":"a"}}"#, "invalid_task"),
    ("a's call from the cache", "b", r#"{"cache_ttl_ms":60000}"#, "own"),
    ("the same with a's key", "b", r#"{"cache_ttl_ms":60000,"cache_key":"of a"}"#, "own"),
    ("the same for everyone", "b", r#"{"cache_ttl_ms":60000,"cache_key":"of a","cache_scope":"public"}"#, "own"),
    (
        "the same from a shared queue",
        "default",
        r#"{"cache_ttl_ms":60000,"cache_key":"of a","cache_scope":"public"}"#,
        "own",
    ),
    ("a's idempotency key", "b", r#"{"idempotency_key":"of a"}"#, "own"),
    ("a's idempotency key at the upstream", "b", r#"{"idempotency_key":"a.of a"}"#, "own"),
    ("a's limit by name", "b", r#"{"limit":"of a"}"#, "invalid_task"),
    ("a's limit, with a definition", "b", r#"{"limit":{"name":"of a","rate":1e6,"burst":1e6}}"#, "invalid_task"),
    ("a's limit for a price of its own", "b", r#"{"limit":[{"name":"of a","cost":1000}]}"#, "invalid_task"),
    ("a's limit in a chain", "b", r#"{"then":{"url":"URL","limit":"of a"},"limit":"of a"}"#, "invalid_task"),
    ("a reply on a's queue", "b", r#"{"reply_to":"redial:{a}"}"#, "invalid_task"),
    ("a reply on a's result", "b", r#"{"reply_to":"redial:{a}:result:a.1"}"#, "invalid_task"),
    ("a reply on a's dead letters", "b", r#"{"reply_to":"redial:{a}:dead"}"#, "invalid_task"),
    ("a reply on a's stream", "b", r#"{"reply_to":"redial:{a}:stream:a.1"}"#, "invalid_task"),
    ("a reply on a list of another system", "b", r#"{"reply_to":"celery"}"#, "invalid_task"),
    ("the delivery of a's result", "b", r#"{"callback_of":"a.1"}"#, "invalid_task"),
    (
        "the delivery of a's result, as one of Redial's",
        "b",
        r#"{"id":"a.1.callback","callback_of":"a.1"}"#,
        "invalid_task",
    ),
    ("the same in a chain", "b", r#"{"then":{"url":"URL","callback_of":"a.1"}}"#, "invalid_task"),
    ("a's id on b's queue", "b", r#"{"id":"a.1"}"#, "own"),
    ("a's stream by a's id", "b", r#"{"id":"a.1","stream":true}"#, "own"),
];

/// Requests with the token of `b`, and their status.
const REQUESTS: &[(&str, &str, &str, &str, u16)] = &[
    ("a's result", "GET", "/v1/tasks/a.1?queue=a", "", 403),
    ("a's result on b's queue", "GET", "/v1/tasks/a.1?queue=b", "", 404),
    ("a's result by default", "GET", "/v1/tasks/a.1", "", 404),
    ("a's stream", "GET", "/v1/tasks/a.1/stream", "", 404),
    ("a's events", "GET", "/v1/tasks/a.1/events", "", 404),
    ("the events of a's queue", "GET", "/v1/queues/a/events", "", 403),
    ("cancelling a's task", "DELETE", "/v1/tasks/a.2", "", 404),
    ("cancelling it on a's queue", "DELETE", "/v1/tasks/a.2?queue=a", "", 403),
    ("pushing to a's queue", "POST", "/v1/tasks?queue=a", r#"{"url":"URL"}"#, 403),
    ("pushing as a", "POST", "/v1/tasks", r#"{"url":"URL","tenant":"a"}"#, 403),
    ("a's id", "POST", "/v1/tasks", r#"{"id":"a.1","url":"URL"}"#, 403),
    ("a's limit", "POST", "/v1/tasks", r#"{"url":"URL","limit":"of a"}"#, 202),
    ("a's reply list", "POST", "/v1/tasks", r#"{"url":"URL","reply_to":"answers:a"}"#, 403),
    ("a callback", "POST", "/v1/tasks", r#"{"url":"URL","callback_url":"http://evil.example/"}"#, 403),
];

const SETTINGS: &str = r#"
[[tenant]]
name = "a"
queues = ["a"]
[[tenant]]
name = "b"
queues = ["b"]
[[limit]]
name = "of a"
rate = 1000
burst = 1000
per_ms = 86400000
tasks = false
"#;

/// The things of `a`: a finished task with a result, a stream and memos under known names, and one that is not due yet.
async fn things_of_a(redis: &RedisServer, url: &str) {
    let queue = TestQueue::new(redis, "a");
    for (id, more) in [
        ("a.1", json!({"stream": true, "reply_to": "answers:a"})),
        ("a.cached", json!({"cache_ttl_ms": 60_000})),
        ("a.named", json!({"cache_ttl_ms": 60_000, "cache_key": "of a"})),
        ("a.public", json!({"cache_ttl_ms": 60_000, "cache_key": "of a", "cache_scope": "public"})),
        ("a.keyed", json!({"idempotency_key": "of a"})),
    ] {
        let mut task = json!({"id": id, "url": url, "body": {"for": "a"}, "meta": id});
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        queue.push(task.to_string()).await;
        assert_eq!(queue.wait_result(id, SOON).await["status"], "ok");
    }
    queue.push(json!({"id": "a.2", "url": url, "delay_ms": 3_600_000}).to_string()).await;
}

/// All that belongs to `a` in Redis, but for the clock of its limit.
async fn held_by_a(redis: &RedisServer) -> String {
    let mut held = redis.cli(&["GET", "redial:{a}:result:a.1"]).await;
    held += &redis.cli(&["XRANGE", "redial:{a}:stream:a.1", "-", "+"]).await;
    held += &redis.cli(&["LRANGE", "answers:a", "0", "-1"]).await;
    held += &redis.cli(&["HVALS", "redial:{a}:stored"]).await;
    let limits = Cli::new(redis).run(&["--json", "limits", "show", "of a"]).await.stdout;
    let limit: Value = serde_json::from_str(&limits).unwrap();
    // It refills as time passes.
    held + &format!("{} {}", limit["burst"], limit["left"].as_f64().unwrap().round())
}

#[tokio::test]
async fn no_tenant_reaches_the_things_of_another() {
    let redis = RedisServer::start().await;
    let upstream = Upstream::on_all_addresses(|request| Reply::ok().json(&json!({"nth": request.nth}))).await;
    let url = format!("http://127.77.77.77:{}/", upstream.address().port());
    let file = tempfile::NamedTempFile::new().unwrap();
    let limited = url.replace("127.77.77.77", "127.66.66.66");
    let block = format!("[[upstream]]\nurl = \"{limited}\"\nlimits = [\"of a\"]\n");
    std::fs::write(file.path(), SETTINGS.to_owned() + &block).unwrap();
    let worker = Worker::builder(&redis)
        .env("REDIAL_ALLOW_PRIVATE", "127.0.0.0/8")
        .env("REDIAL_QUEUES", "a=1,b=1,default=1")
        .arg("--config")
        .arg(file.path().to_str().unwrap())
        .spawn();
    things_of_a(&redis, &url).await;
    let a = TestQueue::new(&redis, "a");
    a.push(json!({"id": "a.limited", "url": limited}).to_string()).await;
    assert_eq!(a.wait_result("a.limited", SOON).await["status"], "ok");
    let before = held_by_a(&redis).await;
    let mut wrong = Vec::new();
    for (n, (name, queue, fields, expected)) in TASKS.iter().enumerate() {
        let mut task: Value = serde_json::from_str(&fields.replace("URL", &url)).unwrap();
        let id = task["id"].as_str().map_or_else(|| format!("b.{n}"), str::to_owned);
        task["id"] = json!(id);
        task["url"] = json!(url);
        task["body"] = task.get("body").cloned().unwrap_or(json!({"for": "a"}));
        let (calls, queue) = (upstream.count(), TestQueue::new(&redis, queue));
        redis.cli(&["DEL", &queue.result_key(&id)]).await;
        if task.get("callback_of").is_some() {
            task.as_object_mut().unwrap().remove("body");
        }
        queue.push(task.to_string()).await;
        let result = queue.wait_result(&id, SOON).await;
        let came = match (&result["reason"], &result["source"]) {
            (Value::String(reason), _) => reason.as_str(),
            (_, Value::String(source)) if source == "call" && upstream.count() == calls + 1 => "own",
            _ => "another's",
        };
        if came != *expected || result["meta"].as_str().is_some_and(|meta| meta.starts_with("a.")) {
            wrong.push(format!("{name}: {came} instead of {expected}: {result}"));
        }
    }
    let tokens =
        token_block("a", "tenant = \"a\"\nqueues = [\"a\"]") + &token_block("b", "tenant = \"b\"\nqueues = [\"b\"]");
    let gateway = GatewayProcess::start(&redis, &(SETTINGS.to_owned() + &tokens)).await;
    for (name, method, path, body, expected) in REQUESTS {
        let body = body.replace("URL", &url);
        let answer = gateway.send(method, path, &[("authorization", "Bearer token-of-b")], body.as_bytes()).await;
        if answer.status != *expected || answer.text().contains("nth") {
            wrong.push(format!("{name}: {} instead of {expected}: {}", answer.status, answer.text()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(held_by_a(&redis).await, before, "what a has");
    is_well(&worker, &redis, &url).await;
}
