//! A worker on a Cluster of three masters, and through a failover by Sentinel.

use std::time::{Duration, Instant};

use redial_core::queue::cancel::Cancelled;
use redial_core::stream::reader::StreamReader;
use redial_core::{Db, EntryId, QueueName, StreamEvent, TaskId};
use redial_tests::{Cluster, RedisServer, Reply, Sentinel, TestQueue, Upstream, Worker, eventually};
use serde_json::json;
use tokio::time::timeout;

use super::streams::Reading;
use super::{SOON, answered, ids};

const QUEUES: [&str; 4] = ["default", "critical", "mail", "bulk"];

#[tokio::test]
async fn a_cluster_serves_every_queue_and_every_reply_list() {
    let cluster = Cluster::start(3).await;
    let upstream = Upstream::unruly().await;
    let worker = Worker::builder(&cluster).env("REDIAL_QUEUES", QUEUES.join(",")).spawn();
    worker.wait_ready().await;
    let tasks = |name: &str| {
        let replies = [format!("answers:{{{name}}}"), "answers:elsewhere".to_owned()];
        let paths = ["/ok", "/flaky/1/503?key=k", "/status/400"];
        let name = name.to_owned();
        let url = paths.map(|path| upstream.url(path));
        (0..30).map(move |n| {
            json!({"id": format!("{name}{n}"), "url": url[n % 3], "reply_to": replies[n % 2], "retry": {"base_ms": 10}})
                .to_string()
        })
    };
    let queues = QUEUES.map(|name| TestQueue::new(&cluster, name));
    for (name, queue) in QUEUES.iter().zip(&queues) {
        queue.push_all(tasks(name)).await;
        queue.push("no task").await;
    }
    for (name, queue) in QUEUES.iter().zip(&queues) {
        let results = queue.wait_results(&ids(name, 30), SOON).await;
        assert_eq!(answered(&results), 20, "{name}");
        let near = format!("answers:{{{name}}}");
        assert_eq!(length(&cluster, &near, 15).await, 15);
        let dead = || async { (queue.dead().await.len() == 11).then_some(()) };
        eventually(SOON, dead).await;
    }
    // The reply list is in a different slot from all queues; each result is still delivered once.
    assert_eq!(length(&cluster, "answers:elsewhere", 60).await, 60);
    let log = worker.log();
    assert!(!log.contains("CROSSSLOT") && !log.contains("Redis does not answer"), "{log}");
    worker.term();
    assert_eq!(worker.wait_exit(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn on_a_cluster_streams_are_read_and_calls_are_cancelled_at_once() {
    let cluster = Cluster::start(3).await;
    let piece = || (Duration::from_millis(50), "piece ");
    let upstream = Upstream::start(move |request| match request.route() {
        "/endless" => Reply::streamed([piece()]).stalled(),
        _ => Reply::streamed([piece(), piece(), piece()]),
    })
    .await;
    let worker =
        Worker::builder(&cluster).env("REDIAL_QUEUES", QUEUES.join(",")).env("REDIAL_LEASE_MS", "60000").spawn();
    worker.wait_ready().await;
    let db = Db::open(cluster.as_ref(), "redial").unwrap();
    for name in QUEUES {
        let queue = db.queue(QueueName::new(name).unwrap());
        let reader = StreamReader::new(queue.clone());
        let raw = TestQueue::new(&cluster, name);
        let task = |id: &str, path: &str| json!({"id": id, "url": upstream.url(path), "stream": true}).to_string();
        let [first, second, endless] = ["first", "second", "endless"].map(|id| TaskId::new(id).unwrap());
        let mut streams = [&first, &second].map(|id| reader.read(id, EntryId::START));
        raw.push_all([task("first", "/"), task("second", "/"), task("endless", "/endless")]).await;
        for entries in &mut streams {
            let mut reading = Reading::default();
            while let Some(entry) = timeout(SOON, entries.next()).await.expect("a stream goes on") {
                reading.take(entry);
            }
            assert_eq!(
                (reading.text().as_str(), reading.last),
                ("piece piece piece ", Some(StreamEvent::End)),
                "{name}"
            );
        }
        let _entry = timeout(SOON, reader.read(&endless, EntryId::START).next()).await.unwrap().unwrap();
        assert!(matches!(queue.cancel(&endless, 1_000).await.unwrap(), Cancelled::Done(_)));
        let cancelled = Instant::now();
        eventually(SOON, || async { (upstream.in_flight() == 0).then_some(()) }).await;
        assert!(cancelled.elapsed() < Duration::from_secs(3), "{name}: {:?}", cancelled.elapsed());
    }
}

#[tokio::test]
async fn on_a_cluster_tasks_of_different_queues_share_one_call() {
    const CALLS: usize = 12;
    let cluster = Cluster::start(3).await;
    let upstream = Upstream::start(|_| Reply::ok().after(Duration::from_secs(2))).await;
    let start =
        || Worker::builder(&cluster).env("REDIAL_QUEUES", QUEUES.join(",")).env("REDIAL_LEASE_MS", "3000").spawn();
    let (doomed, other) = (start(), start());
    doomed.wait_ready().await;
    other.wait_ready().await;
    let queues = QUEUES.map(|name| TestQueue::new(&cluster, name));
    let task = |id: &str, n: usize| {
        let mut task = json!({"id": id, "url": upstream.url(&format!("/{}", n % CALLS)), "body": {}});
        // Half of the calls share by idempotency key, half by their content.
        if n.is_multiple_of(2) {
            task["idempotency_key"] = json!(format!("k{}", n % CALLS));
        } else {
            task["cache_ttl_ms"] = json!(60_000);
        }
        task.to_string()
    };
    for (name, queue) in QUEUES.iter().zip(&queues) {
        queue.push_all(ids(name, 60).iter().enumerate().map(|(n, id)| task(id, n))).await;
    }
    eventually(SOON, || async { (upstream.in_flight() == CALLS).then_some(()) }).await;
    doomed.kill9();
    for (name, queue) in QUEUES.iter().zip(&queues) {
        let results = queue.wait_results(&ids(name, 60), SOON).await;
        assert_eq!(answered(&results), 60, "{name}");
    }
    let calls = upstream.count();
    assert!(calls <= 2 * CALLS as u64, "{calls} calls for {CALLS}, those of the killed worker twice");
    let log = other.log();
    assert!(!log.contains("CROSSSLOT") && !log.contains("Redis does not answer"), "{log}");
}

#[tokio::test]
async fn a_cluster_node_that_is_killed_and_restarted_loses_nothing() {
    let cluster = Cluster::start(3).await;
    let upstream = Upstream::start(|_| Reply::ok().after(Duration::from_millis(50))).await;
    let queue = TestQueue::new(&cluster, "default");
    let ids = ids("t", 300);
    queue.push_all(ids.iter().map(|id| json!({"id": id, "url": upstream.url("/")}).to_string())).await;
    let node = cluster.node_of(&queue.key()).await;
    let written = || async { (node.info_number("aof_buffer_length").await == 0).then_some(()) };
    eventually(SOON, written).await;
    let _worker = Worker::builder(&cluster).env("REDIAL_CONCURRENCY", "8").spawn();
    eventually(SOON, || async { (upstream.count() > 60).then_some(()) }).await;

    node.kill9();
    tokio::time::sleep(Duration::from_secs(1)).await;
    node.restart().await;
    assert_eq!(answered(&queue.wait_results(&ids, Duration::from_secs(60)).await), ids.len());
}

#[tokio::test]
async fn a_queue_that_moves_to_another_cluster_node_loses_nothing() {
    let cluster = Cluster::start(3).await;
    let upstream = Upstream::start(|_| Reply::ok().after(Duration::from_millis(20))).await;
    let queue = TestQueue::new(&cluster, "default");
    let ids = ids("t", 300);
    queue.push_all(ids.iter().map(|id| json!({"id": id, "url": upstream.url("/")}).to_string())).await;
    let _worker = Worker::builder(&cluster).env("REDIAL_CONCURRENCY", "8").spawn();
    eventually(SOON, || async { (upstream.count() > 60).then_some(()) }).await;

    let from = cluster.node_of(&queue.key()).await;
    let other = |node: &&RedisServer| node.port() != from.port();
    let to = cluster.nodes().iter().find(other).unwrap();
    move_slot(&cluster, &queue.key(), from, to).await;
    let results = queue.wait_results(&ids, Duration::from_secs(60)).await;
    assert_eq!(answered(&results), ids.len());
    assert_eq!(cluster.node_of(&queue.key()).await.port(), to.port());
    assert_eq!(upstream.count(), ids.len() as u64, "no call is made again");
}

#[tokio::test]
async fn a_sentinel_failover_that_kept_the_writes_loses_nothing() {
    let sentinel = Sentinel::start().await;
    let upstream = Upstream::start(|_| Reply::ok().after(Duration::from_millis(500))).await;
    let worker = Worker::builder(&sentinel).env("REDIAL_CONCURRENCY", "16").spawn();
    worker.wait_ready().await;
    let task = |id: &String| json!({"id": id, "url": upstream.url("/")}).to_string();
    let (before, after) = (ids("before", 80), ids("after", 40));
    TestQueue::new(sentinel.master(), "default").push_all(before.iter().map(task)).await;
    eventually(SOON, || async { (upstream.count() >= 20).then_some(()) }).await;
    sentinel.wait_replicated().await;
    sentinel.fail_over().await;

    let queue = TestQueue::new(sentinel.replica(), "default");
    queue.push_all(after.iter().map(task)).await;
    for ids in [before, after] {
        let results = queue.wait_results(&ids, Duration::from_secs(60)).await;
        assert_eq!(answered(&results), ids.len());
    }
    worker.wait_ready().await;
    worker.term();
    assert_eq!(worker.wait_exit(SOON).await.code(), Some(0));
}

/// Waits until a list has the expected length, and returns it.
async fn length(cluster: &Cluster, list: &str, expected: usize) -> usize {
    let node = cluster.node_of(list).await;
    let complete = || async {
        let found: usize = node.cli(&["LLEN", list]).await.parse().unwrap();
        (found >= expected).then_some(found)
    };
    eventually(SOON, complete).await
}

/// Moves the slot of a key, as `redis-cli --cluster reshard` does.
async fn move_slot(cluster: &Cluster, key: &str, from: &RedisServer, to: &RedisServer) {
    let slot = from.cli(&["CLUSTER", "KEYSLOT", key]).await;
    let set = async |node: &RedisServer, state: &str, of: &str| {
        let answer = node.cli(&["CLUSTER", "SETSLOT", &slot, state, of]).await;
        assert_eq!(answer, "OK");
    };
    let (from_id, to_id) = (from.cli(&["CLUSTER", "MYID"]).await, to.cli(&["CLUSTER", "MYID"]).await);
    set(to, "IMPORTING", &from_id).await;
    set(from, "MIGRATING", &to_id).await;
    let port = to.port().to_string();
    loop {
        let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]).await;
        let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty()).collect();
        if keys.is_empty() {
            break;
        }
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        migrate.extend(keys);
        from.cli(&migrate).await;
    }
    for node in [to, from].into_iter().chain(cluster.nodes()) {
        set(node, "NODE", &to_id).await;
    }
}

#[tokio::test]
async fn the_sender_of_an_invalid_task_without_an_id_is_answered_in_another_cluster_slot() {
    let cluster = Cluster::start(3).await;
    let _worker = Worker::builder(&cluster).env("REDIAL_QUEUES", QUEUES.join(",")).spawn();
    for name in QUEUES {
        let queue = TestQueue::new(&cluster, name);
        queue.push(r#"{"url":"nowhere","reply_to":"answers:elsewhere"}"#).await;
    }
    assert_eq!(length(&cluster, "answers:elsewhere", QUEUES.len()).await, QUEUES.len());
}
