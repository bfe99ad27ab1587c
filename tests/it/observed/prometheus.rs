//! The alerts and the dashboard that Redial ships: `promtool` accepts them, and a real Prometheus that scrapes a fleet evaluates all of
//! their queries, which name only metrics that exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use redial_tests::process::Process;
use redial_tests::wait::within;
use redial_tests::{Port, Upstream, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::metrics::documented;
use super::{Fleet, SOON};

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

fn promtool(arguments: &[&str], file: &str) {
    let output = Command::new("promtool").args(arguments).arg(shipped(file)).output();
    let output = output.expect("`make prometheus` installs promtool");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?} {file}: {said}");
}

#[test]
fn promtool_accepts_the_configuration_and_the_alerts_and_their_tests_pass() {
    promtool(&["check", "config"], "prometheus/prometheus.yml");
    promtool(&["check", "rules"], "prometheus/alerts.yml");
    promtool(&["test", "rules"], "prometheus/alerts.test.yml");
}

/// The names and the expressions of the alerts.
fn alerts() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(shipped("prometheus/alerts.yml")).unwrap();
    let (mut all, mut lines): (Vec<(String, String)>, _) = (Vec::new(), text.lines().peekable());
    while let Some(line) = lines.next() {
        if let Some(name) = line.trim().strip_prefix("- alert: ") {
            all.push((name.to_owned(), String::new()));
        } else if let Some(start) = line.trim().strip_prefix("expr: ") {
            let mut whole = start.trim_start_matches(">-").to_owned();
            // What is indented further belongs to it.
            while let Some(more) = lines.next_if(|line| line.starts_with("          ")) {
                whole = format!("{whole} {}", more.trim());
            }
            all.last_mut().unwrap().1 = whole;
        }
    }
    all
}

/// The titles and the queries of the panels, with values for the variables.
fn panels() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(shipped("grafana/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let title = panel["title"].as_str().unwrap().to_owned();
        targets.into_iter().map(move |target| (title.clone(), target["expr"].as_str().unwrap().to_owned()))
    });
    queries.map(|(title, query)| (title, query.replace("$queue", ".*").replace("$__rate_interval", "1m"))).collect()
}

/// The metrics that an expression names.
fn named(expression: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !is_part(c)).filter(|word| word.starts_with("redial_"));
    words.map(|word| PARTS.iter().find_map(|part| word.strip_suffix(part)).unwrap_or(word).to_owned()).collect()
}

/// What else a histogram has besides its name.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];

#[test]
fn every_alert_is_in_the_runbook_and_the_other_way_round() {
    let page = std::fs::read_to_string(shipped("../docs/runbook.md")).unwrap();
    let sections: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("## Redial")).collect();
    let alerts = alerts();
    let names: BTreeSet<&str> = alerts.iter().filter_map(|(name, _)| name.strip_prefix("Redial")).collect();
    assert_eq!(sections, names);
    let rules = std::fs::read_to_string(shipped("prometheus/alerts.yml")).unwrap();
    for name in names {
        assert!(rules.contains(&format!("docs/runbook.md#redial{}\n", name.to_lowercase())), "{name}");
    }
    assert!(alerts.iter().all(|(_, expression)| !expression.is_empty()), "{alerts:?}");
}

/// A Prometheus that scrapes a fleet.
struct Prometheus {
    process: Process,
    port: Port,
    folder: TempDir,
}

impl Prometheus {
    fn start(targets: &[(&str, u16)]) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), Port::claim());
        let jobs = targets.iter().map(|(job, port)| {
            format!("  - job_name: {job}\n    static_configs:\n      - targets: [\"127.0.0.1:{port}\"]\n")
        });
        let rules = shipped("prometheus/alerts.yml").canonicalize().unwrap();
        let settings = format!(
            "global: {{ scrape_interval: 500ms, evaluation_interval: 500ms }}\nrule_files: [\"{}\"]\nscrape_configs:\n{}",
            rules.display(),
            jobs.collect::<String>()
        );
        std::fs::write(folder.path().join("prometheus.yml"), settings).unwrap();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()))
            .arg("--enable-feature=exemplar-storage")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap());
        Self { process: Process::spawn(command), port, folder }
    }

    async fn ask(&self, path: &str, parameter: &str, value: &str) -> Option<Value> {
        assert!(self.process.is_running(), "{}", std::fs::read_to_string(self.folder.path().join("log")).unwrap());
        let body = format!("{parameter}={}", encoded(value));
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut socket = TcpStream::connect(("127.0.0.1", self.port.number())).await.ok()?;
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8(answer).ok()?;
        // The body may be in chunks, whose sizes stand on lines of their own.
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(&body[body.find('{')?..=body.rfind('}')?]).ok()
    }

    /// What a query returns now; panics if it is not a query.
    async fn query(&self, expression: &str) -> Vec<Value> {
        let asked = || async { self.ask("/api/v1/query", "query", expression).await };
        let answer = within(SOON, asked).await.unwrap_or_else(|| panic!("no answer to {expression}"));
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }
}

