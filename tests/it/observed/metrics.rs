//! Each metric of the docs is in `/metrics`, and moves as said.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use redial_tests::wait::within;
use redial_tests::{Cli, Port, Worker, WorkerBuilder};
use serde_json::json;

use super::{Fleet, SOON};

/// What else a histogram has besides its name.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Metrics that need a fault of their own, and the tests in which they move.
const MOVED_ELSEWHERE: [(&str, &str); 11] = [
    ("redial_tasks_reaped_total", "promises/kills.rs"),
    ("redial_lost_leases_total", "promises/leases.rs"),
    ("redial_tasks_given_up_total", "promises/refused.rs"),
    ("redial_local_shortages_total", "promises/shortages.rs"),
    ("redial_redis_errors_total", "promises/redis_restarts.rs"),
    ("redial_redis_refusals_total", "promises/refused.rs"),
    ("redial_ignored_fields_total", "promises/bad_input.rs"),
    ("redial_answer_waits_total", "promises/answer_memory.rs"),
    ("redial_tenant_attempts_total", "promises/reload.rs"),
    ("redial_trace_spans_total", "observed/traces.rs"),
    ("redial_gateway_trace_spans_total", "observed/traces.rs"),
];

fn read(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The metrics in the tables of the docs.
pub fn documented() -> BTreeSet<String> {
    let text = read("docs/operations.md");
    let rows = text.lines().filter(|line| line.starts_with("| `redial_"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let quoted = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned);
    quoted.collect()
}

/// The metrics that a page of a worker has.
fn shown(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect()
}

/// A worker whose metrics can be read.
async fn ready(worker: WorkerBuilder) -> Worker {
    let worker = worker.spawn();
    worker.wait_ready().await;
    worker
}

/// Waits until a worker shows at least this much.
async fn assert_reaches(worker: &Worker, metric: &str, least: f64) {
    let reached = || async { (worker.metric(metric).await >= least).then_some(()) };
    let is_reached = within(SOON, reached).await.is_some();
    assert!(is_reached, "{metric} does not reach {least}:\n{}", worker.metrics().await);
}

#[tokio::test]
async fn the_metrics_of_the_docs_are_those_of_the_pages() {
    let fleet = Fleet::new("").await;
    let worker = ready(fleet.worker()).await;
    fleet.answer(fleet.task("a", "/fails-once", json!({"limit": {"name": "l", "rate": 9}}))).await;
    let gateway = fleet.gateway().await;
    let mut found = shown(&worker.metrics().await);
    let page = gateway.send("GET", "/metrics", &[], b"").await.text();
    let of_gateway = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    // The gateway's page is OpenMetrics, in which counters are named without their ending.
    found.extend(
        of_gateway
            .filter_map(|line| line.split_once(' '))
            .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() }),
    );
    let documented = documented();
    let unknown: Vec<&String> = found.difference(&documented).collect();
    assert!(unknown.is_empty(), "docs/operations.md lacks {unknown:?}");
    for (metric, test) in MOVED_ELSEWHERE {
        assert!(documented.contains(metric), "{metric}");
        assert!(read(&format!("tests/it/{test}")).contains(metric), "{test} does not move {metric}");
    }
}

#[tokio::test]
async fn every_documented_metric_moves_in_a_test() {
    let own = read("tests/it/observed/metrics.rs");
    // What the other tests of this file name.
    let (_, moved_here) = own.split_once("\n#[tokio::test]\nasync fn calls_are_counted").unwrap();
    let is_moved = |metric: &String| {
        MOVED_ELSEWHERE.iter().any(|(elsewhere, _)| elsewhere == metric)
            || moved_here.contains(&format!("{metric}{{"))
            || ["\"", " "].iter().any(|end| moved_here.contains(&format!("{metric}{end}")))
            || PARTS.iter().any(|part| moved_here.contains(&format!("{metric}{part}")))
    };
    let still: Vec<String> = documented().into_iter().filter(|metric| !is_moved(metric)).collect();
    assert!(still.is_empty(), "nothing moves {still:?}");
}

