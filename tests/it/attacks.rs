//! Those who mean harm, as tables: each line is an attempt with the answer that it has to have. All of a table run side by side on one
//! worker, which is then alive, answers a plain call, and holds nothing.
//!
//! - [`targets`]: addresses that may not be called; [`wire`]: headers and methods; [`numbers`]: every field that is one;
//!   [`shapes`]: what is no task
//! - [`answers`]: what upstreams send; [`gateway`]: requests to the gateway; [`borders`]: what tenants try with each other's things

mod answers;
mod borders;
mod gateway;
mod numbers;
mod shapes;
mod targets;
mod wire;

use std::time::Duration;

use redial_tests::{RedisServer, Reply, TestQueue, Upstream, Worker};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// The address of the upstream that may be called in every table, and that no attempt names.
const PLAIN: &str = "127.77.77.77";

/// Makes all attempts of a table: what is pushed, with `ID` for its id, and the reason of its dead letter, or "ok".
async fn attempt(allow_private: &str, cases: Vec<(String, &'static str)>) {
    let redis = RedisServer::start().await;
    let upstream = Upstream::on_all_addresses(|_| Reply::ok().json(&json!({"ok": true}))).await;
    let worker = Worker::builder(&redis).env("REDIAL_ALLOW_PRIVATE", format!("{PLAIN}/32{allow_private}")).spawn();
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
        if *expected != came {
            let raw: String = raw.chars().take(200).collect();
            wrong.push(format!("{raw}: {came} instead of {expected}: {}", result["error"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let may_call = cases.iter().filter(|(_, expected)| *expected == "ok").count();
    assert_eq!(upstream.count(), may_call as u64, "calls that were to be made");
    is_well(&worker, &redis, &format!("http://{PLAIN}:{port}/")).await;
}

/// The worker answers a plain call, and neither it nor Redis holds anything of the attempts that would be tried again.
async fn is_well(worker: &Worker, redis: &RedisServer, url: &str) {
    let queue = TestQueue::new(redis, "default");
    queue.push(json!({"id": "plain", "url": url}).to_string()).await;
    assert_eq!(queue.wait_result("plain", SOON).await["status"], "ok");
    let idle = || async {
        let held = redis.cli(&["KEYS", "redial:{default}*"]).await;
        let is_held = |key: &&str| {
            let state = key.strip_prefix("redial:{default}").and_then(|rest| rest.split(':').nth(1));
            key == &"redial:{default}"
                || matches!(state, Some("handoff" | "active" | "stored" | "scheduled" | "wait" | "replies"))
        };
        let is_free = worker.metric("redial_slots_in_use").await.abs() < 0.5;
        (is_free && !held.lines().any(|key| is_held(&key))).then_some(())
    };
    redial_tests::eventually(SOON, idle).await;
    assert!(worker.is_running());
}

/// A task with a URL that may be called, and these fields besides.
fn with(fields: &Value) -> String {
    let mut task = json!({"id": "ID", "url": "http://127.0.0.1:PORT/ok", "retry": {"max_attempts": 1}});
    for (name, value) in fields.as_object().expect("fields") {
        task[name] = value.clone();
    }
    task.to_string()
}
