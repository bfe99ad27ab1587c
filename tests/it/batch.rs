//! `redial batch`: files of calls, interrupted and resumed.

mod bytes;
mod cases;
mod options;
mod progress;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redial_tests::{Cli, RedisServer, Reply, Upstream, Worker, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::promises::at_length;

const SOON: Duration = Duration::from_secs(20);

struct BatchFixture {
    redis: RedisServer,
    upstream: Upstream,
    _worker: Worker,
    folder: TempDir,
}

impl BatchFixture {
    async fn new(upstream: Upstream) -> Self {
        let redis = RedisServer::start().await;
        let worker = Worker::spawn(&redis);
        Self { redis, upstream, _worker: worker, folder: tempfile::tempdir().unwrap() }
    }

    /// With an input file of this many valid lines.
    async fn with_lines(count: usize) -> (Self, String) {
        let reply = |_: &redial_tests::Request| Reply::ok().json(&json!({"ok": true})).after(Duration::from_millis(20));
        let fixture = Self::new(Upstream::start(reply).await).await;
        let line = |n| format!("{{\"id\":\"n{n}\",\"url\":\"{}\"}}\n", fixture.upstream.url(&format!("/{n}")));
        let input = fixture.write("in", (0..count).map(line).collect::<String>());
        (fixture, input)
    }

    fn has_each_once(&self, count: usize) {
        let answers = lines(&self.path("out"));
        let seen: BTreeSet<&str> = answers.iter().map(|answer| answer["id"].as_str().unwrap()).collect();
        assert_eq!((answers.len(), seen.len()), (count, count));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    fn args<'a>(out: &'a Path, input: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["--json", "batch", input, "-o", out.to_str().unwrap()], more].concat()
    }

    async fn batch(&self, input: &str, more: &[&str]) -> redial_tests::cli::CommandOutput {
        let out = self.path("out");
        Cli::new(&self.redis).run(&Self::args(&out, input, more)).await
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_batch_killed_midway_finishes_each_line_once_and_repeats_no_finished_call() {
    let count = at_length(3_000, 100_000);
    let window = ["--window", at_length("500", "5000")];
    let (fixture, input) = BatchFixture::with_lines(count).await;
    for kill in 1..=5_u64 {
        // At the timeout the command is dropped, which kills it with SIGKILL.
        let before_kill = Duration::from_millis(at_length(150, 1_000) * kill);
        let run = tokio::time::timeout(before_kill, fixture.batch(&input, &window));
        if run.await.is_ok() {
            break;
        }
    }
    let output = fixture.batch(&input, &window).await;
    assert_eq!(output.status, 0, "{}", output.stderr);
    fixture.has_each_once(count);
    assert_eq!(fixture.upstream.count(), count as u64);
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("*batch*").query_async(&mut fixture.redis.connection().await).await.unwrap();
    // What it said of itself stays for a day.
    let others: Vec<&String> =
        keys.iter().filter(|key| !key.contains(":batch-progress:") && !key.ends_with(":batches")).collect();
    assert_eq!((others, keys.len()), (Vec::new(), 2), "{keys:?}");

    let again = fixture.batch(&input, &window).await;
    assert_eq!((again.status, fixture.upstream.count()), (0, count as u64));
    assert!(again.stderr.contains("finished before"), "{}", again.stderr);
}

#[tokio::test]
async fn an_openai_batch_file_is_answered_in_its_output_format() {
    let fixture = BatchFixture::new(Upstream::unruly().await).await;
    let line = |id: &str, url: &str| {
        json!({"custom_id": id, "method": "POST", "url": url, "body": {"model": "m"}}).to_string()
    };
    let nameless = json!({"method": "POST", "url": "/echo", "body": {}}).to_string();
    let file = [line("a", "/echo"), line("b", "/status/400"), line("c", "/garbage"), nameless, line("a", "/echo")];
    let file = file.join("\n");
    let input = fixture.write("in.jsonl", file);
    let base = fixture.upstream.url("");
    let errors = fixture.path("errors.jsonl");
    let errors_path = errors.to_str().unwrap();
    let retry = r#"{"max_attempts": 2, "base_ms": 1}"#;
    let options = ["--base-url", &base, "--errors", errors_path, "--retry", retry];
    let output = fixture.batch(&input, &options).await;
    assert_eq!(output.status, 4, "{}", output.stderr);
    let summary: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&summary["errors"], &summary["retries"]), (&json!(errors_path), &json!(1)));
    let (out, errors) = (lines(&fixture.path("out")), lines(&errors));
    let schema = json!({
        "type": "object", "required": ["id", "custom_id", "response", "error"], "additionalProperties": false,
        "properties": {
            "id": {"type": "string"}, "custom_id": {"type": ["string", "null"]},
            "response": {"type": ["object", "null"], "required": ["status_code", "request_id", "body"],
                "properties": {"status_code": {"type": "integer"}, "request_id": {"type": "string"}}},
            "error": {"type": ["object", "null"], "required": ["code", "message"],
                "properties": {"code": {"type": "string"}, "message": {"type": "string"}}}}});
    for line in out.iter().chain(&errors) {
        assert!(jsonschema::is_valid(&schema, line), "{line}");
    }
    assert_eq!((&out[0]["custom_id"], &out[0]["response"]["status_code"]), (&json!("a"), &json!(200)));
    assert_eq!(out[0]["response"]["body"]["body"], json!({"model": "m"}));
    let wrong: Vec<_> = errors.iter().filter(|line| line["error"]["code"] == "invalid_line").collect();
    let message = |n: usize| wrong[n]["error"]["message"].as_str().unwrap();
    assert_eq!((out.len(), wrong.len(), errors.len()), (1, 2, 4));
    assert!(message(0).starts_with("line 4: ") && message(0).contains("custom_id"), "{wrong:?}");
    assert!(message(1).starts_with("line 5: ") && message(1).contains("was used by line 1"), "{wrong:?}");
    let failed = |id: &str| errors.iter().find(|line| line["custom_id"] == id).unwrap();
    assert_eq!(failed("b")["response"]["status_code"], 400);
    assert_eq!((&failed("c")["response"], &failed("c")["error"]["code"]), (&Value::Null, &json!("attempts_exhausted")));
}

