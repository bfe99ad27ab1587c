//! The commands for operators: where a task is, how long queues are, which workers run, pausing.

use std::time::Duration;

use redial_tests::{Cli, RedisServer, Reply, TestQueue, Upstream, Worker, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

async fn json(cli: &Cli, typed: &[&str]) -> Vec<Value> {
    let output = cli.run(&[&["--json"], typed].concat()).await;
    output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An upstream with a slow path and a path that rejects calls.
async fn varied() -> Upstream {
    Upstream::start(|request| match request.path.as_str() {
        "/slow" => Reply::ok().after(Duration::from_secs(30)),
        "/bad" => Reply::status(422),
        _ => Reply::ok(),
    })
    .await
}

#[tokio::test]
async fn no_worker_takes_tasks_from_a_paused_queue_until_it_is_resumed() {
    let redis = RedisServer::start().await;
    let upstream = Upstream::start(|request| {
        let wait = if request.path.starts_with("/slow") { 3_000 } else { 0 };
        Reply::ok().after(Duration::from_millis(wait))
    })
    .await;
    let (cli, queue) = (Cli::new(&redis), TestQueue::new(&redis, "default"));
    let fleet = [Worker::spawn(&redis), Worker::spawn(&redis), Worker::spawn(&redis)];
    let task = |id: &str, path: &str| json!({"id": id, "url": upstream.url(path)}).to_string();
    queue.push(task("in-hand", "/slow")).await;
    eventually(SOON, async || (upstream.count() == 1).then_some(())).await;
    let output = cli.run(&["pause", "default"]).await;
    assert_eq!((output.status, output.stdout.contains("queue default paused")), (0, true), "{}", output.stdout);
    assert_eq!(json(&cli, &["pause", "default"]).await[0]["changed"], false);

    // A worker that was blocked in a wait when the pause came may have been handed a task; that task is not called either.
    queue.push_all((0..20).map(|n| task(&format!("t{n}"), "/"))).await;
    queue.wait_result("in-hand", SOON).await;
    let at = &json(&cli, &["queues"]).await[0];
    assert_eq!((&at["queue"], &at["paused"], &at["waiting"]), (&json!("default"), &json!(true), &json!(20)), "{at}");
    // Pushed after every worker has seen the pause, a task stays on the list.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let before = queue.waiting().await;
    queue.push_all((20..30).map(|n| task(&format!("t{n}"), "/"))).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!((queue.waiting().await - before, upstream.count()), (10, 1));

    let output = cli.run(&["resume", "default"]).await;
    assert_eq!((output.status, output.stdout.contains("resumed")), (0, true), "{}", output.stdout);
    let resumed = std::time::Instant::now();
    eventually(SOON, async || (upstream.count() == 31).then_some(())).await;
    assert!(resumed.elapsed() < Duration::from_secs(5), "{:?}", resumed.elapsed());
    // A push wakes them as before.
    queue.push(task("after", "/")).await;
    queue.wait_result("after", SOON).await;
    assert_eq!(json(&cli, &["resume", "default"]).await[0]["changed"], false);
    drop(fleet);
}

#[tokio::test]
async fn queues_and_workers_are_listed_with_their_task_counts() {
    let redis = RedisServer::start().await;
    let upstream = varied().await;
    let (cli, queue) = (Cli::new(&redis), TestQueue::new(&redis, "default"));
    let none = cli.run(&["queues"]).await;
    assert_eq!((none.status, none.stdout.as_str()), (0, ""));
    assert!(none.stderr.contains("no queue has had a worker yet"), "{}", none.stderr);
    let _worker = Worker::spawn(&redis);
    for (id, path) in [("a", "/"), ("b", "/bad"), ("c", "/slow"), ("d", "/slow")] {
        queue.push(json!({"id": id, "url": upstream.url(path)}).to_string()).await;
    }
    queue.push(json!({"id": "e", "url": upstream.url("/"), "delay_ms": 60_000}).to_string()).await;
    eventually(SOON, async || {
        let all = json(&cli, &["queues", "default"]).await;
        let wanted = [("active", 2), ("scheduled", 1), ("dead", 1), ("completed", 1), ("died", 1), ("workers", 1)];
        wanted.iter().all(|(name, count)| all[0][name] == json!(count)).then_some(())
    })
    .await;
    let listed = eventually(SOON, async || {
        let output = cli.run(&["queues"]).await.stdout;
        (output.lines().count() == 2).then_some(output)
    })
    .await;
    assert!(listed.starts_with("QUEUE") && listed.contains("default") && !listed.contains('\x1b'), "{listed}");
    let workers = json(&cli, &["workers"]).await;
    assert_eq!((workers.len(), &workers[0]["tasks"], &workers[0]["gone"]), (1, &json!(2), &json!(false)));
    assert_eq!((&workers[0]["protocol"], &workers[0]["release"]), (&json!(1), &json!(env!("CARGO_PKG_VERSION"))));
    let text = cli.run(&["workers", "default"]).await.stdout;
    assert!(text.contains("    2 tasks  lease ends in") && text.trim_end().ends_with(", protocol 1"), "{text}");
    assert_eq!(cli.run(&["queues", "a}b"]).await.status, 1);
}

#[tokio::test]
async fn status_shows_where_a_task_is() {
    let redis = RedisServer::start().await;
    let upstream = varied().await;
    let (cli, queue) = (Cli::new(&redis), TestQueue::new(&redis, "default"));
    let task = |id: &str, path: &str| json!({"id": id, "url": upstream.url(path)}).to_string();
    queue.push_all((0..120).map(|n| task(&format!("w{n}"), "/"))).await;
    let found = json(&cli, &["status", "w0", "w119"]).await;
    assert_eq!(
        (&found[0]["state"], &found[0]["before"], &found[1]["before"]),
        (&json!("waiting"), &json!(0), &json!(119))
    );
    let short = cli.run(&["status", "w119", "--search-limit", "50"]).await;
    assert_eq!((short.status, short.stdout.as_str()), (3, ""));
    assert!(short.stderr.contains("there are more that are waiting: use a larger --search-limit"), "{}", short.stderr);

    let _worker = Worker::spawn(&redis);
    let later = json!({"id": "later", "url": upstream.url("/"), "delay_ms": 60_000}).to_string();
    queue.push_all([task("held", "/slow"), task("bad", "/bad"), later, task("ok", "/")]).await;
    let status_of = |id: &'static str, state: &'static str| {
        let cli = cli.clone();
        async move {
            let is = async || json(&cli, &["status", id]).await.pop().filter(|found| found["state"] == state);
            eventually(SOON, is).await
        }
    };
    assert_eq!(status_of("ok", "complete").await["http_status"], 200);
    assert_eq!(status_of("bad", "dead").await["reason"], "rejected");
    assert!(status_of("held", "active").await["worker"].is_string());
    assert!(status_of("later", "scheduled").await["due_ms"].is_u64());
    let text = cli.run(&["status", "ok", "bad", "held", "later", "nobody"]).await;
    let states: Vec<&str> = text.stdout.lines().filter_map(|line| line.split("  ").nth(1)).collect();
    assert_eq!((text.status, states), (3, vec!["complete", "dead", "active", "scheduled"]));
    assert!(text.stderr.contains("nobody: not found in queue default: never pushed there"), "{}", text.stderr);
    // Its result has expired, but its dead letter still exists.
    redis.cli(&["DEL", "redial:{default}:result:bad"]).await;
    assert_eq!(json(&cli, &["status", "bad"]).await[0]["state"], "dead");
}

#[tokio::test]
async fn dead_letters_are_shown_in_full_and_purged_by_age() {
    let redis = RedisServer::start().await;
    let upstream = Upstream::start(|_| Reply::status(422)).await;
    let _worker = Worker::spawn(&redis);
    let (cli, queue) = (Cli::new(&redis), TestQueue::new(&redis, "default"));
    let task = json!({"id": "a", "url": upstream.url("/"), "headers": {"Authorization": "Bearer geheim"}}).to_string();
    queue.push_all([task.clone(), "junk".into()]).await;
    eventually(SOON, async || (queue.dead().await.len() == 2).then_some(())).await;
    let shown = cli.run(&["dead", "show", "a", "nobody"]).await;
    let letter: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(
        (shown.status, &letter["http_status"], letter["attempts"][0]["http_status"].as_u64()),
        (3, &json!(422), Some(422))
    );
    assert!(shown.stdout.contains("[redacted]") && !shown.stdout.contains("geheim"), "{}", shown.stdout);
    assert_eq!(cli.run(&["dead", "show", "a", "--raw"]).await.stdout, format!("{task}\n"));
    assert_eq!(json(&cli, &["dead", "show", "a"]).await[0]["reason"], "rejected");

    assert_eq!(json(&cli, &["dead", "purge", "--older-than", "1h"]).await[0]["done"], 0);
    let output = cli.run(&["dead", "purge", "--older-than", "0s", "--reason", "rejected"]).await;
    assert_eq!((output.status, output.stdout.as_str()), (0, "1 dead letter of queue default deleted\n"));
    assert_eq!(json(&cli, &["dead", "purge", "--older-than", "0s"]).await[0]["done"], 1);
    assert_eq!(queue.dead().await.len(), 0);
    assert_eq!(cli.run(&["dead", "purge"]).await.status, 2);
}

#[tokio::test]
async fn completions_are_printed_without_redis() {
    let cli = Cli::new("redis://127.0.0.1:1");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = cli.run(&["completions", shell]).await;
        assert!(output.status == 0 && output.stdout.contains("enqueue"), "{shell}: {}", output.stderr);
    }
    let bash = cli.run(&["completions", "bash"]).await.stdout;
    let checked = std::process::Command::new("bash").args(["-n", "-c", &bash]).status();
    assert!(checked.is_err() || checked.is_ok_and(|status| status.success()));
}

/// `script` runs a command on a terminal; on a machine without it, half of this is skipped.
#[tokio::test]
async fn colours_appear_only_on_a_terminal_and_never_with_no_color() {
    let redis = RedisServer::start().await;
    let (cli, queue) = (Cli::new(&redis), TestQueue::new(&redis, "default"));
    queue.push("junk").await;
    let _worker = Worker::spawn(&redis);
    eventually(SOON, async || (queue.dead().await.len() == 1).then_some(())).await;
    assert!(!cli.run(&["dead", "list"]).await.stdout.contains('\x1b'));
    let on_a_terminal = |no_color: &'static str| {
        let typed = format!("{} dead list", cli.program().display());
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &typed, "/dev/null"]).stdin(std::process::Stdio::null());
        script.env("REDIS_URL", redis.url()).env("TERM", "xterm").env("NO_COLOR", no_color).output().ok()
    };
    let Some(coloured) = on_a_terminal("") else { return };
    let (coloured, plain) = (coloured.stdout, on_a_terminal("1").unwrap().stdout);
    assert!(coloured.contains(&0x1b), "{}", String::from_utf8_lossy(&coloured));
    assert!(plain.starts_with(b"20") && !plain.contains(&0x1b), "{}", String::from_utf8_lossy(&plain));
}

