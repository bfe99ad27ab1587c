//! Many queues on one worker: all are served, idle ones cost next to nothing, and what happens in one is noticed in time.

use std::time::{Duration, Instant};

use redial::Client;
use redial_tests::{Cli, Cluster, Proxy, TestQueue, Upstream, Worker, eventually};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{SOON, Stage, ids, now_ms};

/// Starts a worker that serves these queues.
async fn serve(stage: &Stage, names: &[String]) -> Worker {
    let worker = stage.worker().env("REDIAL_QUEUES", names.join(",")).spawn();
    worker.wait_ready().await;
    worker
}

/// How many commands Redis executes a second, those inside scripts included, over this time.
async fn commands_per_second(stage: &Stage, span: Duration) -> u64 {
    let before = stage.redis.info_number("total_commands_processed").await;
    let since = Instant::now();
    sleep(span).await;
    let executed = stage.redis.info_number("total_commands_processed").await - before;
    executed / since.elapsed().as_secs().max(1)
}

/// Waits until the fleet has found its queues idle.
async fn wait_idle(stage: &Stage, at_most: u64) {
    let is_idle = || async { (commands_per_second(stage, Duration::from_secs(2)).await <= at_most).then_some(()) };
    eventually(SOON, is_idle).await;
}

/// Pushes a task to each queue, and waits for the results.
async fn answer_in_each(stage: &Stage, names: &[String], id: &str) {
    let mut connection = stage.redis.connection().await;
    let mut pushes = redis::pipe();
    for name in names {
        let task = json!({"id": id, "url": stage.url(&format!("/ok?key={}", now_ms()))}).to_string();
        pushes.lpush(TestQueue::new(&stage.redis, name).key(), task).ignore();
    }
    pushes.exec_async(&mut connection).await.unwrap();
    let keys: Vec<String> = names.iter().map(|name| format!("redial:{{{name}}}:result:{id}")).collect();
    let all_answered = || async {
        let mut exists = redis::cmd("EXISTS");
        let answered: usize = exists.arg(&keys).query_async(&mut connection.clone()).await.unwrap();
        (answered == names.len()).then_some(())
    };
    eventually(SOON, all_answered).await;
}

#[tokio::test]
async fn five_hundred_queues_are_served_by_one_worker_and_cost_next_to_nothing_while_idle() {
    const QUEUES: usize = 500;
    let stage = Stage::unruly().await;
    let names = ids("q", QUEUES);
    let before = stage.redis.info_number("connected_clients").await;
    let worker = serve(&stage, &names).await;
    let connections = stage.redis.info_number("connected_clients").await - before;
    assert!(connections <= QUEUES as u64 + 8, "{connections} connections");
    answer_in_each(&stage, &names, "a").await;

    wait_idle(&stage, 50).await;
    // What was counted of the answers is published in between, once.
    let ten_seconds = Duration::from_secs(10);
    let is_idle = || async { (commands_per_second(&stage, ten_seconds).await <= 50).then_some(()) };
    eventually(Duration::from_secs(90), is_idle).await;
    answer_in_each(&stage, &names, "b").await;

    worker.term();
    let status = worker.wait_exit(Duration::from_secs(15)).await;
    assert_eq!(status.code(), Some(0), "{}", worker.log());
}

#[tokio::test]
async fn what_comes_to_an_idle_queue_without_a_push_is_noticed_within_seconds() {
    let stage = Stage::unruly().await;
    let names = ids("q", 40);
    let worker = serve(&stage, &names).await;
    wait_idle(&stage, 30).await;
    let task = |id: &str| json!({"id": id, "url": stage.url("/ok")}).to_string();
    let entry = |id: &str| format!("w:1:{id} 1000 0 0 -\n{}", task(id));
    // By another worker that scheduled it and has ended since.
    worker.pause();
    let other = serve(&stage, &names[7..8]).await;
    let delayed = json!({"id": "scheduled", "url": stage.url("/ok"), "delay_ms": 1_000}).to_string();
    stage.redis.cli(&["LPUSH", "redial:{q7}", &delayed]).await;
    let is_scheduled = || async { (stage.redis.cli(&["ZCARD", "redial:{q7}:scheduled"]).await == "1").then_some(()) };
    eventually(SOON, is_scheduled).await;
    other.kill9();
    worker.resume();
    // Handed to a worker that died at that instant.
    stage.redis.cli(&["LPUSH", "redial:{q8}:handoff", &task("handoff")]).await;
    // By an operator.
    let client = Client::open(stage.redis.url(), "q9").unwrap();
    client.schedule("tick", "* * * * * *", None, &json!({"url": stage.url("/ok?key=tick")}).to_string()).await.unwrap();
    let came = Instant::now();
    for (queue, id) in [("q7", "scheduled"), ("q8", "handoff")] {
        TestQueue::new(&stage.redis, queue).wait_result(id, Duration::from_secs(4)).await;
    }
    let fired = || async { stage.upstream.calls().iter().any(|call| call.query("key") == Some("tick")).then_some(()) };
    eventually(SOON, fired).await;
    assert!(came.elapsed() < Duration::from_secs(5), "{:?}", came.elapsed());

    // By a worker that was killed before anyone knew of it.
    stage.redis.cli(&["HSET", "redial:{q10}:active:dead-0", "dead-0:1:1", &entry("orphan")]).await;
    stage.redis.cli(&["ZADD", "redial:{q10}:workers", &(now_ms() + 8_000).to_string(), "dead-0"]).await;
    TestQueue::new(&stage.redis, "q10").wait_result("orphan", Duration::from_secs(14)).await;
}

