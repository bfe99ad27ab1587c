//! `redial limits`, as users type it.

use std::time::Duration;

use redial_tests::{Cli, RedisServer, TestQueue, Upstream, Worker, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn limits_can_be_shown_set_and_unset() {
    let (redis, upstream) = (RedisServer::start().await, Upstream::unruly().await);
    let _worker = Worker::spawn(&redis);
    let _of_another_queue = Worker::builder(&redis).env("REDIAL_QUEUES", "other").spawn();
    let (cli, queue) = (Cli::new(&redis), TestQueue::new(&redis, "default"));
    let output = cli.run(&["limits"]).await;
    assert_eq!((output.status, output.stdout.as_str()), (0, ""));
    assert!(output.stderr.contains("no limit is in use"), "{}", output.stderr);
    assert_eq!(cli.run(&["limits", "unset", "slow"]).await.status, 3);
    assert_eq!(cli.run(&["limits", "set", "slow"]).await.status, 2, "it has to limit something");
    assert_eq!(cli.run(&["limits", "set", "slow", "--rate", "-1"]).await.status, 2, "clap takes it for an option");
    let output = cli.run(&["limits", "set", "slow", "--rate=-1"]).await;
    assert!(output.status == 1 && output.stderr.contains("rate"), "{}", output.stderr);

    for id in ["a", "b", "c"] {
        let limit = json!({"name": "slow", "rate": 1, "per_ms": 600_000, "burst": 1, "concurrency": 7});
        queue.push(json!({"id": id, "url": upstream.url("/ok"), "limit": limit}).to_string()).await;
        if id == "a" {
            queue.wait_result("a", SOON).await;
        }
    }
    let level: Value = serde_json::from_str(&cli.run(&["--json", "limits"]).await.stdout).unwrap();
    assert_eq!((&level["name"], &level["defined_by"], &level["rate"]), (&json!("slow"), &json!("inline"), &json!(1.0)));
    assert_eq!((&level["per_ms"], &level["concurrency"]), (&json!(600_000), &json!(7)));
    let output = cli.run(&["limits"]).await;
    assert!(output.stdout.starts_with("slow (inline)  1 in 600000 ms  burst 1  left 0."), "{}", output.stdout);

    let parked = || async {
        let scheduled = redis.cli(&["ZCARD", "redial:{default}:wait:limit:slow"]).await;
        (scheduled.trim() == "2").then_some(())
    };
    eventually(SOON, parked).await;
    let other = TestQueue::new(&redis, "other");
    let limit = json!({"name": "slow", "rate": 1, "per_ms": 600_000, "burst": 1, "concurrency": 7});
    other.push(json!({"id": "d", "url": upstream.url("/ok"), "limit": limit}).to_string()).await;
    let parked =
        || async { (redis.cli(&["ZCARD", "redial:{other}:wait:limit:slow"]).await.trim() == "1").then_some(()) };
    eventually(SOON, parked).await;

    // A task that would wait ten minutes starts at once under the new limit, whichever worker serves its queue.
    let output = cli.run(&["limits", "set", "slow", "--rate", "100"]).await;
    assert!(output.status == 0 && output.stdout.starts_with("slow (set)  100 in 1000 ms"), "{}", output.stdout);
    queue.wait_result("c", SOON).await;
    other.wait_result("d", SOON).await;
    assert_eq!(cli.run(&["limits", "unset", "slow"]).await.status, 0);
    let level: Value = serde_json::from_str(&cli.run(&["--json", "limits"]).await.stdout).unwrap();
    assert_eq!(level["defined_by"], "inline");
}

#[tokio::test]
async fn names_of_limits_and_breakers_that_are_gone_leave_their_registry_when_others_are_registered() {
    let redis = RedisServer::start().await;
    let db = redial_core::Db::open(redis.url(), "redial").unwrap();
    redis.cli(&["HSET", "redial:limit:{old}", "set", "1 1000 - -"]).await;
    for registry in ["redial:limits", "redial:breakers"] {
        redis.cli(&["ZADD", registry, "1", "gone1", "2", "old", "3", "gone2", "4", "gone3", "5", "gone4"]).await;
    }
    for name in ["new1", "new2", "new3"] {
        db.limits().register(name).await.unwrap();
        db.breakers().register(name).await.unwrap();
    }
    let limits = redis.cli(&["ZRANGE", "redial:limits", "0", "-1"]).await;
    assert!(limits.contains("old") && limits.contains("new3") && !limits.contains("gone"), "{limits}");
    let breakers = redis.cli(&["ZRANGE", "redial:breakers", "0", "-1"]).await;
    assert!(breakers.contains("new3") && !breakers.contains("gone") && !breakers.contains("old"), "{breakers}");
}
