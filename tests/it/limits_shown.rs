//! `redial limits`, as users type it.

use std::time::Duration;

use redial_tests::{Cli, RedisServer, Reply, TestQueue, Upstream, Worker, eventually};
use serde_json::{Value, json};

use crate::promises::at_length;

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

#[tokio::test]
async fn who_waits_for_a_limit_is_shown_by_fairness_key() {
    let (redis, upstream) = (RedisServer::start().await, Upstream::unruly().await);
    let _worker = Worker::spawn(&redis);
    let (cli, queue) = (Cli::new(&redis), TestQueue::new(&redis, "default"));
    let push = async |id: String, tenant: &str, cost: u32| {
        let limit = json!({"name": "slow", "rate": 1, "per_ms": 600_000, "burst": 1, "cost": cost});
        queue.push(json!({"id": id, "url": upstream.url("/ok"), "tenant": tenant, "limit": limit}).to_string()).await;
    };
    push("first".into(), "acme", 1).await;
    queue.wait_result("first", SOON).await;
    for (tenant, calls, cost) in [("acme", 7, 1), ("zeta", 3, 1), ("dear", 2, 1)] {
        for i in 0..calls {
            push(format!("{}{i}", &tenant[..4]), tenant, cost).await;
        }
    }
    let show = async || -> Value {
        serde_json::from_str(&cli.run(&["--json", "limits", "show", "slow"]).await.stdout).unwrap_or_default()
    };
    eventually(SOON, || async { (show().await["waiting"] == 12).then_some(()) }).await;
    let keys = show().await["waiting_keys"].clone();
    let costs: Vec<(&str, f64)> = keys
        .as_array()
        .unwrap()
        .iter()
        .map(|key| (key["key"].as_str().unwrap(), key["cost"].as_f64().unwrap()))
        .collect();
    let expected = [("acme", 7.0), ("zeta", 3.0), ("dear", 2.0)];
    assert!(costs.iter().zip(expected).all(|(is, due)| is.0 == due.0 && (is.1 - due.1).abs() <= 1.0), "{costs:?}");
    assert_eq!((costs.len(), &keys[0]["queue"]), (3, &json!("default")));
    let text = cli.run(&["limits", "show", "slow"]).await.stdout;
    assert!(text.contains("of it: acme\n") && text.contains("of it: zeta\n"), "{text}");
}

#[tokio::test]
async fn one_limit_is_shown_in_full_and_reset() {
    let redis = RedisServer::start().await;
    let upstream = Upstream::start(|_| Reply::status(429).header("retry-after", "600")).await;
    let _worker = Worker::spawn(&redis);
    let (cli, queue) = (Cli::new(&redis), TestQueue::new(&redis, "default"));
    for command in ["show", "reset"] {
        let output = cli.run(&["limits", command, "acme"]).await;
        assert!(output.status == 3 && output.stderr.contains("no limit \"acme\" is in use"), "{}", output.stderr);
    }
    let limit = json!({"name": "acme", "rate": 2, "per_ms": 3_600_000, "burst": 2, "unit": "usd"});
    let push =
        async |id: &str| queue.push(json!({"id": id, "url": upstream.url("/"), "limit": limit}).to_string()).await;
    push("a").await;
    let show = async || -> Value {
        serde_json::from_str(&cli.run(&["--json", "limits", "show", "acme"]).await.stdout).unwrap_or_default()
    };
    eventually(SOON, || async { (show().await["closed_ms"].as_u64() > Some(0)).then_some(()) }).await;
    push("b").await;
    eventually(SOON, || async { (show().await["waiting"] == 1).then_some(()) }).await;
    let shown = show().await;
    assert_eq!((&shown["defined_by"], &shown["unit"]), (&json!("inline"), &json!("usd")), "{shown}");
    assert_eq!(shown["definitions"]["set"], json!(null));
    assert_eq!(shown["definitions"]["inline"]["per_ms"], 3_600_000);
    assert_eq!(shown["closed_by"], "127.0.0.1 answered 429 and asked for a pause");
    assert!(shown["closed_ms"].as_u64().unwrap() > 500_000, "{shown}");
    let since = shown["closed_since_ms"].as_u64().unwrap();
    assert!(redial_tests::stalls::now_ms() - since < 60_000, "{shown}");
    assert_eq!(shown["waiting_in"][0], json!({"queue": "default", "calls": 1}));
    let text = cli.run(&["limits", "show", "acme"]).await.stdout;
    for says in [
        "by tasks     2 usd in 3600000 ms, burst 2  (in force)",
        "left         1.",
        "answered 429",
        "1 in the queue default",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }

    let output = cli.run(&["limits", "reset", "acme"]).await;
    assert!(output.status == 0 && output.stdout.contains("left 2.0000"), "{}{}", output.stdout, output.stderr);
    // The task that waited ten minutes asks again, and its upstream closes the limit again.
    eventually(SOON, || async { (upstream.count() >= 2).then_some(()) }).await;
}

