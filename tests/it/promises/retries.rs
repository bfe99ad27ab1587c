//! When a call is retried: after its backoff, after the wait that the upstream states, never sooner, and without holding a slot.

use std::time::{Duration, UNIX_EPOCH};

use redial_tests::Reply;
use serde_json::{Value, json};

use super::{CalledPaths, SOON, Stage, assert_counted, attempts, number};

#[tokio::test]
async fn two_503s_and_a_success_take_three_attempts_within_the_backoff_bounds() {
    let stage = Stage::unruly().await;
    let worker = stage.worker().env("REDIAL_LOG_FORMAT", "json").spawn();
    let retry = json!({"base_ms": 500, "jitter": "full"});
    let result = stage.answer(json!({"id": "a", "url": stage.url("/flaky/2/503?key=a"), "retry": retry})).await;
    assert_eq!(result["status"], "ok");
    assert_eq!(result["body"]["calls"], 3);
    let attempts = result["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 3);
    for (failed, most) in attempts[..2].iter().zip([500, 1_000]) {
        assert_eq!(failed["http_status"], 503);
        assert_eq!(failed["error"], "status 503");
        assert!(number(&failed["wait_ms"]) <= most, "{failed}");
    }
    assert_eq!(attempts[2]["wait_ms"], Value::Null);
    assert_waits_kept(&stage, attempts);

    let logged = log_lines(&worker.log(), "attempt failed, will retry");
    assert_eq!(logged.len(), 2, "a line for each");
    for (n, (line, attempt)) in logged.iter().zip(attempts).enumerate() {
        assert_eq!(line["task"], "a");
        assert_eq!(line["attempt"], n + 1);
        assert_eq!(line["reason"], "status_503");
        assert_eq!(line["wait_ms"], attempt["wait_ms"]);
    }
    for (name, count) in [
        (r#"redial_retries_total{queue="default",reason="status_503"}"#, 2),
        (r#"redial_attempts_total{queue="default",reason="status_503"}"#, 2),
        (r#"redial_attempts_total{queue="default",reason="ok"}"#, 1),
        (r#"redial_tasks_completed_total{queue="default"}"#, 1),
    ] {
        assert_counted(&worker, name, count).await;
    }
}

#[tokio::test]
async fn every_jitter_mode_stays_within_its_bounds_and_the_cap() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().spawn();
    let bounds: [(&str, [(u64, u64); 4]); 4] = [
        ("none", [(100, 100), (200, 200), (400, 400), (500, 500)]),
        ("equal", [(50, 100), (100, 200), (200, 400), (250, 500)]),
        ("full", [(0, 100), (0, 200), (0, 400), (0, 500)]),
        ("decorrelated", [(100, 300), (100, 500), (100, 500), (100, 500)]),
    ];
    let tasks = bounds.map(|(jitter, _)| {
        let retry = json!({"base_ms": 100, "cap_ms": 500, "jitter": jitter});
        json!({"id": jitter, "url": stage.url(&format!("/flaky/4/500?key={jitter}")), "retry": retry}).to_string()
    });
    stage.queue.push_all(tasks).await;
    for (jitter, bounds) in bounds {
        let result = stage.queue.wait_result(jitter, SOON).await;
        assert_eq!(attempts(&result), 5, "{jitter}");
        for (attempt, (least, most)) in result["attempts"].as_array().unwrap().iter().zip(bounds) {
            let wait = number(&attempt["wait_ms"]);
            assert!((least..=most).contains(&wait), "{jitter}: {wait} is not in {least}..={most}");
        }
    }
}

#[tokio::test]
async fn every_form_of_retry_after_is_honoured_and_uses_no_attempt() {
    let seen = CalledPaths::default();
    let stage = Stage::answering(move |request| {
        let in_3_s = UNIX_EPOCH + Duration::from_millis(request.unix_ms + 3_000);
        let wait = |status, header: &'static str, value: &'static str| Reply::status(status).header(header, value);
        match request.route() {
            _ if !seen.is_first_call(request) => Reply::ok(),
            "/seconds" => wait(429, "retry-after", "2"),
            "/fraction" => wait(429, "retry-after", "0.8"),
            "/ms" => wait(429, "Retry-After-Ms", "700").header("retry-after", "9"),
            "/date" => Reply::status(429).header("retry-after", httpdate::fmt_http_date(in_3_s)),
            _ => wait(503, "retry-after", "2"),
        }
    })
    .await;
    let _worker = stage.worker().spawn();
    // The least and the most that is stated: an HTTP date has whole seconds, so more than 2 of the 3 s are left.
    let cases = [
        ("seconds", 2_000, 2_000),
        ("fraction", 800, 800),
        ("ms", 700, 700),
        ("date", 2_000, 3_000),
        ("503", 2_000, 2_000),
    ];
    for (id, ..) in cases {
        let most = if id == "503" { 2 } else { 1 };
        let task =
            json!({"id": id, "url": stage.url(&format!("/{id}")), "retry": {"max_attempts": most, "base_ms": 0}});
        stage.queue.push(task.to_string()).await;
    }
    for (id, stated, at_most) in cases {
        let result = stage.queue.wait_result(id, SOON).await;
        assert_eq!(result["status"], "ok", "{id}: {result}");
        assert_eq!(attempts(&result), 2, "{id}");
        let wait = number(&result["attempts"][0]["wait_ms"]);
        // Up to a fifth of jitter on top.
        assert!((stated..=at_most + at_most / 5).contains(&wait), "{id}: {wait} for {stated} to {at_most}");
        let calls = stage.upstream.calls_to(&format!("/{id}"));
        let gap = calls[1].at - calls[0].at;
        assert!(gap >= Duration::from_millis(stated), "{id}: {gap:?} for {stated}");
    }
}

#[tokio::test]
async fn an_excessive_retry_after_ends_the_task_instead_of_being_shortened() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().spawn();
    let result = stage.answer(json!({"id": "a", "url": stage.url("/retry-after/86400?key=a")})).await;
    assert_eq!(result["reason"], "attempts_exhausted");
    assert!(result["error"].as_str().unwrap().contains("86400 s"), "{result}");
    assert_eq!(stage.upstream.count(), 1);
}

#[tokio::test]
async fn endless_retry_after_answers_do_not_hold_a_task_for_ever() {
    let stage = Stage::answering(|_| Reply::status(429).header("retry-after-ms", "1")).await;
    let _worker = stage.worker().env("REDIAL_MAX_FREE_WAITS", "4").spawn();
    let task = json!({"id": "a", "url": stage.url("/"), "retry": {"max_attempts": 2, "base_ms": 0}});
    let result = stage.answer(task).await;
    assert_eq!(result["reason"], "attempts_exhausted");
    assert_eq!(attempts(&result), 6, "four that do not count and two that do");
}

#[tokio::test]
async fn a_final_status_dead_letters_the_task_at_once_with_the_upstreams_response() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().spawn();
    for status in [301, 400, 401, 404, 409, 422, 501] {
        let id = format!("s{status}");
        let result = stage.answer(json!({"id": id, "url": stage.url(&format!("/status/{status}"))})).await;
        assert_eq!(result["status"], "dead", "{status}");
        assert_eq!(result["reason"], "rejected", "{status}");
        assert_eq!(result["http_status"], status);
        assert_eq!(result["body"], json!({"status": status}));
        assert_eq!(attempts(&result), 1, "{status}");
    }
    let letters = stage.queue.dead().await;
    assert_eq!(letters[1].header["id"], "s400");
    assert_eq!(letters[1].header["body"], json!({"status": 400}));
}

#[tokio::test]
async fn every_transient_status_and_every_status_in_retry_on_is_retried() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().spawn();
    for status in [408, 425, 429, 500, 502, 503, 504, 529, 409, 404] {
        let id = format!("s{status}");
        let retry = json!({"base_ms": 5, "on": [409, 404]});
        let url = stage.url(&format!("/flaky/1/{status}?key=k"));
        let result = stage.answer(json!({"id": id, "url": url, "retry": retry})).await;
        assert_eq!(result["status"], "ok", "{status}: {result}");
        assert_eq!(attempts(&result), 2, "{status}");
    }
}

#[tokio::test]
async fn x_should_retry_overrides_the_status() {
    let seen = CalledPaths::default();
    let stage = Stage::answering(move |request| match request.route() {
        "/no" => Reply::status(503).header("x-should-retry", "false"),
        _ if seen.is_first_call(request) => Reply::status(400).header("x-should-retry", "true"),
        _ => Reply::ok(),
    })
    .await;
    let _worker = stage.worker().spawn();
    let result = stage.answer(json!({"id": "no", "url": stage.url("/no")})).await;
    assert_eq!((&result["reason"], attempts(&result)), (&json!("rejected"), 1));
    let result = stage.answer(json!({"id": "yes", "url": stage.url("/yes")})).await;
    assert_eq!((&result["status"], attempts(&result)), (&json!("ok"), 2));
}

#[tokio::test]
async fn a_task_waiting_for_its_retry_holds_no_slot() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().env("REDIAL_CONCURRENCY", "1").spawn();
    let retry = json!({"base_ms": 2_000, "jitter": "none"});
    let waiting = json!({"id": "waiting", "url": stage.url("/flaky/1/503?key=a"), "retry": retry});
    stage.queue.push(waiting.to_string()).await;
    for id in ["b", "c"] {
        let passing = stage.answer(json!({"id": id, "url": stage.url("/ok")})).await;
        assert_eq!(passing["status"], "ok");
    }
    assert_eq!(stage.queue.result("waiting").await, None);
    let result = stage.queue.wait_result("waiting", SOON).await;
    assert_waits_kept(&stage, result["attempts"].as_array().unwrap());
    // Due tasks go before waiting ones, so a backlog does not delay a retry.
    let calls: Vec<String> = stage.upstream.calls().iter().map(|call| call.route().to_owned()).collect();
    assert_eq!(calls, ["/flaky/1/503", "/ok", "/ok", "/flaky/1/503"]);
}