#[tokio::test]
async fn queues_that_no_one_serves_and_that_hold_nothing_leave_the_registry_after_a_day() {
    let redis = RedisServer::start().await;
    let db = redial_core::Db::open(redis.url(), "redial").unwrap();
    let day_ms = 86_400_000;
    let now = db.now().await.unwrap().0;
    for (queue, unused_for) in [("recent", day_ms - 60_000), ("empty", day_ms + 60_000), ("waits", 9 * day_ms)] {
        redis.cli(&["ZADD", "redial:queues", &(now - unused_for).to_string(), queue]).await;
    }
    // So many that one worker does not look at all of them as it starts.
    let holding = ["dead", "schedules", "scheduled", "stored", "paused", "handoff"];
    for kind in holding {
        redis.cli(&["ZADD", "redial:queues", "1", kind]).await;
        redis.cli(&["SET", &format!("redial:{{{kind}}}:{kind}"), "x"]).await;
    }
    for n in 0..20 {
        redis.cli(&["ZADD", "redial:queues", "2", &format!("gone{n}")]).await;
    }
    redis.cli(&["LPUSH", "redial:{waits}", "{}"]).await;
    let known = async || -> Vec<String> { db.known_queues().await.unwrap().iter().map(ToString::to_string).collect() };
    let _worker = Worker::spawn(&redis);
    eventually(SOON, || async { (known().await.len() < 20).then_some(()) }).await;
    let _next = Worker::spawn(&redis);
    let expected = ["dead", "default", "handoff", "paused", "recent", "scheduled", "schedules", "stored", "waits"];
    eventually(SOON, || async { (known().await == expected).then_some(()) }).await;

    // What is served again is listed again.
    let _other = Worker::builder(&redis).env("REDIAL_QUEUES", "empty").spawn();
    eventually(SOON, || async { known().await.contains(&"empty".to_owned()).then_some(()) }).await;
}
