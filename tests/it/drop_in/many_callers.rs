//! Many callers wait in one process of each example, through healthy connections to Redis and through broken ones.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redial_tests::{Proxy, RedisServer, Reply, TestQueue, Upstream, Worker, eventually};
use serde_json::json;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::install::{self, run, text, write};
use super::service::{Service, Web};
use super::{SOON, completion};

const CALLERS: usize = 500;
/// How many wait in a web service, whose callers come over connections of their own.
const WEB_CALLERS: usize = 1000;
/// The same where each caller takes a thread of the service.
const THREADED_CALLERS: usize = 50;
/// Far fewer than callers: an example that needs a connection for each of them fails.
const MAX_CLIENTS: [&str; 2] = ["--maxclients", "64"];
/// How many wait while connections break.
const A_FEW: usize = 20;
/// So that a kill of Redis, however busy the disk, loses none of what they pushed.
const DURABLE: [&str; 2] = ["--appendfsync", "always"];

/// Answers a request of the SDK as a model that repeats the prompt, any other with its own body.
async fn upstream() -> Upstream {
    Upstream::start(|request| match request.route() {
        "/v1/chat/completions" => Reply::ok().json(&completion(request)),
        _ => Reply::ok().json(&request.json()),
    })
    .await
}

async fn all_wait(redis: &RedisServer, callers: usize) {
    let queue = TestQueue::new(redis, "default");
    eventually(SOON, || async { (queue.waiting().await == callers as u64).then_some(()) }).await;
}

/// The worker starts only when all callers wait.
async fn answered_all_at_once(redis: &RedisServer, count: usize, callers: impl Future<Output = ()>) {
    let worker = async {
        all_wait(redis, count).await;
        Worker::spawn(redis)
    };
    tokio::join!(callers, worker);
}

/// While the callers wait, Redis is killed and restarted; then an answer is lost on the wire and all connections break.
async fn answered_in_spite_of_broken_connections(
    redis: &RedisServer,
    proxy: &Proxy,
    callers: impl Future<Output = ()>,
) {
    let worker = async {
        all_wait(redis, A_FEW).await;
        // Each has read the reply to its push: one that is lost is an error that callers see.
        tokio::time::sleep(Duration::from_secs(1)).await;
        redis.kill9();
        redis.restart().await;
        all_wait(redis, A_FEW).await;
        eventually(SOON, || async { (redis.info_number("blocked_clients").await > 0).then_some(()) }).await;
        let worker = Worker::spawn(redis);
        proxy.lose_replies(Duration::from_secs(3)).await;
        assert!(proxy.lost_bytes() > 100, "no answer was lost");
        worker
    };
    tokio::join!(callers, worker);
}

/// A program beside an SDK helper that asks for many callers at once and checks that each gets its own answer.
struct Program {
    folder: PathBuf,
    typed: &'static [&'static str],
}

impl Program {
    async fn ask(&self, callers: usize, redis_url: &str, upstream: &Upstream) {
        let mut command = Command::new(self.folder.join(self.typed[0]));
        command.args(&self.typed[1..]).current_dir(&self.folder).env("CALLERS", callers.to_string());
        command.env("REDIS_URL", redis_url).env("OPENAI_BASE_URL", upstream.url("/v1"));
        let ended = run(&mut command).await.unwrap();
        assert!(ended.success, "{:?}: {}{}", self.typed, ended.stdout, ended.stderr);
        assert_eq!(ended.stdout.trim(), format!("{callers} answered"));
    }

    async fn holds_many_callers(&self) {
        let (redis, upstream) = (RedisServer::with_args(&MAX_CLIENTS).await, upstream().await);
        answered_all_at_once(&redis, CALLERS, self.ask(CALLERS, redis.url(), &upstream)).await;
        assert_eq!(upstream.count(), CALLERS as u64);
    }

    async fn survives_broken_connections(&self) {
        let (redis, upstream) = (RedisServer::with_args(&DURABLE).await, upstream().await);
        let proxy = Proxy::before(redis.port()).await;
        let url = proxy.url();
        answered_in_spite_of_broken_connections(&redis, &proxy, self.ask(A_FEW, &url, &upstream)).await;
    }
}

/// The programs in Python: one that asks by threads, one by tasks of asyncio.
async fn python() -> Option<[Program; 2]> {
    let folder = install::python("examples/sdk/python").await?;
    add(&folder, "callers.py");
    let program = |typed| Program { folder: folder.clone(), typed };
    let programs: [&[&str]; 2] =
        [&["venv/bin/python", "callers.py", "threads"], &["venv/bin/python", "callers.py", "tasks"]];
    Some(programs.map(program))
}

