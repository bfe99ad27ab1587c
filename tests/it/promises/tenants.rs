//! Those who share a fleet and do not trust each other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redial_tests::Worker;
use serde_json::{Value, json};

use super::{SOON, Stage, ids};

/// A worker whose settings file has these lines.
fn worker(stage: &Stage, settings: &str, queues: &str) -> Worker {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), settings).unwrap();
    // The worker reads the file as it starts, and keeps looking at it: leave it.
    let path = file.into_temp_path().keep().unwrap();
    stage.worker().arg("--config").arg(path.to_str().unwrap()).env("REDIAL_QUEUES", queues).spawn()
}

/// An upstream that answers with who asked, by any header that could say so.
async fn who_asked() -> Stage {
    Stage::answering(|request| {
        let headers =
            ["x-auth-key", "ocp-apim-subscription-key", "x-user-id", "x-tenant", "x-company", "authorization"];
        let asked: Vec<&str> = headers.iter().filter_map(|name| request.headers.get(name)).collect();
        redial_tests::Reply::ok().json(&json!({"for": asked, "path": request.path}))
    })
    .await
}

/// The answer to a task, which gets an id of its own.
async fn answer(stage: &Stage, mut task: Value) -> Value {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    task["id"] = json!(format!("task {}", COUNT.fetch_add(1, Ordering::Relaxed)));
    stage.answer(task).await
}

#[tokio::test]
async fn whatever_header_says_who_asks_nobody_gets_anothers_answer() {
    let stage = who_asked().await;
    let _worker = stage.worker().spawn();
    for header in ["X-Auth-Key", "Ocp-Apim-Subscription-Key", "X-User-Id", "X-Tenant", "X-Company", "Authorization"] {
        for memo in [
            json!({"cache_ttl_ms": 60_000}),
            json!({"cache_ttl_ms": 60_000, "cache_key": "one"}),
            json!({"idempotency_key": format!("key of {header}")}),
        ] {
            for who in ["a", "b"] {
                let mut task = json!({"url": stage.url("/me"), "headers": {header: who}});
                task.as_object_mut().unwrap().extend(memo.as_object().unwrap().clone());
                let result = answer(&stage, task).await;
                assert_eq!(result["body"]["for"], json!([who]), "{header} {memo}");
            }
        }
    }
}

#[tokio::test]
async fn a_tenant_is_part_of_every_memo() {
    let stage = who_asked().await;
    let _worker = stage.worker().spawn();
    for (n, memo) in [
        json!({"cache_ttl_ms": 60_000}),
        json!({"cache_ttl_ms": 60_000, "cache_key": "one"}),
        json!({"cache_ttl_ms": 60_000, "cache_scope": "public"}),
        json!({"cache_ttl_ms": 60_000, "cache_scope": "public", "cache_key": "two"}),
        json!({"idempotency_key": "k"}),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        for (tenant, calls) in [(json!("a"), 1), (json!("b"), 2), (Value::Null, 3), (json!("a"), 3), (json!("b"), 3)] {
            let mut task = json!({"url": stage.url(&path), "tenant": tenant});
            task.as_object_mut().unwrap().extend(memo.as_object().unwrap().clone());
            assert_eq!(answer(&stage, task).await["status"], "ok");
            assert_eq!(stage.upstream.calls_to(&path).len(), calls, "{tenant} {memo}");
        }
    }
}

#[tokio::test]
async fn a_cache_key_never_crosses_origins() {
    let (stage, other) = (who_asked().await, who_asked().await);
    let _worker = stage.worker().spawn();
    for scope in ["private", "public"] {
        let task = |url: String| json!({"url": url, "cache_ttl_ms": 60_000, "cache_key": "k", "cache_scope": scope});
        for (url, path, source) in [
            (stage.url("/mine"), "/mine", "call"),
            (other.url("/theirs"), "/theirs", "call"),
            (stage.url("/again"), "/mine", "cache"),
        ] {
            let result = answer(&stage, task(url)).await;
            assert_eq!((&result["body"]["path"], &result["source"]), (&json!(path), &json!(source)), "{scope}");
        }
    }
}

