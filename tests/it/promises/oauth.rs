//! Access tokens by OAuth's client credentials: fetched once for all calls, renewed ahead of their end and when an upstream refuses one, and
//! waited for without an attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use redial_tests::{RedisServer, Reply, Request, TestQueue, Upstream, Worker, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{SOON, attempts, counter, ids};

/// `Basic` of `worker%3A1:s%26t`: what RFC 6749 section 2.3.1 makes of `worker:1` and `s&t`.
const LOGIN: &str = "Basic d29ya2VyJTNBMTpzJTI2dA==";

/// An authorization server and an API that wants its latest token.
struct Server {
    /// The number of the only token that the API accepts; later ones as well.
    accepted_from: AtomicUsize,
    issued: AtomicUsize,
    lifetime_s: AtomicU64,
    is_down: AtomicBool,
}

/// `/redirect/<status>?<location>`, below the API and outside of it.
fn redirect_of(request: &Request) -> Option<Reply> {
    let (status, location) = request.path.split_once("/redirect/")?.1.split_once('?')?;
    Some(Reply::status(status.parse().ok()?).header("location", location.to_owned()))
}

struct OAuthStage {
    _redis: RedisServer,
    queue: TestQueue,
    server: Arc<Server>,
    upstream: Upstream,
    worker: Worker,
    _settings: TempDir,
}

impl Server {
    fn answer(&self, request: &Request) -> Reply {
        if request.route() == "/token" {
            return self.issue(request);
        }
        let token = request.headers.get("authorization").unwrap_or_default();
        if let Some(to) = redirect_of(request) {
            return to;
        }
        let number = token.strip_prefix("Bearer token-").and_then(|number| number.parse::<usize>().ok());
        match number {
            Some(number) if number >= self.accepted_from.load(SeqCst) => Reply::ok().json(&json!({"token": number})),
            _ => Reply::status(401).json(&json!({"error": "invalid_token"})),
        }
    }

    fn issue(&self, request: &Request) -> Reply {
        if self.is_down.load(SeqCst) {
            return Reply::status(503);
        }
        let body = String::from_utf8_lossy(&request.body).into_owned();
        if request.headers.get("authorization") != Some(LOGIN)
            || body != "grant_type=client_credentials&scope=read+write&audience=api"
        {
            return Reply::status(401).json(&json!({"error": "invalid_client", "error_description": body}));
        }
        let number = self.issued.fetch_add(1, SeqCst) + 1;
        let lifetime = self.lifetime_s.load(SeqCst);
        Reply::ok()
            .json(&json!({"access_token": format!("token-{number}"), "token_type": "Bearer", "expires_in": lifetime}))
    }
}

impl OAuthStage {
    async fn start(lifetime_s: u64, is_down: bool) -> Self {
        let server = Arc::new(Server {
            accepted_from: AtomicUsize::new(1),
            issued: AtomicUsize::new(0),
            lifetime_s: AtomicU64::new(lifetime_s),
            is_down: AtomicBool::new(is_down),
        });
        let answering = server.clone();
        let upstream = Upstream::start(move |request| answering.answer(request)).await;
        let redis = RedisServer::start().await;
        let settings = tempfile::tempdir().unwrap();
        let file = settings.path().join("redial.toml");
        let text = format!(
            "[[upstream]]\nurl = \"{}\"\n[upstream.oauth]\ntoken_url = \"{}\"\nclient_id = \"worker:1\"\n\
             client_secret = \"${{SECRET}}\"\nscope = \"read write\"\nparams = {{ audience = \"api\" }}\n",
            upstream.url("/api"),
            upstream.url("/token"),
        );
        std::fs::write(&file, text).unwrap();
        let worker = Worker::builder(&redis)
            .env("SECRET", "s&t")
            .env("REDIAL_BREAKER_PROBE_MS", "500")
            .arg("--config")
            .arg(file.to_str().unwrap())
            .spawn();
        worker.wait_ready().await;
        Self { queue: TestQueue::new(&redis, "default"), _redis: redis, server, upstream, worker, _settings: settings }
    }

    async fn push(&self, ids: &[String], more: &Value) {
        let tasks = ids.iter().map(|id| {
            let mut task = more.clone();
            task["id"] = json!(id);
            task["url"] = json!(self.upstream.url("/api/x"));
            task.to_string()
        });
        self.queue.push_all(tasks).await;
    }

    async fn answers(&self, ids: &[String], more: &Value) -> Vec<Value> {
        self.push(ids, more).await;
        self.queue.wait_results(ids, SOON * 2).await
    }
}

