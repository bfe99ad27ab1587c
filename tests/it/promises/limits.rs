//! The fleet as one polite client: it never exceeds a limit, and uses nearly all of it.

use std::time::Duration;

use redial_tests::{Reply, Request, Worker, stalls};
use serde_json::{Value, json};

use super::{SOON, Stage, answered, at_length, attempts, ids};

/// How long a call may take from its admission to the upstream, since two cores run, and start, a whole fleet.
const NETWORK_MS: u64 = 60;

/// How many calls a busy machine may move into a window by delaying others on their way, at a rate per ms.
pub fn jitter(rate: f64) -> f64 {
    rate * at_length(60.0, 30.0)
}

/// By how many calls the worst window exceeds `burst + rate * t`; negative if none does. A window begins and ends with a call,
/// and counts as longer by what delays on the way to the upstream may have taken off it.
pub(super) fn over(calls: &[Request], rate_per_ms: f64, burst: f64) -> f64 {
    let mut at: Vec<u64> = calls.iter().map(|call| call.unix_ms).collect();
    at.sort_unstable();
    let mut worst = f64::MIN;
    for first in 0..at.len() {
        // The first call may have been admitted in time and then delayed by the machine.
        let held_up = NETWORK_MS + stalls::between(at[first] - 600, at[first]);
        for last in first..at.len() {
            let span = at[last] - at[first] + held_up;
            #[expect(clippy::cast_precision_loss)] // thousands
            let excess = (last - first + 1) as f64 - (burst + rate_per_ms * span as f64);
            worst = worst.max(excess);
        }
    }
    worst
}

fn limit(rate: f64, burst: f64) -> Value {
    json!({"limit": {"name": "shared", "rate": rate, "burst": burst}})
}

#[tokio::test]
async fn eight_workers_never_exceed_one_limit_and_use_it_fully() {
    stalls::watch();
    let stage = Stage::unruly().await;
    let mut workers = Vec::new();
    for _ in 0..8 {
        workers.push(stage.worker().spawn());
    }
    // Eight programs that start at once on two cores would delay the first calls.
    for worker in &workers {
        worker.wait_ready().await;
    }
    let tasks = at_length(500, 2_000);
    let ids = ids("t", tasks);
    stage.push_many(&ids, "/ok", &limit(50.0, 10.0)).await;
    let results = stage.queue.wait_results(&ids, Duration::from_secs(120)).await;
    assert_eq!(answered(&results), tasks);
    let calls = stage.upstream.calls();
    assert!(over(&calls, 0.05, 10.0) <= jitter(0.05), "{} over the limit", over(&calls, 0.05, 10.0));
    let (first, last) = (calls[0].unix_ms, calls.last().unwrap().unix_ms);
    // The calls beyond the burst, at 50 per second.
    let beyond_burst_ms = (tasks as u64 - 10) * 20;
    let most = beyond_burst_ms * 101 / 100 + 200 + stalls::between(first, last);
    assert!(last - first <= most, "{} ms instead of {beyond_burst_ms}", last - first);
}

