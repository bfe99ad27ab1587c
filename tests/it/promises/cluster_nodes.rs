//! One node of a Cluster hangs or dies: what lies on the others goes on as if nothing had happened.

use std::time::Duration;

use http::HeaderMap;
use redial_core::Task;
use redial_core::memo::MemoKey;
use redial_tests::stalls::{self, now_ms};
use redial_tests::{Cluster, Proxy, RedisServer, Reply, TestQueue, Upstream, Worker, eventually};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{SOON, answered, counter, ids, number};

/// The promise, in ms.
const AT_ONCE_MS: u64 = 2_000;

/// A Cluster of three masters, of which one will be broken.
struct Nodes {
    cluster: Cluster,
    victim: usize,
}

impl Nodes {
    async fn start() -> Self {
        stalls::watch();
        let cluster = Cluster::start(3).await;
        for node in cluster.nodes() {
            // By default a Cluster whose node has no replica to take over serves nothing at all.
            node.cli(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await;
        }
        Self { cluster, victim: 1 }
    }

    fn victim(&self) -> &RedisServer {
        &self.cluster.nodes()[self.victim]
    }

    /// The first names of which keys lie on the victim, or on another node.
    async fn names(&self, count: usize, on_victim: bool, key: impl Fn(&str) -> String) -> Vec<String> {
        let mut names = Vec::new();
        for n in 0.. {
            let name = format!("n{n}");
            let node = self.cluster.node_of(&key(&name)).await;
            if (node.port() == self.victim().port()) == on_victim {
                names.push(name);
            }
            if names.len() == count {
                break;
            }
        }
        names
    }

    async fn queues(&self, count: usize, on_victim: bool) -> Vec<String> {
        self.names(count, on_victim, |name| format!("redial:{{{name}}}")).await
    }

    /// A queue over a connection to its node alone: the tests' own Cluster client would wait for the victim.
    async fn queue(&self, name: &str) -> TestQueue {
        let node = self.cluster.node_of(&format!("redial:{{{name}}}")).await;
        TestQueue::new(node, name)
    }

    async fn worker(&self, queues: &[String]) -> Worker {
        let queues = queues.join(",");
        let worker = Worker::builder(&self.cluster)
            .env("REDIAL_QUEUES", queues)
            .env("REDIAL_CONCURRENCY", SLOTS.to_string())
            .spawn();
        worker.wait_ready().await;
        worker
    }

    /// An upstream whose breaker lies on the victim, or on another node. Calls to `/long/…` take a second.
    async fn upstream(&self, on_victim: bool) -> Upstream {
        loop {
            let upstream = Upstream::start(|request| {
                let delay = if request.route().starts_with("/long") { 1_000 } else { 0 };
                Reply::ok().after(Duration::from_millis(delay))
            })
            .await;
            let node = self.cluster.node_of(&format!("redial:breaker:{{{}}}", upstream.address())).await;
            if (node.port() == self.victim().port()) == on_victim {
                return upstream;
            }
        }
    }
}

/// Pushes 100 tasks and asserts that each is answered at once.
async fn a_hundred_are_answered_at_once(queue: &TestQueue, prefix: &str, upstream: &Upstream) {
    let ids = ids(prefix, 100);
    let pushed = now_ms();
    queue.push_all(ids.iter().map(|id| json!({"id": id, "url": upstream.url("/")}).to_string())).await;
    let results = queue.wait_results(&ids, SOON).await;
    assert_eq!(answered(&results), 100);
    let last = results.iter().map(|result| number(&result["finished_at_ms"])).max().unwrap_or_default();
    let allowed = AT_ONCE_MS + stalls::between(pushed, last);
    assert!(last.saturating_sub(pushed) <= allowed, "{prefix}: the last after {} ms", last.saturating_sub(pushed));
}

#[tokio::test]
async fn queues_on_other_nodes_are_served_while_a_node_hangs_or_is_dead() {
    let nodes = Nodes::start().await;
    let (broken, well) = (nodes.queues(8, true).await, nodes.queues(1, false).await.remove(0));
    let mut all = broken.clone();
    all.push(well.clone());
    let worker = nodes.worker(&all).await;
    let upstream = nodes.upstream(false).await;
    let queue = nodes.queue(&well).await;
    a_hundred_are_answered_at_once(&queue, "before", &upstream).await;

    nodes.victim().pause();
    for round in 0..4 {
        a_hundred_are_answered_at_once(&queue, &format!("hung{round}-"), &upstream).await;
        sleep(Duration::from_secs(2)).await;
    }
    let (status, body) = worker.get("/readyz").await;
    assert!(status == 503 && broken.iter().any(|name| body.contains(&format!("commands about {name} "))), "{body}");
    nodes.victim().resume();
    worker.wait_ready().await;

    nodes.victim().kill9();
    for round in 0..4 {
        a_hundred_are_answered_at_once(&queue, &format!("dead{round}-"), &upstream).await;
        sleep(Duration::from_secs(1)).await;
    }
    nodes.victim().restart().await;
    let back = nodes.queue(&broken[0]).await;
    let task = json!({"id": "back", "url": upstream.url("/")});
    back.push(task.to_string()).await;
    assert_eq!(back.wait_result("back", SOON).await["status"], "ok");
    let lines = worker.log().lines().count();
    assert!(lines < 150, "{lines} lines in the log:\n{}", worker.log());
}

#[tokio::test]
async fn tasks_whose_limit_memo_breaker_or_reply_list_is_on_a_hung_node_occupy_no_slots() {
    let nodes = Nodes::start().await;
    let well = nodes.queues(1, false).await.remove(0);
    let _worker = nodes.worker(std::slice::from_ref(&well)).await;
    let queue = nodes.queue(&well).await;
    let (upstream, elsewhere) = (nodes.upstream(false).await, nodes.upstream(true).await);
    let limit = nodes.names(1, true, |name| format!("redial:limit:{{{name}}}")).await.remove(0);
    let list = nodes.names(1, true, |name| format!("answers:{name}")).await.remove(0);
    a_hundred_are_answered_at_once(&queue, "before", &upstream).await;

    nodes.victim().pause();
    let mut affected = Vec::new();
    let kinds: [(&str, &Upstream, Value); 4] = [
        ("limit", &upstream, json!({"limit": {"name": limit, "rate": 1000}})),
        ("breaker", &elsewhere, json!({})),
        // Each key has a memo of its own, on whatever node.
        ("memo", &upstream, json!({"cache_ttl_ms": 60_000})),
        ("reply", &upstream, json!({"reply_to": format!("answers:{list}")})),
    ];
    for (kind, upstream, fields) in &kinds {
        let ids = ids(kind, 100);
        let tasks = ids.iter().map(|id| {
            let mut task = fields.clone();
            task["id"] = json!(id);
            task["url"] = json!(upstream.url(&format!("/{id}")));
            task.to_string()
        });
        queue.push_all(tasks).await;
        affected.extend(ids);
    }
    // By now the node is known to hang; until then a task may wait for it in its slot.
    sleep(Duration::from_secs(2)).await;
    for round in 0..3 {
        a_hundred_are_answered_at_once(&queue, &format!("beside{round}-"), &upstream).await;
        // Its breaker cannot be asked, and was not known to be open.
        a_hundred_are_answered_at_once(&queue, &format!("without-breaker{round}-"), &elsewhere).await;
        sleep(Duration::from_secs(1)).await;
    }
    nodes.victim().resume();
    assert_eq!(answered(&queue.wait_results(&affected, SOON * 2).await), affected.len());
}

/// How many slots the workers of these tests have.
const SLOTS: usize = 64;

#[tokio::test]
async fn tasks_that_cannot_be_settled_on_a_hung_node_give_their_slots_to_others() {
    let nodes = Nodes::start().await;
    let (broken, well) = (nodes.queues(1, true).await.remove(0), nodes.queues(1, false).await.remove(0));
    let memo_queue = nodes.queues(2, false).await.remove(1);
    let _worker = nodes.worker(&[broken.clone(), well.clone(), memo_queue.clone()]).await;
    let upstream = nodes.upstream(false).await;
    let queue = nodes.queue(&well).await;
    // The memo of each idempotency key is on whatever node: a third of these are on the one that hangs.
    let kinds = [(&broken, json!({})), (&memo_queue, json!({"idempotency_key": ""}))];
    for (name, fields) in kinds {
        let (own, of_kind) = (nodes.queue(name).await, upstream.calls().len());
        let ids = ids(name, SLOTS);
        let tasks = ids.iter().map(|id| {
            let mut task = fields.clone();
            task["id"] = json!(id);
            task["url"] = json!(upstream.url(&format!("/long/{id}")));
            if !task["idempotency_key"].is_null() {
                task["idempotency_key"] = json!(id);
            }
            task.to_string()
        });
        own.push_all(tasks).await;
        eventually(SOON, || async { (upstream.calls().len() == of_kind + SLOTS).then_some(()) }).await;
        nodes.victim().pause();
        // Their calls end after 1 s, and Redis does not take what came of them.
        sleep(Duration::from_millis(2_500)).await;
        for round in 0..2 {
            a_hundred_are_answered_at_once(&queue, &format!("beside-{name}-{round}-"), &upstream).await;
        }
        nodes.victim().resume();
        assert_eq!(answered(&own.wait_results(&ids, SOON).await), SLOTS);
        for id in &ids {
            assert_eq!(upstream.calls_to(&format!("/long/{id}")).len(), 1, "{id} was called once");
        }
    }
}

#[tokio::test]
async fn a_node_that_only_closes_connections_is_away_and_refuses_nothing() {
    let nodes = Nodes::start().await;
    let mut proxies = Vec::new();
    for node in nodes.cluster.nodes() {
        proxies.push(Proxy::before(node.port()).await);
    }
    nodes.cluster.announce_ports(&proxies.iter().map(Proxy::port).collect::<Vec<_>>()).await;
    let (broken, well) = (nodes.queues(1, true).await.remove(0), nodes.queues(1, false).await.remove(0));
    let worker = nodes.worker(&[broken.clone(), well.clone()]).await;
    let upstream = nodes.upstream(false).await;
    let (queue, own) = (nodes.queue(&well).await, nodes.queue(&broken).await);
    let ids = ids("held", 20);
    own.push_all(ids.iter().map(|id| json!({"id": id, "url": upstream.url(&format!("/long/{id}"))}).to_string())).await;
    eventually(SOON, || async { (upstream.calls().len() == ids.len()).then_some(()) }).await;
    proxies[nodes.victim].set_closing(true);
    for round in 0..3 {
        a_hundred_are_answered_at_once(&queue, &format!("beside{round}-"), &upstream).await;
        sleep(Duration::from_secs(2)).await;
    }
    proxies[nodes.victim].set_closing(false);
    assert_eq!(answered(&own.wait_results(&ids, SOON).await), ids.len(), "{}", worker.log());
    assert_eq!(counter(&worker, "redial_redis_refusals_total").await, 0, "{}", worker.log());
}

#[tokio::test]
async fn memos_on_other_nodes_are_asked_and_settled_while_a_node_hangs() {
    let nodes = Nodes::start().await;
    let well = nodes.queues(1, false).await.remove(0);
    let _worker = nodes.worker(std::slice::from_ref(&well)).await;
    let (queue, upstream) = (nodes.queue(&well).await, nodes.upstream(false).await);
    let task = |id: &str| json!({"id": id, "url": upstream.url(&format!("/{id}")), "cache_ttl_ms": 60_000}).to_string();
    let memo = |id: &str| {
        let task = Task::parse(task(id).as_bytes(), 1 << 20).unwrap();
        format!("redial:memo:{{{}}}", MemoKey::cache(&task, &HeaderMap::new()).hash)
    };
    let (there, away) = (nodes.names(150, false, memo).await, nodes.names(50, true, memo).await);
    nodes.victim().pause();
    queue.push_all(away.iter().map(|id| task(id))).await;
    // By now the node is known to hang.
    sleep(Duration::from_secs(2)).await;
    for some in there.chunks(50) {
        let pushed = now_ms();
        queue.push_all(some.iter().map(|id| task(id))).await;
        let results = queue.wait_results(some, SOON).await;
        assert_eq!(answered(&results), some.len());
        let last = results.iter().map(|result| number(&result["finished_at_ms"])).max().unwrap_or_default();
        let allowed = AT_ONCE_MS + stalls::between(pushed, last);
        assert!(last.saturating_sub(pushed) <= allowed, "the last after {} ms", last.saturating_sub(pushed));
    }
    nodes.victim().resume();
    assert_eq!(answered(&queue.wait_results(&away, SOON * 2).await), away.len());
    let key = memo(&there[0]);
    let kept = nodes.cluster.node_of(&key).await.cli(&["GET", &key]).await;
    // When it expires, when it was stored, whether it is good.
    assert_eq!(kept.split(' ').nth(2), Some("1"), "the memo that was meant: {kept}");
}
