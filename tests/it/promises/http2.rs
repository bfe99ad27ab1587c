//! Calls over HTTP/2, where many share one connection: one that has died, or that the server ends, takes no call with it.

use std::time::Duration;

use redial_tests::{Http2Upstream, RedisServer, TestQueue, Worker, eventually};
use serde_json::{Value, json};

use super::{SOON, answered, attempts, counter, ids};

/// A Redis, a queue on it, a worker that trusts the upstream, and the upstream.
struct Http2Stage {
    // Held so that it lives as long as the others.
    _redis: RedisServer,
    queue: TestQueue,
    worker: Worker,
    upstream: Http2Upstream,
}

impl Http2Stage {
    async fn with(upstream: Http2Upstream) -> Self {
        let redis = RedisServer::start().await;
        let certificate = upstream.certificate().display().to_string();
        let worker = Worker::builder(&redis).env("SSL_CERT_FILE", certificate).spawn();
        worker.wait_ready().await;
        Self { queue: TestQueue::new(&redis, "default"), _redis: redis, worker, upstream }
    }

    async fn push(&self, ids: &[String], path: &str, more: &Value) {
        let tasks = ids.iter().map(|id| {
            let mut task = more.clone();
            task["id"] = json!(id);
            task["url"] = json!(self.upstream.url(&path.replace("{id}", id)));
            task.to_string()
        });
        self.queue.push_all(tasks).await;
    }

    async fn all_answered(&self, ids: &[String]) -> Vec<Value> {
        let results = self.queue.wait_results(ids, SOON * 2).await;
        assert_eq!(answered(&results), ids.len(), "{results:?}");
        results
    }
}

#[tokio::test]
async fn a_dead_http2_connection_is_replaced_as_soon_as_a_call_times_out() {
    let stage = Http2Stage::with(Http2Upstream::start().await).await;
    // Until the first handshake has shown that the upstream speaks HTTP/2, each call opens a connection of its own.
    stage.push(&ids("first", 1), "/ok", &json!({})).await;
    stage.all_answered(&ids("first", 1)).await;
    stage.push(&ids("second", 5), "/ok", &json!({})).await;
    stage.all_answered(&ids("second", 5)).await;
    assert_eq!(stage.upstream.connections(), 1, "calls share a connection");

    stage.upstream.silence_connections();
    let later = ids("later", 30);
    stage.push(&later, "/ok", &json!({"timeout_ms": 1_000, "retry": {"max_attempts": 3, "base_ms": 200}})).await;
    let results = stage.all_answered(&later).await;
    assert!(
        results.iter().all(|result| attempts(result) <= 2),
        "one attempt on the dead connection is enough: {results:?}"
    );
    // Again, the new pool does not know yet that they can share one.
    assert!(stage.upstream.connections() <= 1 + later.len(), "{} connections", stage.upstream.connections());
    assert_eq!(counter(&stage.worker, "redial_breakers_opened_total").await, 0, "{}", stage.worker.log());
}

#[tokio::test]
async fn an_upstream_that_answers_on_no_connection_opens_its_breaker() {
    let stage = Http2Stage::with(Http2Upstream::start().await).await;
    stage.push(&ids("first", 1), "/ok", &json!({})).await;
    stage.all_answered(&ids("first", 1)).await;
    // Every call takes longer than it may, on whatever connection.
    let retry = json!({"timeout_ms": 1_200});
    let stage = &stage;
    let opened = || async {
        // First calls are what a breaker judges by: they go on coming.
        stage.push(&ids("hung", 4), "/slow/60000", &retry).await;
        (counter(&stage.worker, "redial_breakers_opened_total").await > 0).then_some(())
    };
    eventually(SOON, opened).await;
}

