//! Every fenced block in the README and the book is run or checked: commands by `documented.rs`, programs and settings here, and what can be
//! neither is listed with the reason.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use redial_tests::{Cli, GatewayProcess, RedisServer, Reply, Upstream, Worker};
use serde_json::{Value, json};
use tokio::process::Command;

use super::HOSTS;
use super::pages::{Block, blocks, root, text};
use crate::drop_in::install::{self, run};

/// Blocks that are not run, by page, language and what they contain.
const ONLY_SHOWN: [(&str, &str, &str, &str); 17] = [
    ("docs/architecture.md", "", "LPUSH --> waiting", "a drawing"),
    ("docs/batch.md", "json", "{{customer}}", "a template, which is JSON once it is filled in; `batch/` has it"),
    ("docs/deploy.md", "text", "", "commands for other machines; `deploy.rs` checks the files"),
    ("docs/events.md", "", "attempt_failed", "what a command prints"),
    ("docs/gateway.md", "python", "client = OpenAI(", "a line of `examples/gateway`, which `gateway/sdks.rs` runs"),
    ("docs/limits.md", "", "acme-daily (set)", "what a command prints"),
    ("docs/migration.md", "python", "@app.task", "what is replaced"),
    ("docs/migration.md", "typescript", "new Queue(", "what is replaced"),
    ("docs/migration.md", "typescript", "publishJSON", "what is replaced"),
    ("docs/migration.md", "ruby", "Sidekiq::Job", "what is replaced"),
    ("docs/migration.md", "ruby", "redis.lpush", "a line as in `producer.rb`, which `producers.rs` runs"),
    ("docs/operations.md", "text", "", "the output of a command"),
    (
        "docs/protocol.md",
        "text",
        "while next < partitions",
        "how a number is computed: `where_a_task_belongs_does_not_change`",
    ),
    ("docs/recipes.md", "json", "text-embedding-3-small", "the body of a line of a batch"),
    ("docs/sdk.md", "python", "redial={", "arguments, which the Python client's tests check"),
    ("docs/sdk.md", "typescript", "queue: \"critical\"", "arguments, which the TypeScript client's tests check"),
    ("docs/tutorial.md", "text", "", "commands in four terminals; `tutorial.rs` runs the programs"),
];

/// Folders with programs that tests run.
const PROGRAMS: [&str; 4] = ["examples/producers", "examples/recipes", "examples/sdk", "examples/tutorial"];
/// Pages whose programs are run as they stand.
const RUN: [&str; 3] = ["README.md", "docs/clients.md", "docs/migration.md"];
/// Settings that name certificates, which this machine lacks: `upstreams.rs` and `gateway/tls.rs` check those words.
const NAMES_CERTIFICATES: [&str; 2] = ["ca_file", "tls_certificate_file"];

fn is_only_shown(block: &Block) -> bool {
    ONLY_SHOWN.iter().any(|(page, language, part, _)| {
        block.page == *page && block.language == *language && block.text.contains(part)
    })
}

/// The lines of a program that mean something, without what they are indented by.
fn lines(program: &str) -> Vec<&str> {
    let is_comment = |line: &str| line.starts_with("# ") || line.starts_with("// ");
    program.lines().map(str::trim).filter(|line| !line.is_empty() && !is_comment(line)).collect()
}

/// Whether a program that tests run has the lines of the block, in their order.
fn is_of_a_program(block: &Block) -> bool {
    fn has(folder: &Path, shown: &[&str]) -> bool {
        std::fs::read_dir(folder).unwrap().flatten().any(|file| match file.path() {
            path if path.is_dir() => has(&path, shown),
            path => std::fs::read_to_string(path).is_ok_and(|program| {
                let mut rest = lines(&program).into_iter();
                shown.iter().all(|line| rest.any(|found| found == *line))
            }),
        })
    }
    PROGRAMS.iter().any(|folder| has(&root().join(folder), &lines(&block.text)))
}

fn is_run(block: &Block) -> bool {
    RUN.contains(&block.page.as_str()) && !is_only_shown(block)
}

#[test]
fn the_figures_of_the_readme_are_those_of_the_performance_page() {
    let (readme, performance) = (text("README.md"), text("docs/performance.md"));
    let (_, table) = readme.split_once("| measured on ").expect("the README has figures");
    let rows: Vec<&str> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 3);
    for row in rows {
        let figure = row.split('|').nth(1).unwrap().trim();
        assert!(performance.contains(figure), "docs/performance.md does not have {figure}");
    }
}