async fn typescript() -> Option<Program> {
    let folder = install::node("examples/sdk/typescript").await?;
    add(&folder, "callers.ts");
    Some(Program { folder, typed: &["node_modules/.bin/tsx", "callers.ts"] })
}

fn add(folder: &Path, program: &str) {
    write(&folder.join(program), &text(&format!("tests/it/drop_in/{program}")));
}

#[tokio::test]
async fn five_hundred_callers_of_the_python_sdk_each_get_their_own_answer() {
    let Some(programs) = python().await else { return };
    for program in programs {
        program.holds_many_callers().await;
    }
}

#[tokio::test]
async fn callers_of_the_python_sdk_survive_broken_connections() {
    let Some([threads, tasks]) = python().await else { return };
    tokio::join!(threads.survives_broken_connections(), tasks.survives_broken_connections());
}

#[tokio::test]
async fn five_hundred_callers_of_the_typescript_sdk_each_get_their_own_answer() {
    let Some(program) = typescript().await else { return };
    program.holds_many_callers().await;
}

#[tokio::test]
async fn callers_of_the_typescript_sdk_survive_broken_connections() {
    let Some(program) = typescript().await else { return };
    program.survives_broken_connections().await;
}

/// As many requests at once, each of which must get its own answer.
async fn ask_all(service: Arc<Service>, callers: usize) {
    let mut asked = JoinSet::new();
    for caller in 0..callers {
        let service = service.clone();
        asked.spawn(async move {
            let body = json!({"caller": caller});
            let (status, result) = service.http("POST", "/ask", &body.to_string()).await.expect("the service answers");
            assert_eq!((status, &result), (200, &body), "{result}");
        });
    }
    asked.join_all().await;
}

async fn holds_callers(web: Web, callers: usize) {
    let (redis, upstream) = (RedisServer::with_args(&MAX_CLIENTS).await, upstream().await);
    let Some(service) = Service::start(web, redis.url(), &upstream.url("/")).await else { return };
    answered_all_at_once(&redis, callers, ask_all(Arc::new(service), callers)).await;
    assert_eq!(upstream.count(), callers as u64);
}

async fn survives_broken_connections(web: Web) {
    let (redis, upstream) = (RedisServer::with_args(&DURABLE).await, upstream().await);
    let proxy = Proxy::before(redis.port()).await;
    let Some(service) = Service::start(web, &proxy.url(), &upstream.url("/")).await else { return };
    answered_in_spite_of_broken_connections(&redis, &proxy, ask_all(Arc::new(service), A_FEW)).await;
}

#[tokio::test]
async fn a_thousand_callers_of_the_fastapi_service_each_get_their_own_answer() {
    holds_callers(Web::FastApi, WEB_CALLERS).await;
}

#[tokio::test]
async fn a_thousand_callers_of_the_express_service_each_get_their_own_answer() {
    holds_callers(Web::Express, WEB_CALLERS).await;
}

#[tokio::test]
async fn as_many_callers_of_the_sinatra_service_as_it_has_threads_each_get_their_own_answer() {
    holds_callers(Web::Sinatra, THREADED_CALLERS).await;
}

#[tokio::test]
async fn callers_of_the_fastapi_service_survive_broken_connections() {
    survives_broken_connections(Web::FastApi).await;
}

#[tokio::test]
async fn callers_of_the_express_service_survive_broken_connections() {
    survives_broken_connections(Web::Express).await;
}

/// Copies of the README's snippet run side by side, each with a text of its own.
#[tokio::test]
async fn the_python_snippet_of_the_readme_gets_the_answer_to_its_own_call() {
    let Some(folder) = install::python("examples/fastapi").await else { return };
    let (redis, upstream) = (RedisServer::start().await, upstream().await);
    let _worker = Worker::spawn(&redis);
    let readme = text("README.md");
    let (_, rest) = readme.split_once("```python\n").unwrap();
    let (snippet, _) = rest.split_once("```").unwrap();
    let mut running = JoinSet::new();
    for word in ["one", "two", "three", "four", "five"] {
        let edits = [
            ("redis.Redis(", format!("redis.Redis.from_url({:?}, ", redis.url())),
            ("https://api.example.com/v1/extract", upstream.url("/")),
            ("\"hi\"", format!("{word:?}")),
        ];
        let program = edits.iter().fold(snippet.to_owned(), |program, (piece, replacement)| {
            assert_eq!(program.matches(piece).count(), 1, "{piece} in {program}");
            program.replace(piece, replacement)
        });
        let mut python = Command::new(folder.join("venv/bin/python"));
        python.args(["-c", &program]);
        running.spawn(async move {
            let ended = run(&mut python).await.unwrap();
            assert_eq!(ended.stdout.trim(), format!("{{'text': '{word}'}}"), "{}", ended.stderr);
        });
    }
    running.join_all().await;
}
