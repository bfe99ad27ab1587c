//! A limit far from its workers is as exact and as full as one near by, and costs a constant number of commands a call.

use std::time::{Duration, Instant};

use redial_tests::{Proxy, Reply, Worker, eventually, stalls};
use serde_json::json;

use super::limits::{jitter, over};
use super::{SOON, Stage, answered, at_length, ids};

/// Calls per second.
const RATE: usize = 20;
const BURST: usize = 5;

/// The workers of a stage that reach its Redis after this round trip.
async fn workers_at(stage: &Stage, rtt: Duration, count: usize) -> (Proxy, Vec<Worker>) {
    let proxy = Proxy::before(stage.redis.port()).await;
    proxy.set_delay(rtt / 2);
    let workers: Vec<Worker> = (0..count).map(|_| Worker::builder(proxy.url()).spawn()).collect();
    for worker in &workers {
        worker.wait_ready().await;
    }
    (proxy, workers)
}

/// Which share of the rate a backlog uses after its first two seconds, and by how much the worst window exceeds the limit.
async fn utilisation(rtt: Duration, workers: usize) -> (f64, f64) {
    let stage = Stage::unruly().await;
    let seconds = at_length(7, 30);
    let (_proxy, _workers) = workers_at(&stage, rtt, workers).await;
    let ids = ids("t", RATE * (seconds + 4));
    stage.push_many(&ids, "/ok", &json!({"limit": {"name": "far", "rate": RATE, "burst": BURST}})).await;
    eventually(SOON, || async { (stage.upstream.count() > 0).then_some(()) }).await;
    tokio::time::sleep(Duration::from_secs(seconds as u64 + 1)).await;
    let calls = stage.upstream.calls();
    let mut at: Vec<u64> = calls.iter().map(|call| call.unix_ms).collect();
    at.sort_unstable();
    let (from, until) = (at[0] + 2_000, at[0] + 1_000 * seconds as u64);
    let used = at.iter().filter(|at| (from..until).contains(*at)).count();
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let possible = RATE as f64 * (until - from - stalls::between(from, until)) as f64 / 1_000.0;
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let (used, over) = (used as f64 / possible, over(&calls, RATE as f64 / 1_000.0, BURST as f64));
    (used, over)
}

#[tokio::test]
async fn a_backlog_uses_the_rate_at_any_distance_and_never_more() {
    stalls::watch();
    for rtt in [0_u32, 25, 80, 200] {
        for workers in [1, 8] {
            let (used, over) = utilisation(Duration::from_millis(rtt.into()), workers).await;
            #[expect(clippy::cast_precision_loss, reason = "a small count")]
            let jitter = jitter(RATE as f64 / 1_000.0);
            assert!(over <= jitter, "{over} over the limit with {workers} workers {rtt} ms away");
            assert!(used >= at_length(0.9, 0.97), "{:.1} % used by {workers} workers {rtt} ms away", used * 100.0);
        }
    }
}

/// The most commands of a call, with those that scripts execute, its claim and its result: much less than the 96 and more that asking
/// again costs.
const MAX_COMMANDS: u64 = 36;

/// The commands that Redis was sent so far, and those that its scripts executed.
async fn commands(stage: &Stage) -> u64 {
    let info = stage.redis.cli(&["INFO", "stats"]).await;
    let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:").map(str::to_owned));
    line.and_then(|count| count.trim().parse().ok()).expect("Redis counts its commands")
}

#[tokio::test]
async fn a_limited_call_costs_a_constant_number_of_commands_at_any_fleet_size() {
    for (workers, rate) in [(1, 10), (8, 10), (8, 100)] {
        let stage = Stage::unruly().await;
        let (_proxy, _workers) = workers_at(&stage, Duration::ZERO, workers).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let idle = commands(&stage).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        let idle_per_s = (commands(&stage).await - idle) / 4;
        let seconds = 8;
        let ids = ids("t", rate * seconds);
        let (before, began) = (commands(&stage).await, Instant::now());
        stage.push_many(&ids, "/ok", &json!({"limit": {"name": "l", "rate": rate, "burst": 1}})).await;
        // Looking for results costs commands too, so nobody looks while calls are made.
        eventually(SOON, || async { (stage.upstream.count() >= ids.len() as u64).then_some(()) }).await;
        let spent = commands(&stage).await - before;
        let each = spent.saturating_sub(idle_per_s * began.elapsed().as_secs()) / ids.len() as u64;
        assert_eq!(answered(&stage.queue.wait_results(&ids, SOON).await), ids.len());
        assert!(
            each <= MAX_COMMANDS,
            "{each} commands a call with {workers} workers at {rate}/s, those of scripts included"
        );
    }
}

#[tokio::test]
async fn what_expires_while_it_waits_leaves_its_share_to_the_others() {
    let stage = Stage::unruly().await;
    let _worker = stage.ready_worker().await;
    let limit = json!({"name": "slow", "rate": 1, "burst": 1});
    stage.push_many(&ids("dead", 150), "/ok", &json!({"limit": limit, "ttl_ms": 2_000})).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let last = ids("last", 1);
    stage.push_many(&last, "/ok", &json!({"limit": limit})).await;
    let results = stage.queue.wait_results(&last, Duration::from_secs(8)).await;
    assert_eq!(answered(&results), 1, "its bookings are gone with the dead");
}

#[tokio::test]
async fn all_concurrency_slots_are_in_use_again_when_a_slow_upstream_is_fast() {
    const SLOTS: u64 = 5;
    // Long beside what a call takes on a busy machine, short beside the slow ones.
    const FAST: Duration = Duration::from_millis(600);
    stalls::watch();
    let stage =
        Stage::answering(|request| Reply::ok().after(if request.nth < SLOTS { Duration::from_secs(4) } else { FAST }))
            .await;
    let _workers: Vec<Worker> = (0..2).map(|_| stage.worker().spawn()).collect();
    let ids = ids("t", 65);
    stage.push_many(&ids, "/", &json!({"limit": {"name": "five", "concurrency": SLOTS}})).await;
    assert_eq!(answered(&stage.queue.wait_results(&ids, Duration::from_secs(60)).await), ids.len());
    let mut at: Vec<u64> = stage.upstream.calls().iter().map(|call| call.unix_ms).collect();
    at.sort_unstable();
    assert!(stage.upstream.max_in_flight() <= 5, "{} in flight", stage.upstream.max_in_flight());
    // From a second after the first fast call to the last one.
    let fast = &at[5..];
    let from = fast[0] + 1_000;
    let calls = fast.iter().filter(|at| **at > from).count();
    let until = fast[fast.len() - 1];
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let occupied = calls as f64 * FAST.as_millis() as f64
        / (SLOTS as f64 * (until - from).saturating_sub(stalls::between(from, until)) as f64);
    assert!(occupied >= 0.8, "{:.1} % occupied", occupied * 100.0);
}