/// Asserts that the upstream saw the calls at least as far apart as the result states, give or take the rounding to a millisecond.
fn assert_waits_kept(stage: &Stage, attempts: &[Value]) {
    let mut calls = stage.upstream.calls();
    calls.retain(|call| call.path.contains("key=a"));
    assert_eq!(calls.len(), attempts.len());
    for (pair, attempt) in calls.windows(2).zip(attempts) {
        let wait = Duration::from_millis(number(&attempt["wait_ms"]).saturating_sub(1));
        let gap = pair[1].at - pair[0].at;
        assert!(gap >= wait, "{gap:?} between two calls instead of {wait:?}");
    }
}

fn log_lines(log: &str, message: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

#[tokio::test]
async fn an_upstream_block_says_how_its_api_fails_and_how_its_tasks_are_retried() {
    let seen = CalledPaths::default();
    let stage = Stage::answering(move |request| match request.route() {
        "/quota" => Reply::status(429).json(&json!({"error": {"code": "budget_exceeded"}})),
        "/words" if seen.is_first_call(request) => {
            Reply::status(429).json(&json!({"error": {"message": "Please try again in 900ms."}}))
        }
        "/origin" if seen.is_first_call(request) => Reply::status(522),
        "/down" => Reply::status(503),
        _ => Reply::ok(),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("redial.toml");
    let text = format!(
        "[retry]\nbase_ms = 1\n[[upstream]]\nurl = \"{}\"\npreset = \"openai\"\nfinal_codes = [\"budget_exceeded\"]\n\
         retry = {{ max_attempts = 3 }}\n",
        stage.url("/")
    );
    std::fs::write(&settings, text).unwrap();
    let _worker = stage.worker().arg("--config").arg(settings.to_str().unwrap()).spawn();
    for (id, tries, status) in [("quota", 1, "dead"), ("words", 2, "ok"), ("origin", 2, "ok"), ("down", 3, "dead")] {
        let result = stage.answer(json!({"id": id, "url": stage.url(&format!("/{id}"))})).await;
        assert_eq!((&result["status"], attempts(&result)), (&json!(status), tries), "{id}: {result}");
        match id {
            "quota" => {
                assert_eq!(result["reason"], "rejected");
                assert!(result["error"].as_str().unwrap().contains("\"budget_exceeded\""), "{result}");
            }
            "words" => assert!((900..=1_080).contains(&number(&result["attempts"][0]["wait_ms"])), "{result}"),
            _ => {}
        }
    }
}
