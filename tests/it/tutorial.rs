//! The tutorial: each step of `examples/tutorial` as a web service, before an upstream that does what the step is about. Where this
//! machine has no Python or cannot install the packages, the test says SKIPPED.

use std::sync::Arc;
use std::time::Duration;

use redial_tests::{Cli, RedisServer, Upstream, Worker, eventually};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::drop_in::install;
use crate::drop_in::service::Service;

const SOON: Duration = Duration::from_secs(20);
const FOLDER: &str = "examples/tutorial";
const TICKET: &str = r#"{"text":"I want my money back","number":17}"#;

/// One step that runs, with the Redis, the worker and the upstream behind it.
struct Step {
    service: Arc<Service>,
    upstream: Upstream,
    redis: RedisServer,
    _worker: Worker,
}

impl Step {
    /// `None`, and a line that says SKIPPED, if this machine cannot run it.
    async fn start(module: &str, path: &str) -> Option<Self> {
        let (redis, upstream) = (RedisServer::start().await, Upstream::unruly().await);
        let worker = Worker::spawn(&redis);
        let folder = install::python(FOLDER).await?;
        let service = Service::uvicorn(&folder, &format!("{module}:app"), redis.url(), &upstream.url(path)).await;
        Some(Self { service: Arc::new(service), upstream, redis, _worker: worker })
    }

    async fn post(&self, path: &str) -> (u16, Value) {
        self.service.http("POST", path, TICKET).await.expect("the service answers")
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.service.http("GET", path, "").await.expect("the service answers")
    }

    /// What many users get who ask at the same time.
    async fn post_at_once(&self, paths: impl IntoIterator<Item = String>) -> Vec<(u16, Value)> {
        let mut asked = JoinSet::new();
        for path in paths {
            let service = self.service.clone();
            asked.spawn(async move { service.http("POST", &path, TICKET).await.expect("the service answers") });
        }
        asked.join_all().await
    }
}

#[tokio::test]
async fn step_1_of_the_tutorial_fails_its_user_when_the_upstream_fails() {
    let Some(step) = Step::start("step1_fragile", "/flaky/1/503").await else { return };
    assert_eq!(step.post("/labels").await.0, 502);
    assert_eq!(step.post("/labels").await.0, 200, "the second call would have been answered");
}

#[tokio::test]
async fn step_2_of_the_tutorial_makes_a_failure_that_passes_a_delay() {
    let Some(step) = Step::start("step2_retry", "/flaky/2/503").await else { return };
    assert_eq!(step.post("/labels").await, (200, json!({"ok": true, "calls": 3})));
    assert_eq!(step.upstream.count(), 3);
}

#[tokio::test]
async fn step_3_of_the_tutorial_has_a_placeholder_at_once_and_the_answer_later() {
    let Some(step) = Step::start("step3_placeholder", "/echo?delay_ms=1500").await else { return };
    let (status, started) = step.post("/labels").await;
    assert_eq!((status, &started["label"]), (202, &json!("pending")));
    let path = format!("/labels/{}", started["id"].as_str().unwrap());
    assert_eq!(step.get(&path).await.1["label"], "pending");
    let label = eventually(SOON, || async {
        let (_, shown) = step.get(&path).await;
        (shown["label"] != "pending").then(|| shown["label"].clone())
    })
    .await;
    assert_eq!(label["body"]["text"], "I want my money back");
}

#[tokio::test]
async fn step_4_of_the_tutorial_pays_once_for_what_fifty_users_ask() {
    let Some(step) = Step::start("step4_cache", "/echo?delay_ms=500").await else { return };
    let answers = step.post_at_once((0..50).map(|_| "/labels".to_owned())).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let (_, later) = step.post("/labels").await;
    assert_eq!((&later["source"], step.upstream.count()), (&json!("cache"), 1));
}

#[tokio::test]
async fn step_5_of_the_tutorial_refunds_once_or_says_that_nobody_knows() {
    let Some(step) = Step::start("step5_idempotency", "/echo?delay_ms=500").await else { return };
    let answers = step.post_at_once((0..3).map(|_| "/orders/17/refund?amount=5".to_owned())).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let calls = step.upstream.calls();
    assert_eq!((calls.len(), calls[0].headers.get("idempotency-key")), (1, Some("refund-17")));
    assert_eq!(step.post("/orders/17/refund?amount=6").await.0, 409);
    assert_eq!(step.upstream.count(), 1);

    let Some(step) = Step::start("step5_idempotency", "/close").await else { return };
    let (status, told) = step.post("/orders/18/refund?amount=5").await;
    assert_eq!((status, step.upstream.count()), (502, 1), "{told}");
    assert!(told["detail"].as_str().unwrap().starts_with("nobody knows"), "{told}");
}

#[tokio::test]
async fn step_6_of_the_tutorial_keeps_the_rate_and_answers_everybody() {
    let Some(step) = Step::start("step6_limits", "/ok").await else { return };
    let answers = step.post_at_once((0..10).map(|n| format!("/customers/{}/labels", n % 2))).await;
    assert!(answers.iter().all(|answer| *answer == (200, json!({"ok": true}))), "{answers:?}");
    let calls = step.upstream.calls();
    // Ten calls at five a second, the first of them at once; that calls reach the upstream irregularly takes nothing from all of them.
    let took = calls[9].at - calls[0].at;
    assert!(calls.len() == 10 && took >= Duration::from_millis(1600), "{took:?}");
}

#[tokio::test]
async fn step_7_of_the_tutorial_explains_what_failed_and_runs_it_again() {
    let Some(step) = Step::start("step7_dead_letters", "/flaky/1/422").await else { return };
    let (_, started) = step.post("/labels").await;
    let (id, cli) = (started["id"].as_str().unwrap(), Cli::new(&step.redis));
    let path = format!("/labels/{id}");
    let told = eventually(SOON, || async {
        let (status, told) = step.get(&path).await;
        (status == 502).then_some(told)
    })
    .await;
    assert!(told["detail"].as_str().unwrap().starts_with("rejected: "), "{told}");
    let listed = cli.run(&["dead", "list", "--reason", "rejected"]).await;
    assert!(listed.stdout.contains(id), "{}", listed.stdout);
    let replayed = cli.run(&["dead", "replay", id]).await;
    assert_eq!(replayed.status, 0, "{}", replayed.stderr);
    eventually(SOON, || async { (step.get(&path).await.1["label"] == json!({"ok": true, "calls": 2})).then_some(()) })
        .await;
}
