//! Idle connections that are kept for later calls: those that die unnoticed cost one attempt, those that are well are kept.

use std::time::Duration;

use redial_tests::Worker;
use serde_json::{Value, json};

use super::{SOON, Stage, answered, attempts, counter, ids};

/// How many idle connections there are at the start.
const IDLE: usize = 20;

/// A stage whose worker has that many idle connections to the upstream.
async fn stage_with_idle_connections() -> (Stage, Worker) {
    let stage = Stage::unruly().await;
    let worker = stage.ready_worker().await;
    call_all_at_once(&stage, "first").await;
    assert_eq!(stage.upstream.connections(), IDLE);
    (stage, worker)
}

/// Makes a call on each of the idle connections, or on as many new ones.
async fn call_all_at_once(stage: &Stage, prefix: &str) {
    let ids = ids(prefix, IDLE);
    stage.push_many(&ids, "/slow/1000", &json!({})).await;
    stage.wait_in_flight(IDLE).await;
    assert_eq!(answered(&stage.queue.wait_results(&ids, SOON).await), IDLE);
}

#[tokio::test]
async fn idle_connections_that_died_unnoticed_cost_a_task_one_attempt() {
    let (stage, worker) = stage_with_idle_connections().await;
    stage.upstream.silence_connections();
    let fields = json!({"timeout_ms": 500, "retry": {"max_attempts": 3, "base_ms": 100}});
    for later in ids("later", 3) {
        stage.push_many(std::slice::from_ref(&later), "/ok", &fields).await;
        let result = stage.queue.wait_result(&later, SOON).await;
        assert_eq!(result["status"], "ok", "{result}");
        assert!(attempts(&result) <= 2, "one attempt on a dead connection is enough: {result}");
    }
    assert_eq!(counter(&worker, "redial_breakers_opened_total").await, 0);
}

#[tokio::test]
async fn a_call_that_times_out_while_others_are_answered_costs_only_its_own_connection() {
    let (stage, _worker) = stage_with_idle_connections().await;
    stage.push_many(&ids("slow", 1), "/hang", &json!({"timeout_ms": 2_000, "retry": {"max_attempts": 1}})).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let beside: Vec<Value> = {
        stage.push_many(&ids("beside", 5), "/ok", &json!({})).await;
        stage.queue.wait_results(&ids("beside", 5), SOON).await
    };
    assert_eq!(answered(&beside), 5);
    let slow = stage.queue.wait_results(&ids("slow", 1), SOON).await;
    assert_eq!(answered(&slow), 0, "it had too little time");
    call_all_at_once(&stage, "again").await;
    assert!(stage.upstream.connections() <= IDLE + 1, "{} connections", stage.upstream.connections());
}
