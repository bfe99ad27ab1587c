//! The official OpenAI SDK through Redial, and web services: the examples of `examples/sdk`, and those in six languages, `examples/fastapi` and its
//! neighbours. Each is run for real where this machine has its language and can install its packages; elsewhere the test says SKIPPED.

pub(crate) mod install;
mod many_callers;
pub(crate) mod service;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use redial_tests::{RedisServer, Reply, Request, TestQueue, Upstream, Worker, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use install::{Ended, run, text};
use service::{Service, Web};

const SOON: Duration = Duration::from_secs(20);
const KEY: &str = "sk-of-the-worker";
/// The key that the examples give to the SDK, which insists on having one.
const NO_KEY: &str = "the worker has it";

/// Redis, a worker that has the API key, and a chat API that demands it.
struct Desk {
    redis: RedisServer,
    api: Upstream,
    _worker: Worker,
    _settings: TempDir,
}

impl Desk {
    async fn new() -> Self {
        let calls: Mutex<HashMap<String, u32>> = Mutex::default();
        let api = Upstream::start(move |request| {
            let mut calls = calls.lock().unwrap();
            let nth = calls.entry(prompt(request)).or_default();
            *nth += 1;
            chat(request, *nth)
        })
        .await;
        let (redis, settings) = (RedisServer::start().await, tempfile::tempdir().unwrap());
        let file = settings.path().join("redial.toml");
        let header = "headers = { Authorization = \"Bearer ${OPENAI_API_KEY}\" }";
        std::fs::write(&file, format!("[[upstream]]\nurl = \"{}\"\n{header}\n", api.url("/v1/"))).unwrap();
        let worker =
            Worker::builder(&redis).arg("--config").arg(file.to_str().unwrap()).env("OPENAI_API_KEY", KEY).spawn();
        Self { redis, api, _worker: worker, _settings: settings }
    }

    fn calls_for(&self, asked: &str) -> Vec<Request> {
        let mut calls = self.api.calls();
        calls.retain(|call| prompt(call) == asked);
        calls
    }
}

fn prompt(request: &Request) -> String {
    request.json()["messages"][0]["content"].as_str().unwrap_or_default().to_owned()
}

/// The answer of a model that repeats the prompt.
fn completion(request: &Request) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "stand-in-1", "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": format!("You said: {}", prompt(request))}},
    ]})
}

/// The API's reply to the nth call with a prompt.
fn chat(request: &Request, nth: u32) -> Reply {
    if request.headers.get("authorization") != Some(format!("Bearer {KEY}").as_str()) {
        return refusal(401, "Incorrect API key provided.");
    }
    let answer = completion(request);
    match (prompt(request).as_str(), nth) {
        ("overloaded twice", 1 | 2) => refusal(503, "The engine is overloaded."),
        ("limited once", 1) => refusal(429, "Rate limit reached.").header("retry-after", "1"),
        ("too long", _) => refusal(400, "This model takes less."),
        ("slow once", 1) => Reply::ok().json(&answer).after(Duration::from_secs(5)),
        _ => Reply::ok().json(&answer),
    }
}

fn refusal(status: u16, message: &str) -> Reply {
    Reply::status(status).json(&json!({"error": {"message": message, "type": "refused", "code": null, "param": null}}))
}

/// An example that asks a model: its folder, the program there that runs it, and its file. The pairs are edits, a piece of its text and
/// the replacement, which make it stream, send an idempotency key, or give each attempt one second.
struct Sdk {
    folder: PathBuf,
    run: &'static str,
    file: &'static str,
    streams: (&'static str, &'static str),
    has_key: (&'static str, &'static str),
    is_hasty: (&'static str, &'static str),
}

impl Sdk {
    async fn ask(&self, desk: &Desk, file: &str, base: &str, prompt: &str) -> Ended {
        let mut command = Command::new(self.folder.join(self.run));
        command.args([file, prompt]).current_dir(&self.folder).env_remove("OPENAI_API_KEY");
        command.env("REDIS_URL", desk.redis.url()).env("OPENAI_BASE_URL", base);
        run(&mut command).await.unwrap()
    }