#[tokio::test]
async fn a_connection_that_dies_while_idle_is_noticed_before_the_next_call() {
    let stage = Http2Stage::with(Http2Upstream::start().await).await;
    stage.push(&ids("first", 1), "/ok", &json!({})).await;
    stage.all_answered(&ids("first", 1)).await;
    stage.upstream.silence_connections();
    // A ping and the time that its answer may take.
    tokio::time::sleep(Duration::from_secs(18)).await;
    stage.push(&ids("later", 1), "/ok", &json!({"timeout_ms": 5_000, "retry": {"max_attempts": 1}})).await;
    stage.all_answered(&ids("later", 1)).await;
}

#[tokio::test]
async fn a_connection_that_dies_during_an_upload_is_replaced() {
    let stage = Http2Stage::with(Http2Upstream::start().await).await;
    stage.push(&ids("first", 1), "/ok", &json!({})).await;
    stage.all_answered(&ids("first", 1)).await;
    stage.upstream.silence_connections();
    // More than the flow-control window: the client has to wait for the server to read.
    let large =
        json!({"body_text": "x".repeat(900_000), "timeout_ms": 1_500, "retry": {"max_attempts": 3, "base_ms": 200}});
    stage.push(&ids("large", 3), "/ok", &large).await;
    stage.all_answered(&ids("large", 3)).await;
    assert!(stage.upstream.calls().iter().any(|call| call.body == 900_000));
}

#[tokio::test]
async fn calls_that_time_out_on_a_healthy_connection_do_not_open_many_new_ones() {
    let stage = Http2Stage::with(Http2Upstream::start().await).await;
    stage.push(&ids("first", 1), "/ok", &json!({})).await;
    stage.all_answered(&ids("first", 1)).await;
    // Fewer than the breaker wants before it judges.
    let slow = ids("slow", 8);
    stage.push(&slow, "/slow/2000", &json!({"timeout_ms": 100, "retry": {"max_attempts": 1}})).await;
    let results = stage.queue.wait_results(&slow, SOON).await;
    assert_eq!(answered(&results), 0, "each had too little time");
    assert_eq!(stage.upstream.connections(), 1, "no later call needed another one");
    for n in 0..6 {
        let again = [format!("again{n}")];
        stage.push(&again, "/slow/2000", &json!({"timeout_ms": 100, "retry": {"max_attempts": 1}})).await;
        stage.queue.wait_results(&again, SOON).await;
    }
    assert!(stage.upstream.connections() <= 3, "{} connections", stage.upstream.connections());
}

#[tokio::test]
async fn refused_streams_goaway_and_few_streams_at_a_time_cost_at_most_a_retry() {
    let stage = Http2Stage::with(Http2Upstream::with_max_streams(2).await).await;
    let retry = json!({"retry": {"max_attempts": 4, "base_ms": 100}, "timeout_ms": 10_000});
    let few = ids("few", 40);
    stage.push(&few, "/slow/50", &retry).await;
    stage.all_answered(&few).await;
    let refused = ids("refused", 10);
    stage.push(&refused, "/refuse-once/{id}", &retry).await;
    stage.all_answered(&refused).await;
    let ended = ids("ended", 10);
    stage.push(&ended, "/goaway/{id}", &retry).await;
    stage.all_answered(&ended).await;
    assert!(stage.upstream.connections() > 1, "the client went away and came back");
}

#[tokio::test]
async fn a_connection_that_ends_with_calls_in_flight_costs_each_of_them_one_attempt() {
    let stage = Http2Stage::with(Http2Upstream::start().await).await;
    stage.push(&ids("first", 1), "/ok", &json!({})).await;
    stage.all_answered(&ids("first", 1)).await;
    let retry = json!({"retry": {"max_attempts": 2, "base_ms": 100}, "timeout_ms": 10_000});
    for (round, end) in ["/abort/{id}", "/cut/{id}"].into_iter().enumerate() {
        let in_flight = ids(&format!("beside{round}-"), 10);
        let slow = || stage.upstream.calls().iter().filter(|call| call.path == "/slow/2000").count();
        let before = slow();
        stage.push(&in_flight, "/slow/2000", &retry).await;
        let all_arrived = || async { (slow() >= before + in_flight.len()).then_some(()) };
        eventually(SOON, all_arrived).await;
        let ended = ids(&format!("ended{round}-"), 1);
        stage.push(&ended, end, &retry).await;
        for results in [stage.all_answered(&ended).await, stage.all_answered(&in_flight).await] {
            assert!(results.iter().all(|result| attempts(result) == 2), "{results:?}");
        }
    }
}

