//! The `redial` command line, as users type it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use redial_tests::{Cli, RedisServer, Reply, TestQueue, Upstream, Worker, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn enqueue_wait_prints_the_result() {
    let (redis, upstream) = (RedisServer::start().await, Upstream::unruly().await);
    let _worker = Worker::spawn(&redis);
    let cli = Cli::new(&redis);
    let url = upstream.url("/echo");
    let typed = ["enqueue", "--id", "a2", "--url", &url, "-H", "X-Kind: a: b", "--body", r#"{"n": 9007199254740993}"#];
    let output = cli.run(&typed).await;
    assert_eq!((output.status, output.stdout.as_str()), (0, "a2\n"), "{}", output.stderr);
    TestQueue::new(&redis, "default").wait_result("a2", SOON).await;

    let result = cli.run(&["result", "a2"]).await;
    let result: Value = serde_json::from_str(&result.stdout).unwrap();
    assert_eq!(result["body"]["method"], "POST");
    assert_eq!(result["body"]["headers"]["x-kind"], "a: b");
    assert!(result["enqueued_at_ms"].is_u64());
    assert_eq!(upstream.calls()[0].body, r#"{"n": 9007199254740993}"#);
}

#[tokio::test]
async fn every_enqueue_option_sets_the_task_field_of_the_same_name() {
    let redis = RedisServer::start().await;
    let typed = "enqueue --url http://h/ -X put --body-text hi --id a --idempotency-key k --cache-ttl-ms 5 --max-attempts 2 \
                 --delay-ms 7 --once --callback-url http://me/ --timeout-ms 11 --connect-timeout-ms 12 --ttl-ms 13 --cache-key c \
                 --cache-scope public --stream --on-break restart --reply-to answers:l --result-ttl-ms 14 --tenant acme --limit mine";
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let more = [
        ["--then", r#"{"url":"http://h/{{$.id}}"}"#],
        ["--limit", r#"{"name":"own","rate":1e2}"#],
        ["--meta", r#"{"n":1.10}"#],
        ["--traceparent", traceparent],
    ];
    let typed: Vec<&str> = typed.split_whitespace().chain(more.into_iter().flatten()).collect();
    let output = Cli::new(&redis).run(&typed).await;
    assert_eq!(output.status, 0, "{}", output.stderr);
    let pushed = redis.cli(&["LPOP", "redial:{default}"]).await;
    assert!(pushed.contains(r#""meta":{"n":1.10}"#) && pushed.contains(r#""rate":1e2"#), "as it was typed: {pushed}");
    let mut task: Value = serde_json::from_str(&pushed).unwrap();
    assert!(task.as_object_mut().unwrap().remove("enqueued_at_ms").is_some());
    let expected = json!({
        "url": "http://h/", "method": "put", "body_text": "hi", "id": "a", "idempotency_key": "k", "cache_ttl_ms": 5,
        "retry": {"max_attempts": 2}, "delay_ms": 7, "effect": "once", "callback_url": "http://me/",
        "then": {"url": "http://h/{{$.id}}"}, "timeout_ms": 11, "connect_timeout_ms": 12, "ttl_ms": 13, "cache_key": "c",
        "cache_scope": "public", "stream": true, "on_break": "restart", "reply_to": "answers:l", "result_ttl_ms": 14, "traceparent": traceparent, "meta": {"n": 1.10},
        "limit": ["mine", {"name": "own", "rate": 100.0}], "tenant": "acme",
    });
    assert_eq!(task, expected);

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{}\n").unwrap();
    let (name, upload) =
        (file.path().file_name().unwrap().to_str().unwrap(), format!("file=@{}", file.path().display()));
    let more = ["--ok-when", "$.data", "--retry-when", r#"{"status":[404]}"#, "--redirects", "3"];
    let fields =
        json!({"url": "http://h/", "ok_when": {"path": "$.data"}, "retry_when": {"status": [404]}, "redirects": 3});
    for (body, field, value) in [
        (["--form", "a=1&2", "--form", "b="], "form", json!({"a": "1&2", "b": ""})),
        (
            ["-F", "purpose=batch", "-F", upload.as_str()],
            "parts",
            json!([{"name": "purpose", "text": "batch"}, {"name": "file", "filename": name, "base64": "e30K"}]),
        ),
    ] {
        let typed = [&["enqueue", "--url", "http://h/"][..], &more, &body].concat();
        let output = Cli::new(&redis).run(&typed).await;
        assert_eq!(output.status, 0, "{}", output.stderr);
        let mut task: Value = serde_json::from_str(&redis.cli(&["LPOP", "redial:{default}"]).await).unwrap();
        for own in ["enqueued_at_ms", "id"] {
            assert!(task.as_object_mut().unwrap().remove(own).is_some());
        }
        let mut expected = fields.clone();
        expected[field] = value;
        assert_eq!(task, expected);
    }
    for (option, typed, says) in [
        ("--form", "a", "use NAME=VALUE"),
        ("--part", "a", "use NAME=VALUE or NAME=@FILE"),
        ("--part", "a=@/no/such", "/no/such"),
        ("--ok-when", "data", "--ok-when"),
        ("--redirects", "21", "`redirects` is 21"),
    ] {
        let output = Cli::new(&redis).run(&["enqueue", "--url", "http://h/", option, typed]).await;
        assert!(output.status == 1 && output.stderr.contains(says), "{option} {typed}: {}", output.stderr);
    }
}

#[tokio::test]
async fn a_missing_result_has_its_own_exit_code() {
    let redis = RedisServer::start().await;
    let output = Cli::new(&redis).run(&["result", "nobody"]).await;
    assert_eq!((output.status, output.stdout.as_str()), (3, ""));
    assert!(output.stderr.contains("nobody: no result in queue default"), "{}", output.stderr);
}

#[tokio::test]
async fn a_task_file_is_pushed_up_to_its_first_invalid_line() {
    let redis = RedisServer::start().await;
    let (cli, queue) = (Cli::new(&redis), TestQueue::new(&redis, "bulk"));
    let lines = "{\"id\":\"x\",\"url\":\"http://h/\"}\n\n{\"url\":\"http://h/\"}\n";
    let output = cli.run_with_input(&["-q", "bulk", "--json", "enqueue", "-"], lines).await;
    let ids: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((output.status, ids.len(), &ids[0]["id"]), (0, 2, &json!("x")), "{}", output.stderr);
    assert_eq!(queue.waiting().await, 2);

    let output = cli.run_with_input(&["-q", "bulk", "enqueue", "-"], format!("{lines}{{\"url\":5}}\n{lines}")).await;
    assert_eq!(output.status, 1);
    assert!(output.stderr.contains("line 4: `url`: invalid type"), "{}", output.stderr);
    assert!(output.stderr.contains("2 tasks before it were pushed"), "{}", output.stderr);
    assert_eq!(queue.waiting().await, 4);
}

#[tokio::test]
async fn an_invalid_task_or_redis_url_is_an_error_that_suggests_a_fix() {
    let redis = RedisServer::start().await;
    for (typed, status, expected) in [
        (&["enqueue", "{}"][..], 1, "missing field `url`"),
        (&["enqueue", "--url", "/v1"], 1, "use an absolute URL"),
        (&["enqueue", "--url", "http://h/", "--body", "x"], 1, "--body-text"),
        (&["enqueue"], 2, "TASK"),
        (&["enqueue", "-"], 1, "contains no task"),
        (&["dead", "replay"], 2, "<ID>..."),
        (&["-q", "a}b", "dead", "list"], 1, "not a valid queue name"),
        (&["--redis-url", "localhost", "dead", "list"], 1, "use redis://host:6379"),
        (&["--redis-url", "redis://:geheim@127.0.0.1:1", "dead", "list"], 1, "no connection to Redis at 127.0.0.1:1"),
    ] {
        let output = Cli::new(&redis).run(typed).await;
        assert_eq!(output.status, status, "{typed:?}: {}", output.stderr);
        assert!(output.stderr.contains(expected), "{typed:?}: {}", output.stderr);
        assert!(!output.stderr.contains("geheim"), "{}", output.stderr);
    }
}

#[tokio::test]
async fn dead_letters_can_be_listed_replayed_and_dropped() {
    let redis = RedisServer::start().await;
    let healed = Arc::new(AtomicBool::new(false));
    let upstream = {
        let healed = healed.clone();
        Upstream::start(move |_| {
            let status = if healed.load(SeqCst) { 200 } else { 422 };
            Reply::status(status)
        })
        .await
    };
    let _worker = Worker::spawn(&redis);
    let (cli, queue) = (Cli::new(&redis), TestQueue::new(&redis, "default"));
    let task = |id: &str| {
        let headers = json!({"Authorization": "Bearer geheim"});
        json!({"id": id, "url": upstream.url("/v1"), "headers": headers}).to_string()
    };
    queue.push_all(["a", "b", "c", "d"].map(task)).await;
    queue.push("junk").await;
    eventually(SOON, || async { (queue.dead().await.len() == 5).then_some(()) }).await;

    let listed = cli.run(&["dead", "list"]).await.stdout;
    assert_eq!(listed.lines().filter(|line| line.contains("rejected") && line.contains("status 422")).count(), 4);
    let listed = cli.run(&["--json", "dead", "list", "--reason", "invalid_task"]).await.stdout;
    let junk: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&junk["task"], &junk["bytes"], &junk["id"]), (&Value::Null, &json!(4), &Value::Null));
    let listed = cli.run(&["--json", "dead", "list"]).await.stdout;
    assert!(listed.contains("[redacted]") && !listed.contains("geheim"), "{listed}");

    healed.store(true, SeqCst);
    let output = cli.run(&["dead", "replay", "a", "nobody"]).await;
    assert_eq!((output.status, output.stdout.as_str()), (3, "1 dead letter of queue default put back on the queue\n"));
    assert!(output.stderr.contains("nobody: no dead letter"), "{}", output.stderr);
    assert_eq!(queue.wait_result("a", SOON).await["status"], "ok");

    let serial = junk["serial"].as_str().unwrap();
    assert_eq!(cli.run(&["dead", "drop", "b", serial]).await.status, 0);
    assert_eq!(queue.dead().await.len(), 2);
    assert_eq!(cli.run(&["dead", "replay", "--all"]).await.status, 0);
    for id in ["c", "d"] {
        eventually(SOON, || async { queue.result(id).await.filter(|result| result["status"] == "ok") }).await;
    }
    assert_eq!(queue.result("b").await.unwrap()["status"], "dead");
    let empty = cli.run(&["dead", "list"]).await;
    assert_eq!((empty.status, empty.stdout.as_str()), (0, ""));
    assert!(empty.stderr.contains("no dead letters in queue default"), "{}", empty.stderr);
}

#[tokio::test]
async fn a_cached_answer_can_be_shown_and_dropped() {
    let (redis, upstream) = (RedisServer::start().await, Upstream::unruly().await);
    let _worker = Worker::spawn(&redis);
    let (cli, queue) = (Cli::new(&redis), TestQueue::new(&redis, "default"));
    let task = json!({"id": "a", "url": upstream.url("/echo"), "body": {"n": 1}, "cache_ttl_ms": 60_000}).to_string();
    // The same call, spelled differently, as a user might enter it later.
    let same = json!({"url": upstream.url("/echo"), "body": {"n": 1.0}}).to_string();
    let output = cli.run(&["cache", "get", &same]).await;
    assert_eq!(output.status, 3);
    assert!(output.stderr.contains("never made"), "{}", output.stderr);
    queue.push(&task).await;
    queue.wait_result("a", SOON).await;

    let output = cli.run(&["cache", "get", &same]).await;
    let kept: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((output.status, &kept["status"], &kept["id"]), (0, &json!("ok"), &Value::Null));
    assert!(output.stderr.contains("kept until"), "{}", output.stderr);
    let memo: Value = serde_json::from_str(&cli.run(&["--json", "cache", "get", &same]).await.stdout).unwrap();
    assert_eq!((&memo["answer"]["body"]["method"], &memo["in_flight"]), (&json!("POST"), &json!(false)));

    let hash = memo["hash"].as_str().unwrap();
    assert_eq!(cli.run(&["cache", "drop", "--hash", hash]).await.status, 0);
    assert_eq!(cli.run(&["cache", "drop", &same]).await.status, 3);
    assert_eq!(cli.run(&["cache", "get", "{}"]).await.status, 1);
    queue.push(task.replace("\"a\"", "\"b\"")).await;
    assert_eq!(queue.wait_result("b", SOON).await["source"], "call");
}

#[tokio::test]
async fn a_replay_clears_the_failure_stored_under_its_key_unless_the_upstream_may_have_acted() {
    let redis = RedisServer::start().await;
    let upstream = Upstream::start(|request| Reply::status(if request.nth == 0 { 422 } else { 200 })).await;
    let _worker = Worker::spawn(&redis);
    let (cli, queue) = (Cli::new(&redis), TestQueue::new(&redis, "default"));
    let task = json!({"id": "a", "url": upstream.url("/"), "body": {}, "idempotency_key": "order-17"}).to_string();
    queue.push(&task).await;
    assert_eq!(queue.wait_result("a", SOON).await["reason"], "rejected");
    let output = cli.run(&["cache", "get", "--idempotency", &task]).await;
    assert!(output.status == 0 && output.stdout.contains("rejected"), "{}{}", output.stdout, output.stderr);

    // As if it had died two days ago.
    let letter = redis.cli(&["ZRANGE", "redial:{default}:dead", "0", "0"]).await;
    let long_ago = redial_core::UnixMs::local_now().0 - 48 * 3_600_000;
    redis.cli(&["ZADD", "redial:{default}:dead", &long_ago.to_string(), letter.trim_end_matches('\n')]).await;
    let output = cli.run(&["dead", "replay", "a"]).await;
    assert_eq!((output.status, queue.dead().await.len()), (1, 1));
    assert!(output.stderr.contains("--forgotten-keys"), "{}", output.stderr);
    assert_eq!(cli.run(&["dead", "replay", "--forgotten-keys", "a"]).await.status, 0);
    let answered = || async { queue.result("a").await.filter(|result| result["status"] == "ok") };
    assert_eq!(eventually(SOON, answered).await["source"], "call");
    assert_eq!(upstream.count(), 2);
}
