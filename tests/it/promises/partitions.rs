//! A queue that is spread over partitions: work goes on while there come more, and what must happen once does so across them.

use std::collections::HashMap;
use std::time::Duration;

use redial::{Call, Client, TaskFingerprint, TaskId};
use redial_tests::{Cli, Cluster, RedisServer, Reply, TestQueue, Upstream, Worker, eventually};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{SOON, Stage, ids};

/// Spreads the queue `default`.
pub(super) async fn spread(redis: impl AsRef<str>, partitions: usize) {
    let output = Cli::new(redis).run(&["partition", "default", &partitions.to_string()]).await;
    assert_eq!(output.status, 0, "{}", output.stderr);
}

/// How many tasks a queue has completed by itself, which may be a partition.
async fn completed(redis: &RedisServer, queue: &str) -> u64 {
    redis.cli(&["HGET", &format!("redial:{{{queue}}}:stats"), "complete"]).await.parse().unwrap_or(0)
}

/// How often each path was called.
fn calls_by_path(upstream: &Upstream) -> HashMap<String, usize> {
    let mut calls = HashMap::new();
    for call in upstream.calls() {
        *calls.entry(call.route().to_owned()).or_insert(0) += 1;
    }
    calls
}

/// Pushes tasks with these ids through the library, each to a path of its own, and by a bare `LPUSH` every tenth.
async fn push(client: &Client, plain: &TestQueue, upstream: &Upstream, ids: &[String]) {
    for some in ids.chunks(10) {
        let task = |id: &String| json!({"id": id, "url": upstream.url(&format!("/{id}"))}).to_string();
        client.enqueue_all(some[1..].iter().map(task)).await.unwrap();
        plain.push(task(&some[0])).await;
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until all tasks have a result, wherever that is, and asserts that it is good.
async fn all_are_answered(client: &Client, ids: &[String]) {
    let names = ids.iter().map(|id| TaskId::new(id).unwrap());
    let mut results = client.wait_all(names).await.unwrap();
    let mut answered = 0;
    while answered < ids.len() {
        let next = tokio::time::timeout(Duration::from_secs(120), results.next()).await;
        let next = next.unwrap_or_else(|_| panic!("no result of {:?}", results.outstanding())).unwrap();
        assert_eq!(next.result().unwrap().status, redial::Status::Ok, "{}", next.json);
        answered += 1;
    }
}

#[tokio::test]
async fn partitions_are_added_while_work_goes_on_and_every_call_is_made_once() {
    let stage = Stage::slow(Duration::from_millis(5)).await;
    let _workers = [stage.ready_worker().await, stage.ready_worker().await];
    let client = Client::open(stage.redis.url(), "default").unwrap();
    let ids = ids("t", 2_000);
    let growing = async {
        for partitions in [1, 4, 8] {
            sleep(Duration::from_secs(1)).await;
            spread(&stage.redis, partitions).await;
        }
    };
    tokio::join!(push(&client, &stage.queue, &stage.upstream, &ids), growing);
    all_are_answered(&client, &ids).await;
    let calls = calls_by_path(&stage.upstream);
    assert_eq!(calls.len(), 2_000);
    assert!(calls.values().all(|count| *count == 1), "{calls:?}");

    // A client that has heard of it uses all of them, and the plain list is served as before.
    sleep(Duration::from_secs(4)).await;
    let more = super::ids("u", 400);
    push(&client, &stage.queue, &stage.upstream, &more).await;
    all_are_answered(&client, &more).await;
    for partition in 0..8 {
        let queue = format!("default/{partition}");
        assert!(completed(&stage.redis, &queue).await > 0, "{queue} was not used");
    }
    assert!(completed(&stage.redis, "default").await >= 240, "the plain list");
}

#[tokio::test]
async fn a_worker_that_is_killed_while_partitions_are_added_loses_nothing() {
    const HELD: usize = 8;
    let stage = Stage::slow(Duration::from_millis(20)).await;
    let start = || stage.worker().env("REDIAL_LEASE_MS", "4000").env("REDIAL_CONCURRENCY", HELD.to_string()).spawn();
    let mut workers = vec![start(), start()];
    let client = Client::open(stage.redis.url(), "default").unwrap();
    let ids = ids("t", 1_500);
    let faults = async {
        for partitions in [2, 5, 8] {
            sleep(Duration::from_millis(900)).await;
            spread(&stage.redis, partitions).await;
            sleep(Duration::from_millis(400)).await;
            workers.remove(0).kill9();
            workers.push(start());
        }
    };
    tokio::join!(push(&client, &stage.queue, &stage.upstream, &ids), faults);
    all_are_answered(&client, &ids).await;
    let calls = calls_by_path(&stage.upstream);
    let repeated: usize = calls.values().map(|count| count - 1).sum();
    assert_eq!(calls.len(), 1_500);
    // Only what a killed worker held is called again.
    assert!(repeated <= 3 * HELD, "{repeated} calls were made again");
}

#[tokio::test]
async fn a_task_that_is_pushed_once_stays_once_when_partitions_are_added() {
    let stage = Stage::slow(Duration::ZERO).await;
    let _worker = stage.ready_worker().await;
    let keep = Duration::from_secs(600);
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let id = format!("once{n}");
            let task = json!({"id": id, "url": stage.url(&format!("/{id}"))}).to_string();
            (redial::prepare(&task).unwrap(), TaskFingerprint::of([id.as_bytes()]))
        })
        .collect();
    for (round, partitions) in [0, 3, 8].into_iter().enumerate() {
        if partitions > 0 {
            spread(&stage.redis, partitions).await;
        }
        // Each is a program that knows the partitions as they are, and half of the tasks are new.
        let client = Client::open(stage.redis.url(), "default").unwrap();
        for (task, fingerprint) in &tasks[..(round + 1) * 6] {
            assert!(client.push_once(task, *fingerprint, keep).await.unwrap());
            let other = TaskFingerprint::of([&b"another"[..]]);
            assert!(!client.push_once(task, other, keep).await.unwrap(), "{} with another body", task.id);
        }
    }
    let client = Client::open(stage.redis.url(), "default").unwrap();
    for (task, fingerprint) in &tasks[..18] {
        let mut results = client.push_once_and_wait(task, *fingerprint, keep).await.unwrap().unwrap();
        let result = tokio::time::timeout(SOON, results.next()).await.unwrap().unwrap();
        assert_eq!(result.id, task.id);
    }
    let calls = calls_by_path(&stage.upstream);
    assert_eq!((calls.len(), calls.values().sum::<usize>()), (18, 18), "{calls:?}");
}

