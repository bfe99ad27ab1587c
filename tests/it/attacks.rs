//! Tasks that mean harm, as tables: each line is an attempt with the answer that it has to have. All of a table run side by side on one
//! worker, which is then alive, answers a plain call, and holds nothing.
//!
//! - [`targets`]: addresses that may not be called; [`wire`]: headers and methods; [`numbers`]: every field that is one;
//!   [`shapes`]: what is no task

mod numbers;
mod shapes;
mod targets;
mod wire;

use std::time::Duration;

use redial_tests::{RedisServer, TestQueue, Upstream, Worker};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// Makes all attempts of a table: what is pushed, with `ID` for its id, and the reason of its dead letter, or "ok".
async fn attempt(allow_private: &str, cases: Vec<(String, &'static str)>) {
    let redis = RedisServer::start().await;
    let upstream = Upstream::unruly().await;
    let worker = Worker::builder(&redis).env("REDIAL_ALLOW_PRIVATE", allow_private).spawn();
    let queue = TestQueue::new(&redis, "default");
    let port = upstream.address().port().to_string();
    let id = |n: usize| format!("attempt {n}");
    let raws = cases.iter().enumerate().map(|(n, (raw, _))| raw.replace("ID", &id(n)).replace("PORT", &port));
    queue.push_all(raws).await;
    let ids: Vec<String> = (0..cases.len()).map(id).collect();
    let results = queue.wait_results(&ids, SOON).await;
    let mut wrong = Vec::new();
    for ((raw, expected), result) in cases.iter().zip(&results) {
        let came = result["reason"].as_str().unwrap_or("ok");
        if !expected.split('|').any(|reason| reason == came) {
            let raw: String = raw.chars().take(200).collect();
            wrong.push(format!("{raw}: {came} instead of {expected}: {}", result["error"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let plain = if allow_private.is_empty() {
        json!({"id": "plain", "url": "nowhere"})
    } else {
        json!({"id": "plain", "url": upstream.url("/ok")})
    };
    queue.push(plain.to_string()).await;
    queue.wait_result("plain", SOON).await;
    redial_tests::eventually(SOON, async || (worker.metric("redial_slots_in_use").await.abs() < 0.5).then_some(()))
        .await;
    assert!(worker.is_running());
    assert_eq!(redis.cli(&["LLEN", "redial:{default}"]).await, "0");
}

/// A task with a URL that may be called, and these fields besides.
fn with(fields: &Value) -> String {
    let mut task = json!({"id": "ID", "url": "http://127.0.0.1:PORT/ok", "retry": {"max_attempts": 1}});
    for (name, value) in fields.as_object().expect("fields") {
        task[name] = value.clone();
    }
    task.to_string()
}