#[tokio::test]
async fn one_token_serves_all_calls_and_is_renewed_ahead_of_its_end() {
    // The shortest interval between two fetches is 5 s.
    let stage = OAuthStage::start(8, false).await;
    let first = stage.answers(&ids("first", 200), &json!({"retry": {"max_attempts": 1}})).await;
    assert!(first.iter().all(|result| result["body"]["token"] == 1), "{:?}", first[0]);
    assert_eq!(stage.server.issued.load(SeqCst), 1);
    let mut seen = Vec::new();
    for n in 0..100 {
        let result = stage.answers(&[format!("later{n}")], &json!({"retry": {"max_attempts": 1}})).await.remove(0);
        assert_eq!(result["status"], "ok", "{result}");
        seen.push(result["body"]["token"].as_u64().unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(seen.last() > Some(&1), "renewed: {seen:?}");
    assert!(stage.upstream.calls_to("/token").len() <= 4, "{} fetches", stage.upstream.calls_to("/token").len());
    for secret in ["token-1", "s&t", LOGIN] {
        assert!(!stage.worker.log().contains(secret), "{}", stage.worker.log());
    }
}

#[tokio::test]
async fn a_token_that_the_upstream_refuses_is_replaced_once_for_all_and_costs_no_attempt() {
    let stage = OAuthStage::start(3600, false).await;
    stage.answers(&ids("first", 1), &json!({})).await;
    // Longer than the interval between two fetches.
    tokio::time::sleep(Duration::from_millis(5_200)).await;
    stage.server.accepted_from.store(2, SeqCst);
    let results = stage.answers(&ids("later", 50), &json!({"retry": {"max_attempts": 1}, "effect": "once"})).await;
    assert!(results.iter().all(|result| result["status"] == "ok" && result["body"]["token"] == 2), "{results:?}");
    assert_eq!(stage.server.issued.load(SeqCst), 2);
}

#[tokio::test]
async fn a_client_that_is_refused_with_a_new_token_as_well_is_rejected() {
    let stage = OAuthStage::start(3600, false).await;
    stage.server.accepted_from.store(usize::MAX, SeqCst);
    let result = stage.answers(&ids("a", 1), &json!({"retry": {"max_attempts": 5}})).await.remove(0);
    assert_eq!((result["reason"].as_str(), result["http_status"].as_u64()), (Some("rejected"), Some(401)), "{result}");
    assert_eq!(attempts(&result), 2, "{result}");
    assert_eq!(stage.upstream.calls_to("/api/x").len(), 2);
}

#[tokio::test]
async fn while_the_token_endpoint_is_down_tasks_wait_as_for_an_upstream_and_use_no_attempt() {
    let stage = OAuthStage::start(3600, true).await;
    let waiting = ids("waiting", 60);
    stage.push(&waiting, &json!({"retry": {"max_attempts": 1}})).await;
    let parked = || async { (counter(&stage.worker, "redial_breakers_opened_total").await > 0).then_some(()) };
    eventually(SOON, parked).await;
    assert!(stage.worker.log().contains("status 503"), "{}", stage.worker.log());
    assert!(stage.upstream.calls_to("/token").len() < 20, "fetches are far apart");
    assert_eq!(stage.upstream.calls_to("/api/x").len(), 0, "no call without a token");
    stage.server.is_down.store(false, SeqCst);
    let results = stage.queue.wait_results(&waiting, SOON * 2).await;
    assert!(results.iter().all(|result| result["status"] == "ok" && attempts(result) == 1), "{results:?}");
}

#[tokio::test]
async fn a_task_with_an_authorization_of_its_own_needs_no_token() {
    let stage = OAuthStage::start(3600, true).await;
    let own = json!({"headers": {"Authorization": "Bearer token-9"}});
    assert_eq!(stage.answers(&ids("own", 1), &own).await[0]["body"]["token"], 9);
    assert_eq!(stage.upstream.calls_to("/token").len(), 0);
}

#[tokio::test]
async fn a_redirect_gets_a_token_only_within_its_upstream() {
    let stage = OAuthStage::start(3600, false).await;
    let elsewhere = Upstream::start(|request| redirect_of(request).unwrap_or_else(Reply::ok)).await;
    let api = stage.upstream.url("/api/x");
    let run = async |id: &str, url: String| {
        let task =
            json!({"id": id, "url": url, "body": 1, "redirects": 3, "retry": {"max_attempts": 2}, "effect": "once"});
        stage.queue.push_all([task.to_string()]).await;
        stage.queue.wait_results(&[id.to_owned()], SOON * 2).await.remove(0)
    };

    let within = run("within", stage.upstream.url("/api/redirect/307?/api/x")).await;
    assert_eq!(
        (&within["status"], &within["body"]["token"], attempts(&within)),
        (&json!("ok"), &json!(1), 1),
        "{within}"
    );

    let back = format!("{}?{api}", elsewhere.url("/redirect/307"));
    let and_back = stage.upstream.url(&format!("/api/redirect/307?{back}"));
    let outside = stage.upstream.url("/redirect/307?/api/x");
    let before = stage.upstream.calls_to("/api/x").len();
    for (id, url) in [("outside", outside), ("elsewhere", back), ("and back", and_back)] {
        let result = run(id, url).await;
        assert_eq!((&result["reason"], attempts(&result)), (&json!("rejected"), 1), "{id}: {result}");
        let error = result["error"].as_str().unwrap();
        assert!(error.contains("not followed: 127.0.0.1 wants an access token"), "{id}: {error}");
    }
    assert_eq!(stage.upstream.calls_to("/api/x").len(), before);
    let leaked = elsewhere.calls().iter().any(|call| call.headers.get("authorization").is_some());
    assert!(!leaked && elsewhere.count() == 2, "{:?}", elsewhere.calls());

    // A token that is refused after a 303: the call was carried out, and is not repeated.
    stage.server.accepted_from.store(2, SeqCst);
    let seen = run("seen", stage.upstream.url("/api/redirect/303?/api/x")).await;
    assert_eq!(
        (&seen["reason"], &seen["http_status"], attempts(&seen)),
        (&json!("rejected"), &json!(401), 1),
        "{seen}"
    );
    assert_eq!(stage.upstream.calls_to("/api/redirect/303").len(), 1);
}