#[tokio::test]
async fn memos_and_limits_are_shared_by_all_partitions() {
    let stage = Stage::slow(Duration::from_millis(300)).await;
    spread(&stage.redis, 8).await;
    let _workers = [stage.ready_worker().await, stage.ready_worker().await];
    let client = Client::open(stage.redis.url(), "default").unwrap();

    // The same call from many partitions is made once, and so is one under an idempotency key.
    for fields in [json!({"cache_ttl_ms": 60_000}), json!({"idempotency_key": "k", "method": "POST"})] {
        let before = stage.upstream.count();
        let tasks = (0..30).map(|_| {
            let mut task = fields.clone();
            task["url"] = json!(stage.url("/same"));
            task.to_string()
        });
        let mut results = client.enqueue_all_and_wait(tasks).await.unwrap();
        for _ in 0..30 {
            let next = tokio::time::timeout(SOON, results.next()).await.unwrap().unwrap();
            assert_eq!(next.result().unwrap().status, redial::Status::Ok, "{}", next.json);
        }
        assert_eq!(stage.upstream.count() - before, 1, "{fields}");
    }

    let before = stage.upstream.count();
    let limit: redial::Limit = serde_json::from_value(json!({"name": "two", "concurrency": 2})).unwrap();
    client.set_limit(&limit).await.unwrap();
    let calls = (0..20).map(|n| json!({"url": stage.url(&format!("/{n}")), "limit": "two"}).to_string());
    let mut results = client.enqueue_all_and_wait(calls).await.unwrap();
    while tokio::time::timeout(SOON, results.next()).await.unwrap().is_some() {}
    assert_eq!(stage.upstream.count() - before, 20);
    let at_once = overlap(&stage.upstream.calls()[usize::try_from(before).unwrap()..]);
    assert!(at_once <= 2, "{at_once} calls at the same time");
}