#[tokio::test]
async fn calls_are_counted_by_queue_upstream_and_exact_status() {
    let fleet = Fleet::new("").await;
    let worker = ready(fleet.worker().env("REDIAL_CONCURRENCY", "7")).await;
    let pushed_a_while_ago = redial_tests::stalls::now_ms() - 5_000;
    fleet.answer(fleet.task("a", "/fails-once", json!({"enqueued_at_ms": pushed_a_while_ago}))).await;
    fleet.answer(fleet.task("b", "/status/404", json!({}))).await;
    fleet.answer(fleet.task("c", "/status/418", json!({}))).await;
    let refused = Port::claim();
    let gone =
        json!({"id": "d", "url": format!("http://127.0.0.1:{}/", refused.number()), "retry": {"max_attempts": 1}});
    fleet.answer(gone).await;
    let upstream = fleet.name();
    let of_upstream = |reason: &str, status: &str| {
        format!(r#"{{queue="default",upstream="{upstream}",reason="{reason}",status="{status}"}}"#)
    };
    for (metric, count) in [
        (format!("redial_attempts_total{}", of_upstream("ok", "200")), 1.0),
        (format!("redial_attempts_total{}", of_upstream("status_503", "503")), 1.0),
        (format!("redial_attempts_total{}", of_upstream("status_4xx", "404")), 1.0),
        (format!("redial_attempts_total{}", of_upstream("status_4xx", "418")), 1.0),
        (format!("redial_retries_total{}", of_upstream("status_503", "503")), 1.0),
        (
            format!(r#"redial_attempts_total{{upstream="127.0.0.1:{}",reason="refused",status=""}}"#, refused.number()),
            1.0,
        ),
        (format!(r#"redial_attempt_duration_seconds_count{{queue="default",upstream="{upstream}"}}"#), 4.0),
        (r#"redial_start_delay_seconds_count{queue="default"}"#.to_owned(), 4.0),
        (r#"redial_start_delay_seconds_sum{queue="default"}"#.to_owned(), 5.0),
        (r#"redial_tasks_claimed_total{queue="default"}"#.to_owned(), 5.0),
        (r#"redial_tasks_completed_total{queue="default"}"#.to_owned(), 1.0),
        (r#"redial_tasks_dead_total{queue="default",reason="rejected"}"#.to_owned(), 2.0),
        (r#"redial_tasks{queue="default",state="dead"}"#.to_owned(), 3.0),
        ("redial_redis_round_trip_seconds_count".to_owned(), 20.0),
        ("redial_slots".to_owned(), 7.0),
    ] {
        assert_reaches(&worker, &metric, count).await;
    }
}

#[tokio::test]
async fn the_limits_of_the_configuration_show_what_is_left_who_waits_and_what_was_used() {
    let fleet = Fleet::new(concat!(
        "adjusts = [\"tokens\"]\n",
        "[[limit]]\nname = \"tokens\"\nrate = 600\nper_ms = 60000\ncost = 5\nunit = \"tokens\"\n",
        "[[limit]]\nname = \"one\"\nconcurrency = 1\n"
    ))
    .await;
    let worker = ready(fleet.worker()).await;
    fleet.answer(fleet.task("a", "/", json!({"limit": "tokens"}))).await;
    for (metric, least) in [
        (r#"redial_limit_used_total{limit="tokens",unit="tokens"}"#, 21.0),
        (r#"redial_limit_rate_per_second{limit="tokens"}"#, 10.0),
        (r#"redial_limit_left{limit="tokens"}"#, 1.0),
    ] {
        assert_reaches(&worker, metric, least).await;
    }
    fleet.answer(fleet.task("greedy", "/greedy", json!({"limit": "tokens"}))).await;
    assert_reaches(&worker, "redial_usage_capped_total", 1.0).await;
    for id in ["b", "c", "d"] {
        fleet
            .queue
            .push(fleet.task(id, "/slow/300000", json!({"limit": "one", "timeout_ms": 400_000})).to_string())
            .await;
    }
    for (metric, least) in [
        (r#"redial_limit_in_flight{limit="one"}"#, 1.0),
        (r#"redial_limit_concurrency{limit="one"}"#, 1.0),
        (r#"redial_limit_waiting{limit="one"}"#, 2.0),
        (r#"redial_limit_waits_total{queue="default"}"#, 2.0),
        (r#"redial_parked_tasks{queue="default",cause="limit"}"#, 2.0),
        (r#"redial_tasks{queue="default",state="parked"}"#, 2.0),
        ("redial_slots_in_use", 1.0),
    ] {
        assert_reaches(&worker, metric, least).await;
    }
    // What waits for a limit is no work for more workers.
    assert!(worker.metric(r#"redial_admissible_backlog{queue="default"}"#).await < 0.5);
    assert!(worker.metric(r#"redial_limit_closed_seconds{limit="one"}"#).await < 0.5);
}

#[tokio::test]
async fn parked_tasks_are_told_apart_by_what_they_wait_for() {
    let fleet = Fleet::new("").await;
    let worker = ready(fleet.worker().env("REDIAL_BREAKER_CALLS", "5")).await;
    let same = json!({"cache_ttl_ms": 60_000, "timeout_ms": 120_000});
    for id in ["lead", "follow-1", "follow-2"] {
        fleet.queue.push(fleet.task(id, "/slow/60000", same.clone()).to_string()).await;
    }
    let refused = Port::claim();
    let url = format!("http://127.0.0.1:{}/", refused.number());
    for n in 0..12 {
        fleet.queue.push(json!({"id": format!("gone{n}"), "url": url}).to_string()).await;
    }
    let breaker = format!(r#"redial_breaker_state{{upstream="127.0.0.1:{}"}}"#, refused.number());
    for (metric, least) in [
        (r#"redial_parked_tasks{queue="default",cause="memo"}"#, 2.0),
        (r#"redial_parked_tasks{queue="default",cause="breaker"}"#, 3.0),
        (r#"redial_held_back_total{queue="default",reason="breaker"}"#, 3.0),
        (r#"redial_memo_total{queue="default",purpose="cache",event="miss"}"#, 1.0),
        ("redial_breakers_opened_total", 1.0),
        (breaker.as_str(), 2.0),
    ] {
        assert_reaches(&worker, metric, least).await;
    }
    assert!(worker.metric(r#"redial_admissible_backlog{queue="default"}"#).await < 0.5);
}

#[tokio::test]
async fn parked_tasks_that_wait_for_calls_in_flight_are_counted_as_such() {
    let fleet = Fleet::new("").await;
    let block = format!("[[upstream]]\nurl = \"{}\"\nmax_in_flight = 1\n", fleet.upstream.url("/slow/"));
    let settings = std::fs::read_to_string(fleet.settings.path()).unwrap();
    std::fs::write(fleet.settings.path(), settings + &block).unwrap();
    let (worker, gateway) = (ready(fleet.worker()).await, fleet.gateway().await);
    for id in ["a", "b", "c"] {
        fleet.queue.push(fleet.task(id, "/slow/60000", json!({"timeout_ms": 120_000})).to_string()).await;
    }
    for (cause, tasks) in [("in_flight", 2.0), ("memo", 0.0)] {
        assert_reaches(&worker, &format!(r#"redial_parked_tasks{{queue="default",cause="{cause}"}}"#), tasks).await;
    }
    let name = fleet.upstream.url("/slow/");
    let waits = gateway.send("GET", "/v1/queues/default/waits", &[], b"").await.json();
    assert_eq!(waits["lists"], json!([{"for": "in_flight", "name": name, "tasks": 2}]));
    let parked = "/v1/queues/default/tasks?state=parked&for=in_flight&name=".to_owned()
        + &name.replace(':', "%3A").replace('/', "%2F");
    assert_eq!(gateway.send("GET", &parked, &[], b"").await.json()["tasks"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn answers_that_are_kept_save_calls() {
    let fleet = Fleet::new("").await;
    let worker = ready(fleet.worker()).await;
    for id in ["a", "b", "c"] {
        fleet.answer(fleet.task(id, "/", json!({"cache_ttl_ms": 600_000}))).await;
    }
    for (metric, least) in [
        (r#"redial_memo_total{queue="default",purpose="cache",event="hit"}"#, 2.0),
        (r#"redial_calls_saved_total{queue="default"}"#, 2.0),
    ] {
        assert_reaches(&worker, metric, least).await;
    }
}

#[tokio::test]
async fn the_admissible_backlog_is_what_more_workers_could_call_now() {
    let fleet = Fleet::new("").await;
    let cli = Cli::new(&fleet.redis);
    let task = json!({"url": fleet.upstream.url("/")}).to_string();
    assert_eq!(cli.run(&["schedule", "add", "tick", "* * * * * *", &task]).await.status, 0);
    let worker = ready(fleet.worker().env("REDIAL_CONCURRENCY", "1")).await;
    assert_reaches(&worker, r#"redial_schedules_fired_total{queue="default"}"#, 1.0).await;
    assert_eq!(cli.run(&["schedule", "remove", "tick"]).await.status, 0);
    fleet.queue.push(fleet.task("busy", "/slow/300000", json!({"timeout_ms": 400_000})).to_string()).await;
    assert_reaches(&worker, "redial_slots_in_use", 1.0).await;
    for n in 0..10 {
        fleet.queue.push(fleet.task(&format!("t{n}"), "/", json!({})).to_string()).await;
    }
    assert_reaches(&worker, r#"redial_admissible_backlog{queue="default"}"#, 10.0).await;
    assert_reaches(&worker, r#"redial_tasks{queue="default",state="waiting"}"#, 10.0).await;
    assert_eq!(cli.run(&["pause", "default"]).await.status, 0);
    let none = || async { (worker.metric(r#"redial_admissible_backlog{queue="default"}"#).await < 0.5).then_some(()) };
    redial_tests::eventually(SOON, none).await;
}

#[tokio::test]
async fn a_gateway_counts_requests_their_time_and_its_streams() {
    let fleet = Fleet::new("").await;
    let (_worker, gateway) = (fleet.worker().spawn(), fleet.gateway().await);
    assert_eq!(gateway.send("GET", "/u/api/x", &[], b"").await.status, 200);
    for path in ["/v1/queues", "/v1/queues/default/waits", "/v1/queues/other/waits"] {
        assert_eq!(gateway.send("GET", path, &[], b"").await.status, 200);
    }
    for path in ["/v1/tasks/a/b/c", "/u", "/ux/y", "/other"] {
        assert_eq!(gateway.send("GET", path, &[], b"").await.status, 404, "{path}");
    }
    let slow = gateway.open("GET", "/u/api/slow/20000", &[("redial-stream", "true")], b"").await.unwrap();
    let has = |wanted: &'static str| {
        let gateway = &gateway;
        move || async move {
            let page = gateway.send("GET", "/metrics", &[], b"").await.text();
            page.lines().any(|line| line == wanted).then_some(())
        }
    };
    for wanted in [
        "redial_gateway_requests_total{route=\"/u\",status=\"200\"} 1",
        "redial_gateway_request_duration_seconds_count{route=\"/u\"} 1",
        "redial_gateway_requests_total{route=\"/v1/queues\",status=\"200\"} 1",
        "redial_gateway_requests_total{route=\"other\",status=\"404\"} 4",
        "redial_gateway_requests_total{route=\"/v1/queues/{queue}/waits\",status=\"200\"} 2",
        "redial_gateway_waiting 1",
        "redial_gateway_streams 1",
    ] {
        redial_tests::eventually(SOON, has(wanted)).await;
    }
    drop(slow);
    redial_tests::eventually(SOON, has("redial_gateway_streams 0")).await;
}

#[tokio::test]
async fn ten_thousand_hosts_ids_and_tenants_make_a_bounded_page() {
    let fleet = Fleet::new("").await;
    let worker = ready(fleet.worker()).await;
    // Of 127.0.0.0/8, every address is a host, and nothing listens on this port: the calls are refused at once.
    let port = Port::claim();
    let tasks = (0..10_000).map(|n| {
        let url = format!("http://127.1.{}.{}:{}/", n / 250, n % 250 + 1, port.number());
        let limit = json!({"name": format!("limit-{n}"), "rate": 1000});
        json!({
            "id": format!("id-{n}"), "url": url, "tenant": format!("tenant-{n}"), "retry": {"max_attempts": 1}, "limit": limit,
            "idempotency_key": format!("key-{n}"),
        })
        .to_string()
    });
    fleet.queue.push_all(tasks).await;
    let all = || async { (worker.metric("redial_tasks_dead_total").await >= 10_000.0).then_some(()) };
    redial_tests::eventually(Duration::from_secs(240), all).await;
    let page = worker.metrics().await;
    assert!(page.len() < 400 << 10, "{} bytes", page.len());
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    assert!(samples.clone().count() < 4_000, "{} samples", samples.count());
    assert!((worker.metric("redial_attempts_total").await - 10_000.0).abs() < 0.5);
    assert!(worker.metric(r#"redial_attempts_total{upstream="(others)"}"#).await >= 9_900.0);
    for secret in ["id-77", "tenant-77", "key-77", "limit-77"] {
        assert!(!page.contains(secret), "{secret}");
    }
}
