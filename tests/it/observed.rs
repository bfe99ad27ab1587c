//! What operators see of a fleet: metrics, traces, alerts.
//!
//! - [`metrics`]: each metric of the docs is there and moves as said; [`formats`]: in which formats
//! - [`traces`]: from the caller to the upstream, in a collector that is real or away
//! - [`prometheus`]: the alerts and the dashboard, in a real Prometheus

mod formats;
mod metrics;
mod prometheus;
mod traces;

use std::time::Duration;

use redial_tests::{GatewayProcess, RedisServer, Reply, Request, TestQueue, Upstream, Worker, WorkerBuilder};
use serde_json::{Value, json};

/// The timeout for what should happen at once. It is long, because a loaded machine breaks no promise.
const SOON: Duration = Duration::from_secs(60);

/// A Redis, a queue, an upstream with the name `api`, and settings for workers and gateways.
struct Fleet {
    redis: RedisServer,
    queue: TestQueue,
    upstream: Upstream,
    settings: tempfile::NamedTempFile,
}

impl Fleet {
    /// With an upstream that answers like an AI API, except at some paths: see [`answer`].
    async fn new(more_settings: &str) -> Self {
        let upstream = Upstream::start(answer).await;
        let redis = RedisServer::start().await;
        let settings = tempfile::NamedTempFile::new().unwrap();
        let api = format!("[[upstream]]\nurl = \"{}\"\nname = \"api\"\npreset = \"openai\"\n", upstream.url("/"));
        std::fs::write(settings.path(), api + more_settings).unwrap();
        Self { queue: TestQueue::new(&redis, "default"), redis, upstream, settings }
    }

    fn worker(&self) -> WorkerBuilder {
        Worker::builder(&self.redis).arg("--config").arg(self.settings.path().to_str().unwrap())
    }

    async fn gateway(&self) -> GatewayProcess {
        let settings = std::fs::read_to_string(self.settings.path()).unwrap();
        GatewayProcess::start(&self.redis, &settings).await
    }

    /// The upstream, as labels name it.
    fn name(&self) -> String {
        self.upstream.url("").trim_start_matches("http://").trim_end_matches('/').to_owned()
    }

    /// A task for a path of the upstream.
    fn task(&self, id: &str, path: &str, more: Value) -> Value {
        let mut task = json!({"id": id, "url": self.upstream.url(path), "retry": {"base_ms": 20}});
        if let (Value::Object(task), Value::Object(more)) = (&mut task, more) {
            task.extend(more);
        }
        task
    }

    /// Pushes a task and waits for its result.
    async fn answer(&self, task: Value) -> Value {
        self.queue.push(task.to_string()).await;
        self.queue.wait_result(task["id"].as_str().unwrap(), SOON).await
    }
}

fn answer(request: &Request) -> Reply {
    let parts: Vec<&str> = request.route().split('/').skip(1).collect();
    match parts[..] {
        ["status", status] => Reply::status(status.parse().unwrap()).json(&json!({"secret": "body-secret"})),
        ["slow", ms] => Reply::ok().json(&json!({"ok": true})).after(Duration::from_millis(ms.parse().unwrap())),
        ["fails-once", ..] if request.nth == 0 => Reply::status(503).json(&json!({})),
        ["greedy"] => Reply::ok().json(&json!({"usage": {"total_tokens": 1_000_000_000_000_u64}})),
        _ => {
            let usage = json!({"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21});
            Reply::ok().json(&json!({"model": "gpt-test-1", "secret": "body-secret", "usage": usage}))
        }
    }
}