#[tokio::test]
async fn tasks_with_different_connect_timeouts_each_get_a_new_connection() {
    let stage = Http2Stage::with(Http2Upstream::start().await).await;
    let kinds: Vec<Value> = [3_000, 4_000]
        .map(|ms| json!({"connect_timeout_ms": ms, "timeout_ms": 1_000, "retry": {"max_attempts": 3, "base_ms": 200}}))
        .into();
    for (n, kind) in kinds.iter().enumerate() {
        stage.push(&ids(&format!("first{n}-"), 1), "/ok", kind).await;
        stage.all_answered(&ids(&format!("first{n}-"), 1)).await;
    }
    stage.upstream.silence_connections();
    for (n, kind) in kinds.iter().enumerate() {
        stage.push(&ids(&format!("later{n}-"), 2), "/ok", kind).await;
    }
    for n in 0..kinds.len() {
        let results = stage.all_answered(&ids(&format!("later{n}-"), 2)).await;
        assert!(results.iter().all(|result| attempts(result) <= 2), "{results:?}");
    }
}

#[tokio::test]
async fn a_once_only_call_whose_stream_was_refused_or_not_reached_is_made_again() {
    let stage = Http2Stage::with(Http2Upstream::start().await).await;
    let once = json!({"effect": "once", "method": "POST", "retry": {"max_attempts": 3, "base_ms": 20}});
    for path in ["/refuse-once/{id}", "/turned-away/{id}"] {
        let ids = ids(path.split('/').nth(1).unwrap_or_default(), 10);
        if path.starts_with("/turned-away") {
            stage.upstream.turn_away(ids.len());
        }
        stage.push(&ids, path, &once).await;
        for result in &stage.all_answered(&ids).await {
            let error = result["attempts"][0]["error"].as_str().unwrap_or_default();
            assert!(error.contains("the server did not process the request"), "{path}: {result}");
        }
    }
    assert_eq!(counter(&stage.worker, "redial_breakers_opened_total").await, 0, "{}", stage.worker.log());
}

#[tokio::test]
async fn no_call_reaches_a_server_whose_certificate_is_expired_for_another_name_or_of_nobody_known() {
    for (kind, names, until, says) in [
        ("expired", "localhost", 2020, "expired"),
        ("name", "other.example.com", 4096, "localhost"),
        ("unknown", "localhost", 4096, "invalid peer certificate"),
    ] {
        let upstream = Http2Upstream::certified(&[names], until).await;
        let redis = RedisServer::start().await;
        // Someone else's certificate is trusted.
        let other = Http2Upstream::start().await;
        let trusted = if kind == "unknown" { other.certificate() } else { upstream.certificate() };
        let worker = Worker::builder(&redis).env("SSL_CERT_FILE", trusted.display().to_string()).spawn();
        worker.wait_ready().await;
        let queue = TestQueue::new(&redis, "default");
        for effect in ["idempotent", "once"] {
            let task = json!({"id": effect, "url": upstream.url("/"), "method": "POST", "effect": effect,
                "retry": {"max_attempts": 2, "base_ms": 10}});
            queue.push(task.to_string()).await;
            let result = queue.wait_result(effect, SOON).await;
            // Certainly not carried out, so it is tried again, and is not unknown.
            assert_eq!((&result["reason"], attempts(&result)), (&json!("attempts_exhausted"), 2), "{kind}: {result}");
            let error = result["error"].as_str().unwrap();
            assert!(error.starts_with("TLS: ") && error.contains(says), "{kind}: {error}");
        }
        assert!(upstream.calls().is_empty(), "{kind}");
    }
}