#[tokio::test]
async fn a_limit_holds_through_kills_freezes_and_full_outages() {
    stalls::watch();
    let stage = Stage::unruly().await;
    let start = || stage.worker().env("REDIAL_LEASE_MS", "2000").spawn();
    let mut workers: Vec<_> = (0..8).map(|_| start()).collect();
    let tasks = at_length(500, 2_000);
    let ids = ids("t", tasks);
    stage.push_many(&ids, "/ok", &limit(50.0, 10.0)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for two in [0, 2] {
        workers[two..two + 2].iter().for_each(Worker::kill9);
        workers[two + 4..two + 6].iter().for_each(Worker::pause);
        tokio::time::sleep(Duration::from_millis(at_length(1_500, 5_000))).await;
        workers[two + 4..two + 6].iter().for_each(Worker::resume);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    workers.iter().for_each(Worker::kill9);
    tokio::time::sleep(Duration::from_secs(at_length(4, 20))).await;
    workers = (0..8).map(|_| start()).collect();
    let results = stage.queue.wait_results(&ids, Duration::from_secs(120)).await;
    assert_eq!(answered(&results), tasks);
    let calls = stage.upstream.calls();
    assert!(over(&calls, 0.05, 10.0) <= jitter(0.05), "{} over the limit", over(&calls, 0.05, 10.0));
    drop(workers);
}

#[tokio::test]
async fn a_limit_of_one_per_second_never_allows_two_within_a_second() {
    stalls::watch();
    let stage = Stage::unruly().await;
    let _workers: Vec<_> = (0..4).map(|_| stage.worker().spawn()).collect();
    let seconds = at_length(12, 61);
    let ids = ids("t", seconds);
    stage.push_many(&ids, "/ok", &json!({"limit": {"name": "strict", "rate": 1}})).await;
    assert_eq!(answered(&stage.queue.wait_results(&ids, Duration::from_secs(120)).await), seconds);
    let calls = stage.upstream.calls();
    for pair in calls.windows(2) {
        let gap = pair[1].unix_ms - pair[0].unix_ms;
        let held_up = NETWORK_MS + stalls::between(pair[0].unix_ms - 600, pair[0].unix_ms);
        assert!(gap + held_up >= 1_000, "{gap} ms between two calls");
    }
    let (first, last) = (calls[0].unix_ms, calls[seconds - 1].unix_ms);
    let most = (seconds as u64 - 1) * 1_010 + 100 + stalls::between(first, last);
    assert!(last - first <= most, "{} ms for {} s", last - first, seconds - 1);
}

#[tokio::test]
async fn tasks_waiting_for_a_limit_do_not_block_other_tasks() {
    let stage = Stage::unruly().await;
    let _worker = stage.ready_worker().await;
    let slow = json!({"limit": {"name": "slow", "rate": 1}});
    let all = ids("slow", at_length(2_000, 10_000));
    let commands = || async {
        let info = stage.redis.cli(&["INFO", "stats"]).await;
        let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:").map(str::to_owned));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    let spent_in_4_s = || async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = commands().await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        commands().await - before
    };
    stage.push_many(&all[..100], "/ok", &slow).await;
    let few = spent_in_4_s().await;
    stage.push_many(&all[100..], "/ok", &slow).await;
    let others = at_length(300, 1_000);
    let ids = ids("t", others);
    stage.push_many(&ids, "/ok", &json!({})).await;
    assert_eq!(answered(&stage.queue.wait_results(&ids, Duration::from_secs(120)).await), others);
    let many = spent_in_4_s().await;
    assert!(many < few * 3 / 2 + 100, "{many} commands in 4 s while thousands of tasks wait, {few} while 100 wait");
}

#[tokio::test]
async fn two_tenants_share_an_upstream_limit_fairly_whoever_came_first() {
    stalls::watch();
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::unruly().await;
    let path = folder.path().join("redial.toml");
    let url = stage.url("/");
    let text =
        format!("[[limit]]\nname = \"up\"\nrate = 20\nburst = 5\n[[upstream]]\nurl = \"{url}\"\nlimits = [\"up\"]\n");
    std::fs::write(&path, text).unwrap();
    let start = || stage.worker().arg("--config").arg(path.to_str().unwrap()).spawn();
    let _workers = [start(), start()];
    let of = |tenant: &str| json!({"limit": {"name": tenant, "rate": 100, "burst": 10}});
    stage.push_many(&ids("a", 300), "/ok", &of("tenant a")).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let late = ids("b", 40);
    let before = stage.upstream.count();
    stage.push_many(&late, "/ok", &of("tenant b")).await;
    let results = stage.queue.wait_results(&late, Duration::from_secs(120)).await;
    assert_eq!(answered(&results), 40, "{}", results[0]);
    let others = stage.upstream.count() - before - 40;
    // Its share is one of every two calls. Queued behind the other tenant's backlog, it would see 220 of its calls first.
    assert!(others <= 80, "{others} calls of the other tenant while 40 were made");
    assert!(over(&stage.upstream.calls(), 0.02, 5.0) <= jitter(0.02));
}

#[tokio::test]
async fn a_raised_rate_applies_at_once_to_waiting_tasks() {
    let stage = Stage::unruly().await;
    let _worker = stage.ready_worker().await;
    let ids = ids("t", 60);
    stage.push_many(&ids[..59], "/ok", &json!({"limit": {"name": "l", "rate": 0.1}})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.push_many(&ids[59..], "/ok", &json!({"limit": {"name": "l", "rate": 1000}})).await;
    // At the old rate, the first task still had ten seconds to wait, the last one ten minutes.
    assert_eq!(answered(&stage.queue.wait_results(&ids, SOON).await), 60);
}

#[tokio::test]
async fn one_429_pauses_the_whole_fleet_and_uses_no_attempt() {
    stalls::watch();
    for (name, headers, status) in [
        ("stated", vec![("retry-after", "3")], 429),
        ("empty", vec![("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "3s")], 200),
    ] {
        let seen = std::sync::atomic::AtomicU64::new(0);
        let stage = Stage::answering(move |_| {
            let nth = seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let reply = if nth == 20 { Reply::status(status) } else { Reply::ok() };
            headers.iter().filter(|_| nth == 20).fold(reply, |reply, (name, value)| reply.header(*name, *value))
        })
        .await;
        let _workers: Vec<_> = (0..3).map(|_| stage.worker().spawn()).collect();
        let ids = ids(name, 40);
        let more = json!({"limit": {"name": "k", "rate": 10, "burst": 1}, "retry": {"max_attempts": 1}});
        stage.push_many(&ids, "/", &more).await;
        let results = stage.queue.wait_results(&ids, SOON).await;
        assert_eq!(answered(&results), 40, "{name}: no attempt was used");
        assert!(results.iter().map(attempts).max() <= Some(2));
        let calls = stage.upstream.calls();
        let gap = calls[21].unix_ms - calls[20].unix_ms;
        assert!(gap >= 3_000 - NETWORK_MS, "{name}: the next call came after {gap} ms");
        assert!(
            over(&calls, 0.01, 1.0) <= jitter(0.01),
            "{name}: {} over the limit afterwards",
            over(&calls, 0.01, 1.0)
        );
    }
}

#[tokio::test]
async fn actual_usage_corrects_the_estimated_cost() {
    stalls::watch();
    // Each call estimates 100 and uses 200: at 1,000 per second that is 5 calls, not 10.
    let stage = Stage::answering(|_| Reply::ok().json(&json!({"usage": {"total_tokens": 200}}))).await;
    let _workers: Vec<_> = (0..2).map(|_| stage.worker().spawn()).collect();
    let ids = ids("t", 40);
    let more = json!({"limit": {"name": "tokens", "rate": 1000, "burst": 200, "cost": 100}});
    stage.push_many(&ids, "/", &more).await;
    assert_eq!(answered(&stage.queue.wait_results(&ids, SOON).await), 40);
    let calls = stage.upstream.calls();
    let span = calls[39].unix_ms - calls[0].unix_ms;
    // 40 * 200 tokens, minus the burst, minus the last call's own usage, which is settled afterwards.
    let held_up = stalls::between(calls[0].unix_ms, calls[39].unix_ms);
    assert!(span >= 7_300 && span < 9_500 + held_up, "{span} ms");
}

#[tokio::test]
async fn the_usage_that_an_api_states_in_its_own_form_is_charged() {
    stalls::watch();
    let anthropic = json!({"usage": {"input_tokens": 150, "output_tokens": 50}});
    let gemini = json!({"usageMetadata": {"promptTokenCount": 150, "totalTokenCount": 200}});
    let priced = json!({"usage": {"prompt_tokens": 100, "completion_tokens": 25, "total_tokens": 125}});
    for (answer, usage) in [
        (anthropic, json!(null)),
        (gemini, json!(null)),
        (priced, json!({"usage.prompt_tokens": 1, "usage.completion_tokens": 4})),
    ] {
        let stage = Stage::answering(move |_| Reply::ok().json(&answer)).await;
        let _worker = stage.worker().spawn();
        let ids = ids("t", 12);
        let more = json!({"limit": {"name": "tokens", "rate": 1000, "burst": 200, "cost": 100, "usage": usage}});
        stage.push_many(&ids, "/", &more).await;
        assert_eq!(answered(&stage.queue.wait_results(&ids, SOON).await), 12);
        let calls = stage.upstream.calls();
        let span = calls[11].unix_ms - calls[0].unix_ms;
        // 200 for each call but the last, minus the burst: without the correction it would be half of that.
        assert!(span >= 1_700, "{span} ms");
    }
}

#[tokio::test]
async fn an_absurd_usage_does_not_close_a_limit_for_good() {
    let stage = Stage::answering(|_| Reply::ok().body(r#"{"usage":{"total_tokens":1e300}}"#)).await;
    let worker = stage.worker().spawn();
    let ids = ids("t", 3);
    stage.push_many(&ids, "/", &json!({"limit": {"name": "tokens", "rate": 1000, "burst": 10, "cost": 10}})).await;
    assert_eq!(answered(&stage.queue.wait_results(&ids, SOON).await), 3, "a hundred times the cost is a second");
    assert!(worker.log().contains("out of all proportion"), "{}", worker.log());
}

#[tokio::test]
async fn concurrency_is_never_exceeded_and_slots_of_a_killed_worker_return() {
    let stage = Stage::slow(Duration::from_millis(300)).await;
    let start = || stage.worker().env("REDIAL_LEASE_MS", "2000").spawn();
    let workers: Vec<_> = (0..4).map(|_| start()).collect();
    let ids = ids("t", 60);
    stage.push_many(&ids, "/", &json!({"limit": {"name": "five", "concurrency": 5}})).await;
    stage.wait_in_flight(5).await;
    workers[0].kill9();
    workers[1].kill9();
    assert_eq!(answered(&stage.queue.wait_results(&ids, SOON).await), 60);
    assert!(stage.upstream.max_in_flight() <= 5, "{} in flight", stage.upstream.max_in_flight());
}

#[tokio::test]
async fn no_limited_call_is_made_without_redis() {
    let stage = Stage::unruly().await;
    let _worker = stage.ready_worker().await;
    let ids = ids("t", 100);
    stage.push_many(&ids, "/ok", &limit(10.0, 1.0)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.redis.kill9();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = stage.upstream.count();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.upstream.count(), before, "no call may be made without a grant");
    assert!(before < 30);
}

#[tokio::test]
async fn a_task_that_can_never_pass_its_limit_is_refused_with_a_fix() {
    let stage = Stage::unruly().await;
    let _worker = stage.ready_worker().await;
    for (id, limit, expected) in [
        ("dear", json!({"name": "l", "rate": 5, "burst": 2, "cost": 3}), "more than 2 at once"),
        ("nameless", json!("nowhere"), "the limit \"nowhere\" is not defined"),
    ] {
        let result = stage.answer(json!({"id": id, "url": stage.url("/ok"), "limit": limit})).await;
        assert_eq!(result["reason"], "invalid_task");
        assert!(result["error"].as_str().unwrap().contains(expected), "{result}");
    }
    assert_eq!(stage.upstream.count(), 0);
}
