//! What the `redial` program and the worker say about what is easily mistyped, and what they ask before something is gone for good.

use std::time::Duration;

use redial_tests::{Cli, RedisServer, Reply, TestQueue, Upstream, Worker, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn tasks_pushed_without_the_braces_are_reported_by_worker_and_queues_until_they_are_moved() {
    let (redis, upstream) = (RedisServer::start().await, Upstream::unruly().await);
    let task = json!({"id": "a", "url": upstream.url("/ok")}).to_string();
    redis.cli(&["LPUSH", "redial:default", &task]).await;
    redis.cli(&["SET", "redial:other", "somebody's"]).await;
    let worker = Worker::builder(&redis).env("REDIAL_QUEUES", "default=1,other=1").spawn();
    let line = eventually(SOON, || async {
        worker.log().lines().find(|line| line.contains("push to redial:{default}, braces included")).map(str::to_owned)
    })
    .await;
    assert!(line.contains("tasks=1") && line.contains("the list redial:default"), "{line}");
    let cli = Cli::new(&redis);
    let output = cli.run(&["queues"]).await;
    assert_eq!(output.status, 0);
    assert!(
        output.stderr.contains("1 tasks are in the list redial:default, where no worker looks"),
        "{}",
        output.stderr
    );
    assert!(!output.stderr.contains("redial:other"), "{}", output.stderr);

    // What the message says to do.
    redis.cli(&["LMOVE", "redial:default", "redial:{default}", "RIGHT", "LEFT"]).await;
    assert_eq!(TestQueue::new(&redis, "default").wait_result("a", SOON).await["status"], "ok");
    assert_eq!(cli.run(&["queues"]).await.stderr, "");
}

#[tokio::test]
async fn enqueue_warns_of_ignored_fields_and_of_a_queue_that_no_worker_serves() {
    let redis = RedisServer::start().await;
    let cli = Cli::new(&redis);
    let output =
        cli.run(&["-q", "nobody", "enqueue", r#"{"id":"a","url":"http://h/","timeout":5,"re\u001btry":1}"#]).await;
    assert_eq!((output.status, output.stdout.as_str()), (0, "a\n"));
    assert!(output.stderr.contains("the protocol has no field re\\u{1b}try, timeout"), "{}", output.stderr);
    assert!(output.stderr.contains("no worker serves the queue nobody"), "{}", output.stderr);

    let worker = Worker::spawn(&redis);
    worker.wait_ready().await;
    let output = cli.run(&["enqueue", "--url", "http://h/", "--delay-ms", "60000"]).await;
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
}

#[tokio::test]
async fn a_dead_call_has_its_own_exit_code_unless_a_result_is_all_that_is_wanted() {
    let (redis, upstream) = (RedisServer::start().await, Upstream::unruly().await);
    let worker = Worker::spawn(&redis);
    worker.wait_ready().await;
    let cli = Cli::new(&redis);
    let (good, bad) = (upstream.url("/ok"), upstream.url("/status/422"));
    let output = cli.run(&["enqueue", "--url", &good, "--id", "good", "--wait"]).await;
    let result: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(
        (output.status, &result["id"], &result["status"]),
        (0, &json!("good"), &json!("ok")),
        "{}",
        output.stderr
    );
    let output = cli.run(&["enqueue", "--url", &bad, "--id", "bad", "--wait=20"]).await;
    let result: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((output.status, &result["reason"]), (5, &json!("rejected")), "{}", output.stderr);
    for (command, code) in [
        (&["wait", "good", "bad"][..], 5),
        (&["wait", "good"], 0),
        (&["wait", "good", "bad", "--ok-dead"], 0),
        (&["result", "bad", "good"], 5),
        (&["result", "bad", "--ok-dead"], 0),
        (&["result", "bad", "nobody"], 3),
        (&["enqueue", "--url", &bad, "--wait", "--ok-dead"], 0),
    ] {
        let output = cli.run(command).await;
        assert_eq!(output.status, code, "{command:?}: {} {}", output.stdout, output.stderr);
    }
    let output = cli.run(&["-q", "nobody", "enqueue", "--url", &good, "--wait=1"]).await;
    assert_eq!((output.status, output.stdout.as_str()), (3, ""));
    assert!(output.stderr.contains("no result in queue nobody in time"), "{}", output.stderr);
}

#[tokio::test]
async fn a_body_is_read_from_a_file_or_from_standard_input() {
    let (redis, folder) = (RedisServer::start().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("body.json");
    std::fs::write(&file, "{\"n\": 1.10,\n \"a\": 2}\n").unwrap();
    let (cli, at_file) = (Cli::new(&redis), format!("@{}", file.display()));
    let pop = || redis.cli(&["--raw", "LPOP", "redial:{default}"]);
    assert_eq!(cli.run(&["enqueue", "--url", "http://h/", "-b", &at_file]).await.status, 0);
    assert!(pop().await.contains("\"body\":{\"n\": 1.10,\n \"a\": 2}"));
    assert_eq!(cli.run(&["enqueue", "--url", "http://h/", "--body-text", &at_file]).await.status, 0);
    assert!(pop().await.contains(r#""body_text":"{\"n\": 1.10,\n"#));
    assert_eq!(cli.run_with_input(&["enqueue", "--url", "http://h/", "-b", "@-"], "[1]").await.status, 0);
    assert!(pop().await.contains(r#""body":[1]"#));
    for (body, says) in [("@/no/such", "--body @/no/such"), ("{", "--body is not JSON")] {
        let output = cli.run(&["enqueue", "--url", "http://h/", "-b", body]).await;
        assert!(output.status == 1 && output.stderr.contains(says), "{}", output.stderr);
    }
    let output = cli.run(&["enqueue", "--url", "http://h/", "-H", "A: 1", "-H", "A: 2"]).await;
    assert!(output.status == 1 && output.stderr.contains("\"A\" is given twice"), "{}", output.stderr);
}

#[tokio::test]
async fn dead_letters_are_chosen_by_reason_and_all_are_deleted_only_with_a_yes() {
    let (redis, upstream) = (RedisServer::start().await, Upstream::start(|_| Reply::status(422)).await);
    let _worker = Worker::spawn(&redis);
    let (cli, queue) = (Cli::new(&redis), TestQueue::new(&redis, "default"));
    queue.push_all(["a", "b"].map(|id| json!({"id": id, "url": upstream.url("/")}).to_string())).await;
    queue.push("junk").await;
    eventually(SOON, || async { (queue.dead().await.len() == 3).then_some(()) }).await;

    let output = cli.run(&["dead", "drop", "--all"]).await;
    assert_eq!((output.status, queue.dead().await.len()), (1, 3));
    assert!(output.stderr.contains("all 3 dead letters of queue default for good: add --yes"), "{}", output.stderr);
    let output = cli.run(&["dead", "drop", "--reason", "rejekted"]).await;
    assert_eq!((output.status, queue.dead().await.len()), (2, 3));
    assert!(output.stderr.contains("`rejected`"), "{}", output.stderr);
    let output = cli.run(&["dead", "drop", "--reason", "invalid_task"]).await;
    assert_eq!((output.status, queue.dead().await.len()), (0, 2), "{}", output.stderr);
    let output = cli.run(&["--json", "dead", "replay", "--reason", "rejected"]).await;
    assert!(output.status == 0 && output.stdout.contains(r#""done":2"#), "{}", output.stdout);
    eventually(SOON, || async { (upstream.count() == 4 && queue.dead().await.len() == 2).then_some(()) }).await;
    assert_eq!((cli.run(&["dead", "drop", "--all", "--yes"]).await.status, queue.dead().await.len()), (0, 0));
}

#[tokio::test]
async fn calls_in_each_state_are_listed_in_pages_with_what_they_wait_for() {
    let (redis, upstream) = (RedisServer::start().await, Upstream::unruly().await);
    let (cli, queue) = (Cli::new(&redis), TestQueue::new(&redis, "default"));
    queue.push_all((0..130).map(|n| json!({"id": format!("w{n}"), "url": "http://h/?key=geheim"}).to_string())).await;
    let listed = cli.run(&["list", "waiting", "--limit", "125"]).await;
    let ids: Vec<&str> = listed.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!((ids.len(), ids[0], ids[124]), (125, "w0", "w124"), "in the order in which they will be claimed");
    assert!(listed.stderr.contains("--skip 125") && !listed.stdout.contains("geheim"), "{}", listed.stderr);
    let rest = cli.run(&["list", "waiting", "--skip", "125"]).await;
    assert_eq!(
        rest.stdout.lines().map(|line| &line[..4]).collect::<Vec<_>>(),
        ["w125", "w126", "w127", "w128", "w129"]
    );
    redis.cli(&["DEL", &queue.key()]).await;

    let limit = json!({"name": "slow", "rate": 1, "per_ms": 3_600_000, "burst": 1});
    let task = |id: &str, path: &str, more: Value| {
        let mut task = json!({"id": id, "url": upstream.url(path), "timeout_ms": 60_000});
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        task.to_string()
    };
    queue
        .push_all([
            task("held", "/slow/30000", json!({})),
            task("later", "/ok", json!({"delay_ms": 3_600_000})),
            task("first", "/ok", json!({"limit": limit})),
            json!({"url": "http://h/", "delay_ms": 60_000}).to_string(),
        ])
        .await;
    let _worker = Worker::spawn(&redis);
    queue.wait_result("first", SOON).await;
    queue.push(task("second", "/ok", json!({"limit": limit}))).await;
    let wanted: [(&str, &str, &[&str]); 3] = [
        ("active", "held", &["held by worker "]),
        ("scheduled", "later", &["due 20"]),
        ("parked", "second", &["waits for the limit slow (`redial limits show slow`)"]),
    ];
    for (state, id, says) in wanted {
        let line = eventually(SOON, || async {
            let listed = cli.run(&["list", state]).await.stdout;
            listed.lines().find(|line| line.starts_with(id)).map(str::to_owned)
        })
        .await;
        assert!(says.iter().all(|part| line.contains(part)), "{line}");
    }
    let scheduled = cli.run(&["--json", "list", "scheduled"]).await.stdout;
    let scheduled: Vec<Value> = scheduled.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // The one without an id comes first, since it is due first, under the id that its result will have.
    assert!(scheduled[0]["id"].as_str().is_some_and(|id| id.len() == 36), "{}", scheduled[0]);
    assert!(scheduled[1]["id"] == "later" && scheduled[1]["due_ms"].as_u64() > scheduled[0]["due_ms"].as_u64());
    let output = cli.run(&["-q", "other", "list", "parked"]).await;
    assert!(output.status == 0 && output.stderr.contains("no calls are parked in queue other"), "{}", output.stderr);
}