#[tokio::test]
async fn a_queue_that_is_bound_to_a_tenant_is_for_its_tasks_alone() {
    let stage = who_asked().await;
    let settings = "[[tenant]]\nname = \"acme\"\nqueues = [\"acme\", \"acme-*\"]\n";
    let _worker = worker(&stage, settings, "default,acme,acme-bulk,other");
    let push = async |queue: &str, tenant: Option<&str>| {
        let queue = redial_tests::TestQueue::new(&stage.redis, queue);
        let mut task = json!({"id": "t", "url": stage.url("/x"), "cache_ttl_ms": 60_000});
        if let Some(tenant) = tenant {
            task["tenant"] = json!(tenant);
        }
        stage.redis.cli(&["DEL", &queue.result_key("t")]).await;
        queue.push(task.to_string()).await;
        queue.wait_result("t", SOON).await
    };
    // Tasks of the queue belong to the tenant, whether they say so or not: they share an answer.
    assert_eq!(push("acme", Some("acme")).await["source"], "call");
    assert_eq!(push("acme-bulk", None).await["source"], "cache");
    assert_eq!(push("default", None).await["source"], "call");
    assert_eq!(push("other", Some("other")).await["source"], "call");
    for (queue, tenant, says) in [
        ("acme", "other", "the tasks of this queue belong to \"acme\""),
        ("default", "acme", "which has queues of its own"),
    ] {
        let result = push(queue, Some(tenant)).await;
        let error = result["error"].as_str().unwrap_or_default();
        assert!(result["reason"] == "invalid_task" && error.contains(says), "{result}");
    }
    assert_eq!(stage.upstream.calls_to("/x").len(), 3);
}

#[tokio::test]
async fn a_chain_and_a_callback_stay_with_their_tenant() {
    let stage = who_asked().await;
    let _worker = stage.worker().spawn();
    let next = json!({"id": "next", "url": stage.url("/next"), "cache_ttl_ms": 60_000});
    for (tenant, calls) in [("a", 1), ("b", 2), ("a", 2)] {
        stage.redis.cli(&["DEL", &stage.queue.result_key("next")]).await;
        answer(&stage, json!({"url": stage.url("/first"), "tenant": tenant, "then": next})).await;
        stage.queue.wait_result("next", SOON).await;
        assert_eq!(stage.upstream.calls_to("/next").len(), calls, "{tenant}");
    }
    let refused = json!({"url": stage.url("/first"), "then": {"url": stage.url("/next"), "tenant": "b"}});
    let result = answer(&stage, refused).await;
    assert!(result["error"].as_str().unwrap().contains("omit `tenant`"), "{result}");
}

#[tokio::test]
async fn tenants_have_equal_shares_of_a_limit() {
    let stage = Stage::unruly().await;
    let limit = json!({"name": "shared", "rate": 20, "burst": 1});
    let many = ids("many", 60);
    stage.push_many(&many, "/many", &json!({"limit": limit, "tenant": "a"})).await;
    let few = ids("few", 6);
    stage.push_many(&few, "/few", &json!({"limit": limit, "tenant": "b"})).await;
    let _worker = stage.worker().spawn();
    stage.queue.wait_results(&few, SOON).await;
    let made = stage.upstream.calls_to("/many").len();
    assert!(made <= 30, "{made} calls of one tenant before the 6 of the other");
}

