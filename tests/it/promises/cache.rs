//! A cached answer is reused while it is fresh, and costs no call.

use std::time::Duration;

use redial_tests::Reply;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{SOON, Stage, attempts};

async fn counting_stage() -> Stage {
    Stage::answering(|request| Reply::ok().json(&json!({"n": request.nth})).header("x-model", "m-1")).await
}

fn task(id: &str, url: &str, more: &Value) -> Value {
    let mut task = json!({"id": id, "url": url, "cache_ttl_ms": 60_000});
    for (field, value) in more.as_object().unwrap() {
        task[field] = value.clone();
    }
    task
}

#[tokio::test]
async fn a_cache_hit_returns_the_full_answer_without_a_call() {
    let stage = counting_stage().await;
    let worker = stage.ready_worker().await;
    let url = stage.url("/v1/extract");
    let first = stage.answer(task("first", &url, &json!({"meta": 1}))).await;
    let second = stage.answer(task("second", &url, &json!({"meta": 2, "reply_to": "answers:{default}"}))).await;
    assert_eq!((&first["source"], &second["source"]), (&json!("call"), &json!("cache")));
    for field in ["status", "http_status", "headers", "body", "reason", "error"] {
        assert_eq!(first[field], second[field], "{field}");
    }
    assert_eq!((&second["id"], &second["meta"]), (&json!("second"), &json!(2)));
    assert_eq!((attempts(&first), attempts(&second)), (1, 0));
    assert_eq!(stage.redis.cli(&["LLEN", "answers:{default}"]).await.trim(), "1");
    assert_eq!(stage.upstream.count(), 1);
    assert_eq!(super::counter(&worker, "redial_calls_saved_total").await, 1);
}

#[tokio::test]
async fn a_cache_hit_costs_three_commands() {
    let stage = counting_stage().await;
    let _worker = stage.ready_worker().await;
    let url = stage.url("/");
    stage.answer(task("first", &url, &json!({}))).await;
    let scripts = || async {
        let stats = stage.redis.cli(&["INFO", "commandstats"]).await;
        let calls = |line: &str| line.split("calls=").nth(1)?.split(',').next()?.parse::<u64>().ok();
        stats.lines().filter(|line| line.starts_with("cmdstat_eval")).filter_map(calls).sum::<u64>()
    };
    let ids = super::ids("hit", 200);
    let before = scripts().await;
    stage.push_many(&ids, "/", &json!({"cache_ttl_ms": 60_000})).await;
    let results = stage.queue.wait_results(&ids, SOON).await;
    assert!(results.iter().all(|result| result["source"] == "cache"));
    // One memo lookup per task; claims and completions are batched. Heartbeats are counted too.
    let all = scripts().await - before;
    assert!(all <= 3 * 200, "{all} scripts for 200 hits");
    assert_eq!(stage.upstream.count(), 1);
}

/// Tasks whose calls differ from each other, each with a memo of its own.
fn different(stage: &Stage, prefix: &str, count: usize) -> Vec<Value> {
    (0..count)
        .map(|n| task(&format!("{prefix}{n}"), &stage.url(&format!("/{n}")), &json!({"cache_ttl_ms": 3_600_000})))
        .collect()
}

async fn push(stage: &Stage, tasks: &[Value]) {
    stage.queue.push_all(tasks.iter().map(Value::to_string)).await;
}

#[tokio::test]
async fn tasks_that_miss_the_cache_together_ask_and_settle_together() {
    const TASKS: u64 = 400;
    let stage = counting_stage().await;
    push(&stage, &different(&stage, "miss", 400)).await;
    let before = stage.redis.info_number("total_commands_processed").await;
    let _worker = stage.ready_worker().await;
    let results = stage.queue.wait_results(&super::ids("miss", 400), SOON).await;
    assert_eq!((super::answered(&results), stage.upstream.count()), (400, TASKS));
    // For each: three to ask, two to settle, and to store its result. The rest is shared.
    let redis = &stage.redis;
    let all = redis.info_number("total_commands_processed").await - before;
    let all = all - redis.calls_of("get").await - redis.calls_of("mget").await;
    assert!(all < 8 * TASKS, "{all} commands");
    let (read, scripts) = (redis.calls_of("hmget").await, redis.calls_of("evalsha").await);
    assert!(2 * read < 5 * TASKS, "{read}");
    assert!(
        2 * scripts < TASKS,
        "{scripts}: one script for each step of each task would be four times as many as tasks"
    );
}

