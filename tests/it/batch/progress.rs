//! How far a batch is, as others see it.

use std::process::Command;
use std::time::Instant;

use redial_core::queue::batch_progress::{BatchProgress, BatchState};
use redial_core::{Db, QueueName, UnixMs};
use redial_tests::GatewayProcess;

use super::*;

/// The batches as `redial batch list` shows them.
async fn listed(fixture: &BatchFixture) -> Vec<Value> {
    let output = Cli::new(&fixture.redis).run(&["--json", "batch", "list"]).await;
    assert_eq!(output.status, 0, "{}", output.stderr);
    output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn everyone_sees_how_far_a_batch_is_while_it_runs_and_after_it_was_stopped() {
    let upstream = Upstream::start(|request| match request.route() {
        "/bad" => Reply::status(422),
        "/slow" => Reply::ok().after(Duration::from_secs(300)),
        _ => Reply::ok().json(&json!({})),
    })
    .await;
    let fixture = BatchFixture::new(upstream).await;
    let none = Cli::new(&fixture.redis).run(&["batch", "list"]).await;
    assert!(none.status == 0 && none.stderr.contains("no batch has run within a day"), "{}", none.stderr);
    let line = |path: &str| json!({"url": fixture.upstream.url(path), "timeout_ms": 300_000}).to_string();
    let mut file: Vec<String> =
        ["/good"; 10].iter().chain(&["/bad"; 2]).chain(&["/slow"; 7]).map(|path| line(path)).collect();
    file.push("{}".into());
    let (input, out) = (fixture.write("in", file.join("\n")), fixture.path("answers.jsonl"));
    let mut batch = Cli::new(&fixture.redis).start(&BatchFixture::args(&out, &input, &[]));
    let is_there =
        |batch: &Value| (&batch["answered"], &batch["failed"], &batch["invalid"]) == (&json!(10), &json!(2), &json!(1));
    let running = eventually(SOON, || async { listed(&fixture).await.pop().filter(is_there) }).await;
    assert_eq!(
        (&running["state"], &running["silent"], &running["lines"]),
        (&json!("running"), &json!(false), &json!(20))
    );
    assert_eq!((&running["name"], &running["queue"]), (&json!("answers.jsonl"), &json!("default")));
    let text = Cli::new(&fixture.redis).run(&["batch", "list"]).await.stdout;
    assert!(text.starts_with("BATCH") && text.contains("running") && text.contains("answers.jsonl"), "{text}");
    let top = Cli::new(&fixture.redis).run(&["top", "--once"]).await.stdout;
    assert!(top.contains("Batches (1)") && top.contains("answers.jsonl") && top.contains("[######----]"), "{top}");
    let gateway = GatewayProcess::start(&fixture.redis, "").await;
    let answer = gateway.send("GET", "/v1/batches", &[], b"").await;
    let seen: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&seen["batches"][0]["batch"], &seen["batches"][0]["lines"]), (&running["batch"], &json!(20)), "{seen}");

    let pid = batch.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    batch.wait().await.unwrap();
    let stopped = listed(&fixture).await.pop().unwrap();
    assert_eq!((&stopped["state"], is_there(&stopped)), (&json!("stopped"), true), "{stopped}");
    // Both keys expire.
    let keys = fixture.redis.cli(&["KEYS", "redial:{default}:batch*"]).await;
    let of_progress = |key: &&str| !key.contains("checkpoint") && !key.contains("partitions");
    let keys: Vec<&str> = keys.lines().filter(of_progress).collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
    for key in keys {
        let ttl: i64 = fixture.redis.cli(&["TTL", key]).await.parse().unwrap();
        assert!((86_000..=86_400).contains(&ttl), "{key}: {ttl}");
    }
}

#[tokio::test]
async fn a_batch_says_how_far_it_is_at_most_once_a_second() {
    let count = 3_000;
    let (fixture, input) = BatchFixture::with_lines(count).await;
    let began = Instant::now();
    assert_eq!(fixture.batch(&input, &["--window", "200"]).await.status, 0);
    let most = began.elapsed().as_secs() + 3;
    // Nothing else uses this command here.
    let said = fixture.redis.calls_of("zremrangebyrank").await;
    assert!((2..=most).contains(&said), "{said} times, {most} allowed");
    let done = listed(&fixture).await.pop().unwrap();
    assert_eq!(
        (&done["state"], &done["lines"], &done["answered"]),
        (&json!("done"), &json!(count), &json!(count)),
        "{done}"
    );
}

#[tokio::test]
async fn of_many_batches_the_last_hundred_are_kept() {
    let redis = RedisServer::start().await;
    let queue = Db::open(redis.url(), "redial").unwrap().queue(QueueName::new("default").unwrap());
    let now = queue.db().now().await.unwrap();
    for n in 0..105_u64 {
        let said = BatchProgress {
            batch: format!("b{n}"),
            name: "out".into(),
            state: BatchState::Done,
            lines: n,
            answered: n,
            failed: 0,
            invalid: 0,
            retries: 0,
            started_at_ms: now,
            updated_at_ms: UnixMs(now.0 + n),
        };
        queue.publish_progress(&said).await.unwrap();
    }
    let batches = queue.batches().await.unwrap();
    assert_eq!((batches.len(), batches[0].batch.as_str(), batches[99].batch.as_str()), (100, "b104", "b5"));
}

#[tokio::test]
async fn a_batch_is_spread_over_partitions_and_resumes_after_a_kill_while_there_come_more() {
    let (fixture, input) = BatchFixture::with_lines(3_000).await;
    let cli = Cli::new(&fixture.redis);
    assert_eq!(cli.run(&["partition", "default", "3"]).await.status, 0);
    let out = fixture.path("out");
    let args = BatchFixture::args(&out, &input, &["--window", "400"]);
    for partitions in ["4", "7"] {
        let mut run = cli.start(&args);
        let calls = fixture.upstream.count();
        eventually(SOON, async || (fixture.upstream.count() > calls + 300).then_some(())).await;
        run.kill().await.unwrap();
        assert_eq!(cli.run(&["partition", "default", partitions]).await.status, 0);
    }
    let done = fixture.batch(&input, &["--window", "400"]).await;
    assert_eq!(done.status, 0, "{}", done.stderr);
    fixture.has_each_once(3_000);
    assert_eq!(fixture.upstream.count(), 3_000, "each call is made once");
    for partition in 0..3 {
        let stats = format!("redial:{{default/{partition}}}:stats");
        assert!(fixture.redis.cli(&["HGET", &stats, "complete"]).await.parse::<u64>().unwrap_or(0) > 500, "{stats}");
    }
    assert_eq!(fixture.redis.cli(&["KEYS", "redial:*batch-checkpoint*"]).await, "");
    assert_eq!(fixture.redis.cli(&["KEYS", "redial:*batch-partitions*"]).await, "");
}