#[tokio::test]
async fn control_characters_in_the_name_of_a_limit_do_not_reach_the_terminal() {
    let redis = RedisServer::start().await;
    let cli = Cli::new(&redis);
    let name = "evil\u{1b}[2J\nfake (set)\u{202e}\u{9b}x";
    assert_eq!(cli.run(&["limits", "set", name, "--rate", "5"]).await.status, 0);
    for args in [vec!["limits"], vec!["limits", "list"], vec!["limits", "show", name], vec!["limits", "reset", name]] {
        let output = cli.run(&args).await;
        let first = output.stdout.lines().next().unwrap();
        assert!(first.starts_with("evil\\u{1b}[2J\\u{a}fake (set)\\u{202e}\\u{9b}x (set)"), "{:?}", output.stdout);
        assert!(!output.stdout.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{:?}", output.stdout);
    }
    let listed: Value = serde_json::from_str(&cli.run(&["--json", "limits"]).await.stdout).unwrap();
    assert_eq!(listed["name"], name);
    let missing = cli.run(&["limits", "show", "none\u{1b}[2J"]).await;
    assert!(missing.status == 3 && !missing.stderr.contains('\u{1b}'), "{:?}", missing.stderr);
}

#[tokio::test]
async fn very_many_limits_are_listed_in_pages_and_those_that_are_gone_are_forgotten() {
    let redis = RedisServer::start().await;
    let (many, gone) = (at_length(3_000, 100_000), 500);
    let mut wire = redis.connection().await;
    for from in (0..many).step_by(1_000) {
        let mut pipe = redis::pipe();
        for n in from..from + 1_000 {
            let name = format!("tenant {n}");
            pipe.cmd("ZADD").arg("redial:limits").arg(n).arg(&name).ignore();
            if n >= gone {
                let key = format!("redial:limit:{{{name}}}");
                pipe.cmd("HSET").arg(key).arg(&["inline", "1 1000 1 -", "inline_at", "1"]).ignore();
            }
        }
        let () = pipe.query_async(&mut wire).await.unwrap();
    }
    redis.cli(&["CONFIG", "RESETSTAT"]).await;
    let listed = Cli::new(&redis).run(&["--json", "limits", "list"]).await;
    let mut names: Vec<String> = listed
        .stdout
        .lines()
        .map(|line| {
            let limit: Value = serde_json::from_str(line).unwrap();
            limit["name"].as_str().unwrap().to_owned()
        })
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), many - gone);
    assert_eq!(redis.cli(&["ZCARD", "redial:limits"]).await.trim(), (many - gone).to_string());
    // The registry is read in many small steps.
    let scans = redis.calls_of("zscan").await;
    assert!(scans >= many as u64 / 1_000, "{scans} steps");
    assert_eq!(Cli::new(&redis).run(&["limits", "list", "--limit", "7"]).await.stdout.lines().count(), 7);
}