#[test]
fn every_block_is_run_checked_or_listed_with_a_reason() {
    let mut faults = Vec::new();
    for block in blocks(None) {
        let is_checked = match block.language.as_str() {
            "sh" | "toml" => true,
            "json" => is_only_shown(&block) || serde_json::from_str::<Value>(&block.text).is_ok(),
            "python" | "typescript" => is_only_shown(&block) || is_run(&block) || is_of_a_program(&block),
            _ => is_only_shown(&block) || is_of_a_program(&block),
        };
        if !is_checked {
            faults.push(format!("{}: {}", block.place(), block.language));
        }
    }
    assert!(faults.is_empty(), "neither run nor checked nor listed:\n{}", faults.join("\n"));
    let unused: BTreeSet<String> = ONLY_SHOWN
        .iter()
        .filter(|(page, language, part, _)| {
            !blocks(Some(language)).iter().any(|block| block.page == *page && block.text.contains(part))
        })
        .map(|(page, language, part, _)| format!("{page} {language} {part}"))
        .collect();
    assert!(unused.is_empty(), "listed, and not there: {unused:?}");
}

/// The names in `${NAME}`.
fn variables(text: &str) -> Vec<String> {
    text.split("${").skip(1).filter_map(|rest| rest.split('}').next()).map(str::to_owned).collect()
}

/// Settings as they stand, with secrets from the environment in place of files.
fn without_files(text: &str) -> String {
    let mut parts = text.split("${file:");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + "${SECRET}" + part.split_once('}').unwrap().1)
}

