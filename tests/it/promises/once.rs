//! A task with `effect: "once"` is sent again only if the upstream certainly did not act on it.

use std::time::Duration;

use redial_tests::{Port, Reply, Request, eventually};
use serde_json::{Value, json};

use super::{CalledPaths, SOON, Stage, at_length, attempts, ids};
use crate::scripts::lead;

/// The first answer on each path: the failure that the path names.
fn first_answer(request: &Request) -> Reply {
    match request.route() {
        "/503" => Reply::status(503),
        "/500" => Reply::status(500),
        "/408" => Reply::status(408),
        "/503-and-when" => Reply::status(503).header("retry-after", "0"),
        "/429" => Reply::status(429),
        "/reset" => Reply::reset(),
        "/close" => Reply::close(),
        "/garbage" => Reply::garbage(),
        "/truncated" => Reply::truncated("{"),
        "/hang" => Reply::hang(),
        "/400" => Reply::status(400),
        _ => Reply::ok(),
    }
}

async fn stage() -> Stage {
    let seen = CalledPaths::default();
    let answer = move |request: &Request| {
        if seen.is_first_call(request) { first_answer(request) } else { Reply::ok() }
    };
    Stage::answering(answer).await
}

#[tokio::test]
async fn calls_that_start_at_the_same_time_are_recorded_together() {
    const TASKS: u64 = 400;
    let stage = Stage::slow(Duration::ZERO).await;
    stage.push_many(&ids("t", 400), "/", &json!({"effect": "once"})).await;
    let _worker = stage.ready_worker().await;
    let results = stage.queue.wait_results(&ids("t", 400), SOON).await;
    assert_eq!((super::answered(&results), stage.upstream.count()), (400, TASKS));
    let scripts = stage.redis.calls_of("evalsha").await;
    assert!((1..TASKS / 2).contains(&scripts), "{scripts} scripts");
}

fn once(id: &str, url: &str) -> Value {
    json!({"id": id, "url": url, "body": {"amount": 1}, "effect": "once", "timeout_ms": 1_000,
        "retry": {"base_ms": 10, "max_attempts": 3}})
}

#[tokio::test]
async fn a_once_only_call_that_may_have_taken_effect_is_not_repeated() {
    let stage = stage().await;
    let _worker = stage.worker().spawn();
    let paths = ["503", "500", "408", "reset", "close", "garbage", "truncated", "hang"];
    for path in paths {
        let task = once(path, &stage.url(&format!("/{path}")));
        stage.queue.push(task.to_string()).await;
    }
    for path in paths {
        let result = stage.queue.wait_result(path, SOON).await;
        assert_eq!(result["reason"], "outcome_unknown", "{path}: {result}");
        assert_eq!(attempts(&result), 1, "{path}");
        assert_eq!(stage.upstream.calls_to(&format!("/{path}")).len(), 1, "{path}");
    }
    assert_eq!(stage.queue.dead().await.len(), paths.len(), "each waits for a person to decide");
}

#[tokio::test]
async fn a_once_only_call_that_certainly_had_no_effect_is_retried() {
    let stage = stage().await;
    let _worker = stage.worker().spawn();
    for path in ["429", "503-and-when"] {
        let result = stage.answer(once(path, &stage.url(&format!("/{path}")))).await;
        assert_eq!(result["status"], "ok", "{path}: {result}");
        assert_eq!(attempts(&result), 2, "{path}");
    }
    let nobody = Port::claim();
    let result = stage.answer(once("refused", &format!("http://127.0.0.1:{}/", nobody.number()))).await;
    assert_eq!(result["reason"], "attempts_exhausted");
    assert_eq!(attempts(&result), 3);
}

#[tokio::test]
async fn a_definitive_answer_to_a_once_only_call_is_final() {
    let stage = stage().await;
    let _worker = stage.worker().spawn();
    let result = stage.answer(once("good", &stage.url("/good"))).await;
    assert_eq!((&result["status"], attempts(&result)), (&json!("ok"), 1));
    let result = stage.answer(once("bad", &stage.url("/400"))).await;
    assert_eq!((&result["reason"], attempts(&result)), (&json!("rejected"), 1));
}

