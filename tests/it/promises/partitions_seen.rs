//! What users see of a queue with partitions: one queue.

use std::time::Duration;

use redial_core::{Db, QueueName};
use redial_tests::{Cli, GatewayProcess, Reply, TestQueue, Upstream, eventually};
use serde_json::{Value, json};

use super::partitions::spread;
use super::{SOON, Stage, ids};

async fn json(cli: &Cli, typed: &[&str]) -> Vec<Value> {
    let output = cli.run(&[&["--json"], typed].concat()).await;
    output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One of the queue's own parts: 0 is the plain list, 1 the first partition.
fn part(stage: &Stage, number: usize) -> TestQueue {
    match number {
        0 => TestQueue::new(&stage.redis, "default"),
        _ => TestQueue::new(&stage.redis, &format!("default/{}", number - 1)),
    }
}

/// Pushes tasks with these ids over the plain list and three partitions in turn, as programs in any language may.
async fn push_to_all(stage: &Stage, ids: &[String], path: &str) {
    for (n, id) in ids.iter().enumerate() {
        part(stage, n % 4).push(json!({"id": id, "url": stage.url(path)}).to_string()).await;
    }
}

/// An upstream with a slow path and a path that rejects calls.
async fn stage() -> Stage {
    let upstream = Upstream::start(|request| match request.route() {
        "/slow" => Reply::ok().after(Duration::from_secs(30)),
        "/bad" => Reply::status(422),
        _ => Reply::ok(),
    })
    .await;
    let stage = Stage::on(upstream).await;
    spread(&stage.redis, 3).await;
    stage
}

#[tokio::test]
async fn counts_status_pauses_and_cancellation_see_one_queue() {
    let stage = stage().await;
    let cli = Cli::new(&stage.redis);
    let paused = cli.run(&["pause", "default"]).await;
    assert_eq!(paused.status, 0, "{}", paused.stderr);
    let _workers = [stage.ready_worker().await, stage.ready_worker().await];
    let waiting = ids("w", 40);
    push_to_all(&stage, &waiting, "/").await;
    let queues = json(&cli, &["queues"]).await;
    assert_eq!(queues.len(), 1, "{queues:?}");
    assert_eq!(
        (&queues[0]["queue"], &queues[0]["waiting"], &queues[0]["paused"]),
        (&json!("default"), &json!(40), &json!(true))
    );
    let listed = json(&cli, &["list", "waiting", "--skip", "5", "--limit", "30"]).await;
    let names: std::collections::BTreeSet<&str> = listed.iter().filter_map(|task| task["id"].as_str()).collect();
    assert_eq!((listed.len(), names.len()), (30, 30), "{listed:?}");
    let found = json(&cli, &["status", "w0", "w1", "w2", "w3", "nowhere"]).await;
    let states: Vec<&Value> = found.iter().map(|at| &at["state"]).collect();
    assert_eq!(states, [&json!("waiting"), &json!("waiting"), &json!("waiting"), &json!("waiting"), &Value::Null]);

    // Wherever they are, they can be cancelled, and their results be waited for.
    let cancelled = json(&cli, &["cancel", "w0", "w1", "w2", "w3"]).await;
    assert!(cancelled.iter().all(|outcome| outcome["cancelled"] == true), "{cancelled:?}");
    let results = json(&cli, &["wait", "--timeout", "20", "--ok-dead", "w0", "w1", "w2", "w3"]).await;
    assert!(results.len() == 4 && results.iter().all(|result| result["reason"] == "cancelled"), "{results:?}");
    assert_eq!(stage.upstream.count(), 0, "the queue is paused as a whole");

    // Partitions that are added to a paused queue are paused.
    spread(&stage.redis, 6).await;
    TestQueue::new(&stage.redis, "default/5").push(json!({"id": "late", "url": stage.url("/")}).to_string()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.upstream.count(), 0);
    assert_eq!(cli.run(&["resume", "default"]).await.status, 0);
    eventually(SOON, || async { (stage.upstream.count() == 37).then_some(()) }).await;
    let all_done = || async { (json(&cli, &["queues"]).await[0]["completed"] == 37).then_some(()) };
    eventually(SOON, all_done).await;
    let at = &json(&cli, &["queues"]).await[0];
    assert_eq!((&at["paused"], &at["workers"], &at["dead"]), (&json!(false), &json!(2), &json!(4)), "{at}");
    let workers = json(&cli, &["workers"]).await;
    assert_eq!(workers.len(), 2, "{workers:?}");

    // A call in flight is cancelled as well.
    push_to_all(&stage, &ids("s", 4), "/slow").await;
    stage.wait_in_flight(4).await;
    let cancelled = json(&cli, &["cancel", "s0", "s1", "s2", "s3"]).await;
    assert!(cancelled.iter().all(|outcome| outcome["cancelled"] == true), "{cancelled:?}");
    eventually(SOON, || async { (stage.upstream.in_flight() == 0).then_some(()) }).await;
}

#[tokio::test]
async fn dead_letters_of_all_partitions_are_listed_replayed_and_dropped() {
    let stage = stage().await;
    let _worker = stage.ready_worker().await;
    let cli = Cli::new(&stage.redis);
    let ids = ids("d", 12);
    push_to_all(&stage, &ids, "/bad").await;
    let all_dead = || async { (json(&cli, &["queues"]).await[0]["dead"] == 12).then_some(()) };
    eventually(SOON, all_dead).await;
    assert_eq!(json(&cli, &["dead", "list"]).await.len(), 12);
    assert_eq!(json(&cli, &["dead", "list", "--limit", "5"]).await.len(), 5);
    let shown = json(&cli, &["dead", "show", "d0", "d1", "d2", "d3"]).await;
    assert_eq!(shown.len(), 4);

    // As the dashboard pages through them, none is left out and none repeated.
    let gateway = GatewayProcess::start(&stage.redis, "").await;
    let mut seen = Vec::new();
    let mut before = String::new();
    loop {
        let page = gateway.send("GET", &format!("/v1/queues/default/dead?limit=5{before}"), &[], b"").await.json();
        assert_eq!(page["dead"], 12, "{page}");
        seen.extend(page["letters"].as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_u64() else { break };
        before = format!("&before={next}");
    }
    seen.sort();
    let mut expected = ids.clone();
    expected.sort();
    assert_eq!(seen, expected);
    let groups = gateway.send("GET", "/v1/queues/default/dead/groups", &[], b"").await.json();
    assert_eq!((&groups["counted"], &groups["groups"][0]["letters"]), (&json!(12), &json!(12)), "{groups}");
    let story = gateway.send("GET", "/v1/tasks/d2/story", &[], b"").await.json();
    assert_eq!((&story["state"], &story["letter"]["id"]), (&json!("dead"), &json!("d2")), "{story}");

    let replayed = json(&cli, &["dead", "replay", "d0", "d1", "d2", "d3"]).await;
    assert_eq!(replayed[0]["done"], 4, "{replayed:?}");
    eventually(SOON, || async { (stage.upstream.count() == 16).then_some(()) }).await;
    eventually(SOON, all_dead).await;
    assert_eq!(json(&cli, &["dead", "purge", "--older-than", "1h"]).await[0]["done"], 0);
    assert_eq!(json(&cli, &["dead", "drop", "d5"]).await[0]["done"], 1);
    assert_eq!(json(&cli, &["dead", "drop", "--all", "--yes"]).await[0]["done"], 11);
    assert_eq!(json(&cli, &["queues"]).await[0]["dead"], 0);
}

#[tokio::test]
async fn metrics_events_and_pages_show_one_queue() {
    let stage = stage().await;
    let worker = stage.ready_worker().await;
    let gateway = GatewayProcess::start(&stage.redis, "").await;
    let ids = ids("m", 20);
    push_to_all(&stage, &ids, "/").await;
    super::assert_counted(&worker, "redial_tasks_completed_total{queue=\"default\"}", 20).await;
    let queues = gateway.send("GET", "/v1/queues", &[], b"").await.json();
    assert_eq!(
        (queues["queues"].as_array().unwrap().len(), &queues["queues"][0]["completed"]),
        (1, &json!(20)),
        "{queues}"
    );
    let workers = gateway.send("GET", "/v1/workers", &[], b"").await.json();
    assert_eq!(workers["workers"][0]["queues"].as_array().map(Vec::len), Some(1), "{workers}");
    let counted = || async {
        let counted = gateway.send("GET", "/v1/statistics?queue=default", &[], b"").await.json();
        (counted["completed"]["call"] == 20 || counted["total"]["completed"]["call"] == 20).then_some(())
    };
    eventually(SOON, counted).await;
    let top = Cli::new(&stage.redis).run(&["top", "--once"]).await.stdout;
    assert!(top.contains("Queues (1)"), "{top}");
    let queue = Db::open(stage.redis.url(), "redial").unwrap().queue(QueueName::new("default").unwrap());
    let recorded = queue.events_after(redial_core::EntryId::START, 1_000).await.unwrap();
    let done = recorded.iter().flat_map(|page| &page.events);
    let done = done.filter(|event| matches!(event.kind, redial_core::TaskEventKind::Done { .. })).count();
    assert_eq!(done, 20);
}

#[tokio::test]
async fn a_gateway_pushes_to_partitions_and_answers_from_them() {
    let stage = stage().await;
    let _worker = stage.ready_worker().await;
    let gateway = GatewayProcess::start(&stage.redis, "").await;
    for n in 0..20 {
        let task = json!({"url": stage.url(&format!("/{n}"))}).to_string();
        let answer = gateway.send("POST", "/v1/tasks?wait=20", &[], task.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        let again = gateway.send("GET", &format!("/v1/tasks/{id}"), &[], b"").await;
        assert_eq!((again.status, &again.json()["status"]), (200, &json!("ok")), "{}", again.text());
    }
    let several = json!((0..20).map(|n| json!({"url": stage.url(&format!("/m{n}"))})).collect::<Vec<_>>()).to_string();
    let answer = gateway.send("POST", "/v1/tasks?wait=20", &[], several.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // The same key is the same call, before and after partitions are added.
    let headers = [("idempotency-key", "k")];
    let task = json!({"url": stage.url("/key"), "method": "POST"}).to_string();
    for partitions in [3, 5, 9] {
        spread(&stage.redis, partitions).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let answer = gateway.send("POST", "/v1/tasks?wait=20", &headers, task.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(stage.upstream.calls_to("/key").len(), 1);
    assert_eq!(stage.upstream.count(), 41);
    for number in 1..=3 {
        let name = format!("redial:{{default/{}}}:stats", number - 1);
        assert!(stage.redis.cli(&["HGET", &name, "complete"]).await.parse::<u64>().unwrap_or(0) > 0, "{name}");
    }
}

#[tokio::test]
async fn queues_that_exist_become_partitions_only_if_that_is_meant() {
    let stage = Stage::slow(Duration::ZERO).await;
    let cli = Cli::new(&stage.redis);
    TestQueue::new(&stage.redis, "default/1").push(json!({"id": "own", "url": stage.url("/")}).to_string()).await;
    let refused = cli.run(&["partition", "default", "4"]).await;
    assert!(
        refused.status == 1 && refused.stderr.contains("default/1") && refused.stderr.contains("--adopt"),
        "{refused:?}"
    );
    assert_eq!(stage.redis.cli(&["EXISTS", "redial:partitions"]).await, "0");
    let adopted = cli.run(&["partition", "default", "4", "--adopt"]).await;
    assert_eq!((adopted.status, adopted.stdout.trim()), (0, "queue default has now 4 partitions"), "{adopted:?}");
    let _worker = stage.ready_worker().await;
    let result = json(&cli, &["wait", "--timeout", "30", "own"]).await;
    assert_eq!(result[0]["status"], "ok");

    let lower = cli.run(&["partition", "default", "2"]).await;
    assert!(lower.status == 1 && lower.stderr.contains("cannot be lowered"), "{lower:?}");
    let nested = cli.run(&["partition", "default/1", "2"]).await;
    assert!(nested.status == 1 && nested.stderr.contains("partition of queue default"), "{nested:?}");
    assert_eq!(cli.run(&["partition", "default"]).await.stdout.trim(), "queue default has 4 partitions");
    for wrong in [&["partition", "default", "0"][..], &["partition", "default", "257"], &["partition", "de fault", "2"]]
    {
        assert_ne!(cli.run(wrong).await.status, 0, "{wrong:?}");
    }
    // A partition that is named by itself is that partition.
    TestQueue::new(&stage.redis, "default/2").push(json!({"id": "named", "url": stage.url("/")}).to_string()).await;
    let found = json(&cli, &["-q", "default/2", "wait", "--timeout", "30", "named"]).await;
    assert_eq!(found[0]["status"], "ok");
}