#[tokio::test]
async fn replies_go_to_the_lists_that_the_operator_allows() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().spawn();
    let reply = async |list: &str, url: &str| answer(&stage, json!({"url": stage.url(url), "reply_to": list})).await;
    for list in ["answers:mine", "answers:{default}:1"] {
        assert_eq!(reply(list, "/ok").await["status"], "ok");
        assert_eq!(stage.redis.cli(&["LLEN", list]).await, "1");
    }
    for list in ["answers", "celery", "myanswers:1", "redial:{other}", "redial:{default}:batch:b1", "bull:mail:wait"] {
        let result = reply(list, "/ok").await;
        assert_eq!((&result["status"], &result["reason"]), (&json!("dead"), &json!("invalid_task")), "{list}");
        let error = result["error"].as_str().unwrap();
        assert!(error.contains("reply_to"), "{error}");
        // Neither the reply of a task that is invalid otherwise.
        let id = format!("invalid {list}");
        stage.queue.push(json!({"id": id, "url": "nowhere", "reply_to": list}).to_string()).await;
        assert_eq!(stage.queue.wait_result(&id, SOON).await["reason"], "invalid_task");
        assert_eq!(stage.redis.cli(&["EXISTS", list]).await, "0", "{list}");
    }
    let calls = stage.upstream.calls_to("/ok").len();
    assert_eq!(calls, 2, "what is refused is not called");
}

#[tokio::test]
async fn what_replies_may_name_is_a_setting() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().env("REDIAL_REPLY_LISTS", "replies:*, one").spawn();
    for (list, status) in [("replies:a", "ok"), ("one", "ok"), ("answers:a", "dead"), ("ones", "dead")] {
        let result = answer(&stage, json!({"url": stage.url("/ok"), "reply_to": list})).await;
        assert_eq!(result["status"], status, "{list}");
    }
}

#[tokio::test]
async fn a_limit_of_the_operators_cannot_be_named_closed_or_charged_by_a_task() {
    let stage = Stage::answering(|request| match request.route() {
        "/closing" => redial_tests::Reply::status(429).header("retry-after", "3600"),
        "/charging" => redial_tests::Reply::ok().json(&json!({"usage": {"total_tokens": 1e12}})),
        _ => redial_tests::Reply::ok().json(&json!(1)),
    })
    .await;
    let own = redial_tests::Upstream::unruly().await;
    let settings = format!(
        "[[limit]]\nname = \"api\"\nrate = 1000\ntasks = false\n\n[[limit]]\nname = \"open\"\nrate = 1000\n\n\
         [[upstream]]\nurl = \"{}\"\nlimits = [\"api\", \"open\"]\n",
        own.url("/")
    );
    let _worker = worker(&stage, &settings, "default");
    let named = answer(&stage, json!({"url": stage.url("/ok"), "limit": "api"})).await;
    let error = named["error"].as_str().unwrap();
    assert!(named["reason"] == "invalid_task" && error.contains("tasks = false"), "{named}");
    // Of one that tasks may name, another server's answers move nothing.
    let once = json!({"max_attempts": 1});
    for path in ["/closing", "/charging"] {
        let limit = json!({"name": "open", "cost": 1, "usage": "$.usage.total_tokens"});
        let task = json!({"url": stage.url(path), "limit": limit, "retry": once, "ttl_ms": 1_500});
        answer(&stage, task).await;
    }
    let began = std::time::Instant::now();
    assert_eq!(answer(&stage, json!({"url": own.url("/ok")})).await["status"], "ok");
    assert!(began.elapsed() < Duration::from_secs(20), "it waited for {:?}", began.elapsed());
}

#[tokio::test]
async fn a_tenant_that_no_task_could_have_is_refused() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().spawn();
    for tenant in [json!(""), json!("x".repeat(65)), json!("ü"), json!("a\nb"), json!(7)] {
        let result = answer(&stage, json!({"url": stage.url("/ok"), "tenant": tenant})).await;
        let error = result["error"].as_str().unwrap();
        assert!(result["reason"] == "invalid_task" && error.contains("tenant"), "{tenant}: {result}");
    }
    for (settings, says) in [
        ("[[tenant]]\nname = \"a\"\nqueues = []\n", "has no queues"),
        ("[[tenant]]\nname = \"\"\nqueues = [\"a\"]\n", "[[tenant]] name"),
        (
            "[[tenant]]\nname = \"a\"\nqueues = [\"default\"]\n[[tenant]]\nname = \"b\"\nqueues = [\"def*\"]\n",
            "several tenants",
        ),
    ] {
        let refused = worker(&stage, settings, "default");
        assert!(!refused.wait_exit(SOON).await.success());
        assert!(refused.log().contains(says), "{}", refused.log());
    }
}