#[tokio::test]
async fn a_post_without_an_effect_field_is_retried() {
    let stage = stage().await;
    let _worker = stage.worker().spawn();
    let mut task = once("post", &stage.url("/reset"));
    task.as_object_mut().unwrap().remove("effect");
    let result = stage.answer(task).await;
    assert_eq!((&result["status"], attempts(&result)), (&json!("ok"), 2));
}

#[tokio::test]
async fn an_upstream_that_closes_idle_connections_makes_no_outcome_unknown() {
    let count = at_length(400, 4_000);
    // Closes each connection when it has been idle for up to 20 ms, about when the next call comes.
    let stage = Stage::answering(|request| {
        Reply::ok()
            .after(Duration::from_millis(2))
            .then_close_after(Duration::from_micros(request.nth * 7_919 % 20_000))
    })
    .await;
    let _worker = stage.worker().env("REDIAL_CONCURRENCY", "8").spawn();
    let ids = ids("once", count);
    let once = json!({"effect": "once", "body": {}, "retry": {"max_attempts": 1}});
    stage.push_many(&ids, "/pay", &once).await;
    let results = stage.queue.wait_results(&ids, SOON * 4).await;
    let bad: Vec<&Value> = results.iter().filter(|result| result["status"] != "ok").collect();
    assert!(bad.is_empty(), "{} of {count}: {}", bad.len(), bad[0]);
    assert_eq!(stage.upstream.count(), count as u64, "each call was made once");
}

/// Ends the time of the only lead.
async fn end_time_of_lead(stage: &Stage) {
    let memo = stage.redis.cli(&["KEYS", "redial:memo:*"]).await;
    lead::end_time_of_lead(&mut stage.redis.connection().await, &memo).await;
}

/// Tasks with one key, and the path that they call.
fn keyed(stage: &Stage, id: &str) -> Value {
    json!({"id": id, "url": stage.url("/pay"), "body": {}, "effect": "once", "idempotency_key": "k"})
}

#[tokio::test]
async fn followers_of_a_once_only_key_whose_leader_has_only_met_a_429_are_answered() {
    let stage = Stage::answering(|request| match request.nth {
        0 => Reply::status(429).header("retry-after", "6"),
        _ => Reply::ok().json(&json!({"paid": true})),
    })
    .await;
    let _worker = stage.worker().env("REDIAL_LEASE_MS", "1000").spawn();
    stage.queue.push(keyed(&stage, "leader").to_string()).await;
    let asked = || async { (stage.upstream.count() == 1).then_some(()) };
    eventually(SOON, asked).await;
    for id in ["first", "second"] {
        stage.queue.push(keyed(&stage, id).to_string()).await;
    }
    // The two followers, and their leader that waits for its second attempt.
    let stored = || async { (stage.redis.cli(&["HLEN", "redial:{default}:stored"]).await == "3").then_some(()) };
    eventually(SOON, stored).await;
    end_time_of_lead(&stage).await;
    for id in ["first", "second", "leader"] {
        let result = stage.queue.wait_result(id, SOON).await;
        assert_eq!((&result["status"], &result["body"]), (&json!("ok"), &json!({"paid": true})), "{id}: {result}");
    }
    assert_eq!(stage.upstream.count(), 2, "the key has acted once");
}

#[tokio::test]
async fn followers_of_a_once_only_key_make_no_call_while_one_may_be_under_way() {
    let stage = Stage::slow(Duration::from_secs(5)).await;
    let _worker = stage.worker().env("REDIAL_LEASE_MS", "1000").spawn();
    stage.queue.push(keyed(&stage, "leader").to_string()).await;
    stage.wait_in_flight(1).await;
    stage.queue.push(keyed(&stage, "follower").to_string()).await;
    let stored = || async { (stage.redis.cli(&["HLEN", "redial:{default}:stored"]).await == "1").then_some(()) };
    eventually(SOON, stored).await;
    end_time_of_lead(&stage).await;
    assert_eq!(stage.queue.wait_result("follower", SOON).await["reason"], "outcome_unknown");
    assert_eq!(stage.queue.wait_result("leader", SOON).await["status"], "ok");
    assert_eq!(stage.upstream.count(), 1);
}
