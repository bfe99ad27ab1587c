//! Upstreams that are away for a while, as during a deployment: default settings bridge it, and every task is answered soon after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redial_tests::Reply;
use serde_json::{Value, json};

use super::{Stage, at_length, ids, number};

/// How many tasks meet the outage.
const TASKS: u32 = 40;
/// How long after the upstream's return the last one may be answered.
const GRACE: Duration = Duration::from_secs(10);

/// How the tasks come.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Traffic {
    /// Evenly over the outage.
    Low,
    /// All at its beginning, and no others.
    Burst,
    /// All at its beginning, and 20 others a second from before it until after it.
    High,
}

/// Pushes tasks without any settings to an upstream that is away for a while, and waits for their answers.
async fn bridge(away: Duration, traffic: Traffic) {
    let is_away = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_away);
    let stage = Stage::answering(move |request| match switch.load(Ordering::SeqCst) {
        // A load balancer without a backend, and a process that has just ended.
        true if request.nth % 2 == 0 => Reply::status(503),
        true => Reply::close(),
        false => Reply::ok(),
    })
    .await;
    let _worker = stage.ready_worker().await;
    let background = async |name: &str, time: Duration| {
        for n in 0..time.as_millis() / 50 {
            stage.push_many(&[format!("{name}{n}")], "/others", &json!({})).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let tasks = ids("task", TASKS as usize);
    if traffic == Traffic::High {
        background("before", Duration::from_secs(2)).await;
    }
    is_away.store(true, Ordering::SeqCst);
    let left = Instant::now();
    match traffic {
        Traffic::Low => {
            for id in tasks.chunks(1) {
                stage.push_many(id, "/task", &json!({})).await;
                tokio::time::sleep(away / TASKS).await;
            }
        }
        Traffic::Burst => stage.push_many(&tasks, "/task", &json!({})).await,
        Traffic::High => {
            stage.push_many(&tasks, "/task", &json!({})).await;
            background("during", away).await;
        }
    }
    tokio::time::sleep(away.saturating_sub(left.elapsed())).await;
    is_away.store(false, Ordering::SeqCst);
    let back = Instant::now();
    let answered = async { stage.queue.wait_results(&tasks, GRACE * 6).await };
    let results = if traffic == Traffic::High {
        let (results, ()) = tokio::join!(answered, background("after", Duration::from_secs(3)));
        results
    } else {
        answered.await
    };
    let took = back.elapsed();
    let bad: Vec<&Value> = results.iter().filter(|result| result["status"] != "ok").collect();
    assert!(bad.is_empty(), "{} of {TASKS}: {}", bad.len(), bad[0]);
    let last = results.iter().max_by_key(|result| number(&result["finished_at_ms"])).unwrap();
    assert!(took < GRACE, "{away:?}, {traffic:?}: the last answer came after {took:?}: {last}");
}

#[tokio::test]
async fn tasks_that_meet_an_outage_are_answered_soon_after_it_with_low_traffic() {
    for seconds in at_length(&[10][..], &[10, 30, 60]) {
        bridge(Duration::from_secs(*seconds), Traffic::Low).await;
    }
}

#[tokio::test]
async fn tasks_that_meet_an_outage_are_answered_soon_after_it_with_no_other_traffic() {
    for seconds in at_length(&[10][..], &[10, 30, 60]) {
        bridge(Duration::from_secs(*seconds), Traffic::Burst).await;
    }
}

#[tokio::test]
async fn tasks_that_meet_an_outage_are_answered_soon_after_it_with_high_traffic() {
    for seconds in at_length(&[10][..], &[10, 30, 60]) {
        bridge(Duration::from_secs(*seconds), Traffic::High).await;
    }
}