#[tokio::test]
async fn no_task_asks_for_more_than_the_operator_allows() {
    let stage = Stage::unruly().await;
    let settings = format!(
        "max_attempts = 20\nmax_delay_ms = 60000\n[[upstream]]\nurl = \"{}\"\ntimeout_ms = 1200000\nretry = {{ max_attempts = 50 }}\n",
        stage.url("/generous")
    );
    let _worker = worker(&stage, &settings, "default");
    for (fields, says) in [
        (
            json!({"timeout_ms": 600_001}),
            "`timeout_ms` is 600001, and this worker allows at most 600000 (max_timeout_ms)",
        ),
        (json!({"connect_timeout_ms": 700_000}), "`connect_timeout_ms` is 700000"),
        (json!({"retry": {"max_attempts": 21}}), "`retry.max_attempts` is 21, and this worker allows at most 20"),
        (json!({"retry": {"cap_ms": 60_001}}), "`retry.cap_ms` is 60001"),
        (json!({"delay_ms": 60_001}), "max_delay_ms"),
        (json!({"run_at_ms": 9_999_999_999_999_u64}), "max_delay_ms"),
        (json!({"result_ttl_ms": 2_678_400_001_u64}), "(max_result_ttl_ms)"),
    ] {
        let mut task = fields.clone();
        task["url"] = json!(stage.url("/ok"));
        let result = answer(&stage, task).await;
        let error = result["error"].as_str().unwrap_or_default();
        assert!(result["reason"] == "invalid_task" && error.contains(says), "{fields}: {result}");
    }
    for fields in [json!({"timeout_ms": 600_000}), json!({"retry": {"max_attempts": 20, "cap_ms": 60_000}})] {
        let mut task = fields.clone();
        task["url"] = json!(stage.url("/ok"));
        assert_eq!(answer(&stage, task).await["status"], "ok", "{fields}");
    }
    // What the operator sets for an upstream may be more.
    assert_eq!(answer(&stage, json!({"url": stage.url("/generous")})).await["http_status"], 404);
    assert_eq!(stage.upstream.count(), 3);
}

#[tokio::test]
async fn tenants_have_keys_of_their_own_at_the_upstream() {
    let stage = Stage::unruly().await;
    let _worker = worker(&stage, "[[tenant]]\nname = \"acme\"\nqueues = [\"default\"]\n", "default");
    let task = json!({"id": "own", "url": stage.url("/echo"), "idempotency_key": "k"});
    let result = answer(&stage, task).await;
    assert_eq!(result["body"]["headers"]["idempotency-key"], "acme.k", "{result}");
}

#[tokio::test]
async fn a_maximum_below_a_default_refuses_no_task_that_does_not_ask_for_more() {
    let stage = Stage::unruly().await;
    let settings = "max_timeout_ms = 1\nmax_attempts = 1\nmax_delay_ms = 1\nmax_result_ttl_ms = 1\n";
    let _worker = worker(&stage, settings, "default");
    let task = json!({"id": "a", "url": stage.url("/ok"), "callback_url": stage.url("/ok")});
    stage.queue.push(task.to_string()).await;
    assert_eq!(stage.queue.wait_result("a", SOON).await["status"], "ok");
    assert_eq!(stage.queue.wait_result("a.callback", SOON).await["status"], "ok", "Redial's own tasks ask for more");
}