#[tokio::test]
async fn a_broken_memo_concerns_only_its_own_task_though_others_ask_and_settle_with_it() {
    const TASKS: usize = 60;
    let stage = counting_stage().await;
    let worker = stage.ready_worker().await;
    push(&stage, &different(&stage, "first", TASKS)).await;
    stage.queue.wait_results(&super::ids("first", TASKS), SOON).await;
    worker.kill9();
    let memos = stage.redis.cli(&["KEYS", "redial:memo:*"]).await;
    assert_eq!(memos.lines().count(), TASKS);
    assert_eq!(stage.redis.cli(&["SET", memos.lines().next().unwrap(), "by hand"]).await, "OK");
    push(&stage, &different(&stage, "second", TASKS)).await;
    let _worker = stage.ready_worker().await;
    let results = stage.queue.wait_results(&super::ids("second", TASKS), SOON).await;
    assert_eq!(results.iter().filter(|result| result["source"] == "cache").count(), TASKS - 1);
    let refused: Vec<&Value> = results.iter().filter(|result| result["status"] == "dead").collect();
    assert!(refused.len() == 1 && refused[0]["error"].to_string().contains("WRONGTYPE"), "{refused:?}");
    assert_eq!(stage.upstream.count(), TASKS as u64);
}

#[tokio::test]
async fn an_expired_cache_entry_leads_to_a_new_call() {
    let stage = counting_stage().await;
    let _worker = stage.ready_worker().await;
    let url = stage.url("/");
    let brief = json!({"cache_ttl_ms": 1_000});
    assert_eq!(stage.answer(task("a", &url, &brief)).await["body"]["n"], 0);
    sleep(Duration::from_millis(1_100)).await;
    assert_eq!(stage.answer(task("b", &url, &brief)).await["body"]["n"], 1);
}

#[tokio::test]
async fn a_cached_answer_older_than_the_tasks_maximum_age_is_not_used() {
    let stage = counting_stage().await;
    let _worker = stage.ready_worker().await;
    let url = stage.url("/");
    assert_eq!(stage.answer(task("long", &url, &json!({}))).await["body"]["n"], 0);
    sleep(Duration::from_millis(300)).await;
    let strict = stage.answer(task("strict", &url, &json!({"cache_ttl_ms": 200}))).await;
    assert_eq!((&strict["source"], &strict["body"]["n"]), (&json!("call"), &json!(1)));
}

#[tokio::test]
async fn failures_are_never_cached() {
    let stage = Stage::answering(|request| match request.nth {
        0 => Reply::status(400),
        _ => Reply::ok(),
    })
    .await;
    let _worker = stage.ready_worker().await;
    let url = stage.url("/");
    assert_eq!(stage.answer(task("bad", &url, &json!({}))).await["reason"], "rejected");
    let good = stage.answer(task("good", &url, &json!({}))).await;
    assert_eq!((&good["status"], &good["source"]), (&json!("ok"), &json!("call")));
}

