//! Budgets: limits on what calls cost, and what becomes of a call that finds one spent.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redial_tests::{Cli, Reply, Request, stalls};
use serde_json::{Value, json};

use super::{SOON, Stage, answered, at_length, ids, number};

/// A chat completion that took this many tokens.
fn completion(prompt: u64, completion: u64) -> Reply {
    Reply::ok().json(&json!({"usage": {
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
    }}))
}

/// Two dollars for a million tokens in, eight for a million out.
fn prices() -> Value {
    json!({"usage.prompt_tokens": 0.000_002, "usage.completion_tokens": 0.000_008})
}

async fn status(stage: &Stage, name: &str) -> Value {
    let shown = Cli::new(&stage.redis).run(&["--json", "limits", "show", name]).await;
    assert_eq!(shown.status, 0, "{}", shown.stderr);
    serde_json::from_str(&shown.stdout).unwrap()
}

#[tokio::test]
async fn a_call_that_finds_a_budget_spent_is_dead_or_waits_as_it_says() {
    // 1,000 tokens in and 1,000 out are a cent.
    let stage = Stage::answering(|_| completion(1_000, 1_000)).await;
    let _worker = stage.ready_worker().await;
    let budget = |id: &str, more: Value| {
        let mut limit = json!({"name": "acme-daily", "rate": 0.03, "per_ms": 86_400_000, "burst": 0.03, "unit": "usd",
            "cost": 0.005, "usage": prices()});
        limit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"id": id, "url": stage.url("/v1/chat/completions"), "limit": limit})
    };
    for id in ["a", "b", "c"] {
        assert_eq!(stage.answer(budget(id, json!({"on_empty": "dead"}))).await["status"], "ok");
    }
    let left = status(&stage, "acme-daily").await;
    assert!(left["left"].as_f64().unwrap().abs() < 1e-4 && left["unit"] == "usd", "{left}");

    let dead = stage.answer(budget("d", json!({"on_empty": "dead"}))).await;
    assert_eq!((&dead["status"], &dead["reason"]), (&json!("dead"), &json!("over_budget")), "{dead}");
    let error = dead["error"].as_str().unwrap();
    assert!(error.contains("0.005 usd of the limit \"acme-daily\"") && error.contains("on_empty"), "{error}");
    // Half a cent takes four hours.
    let dead = stage.answer(budget("e", json!({"max_wait_ms": 3_600_000}))).await;
    assert_eq!(dead["reason"], "over_budget", "{dead}");
    assert!(dead["error"].as_str().unwrap().contains("max_wait_ms"), "{dead}");
    let letters = Cli::new(&stage.redis).run(&["dead", "list", "--reason", "over_budget"]).await;
    assert_eq!(letters.stdout.lines().count(), 2, "{}", letters.stdout);
    assert_eq!(stage.upstream.count(), 3, "no call was made");

    // These wait, and nothing that was refused is ahead of them.
    for (id, more) in [("f", json!({})), ("g", json!({"max_wait_ms": 86_400_000}))] {
        stage.queue.push(budget(id, more).to_string()).await;
    }
    let waits = || async { (status(&stage, "acme-daily").await["waiting"] == 2).then_some(()) };
    redial_tests::eventually(SOON, waits).await;
    let reset = Cli::new(&stage.redis).run(&["limits", "reset", "acme-daily"]).await;
    assert_eq!(reset.status, 0, "{}", reset.stderr);
    let waited = [String::from("f"), String::from("g")];
    assert_eq!(answered(&stage.queue.wait_results(&waited, SOON).await), 2, "the next day's budget");
}

#[tokio::test]
async fn the_bound_of_a_wait_holds_for_all_of_it() {
    // One call at a time, which takes long: a limit cannot know how long a place will be taken.
    let stage = Stage::slow(Duration::from_secs(4)).await;
    let _worker = stage.ready_worker().await;
    let limit = json!({"limit": {"name": "one", "concurrency": 1, "max_wait_ms": 1_000}});
    let ids = ids("t", 3);
    stage.push_many(&ids, "/", &limit).await;
    let results = stage.queue.wait_results(&ids, SOON).await;
    assert_eq!(answered(&results), 1, "{results:?}");
    let over = results.iter().filter(|result| result["reason"] == "over_budget").count();
    assert_eq!(over, 2, "{results:?}");
    assert_eq!(stage.upstream.count(), 1);
}

#[tokio::test]
async fn a_call_that_was_over_budget_has_not_used_its_idempotency_key() {
    let stage = Stage::answering(|_| completion(1, 1)).await;
    let _worker = stage.ready_worker().await;
    let task = |id: &str, key: &str| {
        let limit = json!({"name": "b", "rate": 1, "per_ms": 86_400_000, "burst": 1, "on_empty": "dead"});
        json!({"id": id, "url": stage.url("/"), "method": "POST", "body": {}, "idempotency_key": key, "limit": limit})
    };
    assert_eq!(stage.answer(task("a", "k1")).await["status"], "ok");
    assert_eq!(stage.answer(task("b", "k2")).await["reason"], "over_budget");
    assert_eq!(Cli::new(&stage.redis).run(&["limits", "reset", "b"]).await.status, 0);
    let again = stage.answer(task("c", "k2")).await;
    assert_eq!((&again["status"], &again["source"]), (&json!("ok"), &json!("call")), "{again}");
}