#[tokio::test]
async fn invalid_lines_are_reported_by_number_and_the_rest_are_processed_in_order() {
    let fixture = BatchFixture::new(Upstream::unruly().await).await;
    let task =
        |id: &str, ms: u32| format!("{{\"id\":\"{id}\",\"url\":\"{}\"}}", fixture.upstream.url(&format!("/slow/{ms}")));
    let long = format!("{{\"id\":\"long\",\"body\":\"{}\"}}", "x".repeat(2 << 20));
    let file = [task("a", 200), "junk".into(), String::new(), task("a", 1), long, task("b", 1)].join("\n");
    let input = fixture.write("in", file);
    let output = fixture.batch(&input, &["--ordered"]).await;
    assert_eq!(output.status, 4, "{}", output.stderr);
    let ids: Vec<Value> = lines(&fixture.path("out")).iter().map(|line| line["id"].clone()).collect();
    assert_eq!(ids, ["a", "b"]);
    let wrong = lines(&fixture.path("out.errors"));
    let numbers: Vec<&Value> = wrong.iter().map(|line| &line["line"]).collect();
    assert_eq!(numbers, [2, 4, 5]);
    assert!(wrong[1]["error"].as_str().unwrap().contains("was used"), "{}", wrong[1]);
    let summary: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&summary["ok"], &summary["bad"]), (&json!(2), &json!(3)));

    fixture.write("in", task("c", 1));
    let other = fixture.batch(&input, &["--ordered"]).await;
    assert_eq!(other.status, 1);
    assert!(other.stderr.contains("another input"), "{}", other.stderr);
}

#[tokio::test]
async fn each_csv_row_fills_the_template() {
    let fixture = BatchFixture::new(Upstream::unruly().await).await;
    let input = fixture.write("rows.csv", "name,n\n\"Ann \"\"A\"\"\nB\",7\nBob\nCy,x\n");
    let echo = fixture.upstream.url("/echo");
    let template =
        format!("{{\"id\":\"r-{{{{n}}}}\",\"url\":\"{echo}\",\"body\":{{\"who\":\"{{{{name}}}}\",\"n\":{{{{n}}}}}}}}");
    let template = fixture.write("task.json", template);
    let output = fixture.batch(&input, &["--template", &template, "--ordered"]).await;
    assert_eq!(output.status, 4, "{}", output.stderr);
    let bodies: Vec<Value> = lines(&fixture.path("out")).iter().map(|line| line["body"]["body"].clone()).collect();
    assert_eq!(bodies, [json!({"who": "Ann \"A\"\nB", "n": 7}), json!({"who": "Cy", "n": "x"})]);
    let wrong = lines(&fixture.path("out.errors"));
    assert_eq!((wrong.len(), &wrong[0]["line"]), (1, &json!(4)));
}

#[tokio::test]
async fn each_row_of_a_table_whose_lines_end_with_a_lone_cr_is_called() {
    let fixture = BatchFixture::new(Upstream::unruly().await).await;
    let input = fixture.write("rows.csv", "name,n\rAnn,1\rBob,2\r\nCy\rDan,4\n\nEve,5\r");
    let echo = fixture.upstream.url("/echo");
    let template = fixture.write("task.json", format!("{{\"url\":\"{echo}\",\"body\":{{\"n\":{{{{n}}}}}}}}"));
    let output = fixture.batch(&input, &["--template", &template, "--ordered"]).await;
    assert_eq!(output.status, 4, "{}", output.stderr);
    let bodies: Vec<Value> = lines(&fixture.path("out")).iter().map(|line| line["body"]["body"]["n"].clone()).collect();
    assert_eq!(bodies, [1, 2, 4, 5]);
    assert_eq!(lines(&fixture.path("out.errors"))[0]["line"], json!(4));
}