#[tokio::test]
async fn a_push_wakes_an_idle_worker_again_after_its_connections_stood_still_or_broke() {
    let stage = Stage::unruly().await;
    let proxy = Proxy::before(stage.redis.port()).await;
    let worker = Worker::spawn(proxy.url());
    worker.wait_ready().await;
    let woken = async |id: &str| {
        let pushed = now_ms();
        stage.answer(json!({"id": id, "url": stage.url(&format!("/ok?key={id}"))})).await;
        let calls = stage.upstream.calls();
        let call = calls.iter().find(|call| call.query("key") == Some(id)).unwrap();
        let stalled = redial_tests::stalls::between(pushed, call.unix_ms);
        let waited = call.unix_ms.saturating_sub(pushed).saturating_sub(stalled);
        assert!(waited < 700, "{id}: {waited} ms after its push");
    };
    woken("first").await;
    // Half-open: no connection breaks, and nothing arrives.
    proxy.set_silent(true);
    let red = || async { (worker.get("/readyz").await.0 == 503).then_some(()) };
    eventually(Duration::from_secs(12), red).await;
    proxy.set_silent(false);
    worker.wait_ready().await;
    sleep(Duration::from_secs(3)).await;
    woken("after-the-silence").await;
    proxy.break_all();
    sleep(Duration::from_secs(3)).await;
    woken("after-the-break").await;
}

#[tokio::test]
async fn idle_workers_are_listed_and_gone_ones_are_marked_or_leave() {
    let stage = Stage::unruly().await;
    let names = vec!["a".to_owned(), "b".to_owned()];
    let workers = [serve(&stage, &names).await, serve(&stage, &names).await];
    let cli = Cli::new(&stage.redis);
    let listed = async || -> Vec<Value> {
        let output = cli.run(&["--json", "workers"]).await.stdout;
        output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    wait_idle(&stage, 20).await;
    let all = listed().await;
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(all.iter().all(|worker| worker["tasks"] == 0 && worker["gone"] == false), "{all:?}");
    let queues = cli.run(&["--json", "queues"]).await.stdout;
    assert_eq!(queues.matches("\"workers\":2").count(), 2, "{queues}");

    let [killed, stopped] = workers;
    stopped.term();
    stopped.wait_exit(SOON).await;
    killed.kill9();
    let marked = || async {
        let all = listed().await;
        (all.len() == 2 && all.iter().all(|worker| worker["gone"] == true)).then_some(())
    };
    eventually(SOON, marked).await;
}

#[tokio::test]
async fn in_a_cluster_too_what_comes_to_an_idle_queue_is_noticed_within_seconds() {
    let cluster = Cluster::start(3).await;
    let upstream = Upstream::unruly().await;
    let names = ids("q", 6);
    let worker = Worker::builder(&cluster).env("REDIAL_QUEUES", names.join(",")).spawn();
    worker.wait_ready().await;
    // Long enough for all to be found idle.
    sleep(Duration::from_secs(5)).await;
    for name in &names {
        let queue = TestQueue::new(&cluster, name);
        let task = json!({"id": "a", "url": upstream.url("/ok")}).to_string();
        cluster.node_of(&queue.key()).await.cli(&["LPUSH", &format!("{}:handoff", queue.key()), &task]).await;
    }
    for name in &names {
        TestQueue::new(&cluster, name).wait_result("a", Duration::from_secs(5)).await;
    }
    for name in &names {
        let queue = TestQueue::new(&cluster, name);
        queue.push(json!({"id": "b", "url": upstream.url("/ok")}).to_string()).await;
        queue.wait_result("b", SOON).await;
    }
    worker.term();
    assert_eq!(worker.wait_exit(SOON).await.code(), Some(0), "{}", worker.log());
}
