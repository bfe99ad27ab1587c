//! Writes that Redis refuses for good: the task at fault ends, says why, and holds up nothing beside it.

use std::time::Duration;

use redial_tests::{Reply, Worker, WorkerBuilder, eventually};
use serde_json::{Value, json};

use super::{SOON, Stage, answered, assert_counted, counter, ids};

/// A worker that may use Redial's own keys and the lists below `mine:`, and nothing else.
async fn restricted(stage: &Stage, keys: &str) -> WorkerBuilder {
    let mut rules = vec!["ACL", "SETUSER", "worker", "reset", "on", ">secret", "&*", "+@all"];
    rules.extend(keys.split(' '));
    assert_eq!(stage.redis.cli(&rules).await, "OK");
    let url = format!("redis://worker:secret@127.0.0.1:{}", stage.redis.port());
    stage.worker().env("REDIS_URL", url)
}

/// That `worker` answers a hundred tasks as if nothing were wrong, and holds no slot afterwards.
async fn assert_unhindered(stage: &Stage, worker: &Worker, prefix: &str) {
    let others = ids(prefix, 100);
    stage.push_many(&others, "/ok", &json!({})).await;
    assert_eq!(answered(&stage.queue.wait_results(&others, SOON).await), others.len());
    assert_counted(worker, "redial_slots_in_use", 0).await;
}

/// The dead letter of a task, which is also in its result.
async fn dead(stage: &Stage, id: &str, says: &str) -> Value {
    let found = || async { stage.queue.dead().await.into_iter().find(|letter| letter.header["id"] == id) };
    let letter = eventually(SOON, found).await.header;
    let error = letter["error"].as_str().unwrap_or_default();
    assert!(error.contains(says), "{letter}");
    letter
}

#[tokio::test]
async fn a_reply_list_that_the_worker_may_not_write_to_ends_its_task_alone() {
    let stage = Stage::slow(Duration::from_millis(300)).await;
    let start = async || restricted(&stage, "~redial:* ~answers:mine").await.env("REDIAL_CONCURRENCY", "32").spawn();
    let worker = start().await;
    worker.wait_ready().await;
    let beside = ids("beside", 20);
    stage.push_many(&beside, "/ok", &json!({"reply_to": "answers:mine"})).await;
    let follow = json!({"id": "follow", "url": stage.url("/follow")});
    stage
        .queue
        .push(
            json!({"id": "a", "url": stage.url("/a"), "reply_to": "answers:refused", "then": follow, "meta": 7})
                .to_string(),
        )
        .await;
    assert_eq!(answered(&stage.queue.wait_results(&beside, SOON).await), beside.len());
    let letter = dead(&stage, "a", "Redis refuses").await;
    assert_eq!((&letter["reason"], &letter["http_status"]), (&json!("invalid_task"), &json!(200)));
    let result = stage.queue.wait_result("a", SOON).await;
    assert_eq!(
        (&result["status"], &result["body"], &result["meta"]),
        (&json!("dead"), &json!({"ok": true}), &json!(7))
    );
    assert_eq!(stage.queue.list("answers:mine").await.len(), beside.len());
    assert_unhindered(&stage, &worker, "later").await;
    assert!(counter(&worker, "redial_redis_refusals_total").await >= 1);
    // What is dead stays dead: the next worker makes no call for it.
    worker.kill9();
    let worker = start().await;
    assert_unhindered(&stage, &worker, "after").await;
    assert_eq!((stage.upstream.calls_to("/a").len(), stage.upstream.calls_to("/follow").len()), (1, 0));
}