/// The most calls that arrived within less time than one takes.
fn overlap(calls: &[redial_tests::Request]) -> usize {
    let mut at: Vec<u64> = calls.iter().map(|call| call.unix_ms).collect();
    at.sort_unstable();
    let most = (0..at.len()).map(|first| at[first..].iter().take_while(|later| **later < at[first] + 250).count());
    most.max().unwrap_or(0)
}

#[tokio::test]
async fn the_partitions_of_a_queue_lie_on_all_nodes_of_a_cluster() {
    redial_tests::stalls::watch();
    let cluster = Cluster::start(3).await;
    let upstream = Upstream::start(|_| Reply::ok()).await;
    let _workers = [Worker::builder(&cluster).spawn(), Worker::builder(&cluster).spawn()];
    spread(&cluster, 12).await;
    let client = Client::open(cluster.url(), "default").unwrap();
    let ids = ids("t", 600);
    push(&client, &TestQueue::new(&cluster, "default"), &upstream, &ids).await;
    all_are_answered(&client, &ids).await;
    let calls = calls_by_path(&upstream);
    assert_eq!((calls.len(), upstream.count()), (600, 600));
    let mut by_node: HashMap<u16, u64> = HashMap::new();
    for partition in 0..12 {
        let queue = format!("default/{partition}");
        let node = cluster.node_of(&format!("redial:{{{queue}}}")).await;
        *by_node.entry(node.port()).or_insert(0) += completed(node, &queue).await;
    }
    assert!(by_node.len() == 3 && by_node.values().all(|tasks| *tasks > 0), "{by_node:?}");
    // Its users find each of them, and count all.
    let cli = Cli::new(&cluster);
    let status = cli.run(&["--json", "status", "t1", "t10", "t599"]).await;
    assert_eq!((status.status, status.stdout.matches("\"complete\"").count()), (0, 3), "{}", status.stdout);
    let all_counted = || async {
        let queues = cli.run(&["--json", "queues"]).await.stdout;
        let queue: Value = serde_json::from_str(queues.lines().next()?).ok()?;
        (queues.lines().count() == 1 && queue["completed"] == 600).then_some(())
    };
    eventually(SOON, all_counted).await;
}

#[tokio::test]
async fn a_number_that_redis_lost_is_raised_again_by_workers() {
    let stage = Stage::slow(Duration::ZERO).await;
    spread(&stage.redis, 4).await;
    let _worker = stage.ready_worker().await;
    let number = || async { stage.redis.cli(&["HGET", "redial:partitions", "default"]).await };
    let is_served = || async {
        let workers = stage.redis.cli(&["ZRANGE", "redial:workers", "0", "-1"]).await;
        workers.contains("default/3").then_some(())
    };
    eventually(SOON, is_served).await;
    stage.redis.cli(&["HSET", "redial:partitions", "default", "1"]).await;
    eventually(SOON, || async { (number().await == "4").then_some(()) }).await;
    stage.redis.cli(&["DEL", "redial:partitions"]).await;
    eventually(SOON, || async { (number().await == "4").then_some(()) }).await;
}

#[tokio::test]
async fn an_answer_is_read_while_it_arrives_from_whatever_partition() {
    let piece = || (Duration::from_millis(50), "piece ");
    let stage = Stage::answering(move |_| Reply::streamed([piece(), piece(), piece()])).await;
    spread(&stage.redis, 4).await;
    let _worker = stage.ready_worker().await;
    let client = Client::open(stage.redis.url(), "default").unwrap();
    let pushed = client.enqueue(Call::get(stage.url("/a")).stream()).await.unwrap();
    // Another program pushed it to the plain list, and has not yet.
    let (other, plain) = (TaskId::new("plain").unwrap(), client.clone());
    for id in [pushed, other] {
        let mut entries = plain.stream(&id, redial::EntryId::START);
        if id.as_str() == "plain" {
            stage.queue.push(json!({"id": "plain", "url": stage.url("/b"), "stream": true}).to_string()).await;
        }
        let mut text = Vec::new();
        while let Some(entry) = tokio::time::timeout(SOON, entries.next()).await.unwrap() {
            if let redial::StreamEvent::Data(bytes) = entry.event {
                text.extend(bytes);
            }
        }
        assert_eq!(String::from_utf8(text).unwrap(), "piece piece piece ", "{id}");
    }
}
