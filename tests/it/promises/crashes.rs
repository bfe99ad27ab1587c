//! A task that kills its workers is dead-lettered, and no other task with it. Only debug builds have the hook that kills.

use std::time::{Duration, Instant};

use redial_tests::{Worker, eventually, wait::within};
use serde_json::{Value, json};

use super::snapshot::QueueSnapshot;
use super::{SOON, Stage, answered, attempts, ids};

/// More than three leases, plus all neighbours one after another.
const IN_THE_END: Duration = Duration::from_secs(90);

fn start(stage: &Stage) -> Worker {
    let worker = stage.worker().env("REDIAL_LEASE_MS", "1000");
    worker.env("REDIAL_DEBUG_ABORT_ON_URL", "poison").spawn()
}

/// Restarts the worker whenever it dies, until the task has a result. Returns how often it died.
async fn restart_until_set_aside(
    stage: &Stage,
    worker: &mut Worker,
    id: &str,
    start: impl Fn() -> Worker,
) -> (Value, usize) {
    let mut deaths = 0;
    let deadline = Instant::now() + IN_THE_END;
    loop {
        if let Some(result) = stage.queue.result(id).await {
            return (result, deaths);
        }
        let died = || async { (!worker.is_running()).then_some(()) };
        if within(Duration::from_millis(50), died).await.is_some() {
            deaths += 1;
            *worker = start();
        }
        assert!(Instant::now() < deadline, "{id} has no result after {deaths} deaths");
    }
}

#[tokio::test]
async fn a_task_that_kills_three_workers_is_dead_lettered_and_its_neighbours_are_answered() {
    const BYSTANDERS: usize = 40;
    let stage = Stage::slow(Duration::from_millis(200)).await;
    let bystanders = ids("b", BYSTANDERS);
    let (before, after) = bystanders.split_at(BYSTANDERS / 2);
    stage.push_many(before, "/slow", &json!({})).await;
    stage.queue.push(json!({"id": "poison", "url": stage.url("/poison")}).to_string()).await;
    stage.push_many(after, "/slow", &json!({})).await;

    let mut worker = start(&stage);
    let (result, deaths) = restart_until_set_aside(&stage, &mut worker, "poison", || start(&stage)).await;
    assert_eq!(result["status"], "dead");
    assert_eq!(result["reason"], "crashed_worker");
    assert_eq!(attempts(&result), 0);
    assert_eq!(deaths, 3, "not more of them, and not less than could be chance");

    let results = stage.queue.wait_results(&bystanders, IN_THE_END).await;
    assert_eq!(answered(&results), BYSTANDERS);
    assert!(worker.is_running(), "the poison task is not attempted again");
    assert_eq!(stage.upstream.calls_to("/poison").len(), 0);
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(BYSTANDERS + 1);
    let letters = stage.queue.dead().await;
    assert_eq!(letters.len(), 1);
    assert!(String::from_utf8_lossy(&letters[0].raw).contains("/poison"));
}

#[tokio::test]
async fn a_task_that_kills_its_worker_while_it_is_parsed_is_set_aside_after_three_crashes() {
    let stage = Stage::unruly().await;
    let start = || {
        let worker = stage.worker().env("REDIAL_LEASE_MS", "1000");
        worker.env("REDIAL_DEBUG_ABORT_ON_TASK", "poison").spawn()
    };
    let neighbours = ids("n", 20);
    stage.push_many(&neighbours, "/ok", &json!({})).await;
    let list = "answers:mine";
    stage.queue.push(json!({"id": "poison", "url": stage.url("/ok"), "reply_to": list}).to_string()).await;
    let mut worker = start();
    let (result, deaths) = restart_until_set_aside(&stage, &mut worker, "poison", start).await;
    assert_eq!((&result["reason"], deaths), (&json!("crashed_worker"), 3));
    assert_eq!(stage.queue.list(list).await, [result], "whoever waits for it hears of it");
    assert_eq!(answered(&stage.queue.wait_results(&neighbours, IN_THE_END).await), neighbours.len());
    assert!(worker.is_running(), "it is not parsed a fourth time");
    let letters = stage.queue.dead().await;
    assert!(letters.len() == 1 && String::from_utf8_lossy(&letters[0].raw).contains("poison"));
}

#[tokio::test]
async fn a_panic_in_the_story_of_a_task_ends_that_task_alone() {
    let stage = Stage::slow(Duration::from_millis(100)).await;
    let worker = stage.worker().env("REDIAL_DEBUG_PANIC_ON_URL", "poison").env("REDIAL_CONCURRENCY", "8").spawn();
    worker.wait_ready().await;
    for (id, path) in [("a", "/poison"), ("b", "/poison"), ("c", "/poison")] {
        stage
            .queue
            .push(json!({"id": id, "url": stage.url(path), "limit": {"name": "l", "concurrency": 9}}).to_string())
            .await;
    }
    let neighbours = ids("n", 40);
    stage.push_many(&neighbours, "/ok", &json!({})).await;
    assert_eq!(answered(&stage.queue.wait_results(&neighbours, SOON).await), neighbours.len());
    for id in ["a", "b", "c"] {
        let result = stage.queue.wait_result(id, SOON).await;
        assert_eq!((&result["status"], &result["reason"]), (&json!("dead"), &json!("crashed_worker")), "{result}");
    }
    assert_eq!(stage.upstream.calls_to("/poison").len(), 0);
    // Three times each.
    super::assert_counted(&worker, "redial_tasks_given_up_total", 9).await;
    super::assert_counted(&worker, "redial_slots_in_use", 0).await;
    QueueSnapshot::take(&stage.redis).await.assert_all_ended(neighbours.len() + 3);
}

#[tokio::test]
async fn new_tasks_are_answered_while_a_poison_task_is_being_isolated() {
    let stage = Stage::slow(Duration::ZERO).await;
    let mut worker = start(&stage);
    stage.queue.push(json!({"id": "poison", "url": stage.url("/poison")}).to_string()).await;
    let passers_by = async {
        for id in ids("p", 30) {
            let task = json!({"id": id, "url": stage.url("/ok")});
            assert_eq!(stage.answer(task).await["status"], "ok", "{id}");
        }
    };
    let ((result, _), ()) =
        tokio::join!(restart_until_set_aside(&stage, &mut worker, "poison", || start(&stage)), passers_by);
    assert_eq!(result["reason"], "crashed_worker");
}

#[tokio::test]
async fn a_harmless_attempt_resets_the_crash_count() {
    let stage = Stage::unruly().await;
    let retry = json!({"base_ms": 700, "jitter": "none", "max_attempts": 9});
    let task = json!({"id": "a", "url": stage.url("/flaky/5/503?key=a&delay_ms=300"), "retry": retry});
    stage.queue.push(task.to_string()).await;
    // Three workers die during a call, but between two deaths a call always completes, with a 503.
    for kill in 0..3 {
        let worker = stage.worker().env("REDIAL_LEASE_MS", "1000").spawn();
        let calls = stage.upstream.count();
        let own_calls = if kill == 0 { 1 } else { 2 };
        let called = || async { (stage.upstream.count() == calls + own_calls).then_some(()) };
        eventually(SOON, called).await;
        worker.kill9();
    }
    let _last = stage.worker().env("REDIAL_LEASE_MS", "1000").spawn();
    assert_eq!(stage.queue.wait_result("a", SOON).await["status"], "ok");
}