fn encoded(text: &str) -> String {
    let encode = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(encode).collect()
}

#[tokio::test]
async fn a_real_prometheus_evaluates_every_alert_and_finds_data_for_every_panel() {
    let collector = Upstream::start(|_| redial_tests::Reply::ok()).await;
    let settings = format!(
        "[traces]\nendpoint = \"{}\"\n[[limit]]\nname = \"tokens\"\nrate = 600\nunit = \"tokens\"\ncost = 5\n[[limit]]\nname = \"one\"\nconcurrency = 1\n",
        collector.url("")
    );
    let fleet = Fleet::new(&settings).await;
    let (worker, gateway) = (fleet.worker().env("REDIAL_BREAKER_CALLS", "5").spawn(), fleet.gateway().await);
    worker.wait_ready().await;
    let prometheus = Prometheus::start(&[("redial-worker", worker.metrics_port()), ("redial-gateway", gateway.port())]);
    let up = || async { (prometheus.query("sum(up)").await.first()?["value"][1] == "2").then_some(()) };
    eventually(SOON, up).await;

    // Those of the docs are there: other tests look.
    let exist = documented();
    let (alerts, panels) = (alerts(), panels());
    assert!(alerts.len() >= 15 && panels.len() >= 20, "{} alerts, {} queries", alerts.len(), panels.len());
    for (name, expression) in alerts.iter().chain(&panels) {
        let unknown: Vec<String> = named(expression).into_iter().filter(|metric| !exist.contains(metric)).collect();
        assert!(unknown.is_empty(), "{name} asks for {unknown:?}");
    }
    for (name, expression) in &alerts {
        prometheus.query(expression).await;
        assert!(!name.is_empty());
    }

    // Every kind of thing goes on while Prometheus looks: a panel without data is a panel that asks for something else.
    let refused = Port::claim();
    let mut empty: Vec<(String, String)> = panels;
    for round in 0..60 {
        let id = |what: &str| format!("{what}-{round}");
        let tasks = [
            fleet.task(&id("ok"), "/", json!({"limit": "tokens"})),
            fleet.task(&id("cached"), "/same", json!({"cache_ttl_ms": 60_000})),
            fleet.task(&id("limited"), "/slow/3000", json!({"limit": "one"})),
            fleet.task(&id("dead"), "/status/404", json!({})),
            fleet.task(&id("retried"), "/status/503", json!({"retry": {"max_attempts": 2, "base_ms": 20}})),
            fleet.task(&id("limited-by-it"), "/status/429", json!({"retry": {"max_attempts": 2, "base_ms": 20}})),
            json!({"id": id("gone"), "url": format!("http://127.0.0.1:{}/", refused.number())}),
        ];
        fleet.queue.push_all(tasks.iter().map(Value::to_string)).await;
        gateway.send("GET", &format!("/u/api/{round}"), &[], b"").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut still = Vec::new();
        for (title, expression) in empty {
            if prometheus.query(&expression).await.is_empty() {
                still.push((title, expression));
            }
        }
        empty = still;
        if empty.is_empty() {
            break;
        }
    }
    assert!(empty.is_empty(), "no data for {empty:#?}");

    // The alert about it fires when a worker is gone: at once here, where it need not last.
    worker.kill9();
    let down = || async {
        let pending = prometheus.query("ALERTS{alertname=\"RedialWorkerDown\"}").await;
        (!pending.is_empty()).then_some(())
    };
    eventually(SOON, down).await;
}