#[tokio::test]
async fn json_objects_fill_the_template_with_their_field_types_intact() {
    let fixture = BatchFixture::new(Upstream::unruly().await).await;
    let input = fixture.write("rows.jsonl", "{\"name\":\"Ann\",\"tags\":[1,{\"a\":null}]}\n[1]\n{\"name\":\"Bob\"}\n");
    let echo = fixture.upstream.url("/echo");
    let then =
        format!("{{\"id\":\"after-{{{{name}}}}\",\"url\":\"{echo}\",\"body\":{{\"of\":\"{{{{$.body.body.who}}}}\"}}}}");
    let template = format!(
        "{{\"id\":\"{{{{name}}}}\",\"url\":\"{echo}\",\"body\":{{\"who\":\"{{{{name}}}}\",\"tags\":{{{{tags}}}}}},\"then\":{then}}}"
    );
    let template = fixture.write("task.json", template);
    let output = fixture.batch(&input, &["--format", "jsonl", "--template", &template]).await;
    assert_eq!(output.status, 4, "{}", output.stderr);
    let out = lines(&fixture.path("out"));
    assert_eq!((out.len(), &out[0]["body"]["body"]), (1, &json!({"who": "Ann", "tags": [1, {"a": null}]})));
    let wrong = lines(&fixture.path("out.errors"));
    assert_eq!((&wrong[0]["line"], &wrong[1]["line"]), (&json!(2), &json!(3)));
    assert!(wrong[1]["error"].as_str().unwrap().contains("\"tags\""), "{}", wrong[1]);
    // A task that follows a line is not a line itself, so its result exists only on the queue.
    let then = redial_tests::TestQueue::new(&fixture.redis, "default").wait_result("after-Ann", SOON).await;
    assert_eq!(then["body"]["body"], json!({"of": "Ann"}));
}

#[tokio::test]
async fn ctrl_c_keeps_finished_lines_and_prints_how_to_resume() {
    const LINES: usize = 2_000;
    let (fixture, input) = BatchFixture::with_lines(LINES).await;
    let out = fixture.path("out");
    let args = BatchFixture::args(&out, &input, &["--window", "100"]);
    let child = Cli::new(&fixture.redis).start(&args);
    eventually(SOON, async || (fixture.upstream.count() > 150).then_some(())).await;
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let ended = tokio::time::timeout(Duration::from_secs(20), child.wait_with_output()).await.unwrap().unwrap();
    let output = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{output}");
    assert!(output.contains("run the same command again to resume"), "{output}");
    let finished = lines(&out).len();
    assert!(
        (1..LINES).contains(&finished) && output.contains(&format!("stopped: {finished} lines")),
        "{finished} {output}"
    );

    let output = fixture.batch(&input, &["--window", "100"]).await;
    assert_eq!(output.status, 0, "{}", output.stderr);
    fixture.has_each_once(LINES);
    assert_eq!(fixture.upstream.count(), LINES as u64);
}

#[tokio::test]
async fn a_batch_is_pushed_again_after_redis_loses_it() {
    const LINES: usize = 1_500;
    let (fixture, input) = BatchFixture::with_lines(LINES).await;
    let run = fixture.batch(&input, &["--window", "400"]);
    let lose = async {
        eventually(SOON, async || (fixture.upstream.count() > 200).then_some(())).await;
        let () = redis::cmd("FLUSHALL").query_async(&mut fixture.redis.connection().await).await.unwrap();
    };
    let (output, ()) = tokio::join!(run, lose);
    assert_eq!(output.status, 0, "{}", output.stderr);
    fixture.has_each_once(LINES);
}

#[tokio::test]
async fn batch_memory_stays_flat_for_any_file_length() {
    const LINES: usize = 100_000;
    let fixture = BatchFixture::new(Upstream::unruly().await).await;
    let input = fixture.write("in", "{\"url\":\"/no/host/in/this/one\"}\n".repeat(LINES));
    let (out, errors) = (fixture.path("out"), fixture.path("out.errors"));
    let peak = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB"));
        line.map_or(0, |kib| kib.trim().parse::<u64>().unwrap())
    };
    // Killed half-way, then run to the end: finished lines take no memory either.
    for is_killed in [true, false] {
        let mut child = Cli::new(&fixture.redis).start(&BatchFixture::args(&out, &input, &[]));
        let (pid, mut most) = (child.id().unwrap(), 0);
        let until = std::time::Instant::now() + Duration::from_secs(120);
        while child.try_wait().unwrap().is_none() {
            most = most.max(peak(pid));
            assert!(std::time::Instant::now() < until, "the command is still running");
            if is_killed && fs::metadata(&errors).is_ok_and(|file| file.len() > 5 << 20) {
                child.start_kill().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(most > 0 && most < 64 << 10, "{most} KiB at most");
    }
    let numbers: BTreeSet<u64> = lines(&errors).iter().map(|line| line["line"].as_u64().unwrap()).collect();
    assert_eq!((lines(&errors).len(), numbers.len()), (LINES, LINES));
}
