//! What the `redial` program and the log of a worker show of texts that others chose: escaped, on its line, and without credentials.

use std::time::Duration;

use redial_tests::cli::CommandOutput;
use redial_tests::{Cli, RedisServer, Reply, TestQueue, Upstream, Worker, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

/// What clears the screen, sets the title, adds a line, and reverses what follows; as C0, C1 and bidirectional controls.
const HOSTILE: &str = "x\u{1b}[2J\u{9b}2J\r\nredial: forged\u{7f}\u{202e}\u{2066}\u{2028}\u{85}y";

fn is_hostile(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn assert_harmless(output: &CommandOutput, args: &[&str]) {
    for text in [&output.stdout, &output.stderr] {
        assert!(!text.contains(is_hostile), "{args:?}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("redial: forged")), "{args:?}: {text:?}");
    }
}

#[tokio::test]
async fn no_command_prints_a_control_character_that_others_chose() {
    let redis = RedisServer::start().await;
    let (cli, queue) = (Cli::new(&redis), TestQueue::new(&redis, "default"));
    let worker = Worker::spawn(&redis);
    queue.push(r#"{"id":"dead","url":5}"#).await;
    eventually(SOON, || async { (queue.dead().await.len() == 1).then_some(()) }).await;
    drop(worker);
    // Whoever may write to Redis may write anything there.
    let mut letter = queue.dead().await.remove(0);
    for field in ["error", "reason"] {
        if letter.header["result"].is_object() {
            letter.header["result"]["error"] = json!(HOSTILE);
        }
        if letter.header[field].is_string() && field == "error" {
            letter.header[field] = json!(HOSTILE);
        }
    }
    let raw = json!({"id": HOSTILE, "url": format!("http://h/{HOSTILE}"), HOSTILE: 1}).to_string();
    redis.cli(&["ZADD", "redial:{default}:dead", "1", &format!("{}\n{raw}", letter.header)]).await;
    let attempt = json!({"at_ms": 1, "took_ms": 1, "error": HOSTILE});
    let result = json!({"id": "a", "status": "dead", "reason": "rejected", "error": HOSTILE, "attempts": [attempt], "source": "call",
        "finished_at_ms": 1, "headers": {"x-echo": HOSTILE}, "body": {"text": HOSTILE}});
    redis.cli(&["SET", "redial:{default}:result:a", &result.to_string()]).await;
    queue.push(&raw).await;
    queue.push(format!("not JSON {HOSTILE}")).await;
    let limit = json!({"id": "b", "url": "http://h/", "limit": {"name": HOSTILE, "rate": 1}}).to_string();
    cli.run(&["limits", "set", HOSTILE, "--rate", "5"]).await;
    let mut stdout = String::new();
    for args in [
        &["dead", "list"][..],
        &["dead", "show", "dead"],
        &["dead", "show", HOSTILE],
        &["dead", "replay", HOSTILE],
        &["result", "a"],
        &["status", "a"],
        &["wait", "a"],
        &["list", "waiting"],
        &["limits"],
        &["limits", "show", HOSTILE],
        &["limits", "unset", "none\u{1b}[2J"],
        &["schedule", "remove", HOSTILE],
        &["schedule", "list"],
        &["breakers"],
        &["queues"],
        &["workers"],
        &["enqueue", &limit, "--field", "x"],
        &["enqueue", &raw],
        &["-q", HOSTILE, "queues"],
        &["--redis-url", HOSTILE, "queues"],
        &["batch", HOSTILE, "-o", "/tmp/none"],
    ] {
        for format in [&[][..], &["--json"]] {
            let args = [format, args].concat();
            let output = cli.run(&args).await;
            assert_harmless(&output, &args);
            stdout += &output.stdout;
        }
    }
    // It was shown, and not left out; in JSON as JSON escapes it.
    for shown in ["\\u{1b}[2J\\u{9b}2J", "\\u001b[2J\\u009b2J", "\\u202e", "\\u{202e}"] {
        assert!(stdout.contains(shown), "{shown}: {stdout}");
    }
    let shown: Value = serde_json::from_str(&cli.run(&["result", "a"]).await.stdout).unwrap();
    assert_eq!(shown["error"], HOSTILE, "JSON means the same as before");
}

/// A task with a secret in each place where one can stand, but not in its body.
fn secretive(id: &str, url: &str, secret: &str) -> Value {
    let inner = json!({"url": format!("{url}?sig={secret}"), "headers": {"X-Auth-Key": secret}});
    json!({
        "id": id,
        "url": url.replacen("://", &format!("://user:{secret}@"), 1) + &format!("?q=1&api_key={secret}&code={secret}"),
        "headers": {"Authorization": format!("Bearer {secret}"), "X-Tenant-Secret": secret, "Ocp-Apim-Subscription-Key": secret,
            "X-User-Id": secret, "Cookie": format!("session={secret}"), "Accept": "text/plain"},
        "callback_url": url.replacen("://", &format!("://hook:{secret}@"), 1),
        "then": inner,
    })
}

#[tokio::test]
async fn secrets_of_tasks_are_redacted_wherever_a_command_or_a_log_shows_them() {
    const SECRET: &str = "canary-0123456789";
    let redis = RedisServer::start().await;
    let upstream = Upstream::start(|_| Reply::status(422).body("no")).await;
    let (cli, queue) = (Cli::new(&redis), TestQueue::new(&redis, "default"));
    let good = secretive("a", &upstream.url("/v1"), SECRET);
    let (mut wrong, mut mistyped, mut retried) = (good.clone(), good.clone(), good.clone());
    wrong["id"] = json!("wrong");
    wrong["timeout_ms"] = json!("soon");
    mistyped["id"] = json!("mistyped");
    mistyped["headers"] = json!(format!("Authorization: Bearer {SECRET}"));
    retried["id"] = json!("named");
    retried["headers"] = json!({format!("Authorization: {SECRET}"): "x"});
    let junk = format!("{{\"url\":\"http://u:{SECRET}@h/\",");
    for task in [good.to_string(), wrong.to_string(), mistyped.to_string(), retried.to_string(), junk.clone()] {
        queue.push(task).await;
    }
    let mut shown = cli.run(&["list", "waiting"]).await.stdout + &cli.run(&["--json", "list", "waiting"]).await.stdout;
    assert!(shown.contains("[redacted]"));
    let mut nightly = good.clone();
    nightly.as_object_mut().unwrap().remove("id");
    let added = cli.run(&["schedule", "add", "nightly", "@daily", &nightly.to_string()]).await;
    assert_eq!(added.status, 0, "{}", added.stderr);
    let worker = Worker::builder(&redis).env("RUST_LOG", "trace").spawn();
    eventually(SOON, || async { (queue.dead().await.len() >= 5).then_some(()) }).await;
    for args in [
        &["dead", "list"][..],
        &["--json", "dead", "list"],
        &["dead", "show", "a", "wrong", "mistyped", "named"],
        &["schedule", "list"],
        &["--json", "schedule", "list"],
        &["result", "a", "wrong", "mistyped", "named"],
        &["status", "a", "wrong"],
        &["--json", "queues"],
        &["breakers"],
    ] {
        let output = cli.run(args).await;
        shown += &(output.stdout + &output.stderr);
    }
    let folder = tempfile::tempdir().unwrap();
    let (lines, out) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
    std::fs::write(&lines, format!("{mistyped}\n{junk}\n")).unwrap();
    let batch = cli.run(&["batch", lines.to_str().unwrap(), "-o", out.to_str().unwrap()]).await;
    let errors = std::fs::read_to_string(folder.path().join("out.jsonl.errors")).unwrap();
    assert!(errors.lines().count() == 2 && errors.contains("invalid type: string, expected a map"), "{errors}");
    shown += &(batch.stdout + &batch.stderr + &errors);
    let serial = queue.dead().await.iter().map(|letter| letter.header.to_string()).collect::<String>();
    assert!(!serial.contains(SECRET), "what Redial itself writes about a dead task has no secret: {serial}");
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(shown.contains("text/plain"), "a harmless header is shown");
    worker.term();
    worker.wait_exit(SOON).await;
    for line in worker.log().lines() {
        assert!(!line.contains(SECRET), "{line}");
    }
    // A task that is no JSON object is shown to whoever asks for its bytes.
    let listed = cli.run(&["--json", "dead", "list", "--reason", "invalid_task"]).await.stdout;
    let letters: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let unreadable = letters.iter().find(|letter| letter["task"].is_null()).unwrap();
    let serial = unreadable["serial"].as_str().unwrap();
    let note = cli.run(&["dead", "show", serial]).await;
    assert!(note.stderr.contains("--raw") && !note.stdout.contains(SECRET), "{}{}", note.stdout, note.stderr);
    assert_eq!(cli.run(&["dead", "show", serial, "--raw"]).await.stdout, format!("{junk}\n"));
}

#[tokio::test]
async fn an_event_is_one_line_of_the_log_in_each_format() {
    let redis = RedisServer::start().await;
    let queue = TestQueue::new(&redis, "default");
    for format in ["text", "json"] {
        let worker = Worker::builder(&redis).env("REDIAL_LOG_FORMAT", format).env("RUST_LOG", "trace").spawn();
        worker.wait_ready().await;
        let id = format!("a{format}");
        let task = json!({"id": id, "url": "http://127.0.0.1:1/", "retry": {"max_attempts": 1}, "reply_to": format!("answers:{HOSTILE}"),
            "limit": {"name": HOSTILE, "rate": 1}, HOSTILE: 1, "x\u{202e}y": 1});
        redis.cli(&["SET", &format!("answers:{HOSTILE}"), "not a list"]).await;
        queue.push(task.to_string()).await;
        queue.wait_result(&id, SOON).await;
        let dead = || async { worker.log().contains("task is dead").then_some(()) };
        eventually(SOON, dead).await;
        worker.term();
        worker.wait_exit(SOON).await;
        let log = worker.log();
        assert!(!log.contains(is_hostile), "{log:?}");
        for line in log.lines() {
            assert!(!line.starts_with("redial: forged"), "{log}");
            if format == "json" {
                assert!(serde_json::from_str::<Value>(line).is_ok_and(|event| event.is_object()), "{line}");
            }
        }
    }
}
