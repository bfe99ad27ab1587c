//! Delays and deadlines: no call before its time, none after it.

use std::time::Duration;

use serde_json::json;

use super::{SOON, Stage, attempts, now_ms, number};

#[tokio::test]
async fn a_delayed_task_is_called_when_due_and_not_before() {
    let stage = Stage::unruly().await;
    let _worker = stage.ready_worker().await;
    let pushed = now_ms();
    let at = pushed + 1_500;
    let tasks = [
        json!({"id": "delay", "url": stage.url("/ok?delay"), "delay_ms": 1_500}),
        json!({"id": "at", "url": stage.url("/ok?at"), "run_at_ms": at}),
        json!({"id": "both", "url": stage.url("/ok?both"), "run_at_ms": at, "delay_ms": 100}),
        json!({"id": "since", "url": stage.url("/ok?since"), "delay_ms": 1_500 + 60_000, "enqueued_at_ms": pushed - 60_000}),
    ];
    stage.queue.push_all(tasks.map(|task| task.to_string())).await;
    let now = stage.answer(json!({"id": "now", "url": stage.url("/ok")})).await;
    assert!(number(&now["finished_at_ms"]) < at, "a task without a delay is not held up");

    stage.queue.wait_results(&["delay", "at", "both", "since"], SOON).await;
    let calls = stage.upstream.calls();
    assert_eq!(calls.len(), 5, "waiting costs no call");
    for call in &calls[1..] {
        let late = call.unix_ms.checked_sub(at);
        let late = late.unwrap_or_else(|| panic!("{} came too early", call.path));
        assert!(late < 1_500, "{}: {late} ms late", call.path);
    }
}

#[tokio::test]
async fn no_attempt_starts_after_the_tasks_deadline() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().spawn();
    let now = now_ms();
    for (id, task) in [
        ("moment", json!({"expires_at_ms": now - 1})),
        ("ttl", json!({"ttl_ms": 1_000, "enqueued_at_ms": now - 2_000})),
        ("delayed", json!({"ttl_ms": 200, "delay_ms": 400})),
    ] {
        let mut task = task;
        task["id"] = id.into();
        task["url"] = stage.url("/ok").into();
        let result = stage.answer(task).await;
        assert_eq!(result["reason"], "expired", "{id}: {result}");
        assert_eq!(attempts(&result), 0, "{id}");
    }
    assert_eq!(stage.upstream.count(), 0);
    let letters = stage.queue.dead().await;
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|letter| letter.header["reason"] == "expired"));
}

#[tokio::test]
async fn a_task_whose_next_attempt_would_miss_its_deadline_expires_at_once() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().spawn();
    let task = json!({"id": "a", "url": stage.url("/retry-after/20?key=a"), "ttl_ms": 5_000});
    stage.queue.push(task.to_string()).await;
    let result = stage.queue.wait_result("a", Duration::from_secs(15)).await;
    assert_eq!(result["reason"], "expired");
    assert_eq!(result["http_status"], 429, "the last answer is not withheld");
    assert_eq!(stage.upstream.count(), 1);

    let alive = stage.answer(json!({"id": "b", "url": stage.url("/ok"), "ttl_ms": 60_000})).await;
    assert_eq!(alive["status"], "ok");
}