    /// Runs the example, as it is or edited, and expects the model's answer.
    async fn succeeds(&self, desk: &Desk, file: &str, prompt: &str) {
        let said = self.ask(desk, file, &desk.api.url("/v1"), prompt).await;
        assert!(said.success, "{file} {prompt}: {}", said.stderr);
        assert_eq!(said.stdout.trim(), format!("You said: {prompt}"), "{file}");
    }

    /// Runs it and expects it to fail with these words.
    async fn fails(&self, desk: &Desk, file: &str, base: &str, prompt: &str, words: [&str; 2]) {
        let said = self.ask(desk, file, base, prompt).await;
        let said_so = words.iter().all(|word| said.stderr.contains(word));
        assert!(!said.success && said_so, "{file} {prompt}, {words:?}: {}{}", said.stdout, said.stderr);
    }

    /// Writes an edited copy of the example and returns its name.
    fn edited(&self, name: &str, (piece, by): (&str, &str)) -> String {
        let text = std::fs::read_to_string(self.folder.join(self.file)).unwrap();
        assert_eq!(text.matches(piece).count(), 1, "{piece} in {}", self.file);
        let file = format!("{name}-{}", self.file);
        install::write(&self.folder.join(&file), &text.replace(piece, by));
        file
    }

    async fn keeps_its_promises(&self) {
        let desk = Desk::new().await;
        let (v1, ask) = (desk.api.url("/v1"), self.file);
        for (prompt, calls) in [("hello", 1), ("grüße 😀", 1), ("overloaded twice", 3), ("limited once", 2)] {
            self.succeeds(&desk, ask, prompt).await;
            assert_eq!(desk.calls_for(prompt).len(), calls, "{prompt}");
        }
        let limited = desk.calls_for("limited once");
        assert!(limited[1].at.duration_since(limited[0].at) >= Duration::from_secs(1), "Retry-After was cut short");

        self.fails(&desk, ask, &v1, "too long", ["BadRequestError", "This model takes less."]).await;
        // The worker has no key for this URL. If the SDK's own were sent along, it would be in the task.
        let keyless = desk.api.url("/keyless");
        self.fails(&desk, ask, &keyless, "hello", ["AuthenticationError", "Incorrect API key provided."]).await;
        self.fails(&desk, ask, "http://10.0.0.1/v1", "hello", ["APIConnectionError", "forbidden_target"]).await;

        let before = desk.api.count();
        let streams = self.edited("streams", self.streams);
        let words = ["BadRequestError", "streams can't go through a queue"];
        self.fails(&desk, &streams, &v1, "hello", words).await;
        assert_eq!(desk.api.count(), before, "a call was made although it streams");

        let has_key = self.edited("has_key", self.has_key);
        self.succeeds(&desk, &has_key, "pay").await;
        self.succeeds(&desk, &has_key, "pay").await;
        let paid = desk.calls_for("pay");
        assert_eq!(paid.len(), 1, "two calls with one idempotency key");
        assert_eq!(paid[0].headers.get("idempotency-key"), Some("order-17"));

        let is_hasty = self.edited("is_hasty", self.is_hasty);
        self.succeeds(&desk, &is_hasty, "slow once").await;
        assert_eq!(desk.calls_for("slow once").len(), 2, "the timeout ended more than its attempt");

        let letters = TestQueue::new(&desk.redis, "default").dead().await;
        assert_eq!(letters.len(), 3);
        for letter in letters {
            let task = String::from_utf8(letter.raw).unwrap();
            assert!(!task.to_lowercase().contains("authorization") && !task.contains(NO_KEY), "a key in Redis: {task}");
        }
    }
}

#[tokio::test]
async fn the_openai_sdk_of_python_succeeds_through_redial() {
    let Some(folder) = install::python("examples/sdk/python").await else { return };
    let sdk = Sdk {
        folder,
        run: "venv/bin/python",
        file: "ask.py",
        streams: ("model=", "stream=True, model="),
        has_key: ("model=", "extra_headers={\"Idempotency-Key\": \"order-17\"}, model="),
        is_hasty: ("model=", "timeout=1, model="),
    };
    sdk.keeps_its_promises().await;
}

