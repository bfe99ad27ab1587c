//! Traces: from the caller through the gateway, Redis and a worker to the upstream, as a collector receives them. The collector is a
//! server of the test, which decodes what arrives with OpenTelemetry's own types.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use redial_tests::{Port, Reply, Upstream, eventually};
use serde_json::json;

use super::{Fleet, SOON};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// A span as it arrived.
#[derive(Clone, Debug)]
struct Arrived {
    service: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
    kind: SpanKind,
    attributes: HashMap<String, String>,
    /// The attributes of its events, by their names.
    events: Vec<(String, HashMap<String, String>)>,
    is_error: bool,
    nanos: (u64, u64),
}

/// A collector that takes every span.
struct Collector(Upstream);

impl Collector {
    async fn start() -> Self {
        Self(Upstream::start(|_| Reply::ok()).await)
    }

    fn settings(&self) -> String {
        format!("[traces]\nendpoint = \"{}\"\n", self.0.url(""))
    }

    /// The spans that have arrived.
    fn spans(&self) -> Vec<Arrived> {
        let calls = self.0.calls();
        let requests = calls.iter().map(|call| {
            assert_eq!(
                (call.route(), call.headers.get("content-type")),
                ("/v1/traces", Some("application/x-protobuf"))
            );
            ExportTraceServiceRequest::decode(&call.body[..]).unwrap()
        });
        requests.flat_map(|request| request.resource_spans).flat_map(arrived).collect()
    }

    /// Waits until this many spans have arrived that are like this.
    async fn wait_for(&self, count: usize, is_like: impl Fn(&Arrived) -> bool) -> Vec<Arrived> {
        let found = || async {
            let found: Vec<Arrived> = self.spans().into_iter().filter(|span| is_like(span)).collect();
            (found.len() >= count).then_some(found)
        };
        eventually(SOON, found).await
    }

    /// Everything that arrived, as text.
    fn text(&self) -> String {
        self.0.calls().iter().map(|call| String::from_utf8_lossy(&call.body).into_owned()).collect()
    }
}