#[tokio::test]
async fn the_worker_takes_every_settings_block_of_the_docs() {
    let redis = RedisServer::start().await;
    let worker = Cli::new(&redis).program().with_file_name("redial-worker");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("redial.toml");
    let (mut faults, mut checked) = (Vec::new(), 0);
    for block in blocks(Some("toml")) {
        if NAMES_CERTIFICATES.iter().any(|word| block.text.contains(word)) {
            toml::from_str::<toml::Table>(&block.text).unwrap_or_else(|error| panic!("{}: {error}", block.place()));
            continue;
        }
        let text = without_files(&block.text);
        std::fs::write(&file, &text).unwrap();
        let mut check = Command::new(&worker);
        check.arg("--check-config").arg("--config").arg(&file).env("AWS_SECRET_ACCESS_KEY", "s");
        check.envs(variables(&text).into_iter().map(|name| (name, "a-secret")));
        let ended = run(&mut check).await.unwrap();
        checked += 1;
        if !ended.success {
            faults.push(format!("{}: {}{}", block.place(), ended.stdout, ended.stderr));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(checked > 15, "only {checked} blocks found: has the form of the pages changed?");
}

#[tokio::test]
async fn every_task_in_the_docs_is_one_that_redial_takes() {
    let redis = RedisServer::start().await;
    let (cli, mut faults, mut checked) = (Cli::new(&redis), Vec::new(), 0);
    for block in blocks(Some("json")).iter().filter(|block| !is_only_shown(block)) {
        let value: Value = serde_json::from_str(&block.text).unwrap();
        if value["url"].is_null() {
            continue;
        }
        checked += 1;
        let output = cli.run(&["enqueue", &block.text]).await;
        if output.status != 0 || output.stderr.contains("has no field") {
            faults.push(format!("{}: {}", block.place(), output.stderr));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(checked >= 10, "only {checked} tasks found: has the form of the pages changed?");
}

/// What the programs in the pages need: a worker, a gateway, and an upstream in place of the hosts that they name.
struct Stage {
    redis: RedisServer,
    upstream: Upstream,
    gateway: GatewayProcess,
    _worker: Worker,
}

impl Stage {
    async fn new() -> Self {
        let (redis, upstream) = (RedisServer::start().await, Upstream::start(|_| Reply::ok().json(&json!({}))).await);
        let gateway = GatewayProcess::start(redis.url(), "").await;
        let worker = Worker::spawn(&redis);
        Self { redis, upstream, gateway, _worker: worker }
    }

    fn fill_in(&self, program: &str) -> String {
        let hosts = HOSTS.iter().fold(program.to_owned(), |text, host| text.replace(host, &self.upstream.url("")));
        let url = self.redis.url();
        let local =
            hosts.replace("redis://127.0.0.1:6379", url).replace("http://127.0.0.1:8080", &self.gateway.url(""));
        local.replace("redis.Redis(", &format!("redis.Redis.from_url({url:?}, "))
    }

    async fn run(&self, block: &Block, mut program: Command) {
        let calls = self.upstream.count();
        let ended = run(program.env("REDIS_URL", self.redis.url())).await.unwrap();
        assert!(ended.success, "{}: {}{}", block.place(), ended.stdout, ended.stderr);
        assert!(self.upstream.count() > calls, "{}: made no call", block.place());
    }
}

#[tokio::test]
async fn every_python_program_in_the_docs_runs_as_it_stands() {
    let Some(folder) = install::python("examples/tutorial").await else { return };
    let (stage, mut ran) = (Stage::new().await, 0);
    for block in blocks(Some("python")).iter().filter(|block| is_run(block)) {
        let mut python = Command::new(folder.join("venv/bin/python"));
        python.args(["-c", &stage.fill_in(&block.text)]);
        stage.run(block, python).await;
        ran += 1;
    }
    assert!(ran >= 5, "only {ran} programs found");
}

#[tokio::test]
async fn every_typescript_program_in_the_docs_runs_as_it_stands() {
    let Some(folder) = install::node("examples/sdk/typescript").await else { return };
    let (stage, mut ran) = (Stage::new().await, 0);
    for block in blocks(Some("typescript")).iter().filter(|block| is_run(block)) {
        let file = folder.join(format!("block-{}.ts", block.line));
        install::write(&file, &stage.fill_in(&block.text));
        let mut tsx = Command::new(folder.join("node_modules/.bin/tsx"));
        tsx.arg(&file).current_dir(&folder);
        stage.run(block, tsx).await;
        ran += 1;
    }
    assert!(ran >= 4, "only {ran} programs found");
}

/// The settings of a recipe with its tasks.
struct Recipe {
    settings: String,
    tasks: Vec<Value>,
}

/// The recipes that have tasks, before an upstream in place of the vendors.
fn recipes(upstream: &Upstream) -> Vec<Recipe> {
    let mut recipes: Vec<Recipe> = Vec::new();
    for block in blocks(None).iter().filter(|block| block.page == "docs/recipes.md") {
        let text = block.text.split("https://").enumerate().fold(String::new(), |all, (n, part)| match n {
            0 => part.to_owned(),
            // Whatever host it was.
            _ => all + &upstream.url("") + &part[part.find('/').unwrap_or(0)..],
        });
        match block.language.as_str() {
            "toml" => recipes.push(Recipe { settings: text, tasks: Vec::new() }),
            "json" if !is_only_shown(block) => {
                recipes.last_mut().unwrap().tasks.push(serde_json::from_str(&text).unwrap());
            }
            _ => {}
        }
    }
    recipes.retain(|recipe| !recipe.tasks.is_empty());
    recipes
}

#[tokio::test]
async fn every_recipe_has_its_calls_made_with_its_credentials() {
    let upstream = Upstream::start(|request| {
        let has_key = request.headers.iter().any(|(_, value)| value.contains("a-secret"));
        let answer = json!({"choices": [{"index": 0}], "candidates": [{"content": {"parts": []}}], "usage": {"total_tokens": 9}});
        if has_key || request.route().starts_with("/hooks") { Reply::ok().json(&answer) } else { Reply::status(401) }
    })
    .await;
    let recipes = recipes(&upstream);
    assert_eq!(recipes.len(), 5, "has the form of the page changed?");
    for Recipe { settings, tasks } in recipes {
        let (redis, folder) = (RedisServer::start().await, tempfile::tempdir().unwrap());
        let file = folder.path().join("redial.toml");
        std::fs::write(&file, &settings).unwrap();
        let mut worker = Worker::builder(&redis).arg("--config").arg(file.to_str().unwrap());
        for name in variables(&settings) {
            worker = worker.env(&name, "a-secret");
        }
        let _worker = worker.spawn();
        for task in tasks {
            let cli = Cli::new(&redis);
            let output = cli.run(&["enqueue", &task.to_string(), "--wait=30"]).await;
            assert_eq!(output.status, 0, "{task}: {} {}", output.stdout, output.stderr);
        }
    }
}

#[tokio::test]
async fn the_programs_of_the_recipes_do_what_they_say() {
    let Some(folder) = install::python("examples/recipes").await else { return };
    let upstream = Upstream::start(|request| match (request.route(), request.nth) {
        ("/robots.txt", _) => Reply::ok().body("User-agent: *\nDisallow: /private\nCrawl-delay: 1\n"),
        ("/busy", 0) => Reply::status(503).header("retry-after", "1"),
        ("/gone", _) => Reply::status(410),
        _ => Reply::ok().body("page"),
    })
    .await;
    let redis = RedisServer::start().await;
    let _worker = Worker::spawn(&redis);
    let program = |file: &str, paths: &[&str]| {
        let mut python = Command::new(folder.join("venv/bin/python"));
        python.arg(file).args(paths.iter().map(|path| upstream.url(path))).current_dir(&folder);
        python.env("REDIS_URL", redis.url());
        python
    };
    let ended = run(&mut program("webhook.py", &["/busy"])).await.unwrap();
    assert_eq!(ended.stdout, "ok 200 2\n", "{}", ended.stderr);
    let calls = upstream.calls();
    assert!(calls.iter().all(|call| call.headers.get("x-event-id") == Some("evt_0")), "{calls:?}");
    assert!(calls[0].headers.get("x-signature-256").is_some_and(|signature| signature.starts_with("sha256=")));

    let ended = run(&mut program("crawl.py", &["/a", "/private/b", "/gone"])).await.unwrap();
    let mut lines: Vec<&str> = ended.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["200 /a 4", "410 /gone 0", "not allowed /private/b"], "{}", ended.stderr);
    let pages: Vec<_> = upstream.calls().into_iter().filter(|call| ["/a", "/gone"].contains(&call.route())).collect();
    let apart = pages[1].at - pages[0].at;
    assert!(pages.len() == 2 && apart >= Duration::from_millis(800), "{apart:?}");
    assert!(pages[0].headers.get("user-agent").is_some_and(|agent| agent.starts_with("example-crawler")));
}
