//! What a cache costs and saves at several hit rates, and how fast a shared answer reaches all followers.

use std::time::{Duration, Instant};

use redial_tests::{RedisServer, Reply, TestQueue, Upstream, Worker};

use crate::rounds::{ROUNDS, median};
use crate::upstream::answer;
use crate::{bare, path};

/// Calls that are answered before a round, which the hits then repeat.
const WARM: usize = 100;
const IDENTICAL: usize = 1_000;
const WORKERS: usize = 4;

/// Tasks per second and commands per task at each hit rate in percent. The upstream responds at once, which is the worst case
/// for a cache, because the saved calls cost nothing.
pub async fn hit_rates(tasks: usize) -> anyhow::Result<Vec<(usize, f64, f64)>> {
    let upstream = Upstream::quiet(|_| answer()).await;
    let call = |id: String, n: usize| {
        let url = upstream.url(&format!("/v1/extract?n={n}"));
        format!(r#"{{"id":"{id}","url":"{url}","cache_ttl_ms":3600000,"body":{}}}"#, bare::BODY)
    };
    let warm: Vec<String> = (0..WARM).map(|n| call(format!("w{n}"), n)).collect();
    let mut rows = Vec::new();
    for hits in [0, 50, 99] {
        let (mut rates, mut commands) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // 37 and 100 have no common divisor, so hits and misses alternate.
            let index_of = |n: usize| if n * 37 % 100 < hits { n % WARM } else { WARM + n };
            let (rate, per_task) = path::worker(&warm, (0..tasks).map(|n| call(format!("t{n}"), index_of(n)))).await?;
            rates.push(rate);
            commands.push(per_task);
        }
        rows.push((hits, median(rates), median(commands)));
    }
    Ok(rows)
}

/// What can be asked of a task beside its call, and the fields of its JSON that ask for it, in which `{n}` is its number.
const SAFEGUARDS: [(&str, &str); 3] = [
    ("an idempotency key", r#""idempotency_key":"k{n}","#),
    ("`effect: once`", r#""effect":"once","#),
    ("both", r#""idempotency_key":"k{n}","effect":"once","#),
];

/// For each safeguard: the rate of its tasks as a share of that of plain ones in the same round, and commands per task.
pub async fn safeguards(tasks: usize) -> anyhow::Result<Vec<(&'static str, f64, f64)>> {
    let upstream = Upstream::quiet(|_| answer()).await;
    let url = upstream.url("/v1/extract");
    let round = async |fields: &str| {
        let task = |n: usize| {
            let fields = fields.replace("{n}", &n.to_string());
            format!(r#"{{"id":"t{n}",{fields}"url":"{url}","body":{}}}"#, bare::BODY)
        };
        path::worker(&[], (0..tasks).map(task)).await
    };
    let mut measured = [const { (Vec::new(), Vec::new()) }; SAFEGUARDS.len()];
    for _ in 0..ROUNDS {
        let (plain, _) = round("").await?;
        for ((_, fields), (shares, commands)) in SAFEGUARDS.iter().zip(&mut measured) {
            let (rate, per_task) = round(fields).await?;
            shares.push(rate / plain);
            commands.push(per_task);
        }
    }
    let rows = SAFEGUARDS.iter().zip(measured);
    Ok(rows.map(|((name, _), (shares, commands))| (*name, median(shares), median(commands))).collect())
}

/// Milliseconds from the first to the last result of identical tasks, as a caller that reads their reply list sees them.
pub async fn share() -> anyhow::Result<f64> {
    let upstream = Upstream::quiet(|_| Reply::ok().body(r#"{"ok":true}"#).after(Duration::from_secs(1))).await;
    let mut spans = Vec::new();
    for _ in 0..ROUNDS {
        let redis = RedisServer::start().await;
        let workers: Vec<Worker> = (0..WORKERS).map(|_| Worker::spawn(redis.url())).collect();
        for worker in &workers {
            worker.wait_ready().await;
        }
        let task = |n| {
            let url = upstream.url("/");
            format!(
                r#"{{"id":"t{n}","url":"{url}","cache_ttl_ms":60000,"reply_to":"answers:{{default}}","body":{}}}"#,
                bare::BODY
            )
        };
        let mut connection = redis.connection().await;
        TestQueue::new(redis.url(), "default").push_all((0..IDENTICAL).map(task)).await;
        let mut first = None;
        let mut answers = 0;
        while answers < IDENTICAL {
            let popped: Option<Vec<String>> =
                redis::cmd("RPOP").arg("answers:{default}").arg(IDENTICAL).query_async(&mut connection).await?;
            if let Some(popped) = popped {
                first.get_or_insert_with(Instant::now);
                answers += popped.len();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        spans.push(first.map_or(0.0, |at| at.elapsed().as_secs_f64() * 1000.0));
    }
    Ok(median(spans))
}