fn arrived(from: opentelemetry_proto::tonic::trace::v1::ResourceSpans) -> Vec<Arrived> {
    let resource = attributes(from.resource.unwrap().attributes);
    let spans = from.scope_spans.into_iter().flat_map(|scope| scope.spans);
    let spans = spans.map(|span| Arrived {
        service: resource["service.name"].clone(),
        kind: span.kind(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        attributes: attributes(span.attributes),
        events: span.events.into_iter().map(|event| (event.name, attributes(event.attributes))).collect(),
        is_error: span.status.is_some_and(|status| status.code() == StatusCode::Error),
        nanos: (span.start_time_unix_nano, span.end_time_unix_nano),
        name: span.name,
    });
    spans.collect()
}

fn attributes(pairs: Vec<opentelemetry_proto::tonic::common::v1::KeyValue>) -> HashMap<String, String> {
    let text = |value: Option<AnyValue>| match value {
        Some(AnyValue::StringValue(text)) => text,
        Some(AnyValue::IntValue(number)) => number.to_string(),
        other => panic!("an attribute is {other:?}"),
    };
    pairs.into_iter().map(|pair| (pair.key, text(pair.value.and_then(|value| value.value)))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn is(span: &Arrived, name: &str, value: &str) -> bool {
    let found = span.attributes.get(name).map(String::as_str);
    assert_eq!(found, Some(value), "{name} of {span:?}");
    true
}

#[tokio::test]
async fn one_trace_leads_from_the_caller_through_gateway_redis_and_worker_to_the_upstream() {
    let collector = Collector::start().await;
    let fleet = Fleet::new(&collector.settings()).await;
    let gateway = fleet.gateway().await;
    let worker = fleet.worker().env("REDIAL_LOG_FORMAT", "json").spawn();
    worker.wait_ready().await;
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    let headers = [
        ("traceparent", traceparent.as_str()),
        ("tracestate", "vendor=1"),
        ("authorization", "Bearer header-secret"),
        ("content-type", "application/json"),
    ];
    let body = json!({"model": "gpt-test", "messages": [{"content": "prompt-secret"}]}).to_string();
    let path = "/u/api/fails-once/v1/chat/completions?key=query-secret";
    let answer = gateway.send("POST", path, &headers, body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());

    let spans = collector.wait_for(4, |span| span.trace == TRACE).await;
    let of_kind = |kind: SpanKind| {
        let mut found: Vec<Arrived> = spans.iter().filter(|span| span.kind == kind).cloned().collect();
        found.sort_by_key(|span| span.nanos);
        found
    };
    let (servers, tasks, attempts) =
        (of_kind(SpanKind::Server), of_kind(SpanKind::Consumer), of_kind(SpanKind::Client));
    let ([server], [task], [failed, good]) = (&servers[..], &tasks[..], &attempts[..]) else { panic!("{spans:?}") };
    assert_eq!((server.service.as_str(), server.name.as_str()), ("redial-gateway", "POST /u"));
    assert_eq!(server.parent, CALLER);
    assert!(is(server, "http.route", "/u") && is(server, "http.response.status_code", "200"));
    assert_eq!((task.service.as_str(), task.name.as_str()), ("redial-worker", "process default"));
    assert_eq!(task.parent, server.id);
    assert!(is(task, "messaging.system", "redial") && is(task, "messaging.destination.name", "default"));
    assert!(is(task, "redial.attempts", "2") && is(task, "messaging.message.id", answer.header("redial-id")));
    for attempt in [failed, good] {
        assert_eq!((attempt.name.as_str(), &attempt.parent), ("POST", &task.id));
        assert!(is(attempt, "http.request.method", "POST") && is(attempt, "server.address", "127.0.0.1"));
        assert!(is(attempt, "url.full", &fleet.upstream.url("/fails-once/v1/chat/completions")));
        assert!(is(attempt, "gen_ai.provider.name", "openai") && is(attempt, "gen_ai.request.model", "gpt-test"));
        assert!(task.nanos.0 <= attempt.nanos.0 && attempt.nanos.1 <= task.nanos.1, "{attempt:?} {task:?}");
    }
    assert!(is(failed, "http.response.status_code", "503") && is(failed, "error.type", "503") && failed.is_error);
    assert!(
        is(good, "http.response.status_code", "200") && is(good, "http.request.resend_count", "1") && !good.is_error
    );
    assert!(is(good, "gen_ai.usage.input_tokens", "9") && is(good, "gen_ai.usage.output_tokens", "12"));
    assert!(is(good, "gen_ai.response.model", "gpt-test-1") && is(good, "gen_ai.operation.name", "chat"));
    for span in [failed, task] {
        let [(name, wait)] = &span.events[..] else { panic!("{span:?}") };
        assert_eq!((name.as_str(), wait["redial.wait.cause"].as_str()), ("redial.wait", "retry"));
        assert!(wait["redial.wait.ms"].parse::<u64>().unwrap() > 0);
    }

    // What the upstream gets is the context of the attempt, and nothing else of the trace has changed.
    let calls = fleet.upstream.calls();
    let received: Vec<_> = calls.iter().map(|call| call.headers.get("traceparent").unwrap().to_owned()).collect();
    assert_eq!(received, [failed, good].map(|attempt| format!("00-{TRACE}-{}-01", attempt.id)));
    assert!(calls.iter().all(|call| call.headers.get("tracestate") == Some("vendor=1")));
    let text = collector.text();
    for secret in ["header-secret", "query-secret", "prompt-secret", "body-secret"] {
        assert!(!text.contains(secret), "{secret} is in a span");
    }
    let log = worker.log();
    let retried = log.lines().find(|line| line.contains("attempt failed, will retry")).unwrap();
    assert!(retried.contains(&format!("\"trace_id\":\"{TRACE}\"")), "{retried}");
    eventually(SOON, || async {
        (worker.metric(r#"redial_trace_spans_total{outcome="exported"}"#).await >= 3.0).then_some(())
    })
    .await;
    let page = gateway.send("GET", "/metrics", &[], b"").await.text();
    assert!(page.contains("redial_gateway_trace_spans_total{outcome=\"exported\"} 1"), "{page}");
}

#[tokio::test]
async fn a_task_from_redis_is_one_trace_whichever_workers_it_goes_through_and_says_what_it_waited_for() {
    let collector = Collector::start().await;
    let limit = "[[limit]]\nname = \"one\"\nconcurrency = 1\n";
    let fleet = Fleet::new(&(collector.settings() + limit)).await;
    let workers = [fleet.worker().spawn(), fleet.worker().spawn()];
    let busy = fleet.task("busy", "/slow/1500", json!({"limit": "one"}));
    fleet.queue.push(busy.to_string()).await;
    eventually(SOON, || async { (fleet.upstream.in_flight() == 1).then_some(()) }).await;
    let waits = fleet.task("waits", "/status/404", json!({"limit": "one"}));
    assert_eq!(fleet.answer(waits).await["status"], "dead");
    let of_task = |span: &Arrived| {
        ["messaging.message.id", "redial.task.id"]
            .iter()
            .any(|name| span.attributes.get(*name).is_some_and(|id| id == "waits"))
    };
    let spans = collector.wait_for(2, of_task).await;
    let task = spans.iter().find(|span| span.kind == SpanKind::Consumer).unwrap();
    let attempt = spans.iter().find(|span| span.kind == SpanKind::Client).unwrap();
    assert_eq!((task.parent.as_str(), &attempt.parent, &attempt.trace), ("", &task.id, &task.trace));
    assert!(is(task, "error.type", "rejected") && task.is_error);
    let waited = collector.wait_for(1, |span| span.name == "wait" && span.parent == task.id).await;
    let (name, wait) = &waited[0].events[0];
    assert_eq!(name, "redial.wait");
    assert_eq!((wait["redial.wait.cause"].as_str(), wait["redial.wait.for"].as_str()), ("limit", "one"));
    // Without a context of the producer, the upstream gets none.
    assert!(fleet.upstream.calls().iter().all(|call| call.headers.get("traceparent").is_none()));
    // What a worker has when it ends is sent first.
    fleet.answer(fleet.task("last", "/", json!({}))).await;
    for worker in &workers {
        worker.term();
        worker.wait_exit(SOON).await;
    }
    let last = collector.wait_for(1, |span| span.attributes.get("messaging.message.id").is_some_and(|id| id == "last"));
    last.await;
}

#[tokio::test]
async fn the_standard_variables_choose_what_is_sampled_and_name_the_service() {
    let collector = Collector::start().await;
    let fleet = Fleet::new("").await;
    let worker = fleet
        .worker()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.0.url(""))
        .env("OTEL_TRACES_SAMPLER", "parentbased_always_off")
        .env("OTEL_SERVICE_NAME", "calls")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=collector-key")
        .spawn();
    let context = |flags: &str| format!("00-{TRACE}-{CALLER}-{flags}");
    fleet.answer(fleet.task("unasked", "/", json!({}))).await;
    fleet.answer(fleet.task("unsampled", "/", json!({"traceparent": context("00")}))).await;
    fleet.answer(fleet.task("sampled", "/", json!({"traceparent": context("01")}))).await;
    let spans = collector.wait_for(2, |_| true).await;
    assert!(spans.iter().all(|span| span.trace == TRACE && span.service == "calls"), "{spans:?}");
    let task = spans.iter().find(|span| span.kind == SpanKind::Consumer).unwrap();
    assert!(is(task, "messaging.message.id", "sampled"));
    // A trace that is not recorded here goes on with its producer's context.
    let calls = fleet.upstream.calls();
    assert_eq!(calls[1].headers.get("traceparent"), Some(context("00").as_str()));
    assert_eq!(collector.0.calls()[0].headers.get("x-api-key"), Some("collector-key"));
    worker.term();
    worker.wait_exit(SOON).await;
    assert_eq!(collector.spans().len(), 2);
}

#[tokio::test]
async fn under_load_a_worker_begins_a_hundred_traces_a_second_and_continues_those_of_producers() {
    const TASKS: usize = 3_000;
    let collector = Collector::start().await;
    let fleet = Fleet::new("").await;
    let worker = fleet.worker().env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.0.url("")).spawn();
    worker.wait_ready().await;
    let ids: Vec<String> = (0..TASKS).map(|n| n.to_string()).collect();
    let began = Instant::now();
    fleet.queue.push_all(ids.iter().map(|id| fleet.task(id, "/", json!({})).to_string())).await;
    let context = format!("00-{TRACE}-{CALLER}-01");
    fleet.queue.push(fleet.task("asked", "/", json!({"traceparent": context})).to_string()).await;
    fleet.queue.wait_results(&ids, Duration::from_secs(120)).await;
    let windows = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    collector.wait_for(2, |span| span.trace == TRACE).await;
    worker.term();
    worker.wait_exit(SOON).await;
    let spans = collector.spans();
    let tasks = spans.iter().filter(|span| span.kind == SpanKind::Consumer).count();
    assert!((50..=100 * windows + 1).contains(&tasks), "{tasks} traces of {TASKS} tasks in {windows} s");
}

#[tokio::test]
async fn a_collector_that_is_dead_slow_or_refuses_costs_spans_and_nothing_else() {
    let refused = Port::claim();
    let gone = format!("http://127.0.0.1:{}", refused.number());
    let hangs = Upstream::start(|_| Reply::hang()).await;
    let unwilling = Upstream::start(|_| Reply::status(400)).await;
    for endpoint in [gone, hangs.url(""), unwilling.url("")] {
        let fleet = Fleet::new(&format!("[traces]\nendpoint = \"{endpoint}\"\n")).await;
        let all = ("OTEL_TRACES_SAMPLER", "parentbased_always_on");
        let worker = fleet.worker().env("OTEL_EXPORTER_OTLP_TIMEOUT", "1000").env(all.0, all.1).spawn();
        worker.wait_ready().await;
        // More than wait for the collector at most.
        let ids: Vec<String> = (0..6_000).map(|n| n.to_string()).collect();
        fleet.queue.push_all(ids.iter().map(|id| fleet.task(id, "/", json!({})).to_string())).await;
        let results = fleet.queue.wait_results(&ids, Duration::from_secs(120)).await;
        assert!(results.iter().all(|result| result["status"] == "ok"));
        let lost =
            || async { (worker.metric(r#"redial_trace_spans_total{outcome="dropped"}"#).await > 0.0).then_some(()) };
        eventually(SOON, lost).await;
        let stopping = Instant::now();
        worker.term();
        assert!(worker.wait_exit(SOON).await.success());
        assert!(stopping.elapsed() < Duration::from_secs(20), "{endpoint}: {:?}", stopping.elapsed());
        let warnings = worker.log().matches("spans of traces are lost").count();
        assert!((1..=2).contains(&warnings), "{}", worker.log());
    }
}

#[tokio::test]
async fn an_address_that_is_none_is_named_at_the_start() {
    let fleet = Fleet::new("[traces]\nendpoint = \"collector:4318\"\n").await;
    let worker = fleet.worker().spawn();
    assert!(!worker.wait_exit(SOON).await.success());
    let log = worker.log();
    assert!(log.contains("\"collector:4318\" does not begin with http:// or https://"), "{log}");
}