#[tokio::test]
async fn an_invalid_or_failed_task_whose_reply_is_refused_keeps_its_own_reason() {
    let stage = Stage::unruly().await;
    let worker = restricted(&stage, "~redial:*").await.spawn();
    stage.queue.push(r#"{"id":"invalid","url":"nowhere","reply_to":"answers:refused"}"#).await;
    stage
        .queue
        .push(json!({"id": "failed", "url": stage.url("/status/400"), "reply_to": "answers:refused"}).to_string())
        .await;
    for (id, reason) in [("invalid", "invalid_task"), ("failed", "rejected")] {
        let letter = dead(&stage, id, "Redis refuses").await;
        assert_eq!(
            (&letter["reason"], &stage.queue.wait_result(id, SOON).await["reason"]),
            (&json!(reason), &json!(reason))
        );
    }
    assert_unhindered(&stage, &worker, "later").await;
}

#[tokio::test]
async fn an_answer_larger_than_redis_stores_ends_its_task_alone() {
    let stage = Stage::answering(|request| {
        let size = if request.route() == "/large" { 2 << 20 } else { 10 };
        Reply::ok().json(&json!({"text": "x".repeat(size)})).after(Duration::from_millis(100))
    })
    .await;
    assert_eq!(stage.redis.cli(&["CONFIG", "SET", "proto-max-bulk-len", "1mb"]).await, "OK");
    let worker = stage.ready_worker().await;
    let beside = ids("beside", 50);
    for (n, half) in beside.chunks(25).enumerate() {
        stage.push_many(half, "/ok", &json!({})).await;
        let id = format!("large{n}");
        stage.queue.push(json!({"id": id, "url": stage.url("/large")}).to_string()).await;
    }
    // These are settled together with those that are too large.
    let cached = ids("cached", 30);
    for id in &cached {
        stage.push_many(std::slice::from_ref(id), &format!("/{id}"), &json!({"cache_ttl_ms": 60_000})).await;
    }
    // Its leader's answer is too large for its memo as well, and for each of its followers.
    let sharing = ids("sharing", 3);
    stage.push_many(&sharing, "/large", &json!({"cache_ttl_ms": 60_000, "cache_key": "k"})).await;
    let once = ids("keyed", 2);
    stage.push_many(&once, "/large", &json!({"idempotency_key": "k"})).await;
    for well in [&beside, &cached] {
        assert_eq!(answered(&stage.queue.wait_results(well, SOON).await), well.len());
    }
    for id in ["large0", "large1"].into_iter().chain(sharing.iter().chain(&once).map(String::as_str)) {
        let letter = dead(&stage, id, "Redis refuses").await;
        assert_eq!(letter["reason"], "too_large", "{letter}");
        assert_eq!(stage.queue.wait_result(id, SOON).await["reason"], "too_large");
    }
    assert_unhindered(&stage, &worker, "later").await;
    let acted =
        stage.upstream.calls_to("/large").iter().filter(|call| call.headers.get("idempotency-key").is_some()).count();
    assert_eq!(acted, 1, "the key is used up, though its answer could not be kept");
}

#[tokio::test]
async fn counters_and_subscriptions_of_another_type_hold_up_no_result() {
    let stage = Stage::unruly().await;
    for key in ["stats", "waiters", "replies"] {
        assert_eq!(stage.redis.cli(&["SET", &format!("redial:{{default}}:{key}"), "by hand"]).await, "OK");
    }
    let worker = stage.ready_worker().await;
    let fails = json!({"id": "fails", "url": stage.url("/status/400")});
    assert_eq!(stage.answer(fails).await["reason"], "rejected");
    // One waits for its retry; two of three wait for their leader.
    let retried = json!({"id": "retried", "url": stage.url("/flaky/1/503"), "retry": {"base_ms": 1}});
    assert_eq!(stage.answer(retried).await["status"], "ok");
    let sharing = ids("sharing", 3);
    stage.push_many(&sharing, "/slow/300", &json!({"cache_ttl_ms": 60_000, "cache_key": "k"})).await;
    assert_eq!(answered(&stage.queue.wait_results(&sharing, SOON).await), sharing.len());
    assert_unhindered(&stage, &worker, "later").await;
    // And one is taken back from a worker that was killed.
    stage.queue.push(json!({"id": "orphan", "url": stage.url("/slow/1000")}).to_string()).await;
    eventually(SOON, || async { (stage.upstream.calls_to("/slow/1000").len() == 1).then_some(()) }).await;
    worker.kill9();
    let _next = stage.ready_worker().await;
    assert_eq!(stage.queue.wait_result("orphan", SOON).await["status"], "ok");
}

#[tokio::test]
async fn a_task_that_can_neither_end_nor_wait_is_given_up_and_not_called_for_ever() {
    let stage = Stage::unruly().await;
    assert_eq!(stage.redis.cli(&["SET", "redial:{default}:dead", "by hand"]).await, "OK");
    let worker = stage.ready_worker().await;
    stage.queue.push(json!({"id": "a", "url": stage.url("/status/400")}).to_string()).await;
    assert_unhindered(&stage, &worker, "beside").await;
    // Once for each crash that makes a task a suspect, and then no more.
    let given_up = || async { (counter(&worker, "redial_tasks_given_up_total").await >= 4).then_some(()) };
    eventually(SOON, given_up).await;
    assert_eq!(stage.upstream.calls_to("/status/400").len(), 3);
    assert_unhindered(&stage, &worker, "later").await;
    // As soon as the key is mended, the task ends.
    assert_eq!(stage.redis.cli(&["DEL", "redial:{default}:dead"]).await, "1");
    assert_eq!(stage.queue.wait_result("a", SOON).await["reason"], "crashed_worker");
}

#[tokio::test]
async fn a_limit_memo_or_breaker_that_redis_refuses_concerns_only_its_own_tasks() {
    let stage = Stage::slow(Duration::ZERO).await;
    let mut memos = Vec::new();
    let tasks = [
        json!({"id": "limit", "url": stage.url("/limit"), "limit": {"name": "l", "rate": 100}}),
        json!({"id": "key", "url": stage.url("/key"), "idempotency_key": "k"}),
        json!({"id": "cache", "url": stage.url("/cache"), "cache_ttl_ms": 1000, "cache_key": "k"}),
    ];
    let first = stage.ready_worker().await;
    for task in &tasks[1..] {
        assert_eq!(stage.answer(task.clone()).await["status"], "ok");
    }
    first.term();
    assert_eq!(first.wait_exit(SOON).await.code(), Some(0));
    memos.extend(stage.redis.cli(&["KEYS", "redial:memo:*"]).await.lines().map(str::to_owned));
    assert_eq!(memos.len(), 2, "{memos:?}");
    let upstream = stage.url("").replace("http://", "");
    let breaker = format!("redial:breaker:{{{}}}", upstream.trim_end_matches('/'));
    for key in memos.iter().map(String::as_str).chain(["redial:limit:{l}", breaker.as_str()]) {
        assert_eq!(stage.redis.cli(&["SET", key, "by hand"]).await, "OK");
    }
    let worker = stage.ready_worker().await;
    for mut task in tasks {
        let id = format!("{}-refused", task["id"].as_str().unwrap());
        task["id"] = json!(id);
        let result = stage.answer(task).await;
        assert_eq!((&result["reason"], super::attempts(&result)), (&json!("invalid_task"), 0), "{result}");
        dead(&stage, &id, "WRONGTYPE").await;
    }
    // The breaker's tasks, to which all others belong, are called without it.
    assert_unhindered(&stage, &worker, "later").await;
    assert_eq!(stage.upstream.calls_to("/limit").len(), 0);
}

#[tokio::test]
async fn a_worker_that_may_not_use_limits_runs_all_other_tasks() {
    let stage = Stage::unruly().await;
    let worker = restricted(&stage, "~redial:{* ~redial:queues ~redial:breaker* ~redial:memo*").await.spawn();
    let limited = ids("limited", 20);
    stage.push_many(&limited, "/limited", &json!({"limit": {"name": "l", "rate": 100}})).await;
    assert_unhindered(&stage, &worker, "beside").await;
    for id in &limited {
        dead(&stage, id, "Redis refuses the limit").await;
    }
    assert_eq!(stage.upstream.calls_to("/limited").len(), 0);
}

#[tokio::test]
async fn a_parked_task_whose_reply_is_refused_holds_up_no_other_follower() {
    let stage = Stage::slow(Duration::from_millis(500)).await;
    let worker = restricted(&stage, "~redial:*").await.spawn();
    worker.wait_ready().await;
    let shared = json!({"cache_ttl_ms": 60_000, "cache_key": "k"});
    let (first, last) = (ids("first", 10), ids("last", 10));
    stage.push_many(&first, "/shared", &shared).await;
    let mut refused = shared.clone();
    refused["reply_to"] = json!("answers:refused");
    stage.push_many(&ids("refused", 2), "/shared", &refused).await;
    stage.push_many(&last, "/shared", &shared).await;
    for followers in [&first, &last] {
        assert_eq!(answered(&stage.queue.wait_results(followers, SOON).await), followers.len());
    }
    for id in ids("refused", 2) {
        dead(&stage, &id, "Redis refuses").await;
    }
    assert_eq!(stage.upstream.calls_to("/shared").len(), 1);
    assert_unhindered(&stage, &worker, "later").await;
}

#[tokio::test]
async fn a_result_that_cannot_be_read_ends_its_callback() {
    let stage = Stage::unruly().await;
    let worker = stage.ready_worker().await;
    // The first delivery finds no receiver, so that there is time to break the result.
    let task = json!({"id": "a", "url": stage.url("/ok"), "callback_url": stage.url("/status/503")});
    stage.answer(task).await;
    stage.redis.cli(&["DEL", "redial:{default}:result:a"]).await;
    assert_eq!(stage.redis.cli(&["LPUSH", "redial:{default}:result:a", "by hand"]).await, "1");
    let callback = stage.queue.wait_result("a.callback", SOON).await;
    assert_eq!(callback["reason"], "invalid_task", "{callback}");
    assert_unhindered(&stage, &worker, "later").await;
}