#[tokio::test]
async fn a_day_s_budget_for_each_of_many_tenants_is_exceeded_by_one_call_at_most() {
    const BUDGET: f64 = 0.02;
    // The cost of a call depends on its tenant, and the estimate is wrong: from a fifth of the real cost to four times.
    fn cost(tenant: usize) -> (u64, u64) {
        (100 + 97 * (tenant as u64 % 13), 50 + 31 * (tenant as u64 % 11))
    }
    fn dollars((prompt, completion): (u64, u64)) -> f64 {
        #[expect(clippy::cast_precision_loss)] // a few thousand
        let (prompt, completion) = (prompt as f64, completion as f64);
        prompt * 0.000_002 + completion * 0.000_008
    }
    let of = |request: &Request| request.route().trim_start_matches('/').parse::<usize>().unwrap();
    let stage = Stage::answering(move |request| {
        let (prompt, completion_tokens) = cost(of(request));
        completion(prompt, completion_tokens)
    })
    .await;
    let _workers = [stage.ready_worker().await, stage.worker().spawn()];
    let tenants = at_length(250, 1_000);
    let mut pushed = Vec::new();
    for tenant in 0..tenants {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // about thirty at most
        let calls = (BUDGET / dollars(cost(tenant))).ceil() as usize + 3;
        let limit = json!({"name": format!("tenant {tenant}"), "rate": BUDGET, "per_ms": 86_400_000, "burst": BUDGET,
            "unit": "usd", "cost": 0.002, "usage": prices(), "on_empty": "dead", "concurrency": 1});
        for call in 0..calls {
            let id = format!("{tenant}-{call}");
            stage
                .queue
                .push(json!({"id": id, "url": stage.url(&format!("/{tenant}")), "limit": limit}).to_string())
                .await;
            pushed.push(id);
        }
    }
    let results = stage.queue.wait_results(&pushed, Duration::from_secs(300)).await;
    assert!(results.iter().all(|result| result["status"] == "ok" || result["reason"] == "over_budget"));
    let mut spent: HashMap<usize, f64> = HashMap::new();
    for call in stage.upstream.calls() {
        *spent.entry(of(&call)).or_default() += dollars(cost(of(&call)));
    }
    for tenant in 0..tenants {
        let (spent, call) = (spent[&tenant], dollars(cost(tenant)));
        assert!(spent <= BUDGET + call, "tenant {tenant} spent {spent}, at {call} a call");
    }
    // The estimate of a call in flight keeps others away, and a worker that was stopped may lose what it was granted.
    #[expect(clippy::cast_precision_loss)] // a thousand at most
    let all = BUDGET * tenants as f64;
    let total: f64 = spent.values().sum();
    assert!(total >= 0.8 * all, "{total} spent of {all}");
    // Whatever belongs to a tenant goes away some time after its last call.
    let keys = stage.redis.cli(&["--raw", "KEYS", "redial:limit:{tenant *"]).await;
    assert!(keys.lines().count() >= tenants, "{}", keys.lines().count());
    for key in keys.lines().filter(|key| key.contains("tenant 1")) {
        let ttl: i64 = stage.redis.cli(&["PTTL", key]).await.trim().parse().unwrap();
        // Twice the time that it takes to fill, and the last call may have cost more than was left.
        assert!((1..=3 * 86_400_000).contains(&ttl), "{key}: {ttl}");
    }
}

#[tokio::test]
async fn a_token_rate_converges_although_every_estimate_is_wrong_by_a_factor_of_three() {
    stalls::watch();
    // What was estimated, and what a call takes.
    for (estimate, tokens) in [(100, 300), (900, 300)] {
        let stage =
            Stage::answering(move |_| completion(tokens / 3, tokens * 2 / 3).after(Duration::from_millis(50))).await;
        let _worker = stage.ready_worker().await;
        let calls = at_length(60, 400);
        let ids = ids("t", calls);
        // 60,000 tokens a minute are 1,000 a second.
        let limit =
            json!({"limit": {"name": "tokens", "rate": 60_000, "per_ms": 60_000, "burst": 1_000, "cost": estimate}});
        stage.push_many(&ids, "/", &limit).await;
        let started = Instant::now();
        let results = stage.queue.wait_results(&ids, Duration::from_secs(200)).await;
        assert_eq!(answered(&results), calls);
        let mut at: Vec<u64> = stage.upstream.calls().iter().map(|call| call.unix_ms).collect();
        at.sort_unstable();
        // A call's usage is known before its result is. A grant is decided this much before its moment.
        let ahead = 100;
        let known: Vec<u64> = results.iter().map(|result| number(&result["finished_at_ms"]) + ahead).collect();
        // In no window more than burst and rate allow, and the calls whose usage was not known when the last one was granted.
        for first in 0..calls {
            for last in first..calls {
                let span = at[last] - at[first] + 60 + stalls::between(at[first] - 600, at[first]);
                let in_flight = (last + 1 - known.iter().filter(|known| **known <= at[last]).count()) as u64;
                let taken = (last - first + 1) as u64 * tokens;
                let most = 1_000 + span + in_flight * tokens;
                assert!(taken <= most, "{taken} tokens in {span} ms, with {in_flight} calls in flight");
            }
        }
        // After the burst and the first corrections, all of the rate is used; at length, so that a busy machine counts for little.
        let from = calls / 3;
        let span = at[calls - 1] - at[from];
        let used = (calls - 1 - from) as u64 * tokens * 100 / span;
        let held_up = stalls::between(at[from], at[calls - 1]) * 100 / span;
        assert!(
            used + held_up >= at_length(85, 95),
            "{used} % of the rate, {held_up} % held up, after {:?}",
            started.elapsed()
        );
    }
}