#[tokio::test]
async fn the_openai_sdk_of_typescript_succeeds_through_redial() {
    let Some(folder) = install::node("examples/sdk/typescript").await else { return };
    let checked = run(Command::new(folder.join("node_modules/.bin/tsc")).arg("--noEmit").current_dir(&folder)).await;
    let checked = checked.unwrap();
    assert!(checked.success, "{}{}", checked.stdout, checked.stderr);
    let sdk = Sdk {
        folder,
        run: "node_modules/.bin/tsx",
        file: "ask.ts",
        streams: ("model:", "stream: true, model:"),
        has_key: ("messages })", "messages }, { headers: { \"Idempotency-Key\": \"order-17\" } })"),
        is_hasty: ("messages })", "messages }, { timeout: 1000 })"),
    };
    sdk.keeps_its_promises().await;
}

#[tokio::test]
async fn a_fastapi_service_returns_an_id_at_once_or_waits_for_the_answer() {
    returns_an_id_at_once_or_waits(Web::FastApi).await;
}

#[tokio::test]
async fn an_express_service_returns_an_id_at_once_or_waits_for_the_answer() {
    returns_an_id_at_once_or_waits(Web::Express).await;
}

#[tokio::test]
async fn a_go_service_returns_an_id_at_once_or_waits_for_the_answer() {
    returns_an_id_at_once_or_waits(Web::Go).await;
}

#[tokio::test]
async fn a_java_service_returns_an_id_at_once_or_waits_for_the_answer() {
    returns_an_id_at_once_or_waits(Web::Java).await;
}

#[tokio::test]
async fn a_php_service_returns_an_id_at_once_or_waits_for_the_answer() {
    returns_an_id_at_once_or_waits(Web::Php).await;
}

#[tokio::test]
async fn a_sinatra_service_returns_an_id_at_once_or_waits_for_the_answer() {
    returns_an_id_at_once_or_waits(Web::Sinatra).await;
}

async fn returns_an_id_at_once_or_waits(web: Web) {
    let (redis, upstream) = (RedisServer::start().await, Upstream::unruly().await);
    let _worker = Worker::spawn(&redis);
    let Some(service) = Service::start(web, redis.url(), &upstream.url("/echo?delay_ms=1000")).await else { return };

    let (status, started) = service.http("POST", "/calls", r#"{"from":"a form"}"#).await.unwrap();
    assert_eq!(status, 202);
    let path = format!("/calls/{}", started["id"].as_str().unwrap());
    assert_eq!(service.http("GET", &path, "").await.unwrap().0, 404, "the call takes a second");
    let found = || async { service.http("GET", &path, "").await.filter(|(status, _)| *status == 200) };
    let (_, result) = eventually(SOON, found).await;
    assert_eq!(result["body"]["from"], "a form");

    let (status, result) = service.http("POST", "/ask", r#"{"from":"a chat"}"#).await.unwrap();
    assert_eq!((status, &result["body"]["from"]), (200, &json!("a chat")));
}

#[test]
fn the_examples_are_short_and_docs_show_them_as_they_are() {
    for (file, most) in [
        ("examples/sdk/python/ask.py", 40),
        ("examples/sdk/typescript/ask.ts", 40),
        ("examples/fastapi/app.py", 50),
        ("examples/express/app.js", 50),
        ("examples/go/main.go", 80),
        ("examples/java/App.java", 80),
        ("examples/php/app.php", 50),
        ("examples/sinatra/app.rb", 50),
    ] {
        let text = text(file);
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or_default();
        assert!(text.lines().count() <= most && widest <= 140, "{file}: {} lines, {widest} wide", text.lines().count());
    }
    let page = text("docs/sdk.md");
    for (language, file) in [("python", "examples/sdk/python/ask.py"), ("typescript", "examples/sdk/typescript/ask.ts")]
    {
        let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
        let (shown, _) = rest.split_once("```").unwrap();
        assert!(text(file).contains(shown), "docs/sdk.md shows something else than {file}:\n{shown}");
    }
}