#[tokio::test]
async fn equivalent_calls_share_a_cache_entry_and_different_calls_do_not() {
    let stage = counting_stage().await;
    let _worker = stage.ready_worker().await;
    let url = stage.url("/");
    let raw = |id: &str, more: &str| format!(r#"{{"id":"{id}","url":"{url}","cache_ttl_ms":60000,{more}}}"#);
    let push = |id: &'static str, more: &str| {
        let task = raw(id, more);
        let queue = &stage.queue;
        async move {
            queue.push(task).await;
            queue.wait_result(id, SOON).await
        }
    };
    let first = push("first", r#""body":{"a":1,"b":[9007199254740993,"é"]}"#).await;
    assert_eq!(first["source"], "call");
    for (id, same) in [
        ("order", r#""body":{"b":[9007199254740993,"é"],"a":1}"#),
        ("space", r#""body":{ "a" : 1 , "b":[ 9007199254740993 , "é" ] }"#),
        ("numbers", r#""body":{"a":1.0,"b":[9007199254740993e0,"é"]}"#),
        ("escapes", r#""body":{"\u0061":10e-1,"b":[9007199254740993,"\u00e9"]}"#),
        (
            "trace",
            r#""body":{"a":1,"b":[9007199254740993,"é"]},"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01""#,
        ),
    ] {
        assert_eq!(push(id, same).await["source"], "cache", "{id}");
    }
    for (id, other) in [
        ("value", r#""body":{"a":2,"b":[9007199254740993,"é"]}"#),
        ("large", r#""body":{"a":1,"b":[9007199254740992,"é"]}"#),
        ("type", r#""body":{"a":"1","b":[9007199254740993,"é"]}"#),
        ("header", r#""body":{"a":1,"b":[9007199254740993,"é"]},"headers":{"Accept-Language":"de"}"#),
        ("method", r#""body":{"a":1,"b":[9007199254740993,"é"]},"method":"PUT""#),
        ("tenant", r#""body":{"a":1,"b":[9007199254740993,"é"]},"headers":{"Authorization":"Bearer other"}"#),
    ] {
        assert_eq!(push(id, other).await["source"], "call", "{id}");
    }
}

#[tokio::test]
async fn tenants_share_cached_answers_only_when_they_ask_to() {
    let stage = counting_stage().await;
    let _worker = stage.ready_worker().await;
    let url = stage.url("/");
    let of = |tenant: &str, more: Value| {
        let mut fields = more;
        fields["headers"] = json!({"Authorization": format!("Bearer {tenant}")});
        fields
    };
    let ask = |id: &'static str, fields: Value| stage.answer(task(id, &url, &fields));
    assert_eq!(ask("a", of("a", json!({}))).await["source"], "call");
    assert_eq!(ask("b", of("b", json!({}))).await["source"], "call");
    let named = json!({"cache_key": "doc-42"});
    assert_eq!(ask("a-named", of("a", named.clone())).await["source"], "call");
    assert_eq!(ask("b-named", of("b", named.clone())).await["source"], "call");
    assert_eq!(ask("a-again", of("a", named)).await["source"], "cache");
    let public = json!({"cache_scope": "public"});
    assert_eq!(ask("a-public", of("a", public.clone())).await["source"], "call");
    assert_eq!(ask("b-public", of("b", public)).await["source"], "cache");
}

#[tokio::test]
async fn credentials_added_by_the_worker_reach_the_upstream_and_separate_cache_entries() {
    let stage = counting_stage().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("redial.toml");
    let block =
        format!("[[upstream]]\nurl = \"{}\"\nheaders = {{ Authorization = \"Bearer ${{KEY}}\" }}\n", stage.url("/v1"));
    std::fs::write(&file, block).unwrap();
    let config = file.to_str().unwrap().to_owned();
    let worker = |key: &str| stage.worker().arg("--config").arg(&config).env("KEY", key).spawn();
    let url = stage.url("/v1/x");
    for (n, (key, source)) in [("first", "call"), ("first", "cache"), ("second", "call")].into_iter().enumerate() {
        let worker = worker(key);
        worker.wait_ready().await;
        assert_eq!(stage.answer(task(&format!("t{n}"), &url, &json!({}))).await["source"], source, "{key}");
        worker.term();
        worker.wait_exit(SOON).await;
        assert!(!worker.log().contains(key), "a secret in the log");
    }
    let sent: Vec<_> =
        stage.upstream.calls().iter().map(|call| call.headers.get("authorization").map(str::to_owned)).collect();
    assert_eq!(sent, [Some("Bearer first".to_owned()), Some("Bearer second".to_owned())]);
    let kept = stage.redis.cli(&["EVAL", "local all = '' for _, k in ipairs(redis.call('KEYS', '*memo*')) do all = all .. k .. redis.call('GET', k) end return all", "0"]).await;
    assert!(kept.contains("memo") && kept.contains("status") && !kept.contains("Bearer"), "a secret in Redis");
}
