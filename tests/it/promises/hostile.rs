//! Tasks that are hard to parse or to evaluate: whatever they contain, they neither kill nor delay their worker.

use redial_tests::Reply;
use serde_json::{Value, json};

use super::{SOON, Stage, answered, ids};

/// A task whose chain has this URL.
fn chain(url: &str, next: &str) -> Value {
    json!({"url": url, "then": {"url": next}})
}

/// Tasks, and what is said of each.
fn hostile(url: &str) -> Vec<(&'static str, Value, &'static str)> {
    let nested = |open: &str, inner: &str, close: &str, times: usize| {
        format!("http://y/{{{{${}{inner}{}}}}}", open.repeat(times), close.repeat(times))
    };
    let parentheses = format!("http://y/{{{{$[?{}1==1{}]}}}}", "(".repeat(1_000), ")".repeat(1_000));
    let headers: serde_json::Map<String, Value> = (0..24_577).map(|n| (format!("x-{n}"), json!(""))).collect();
    let limits: Vec<Value> = (0..10_000).map(|n| json!({"name": format!("l{n}"), "rate": 1})).collect();
    // Each of these tasks has all that follow it inside.
    let long = (0..100)
        .fold(json!({"url": url, "body_text": "x".repeat(900_000)}), |next, _| json!({"url": url, "then": next}));
    let with = |name: &str, value: Value| {
        let mut task = json!({"url": url});
        task[name] = value;
        task
    };
    vec![
        ("parentheses", chain(url, &parentheses), "too complex"),
        ("filters", chain(url, &nested("[?@", "", "]", 40)), "too complex"),
        ("brackets", chain(url, &nested("[", "0", "]", 100_000)), "too complex"),
        ("unions", chain(url, &nested("[0,0,0,0,0,0]", "", "", 70)), "too complex"),
        ("functions", chain(url, &format!("http://y/{{{{$[?{}]}}}}", "count(@[?".repeat(20))), "too complex"),
        ("paths", chain(url, &"{{$.id}}".repeat(100_000)), "more than 256 paths"),
        ("many filters", chain(url, &"{{$[?@.a]}}".repeat(200)), "more than 16 filters"),
        ("long chain", json!({"url": url, "then": long}), "split the chain"),
        ("headers", with("headers", Value::Object(headers)), "24577 values"),
        ("limits", with("limit", json!(limits)), "10000 values"),
        ("rate", with("limit", json!({"name": "l", "rate": 1e300})), "out of range"),
        ("cost", with("limit", json!({"name": "l", "rate": 1, "cost": 1e-300})), "out of range"),
        ("url", json!({"url": format!("{url}/{}", "x".repeat(1_000_000))}), "`url` has"),
        ("host", json!({"url": format!("http://{}/", "ü.".repeat(200_000))}), "`url` has"),
        ("callback", with("callback_url", json!(format!("{url}/{}", "x".repeat(100_000)))), "`callback_url` has"),
        ("reply", with("reply_to", json!("l".repeat(1_000_000))), "`reply_to` has"),
        ("method", with("method", json!("M".repeat(1_000_000))), "`method`"),
        ("ttl", with("result_ttl_ms", json!(u64::MAX)), "`result_ttl_ms`"),
    ]
}

#[tokio::test]
async fn a_task_that_is_hard_to_parse_ends_as_invalid_and_delays_no_other() {
    let stage = Stage::unruly().await;
    let worker = stage.ready_worker().await;
    let hostile = hostile(&stage.url("/ok"));
    let good = ids("good", hostile.len() * 5);
    for ((name, task, _), good) in hostile.iter().zip(good.chunks(5)) {
        let mut task = task.clone();
        task["id"] = json!(name);
        stage.queue.push(task.to_string()).await;
        stage.push_many(good, "/ok", &json!({})).await;
    }
    assert_eq!(answered(&stage.queue.wait_results(&good, SOON).await), good.len());
    for (name, _, says) in hostile {
        let result = stage.queue.wait_result(name, SOON).await;
        let error = result["error"].as_str().unwrap_or_default();
        assert_eq!(result["reason"], "invalid_task", "{name}: {error}");
        assert!(error.contains(says) && error.len() < 10_000, "{name}: {error}");
    }
    assert!(worker.is_running());
    assert_eq!(stage.upstream.count(), good.len() as u64);
}

#[tokio::test]
async fn a_path_that_is_slow_on_a_large_answer_ends_only_its_chain() {
    let items: Vec<Value> = (0..60_000).map(|n| json!({"n": n, "tags": ["a", {"b": n}]})).collect();
    let answer = json!({"items": items});
    let stage = Stage::answering(move |_| Reply::ok().json(&answer)).await;
    let worker = stage.ready_worker().await;
    for (id, path) in
        [("slow", "{{$.body.items[?@.n == count($.body.items[*])]}}"), ("large", &"{{$.body}}".repeat(30))]
    {
        let then = json!({"id": format!("{id}-next"), "url": stage.url("/next"), "body": {"found": path, "as": "text {{$.id}}"}});
        let task = json!({"id": id, "url": stage.url("/big"), "then": then});
        assert_eq!(stage.answer(task).await["status"], "ok");
        let next = stage.queue.wait_result(&format!("{id}-next"), SOON).await;
        assert_eq!(next["reason"], "invalid_task", "{next}");
    }
    let found = json!({"id": "next", "url": stage.url("/next"), "body": {"found": "{{$.body.items[*].n}}"}});
    let task = json!({"id": "a", "url": stage.url("/big"), "then": found});
    assert_eq!(stage.answer(task).await["status"], "ok");
    assert_eq!(stage.queue.wait_result("next", SOON).await["status"], "ok");
    assert!(worker.is_running());
}
