//! The official OpenAI SDK through Redial, and a FastAPI service: the examples of `examples/sdk` and `examples/fastapi`, each run for
//! real where this machine has its language and can install its packages.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use redial_tests::process::Process;
use redial_tests::{Port, RedisServer, Reply, Request, TestQueue, Upstream, Worker, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

const SOON: Duration = Duration::from_secs(20);
/// For a program, and for an installation over a slow line.
const AT_MOST: Duration = Duration::from_secs(120);
const KEY: &str = "sk-of-the-worker";
/// What the examples give to the SDK, which wants some key.
const NO_KEY: &str = "the worker has it";

const PYTHON: [&[&str]; 2] = [
    &["python3", "-m", "venv", "--clear", "venv"],
    &[
        "venv/bin/python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--retries",
        "1",
        "--timeout",
        "15",
        "-r",
        "requirements.txt",
    ],
];
const NODE: [&[&str]; 1] = [&[
    "npm",
    "install",
    "--no-audit",
    "--no-fund",
    "--no-package-lock",
    "--ignore-scripts",
    "--fetch-retries=1",
    "--fetch-timeout=15000",
]];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What a program left behind.
struct Said {
    well: bool,
    stdout: String,
    stderr: String,
}

/// Runs a program to its end, or says why it came to none: there is no such program, or it takes too long.
async fn run(command: &mut Command) -> Result<Said, String> {
    let ended = tokio::time::timeout(AT_MOST, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
    let ended = ended.map_err(|_| format!("it still ran after {AT_MOST:?}"))?;
    let output = ended.map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Said { well: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// A copy of an example below `target`, with its packages, which are kept from run to run as long as `pins` is the same. `None`, and
/// said aloud: the machine lacks the language or its installer, or the packages can't be had.
async fn installed(example: &str, pins: &str, steps: &[&[&str]]) -> Option<PathBuf> {
    let (from, folder) = (root().join(example), Path::new(env!("CARGO_TARGET_TMPDIR")).join(example.replace('/', "-")));
    std::fs::create_dir_all(&folder).unwrap();
    for file in std::fs::read_dir(&from).unwrap().flatten().filter(|file| file.path().is_file()) {
        std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    let (pinned, done) = (text(&format!("{example}/{pins}")), folder.join("installed"));
    if std::fs::read_to_string(&done).is_ok_and(|kept| kept == pinned) {
        return Some(folder);
    }
    for step in steps {
        // One that an earlier step made is below the folder; the others are found on the PATH.
        let program = if step[0].contains('/') { folder.join(step[0]) } else { step[0].into() };
        let why = match run(Command::new(program).args(&step[1..]).current_dir(&folder)).await {
            Ok(said) if said.well => continue,
            Ok(said) => said.stderr,
            Err(why) => why,
        };
        eprintln!("SKIPPED: {example}: `{}` failed: {why}", step.join(" "));
        return None;
    }
    std::fs::write(done, pinned).unwrap();
    Some(folder)
}

/// Redis, a worker that has the key, and a chat API that wants it.
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

/// What the API says to the nth call with a prompt.
fn chat(request: &Request, nth: u32) -> Reply {
    if request.headers.get("authorization") != Some(format!("Bearer {KEY}").as_str()) {
        return refusal(401, "Incorrect API key provided.");
    }
    let answer = json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "stand-in-1", "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": format!("You said: {}", prompt(request))}},
    ]});
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

/// An example that asks a model: its folder, what runs it there, its file; and what makes of it one that streams, one that has an
/// idempotency key, and one that gives an attempt a second: a piece of its text, and what to put there.
struct Sdk {
    folder: PathBuf,
    run: &'static str,
    file: &'static str,
    streams: (&'static str, &'static str),
    has_key: (&'static str, &'static str),
    is_hasty: (&'static str, &'static str),
}

impl Sdk {
    async fn ask(&self, desk: &Desk, file: &str, base: &str, prompt: &str) -> Said {
        let mut command = Command::new(self.folder.join(self.run));
        command.args([file, prompt]).current_dir(&self.folder).env_remove("OPENAI_API_KEY");
        command.env("REDIS_URL", desk.redis.url()).env("OPENAI_BASE_URL", base);
        run(&mut command).await.unwrap()
    }

    /// Asks by the example as it is, or changed, and expects the model's answer.
    async fn is_answered(&self, desk: &Desk, file: &str, prompt: &str) {
        let said = self.ask(desk, file, &desk.api.url("/v1"), prompt).await;
        assert!(said.well, "{file} {prompt}: {}", said.stderr);
        assert_eq!(said.stdout.trim(), format!("You said: {prompt}"), "{file}");
    }

    /// The same, and expects it to end with these words.
    async fn is_told(&self, desk: &Desk, file: &str, base: &str, prompt: &str, words: [&str; 2]) {
        let said = self.ask(desk, file, base, prompt).await;
        let told = words.iter().all(|word| said.stderr.contains(word));
        assert!(!said.well && told, "{file} {prompt}, {words:?}: {}{}", said.stdout, said.stderr);
    }

    /// Writes the example with a piece of it replaced, and names that file.
    fn changed(&self, name: &str, (piece, by): (&str, &str)) -> String {
        let text = std::fs::read_to_string(self.folder.join(self.file)).unwrap();
        assert_eq!(text.matches(piece).count(), 1, "{piece} in {}", self.file);
        let file = format!("{name}-{}", self.file);
        std::fs::write(self.folder.join(&file), text.replace(piece, by)).unwrap();
        file
    }

    async fn keeps_its_promises(&self, stream_error: &str) {
        let desk = Desk::new().await;
        let (v1, ask) = (desk.api.url("/v1"), self.file);
        for (prompt, calls) in [("hello", 1), ("grüße 😀", 1), ("overloaded twice", 3), ("limited once", 2)] {
            self.is_answered(&desk, ask, prompt).await;
            assert_eq!(desk.calls_for(prompt).len(), calls, "{prompt}");
        }
        let limited = desk.calls_for("limited once");
        assert!(limited[1].at.duration_since(limited[0].at) >= Duration::from_secs(1), "Retry-After was cut short");

        self.is_told(&desk, ask, &v1, "too long", ["BadRequestError", "This model takes less."]).await;
        // Below this URL the worker has no key; were the SDK's own sent along, it would be in the task.
        let keyless = desk.api.url("/keyless");
        self.is_told(&desk, ask, &keyless, "hello", ["AuthenticationError", "Incorrect API key provided."]).await;
        self.is_told(&desk, ask, "http://10.0.0.1/v1", "hello", ["APIConnectionError", "forbidden_target"]).await;

        let before = desk.api.count();
        let streams = self.changed("streams", self.streams);
        let words = [stream_error, "streams can't go through a queue"];
        self.is_told(&desk, &streams, &v1, "hello", words).await;
        assert_eq!(desk.api.count(), before, "a stream was called for");

        let has_key = self.changed("has_key", self.has_key);
        self.is_answered(&desk, &has_key, "pay").await;
        self.is_answered(&desk, &has_key, "pay").await;
        let paid = desk.calls_for("pay");
        assert_eq!(paid.len(), 1, "two calls of one idempotency key");
        assert_eq!(paid[0].headers.get("idempotency-key"), Some("order-17"));

        let is_hasty = self.changed("is_hasty", self.is_hasty);
        self.is_answered(&desk, &is_hasty, "slow once").await;
        assert_eq!(desk.calls_for("slow once").len(), 2, "a timeout ended more than its attempt");

        let letters = TestQueue::new(&desk.redis, "default").dead().await;
        assert_eq!(letters.len(), 3);
        for letter in letters {
            let task = String::from_utf8(letter.raw).unwrap();
            assert!(!task.to_lowercase().contains("authorization") && !task.contains(NO_KEY), "a key in Redis: {task}");
        }
    }
}

#[tokio::test]
async fn the_openai_sdk_of_python_is_answered_through_redial() {
    let Some(folder) = installed("examples/sdk/python", "requirements.txt", &PYTHON).await else { return };
    let sdk = Sdk {
        folder,
        run: "venv/bin/python",
        file: "ask.py",
        streams: ("model=", "stream=True, model="),
        has_key: ("model=", "extra_headers={\"Idempotency-Key\": \"order-17\"}, model="),
        is_hasty: ("model=", "timeout=1, model="),
    };
    sdk.keeps_its_promises("OpenAIError").await;
}

#[tokio::test]
async fn the_openai_sdk_of_typescript_is_answered_through_redial() {
    let Some(folder) = installed("examples/sdk/typescript", "package.json", &NODE).await else { return };
    let checked = run(Command::new(folder.join("node_modules/.bin/tsc")).arg("--noEmit").current_dir(&folder)).await;
    let checked = checked.unwrap();
    assert!(checked.well, "{}{}", checked.stdout, checked.stderr);
    let sdk = Sdk {
        folder,
        run: "node_modules/.bin/tsx",
        file: "ask.ts",
        streams: ("model:", "stream: true, model:"),
        has_key: ("messages })", "messages }, { headers: { \"Idempotency-Key\": \"order-17\" } })"),
        is_hasty: ("messages })", "messages }, { timeout: 1000 })"),
    };
    sdk.keeps_its_promises("BadRequestError").await;
}

#[tokio::test]
async fn a_fastapi_service_gives_an_id_at_once_and_the_answer_to_those_who_wait() {
    let Some(folder) = installed("examples/fastapi", "requirements.txt", &PYTHON).await else { return };
    let (redis, upstream, claimed) = (RedisServer::start().await, Upstream::unruly().await, Port::claim());
    let (_worker, port) = (Worker::spawn(&redis), claimed.number());
    let mut command = std::process::Command::new(folder.join("venv/bin/python"));
    command.args(["-m", "uvicorn", "app:app", "--log-level", "warning", "--port", &port.to_string()]);
    command.current_dir(&folder).env("REDIS_URL", redis.url()).env("UPSTREAM", upstream.url("/echo?delay_ms=1000"));
    let _service = Process::spawn(command);
    eventually(SOON, || http(port, "GET", "/calls/none", "")).await;

    let (status, started) = http(port, "POST", "/calls", r#"{"from":"a form"}"#).await.unwrap();
    assert_eq!(status, 202);
    let path = format!("/calls/{}", started["id"].as_str().unwrap());
    assert_eq!(http(port, "GET", &path, "").await.unwrap().0, 404, "the call takes a second");
    let result =
        eventually(SOON, || async { http(port, "GET", &path, "").await.filter(|(status, _)| *status == 200) }).await;
    assert_eq!(result.1["body"]["body"]["from"], "a form");

    let (status, result) = http(port, "POST", "/ask", r#"{"from":"a chat"}"#).await.unwrap();
    assert_eq!((status, &result["status"]), (200, &json!("ok")));
    assert_eq!(result["body"]["body"]["from"], "a chat");
}

/// Status and body of a call of JSON. `None`: nobody answers.
async fn http(port: u16, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let about = format!("content-type: application/json\r\ncontent-length: {}", body.len());
    let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{about}\r\n\r\n{body}");
    socket.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).ok()?))
}

#[test]
fn the_helpers_have_30_lines_the_examples_40_and_the_docs_show_them_as_they_are() {
    for (file, most) in [
        ("examples/sdk/python/redial_openai.py", 30),
        ("examples/sdk/typescript/redial-openai.ts", 30),
        ("examples/sdk/python/ask.py", 40),
        ("examples/sdk/typescript/ask.ts", 40),
        ("examples/fastapi/app.py", 40),
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
