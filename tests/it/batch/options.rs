//! The options of a batch: what every line gets, running what failed again, standard input and output, and early refusal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redial_tests::{Cli, Reply, Upstream};
use serde_json::{Value, json};

use super::{BatchFixture, lines};

/// An upstream that refuses /bad until the switch is set.
async fn with_switch() -> (BatchFixture, Arc<AtomicBool>) {
    let is_good = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_good);
    let upstream = Upstream::start(move |request| match request.route() {
        "/bad" | "/bad-too" if !switch.load(Ordering::SeqCst) => Reply::status(400),
        _ => Reply::ok().json(&json!({"ok": true})),
    });
    (BatchFixture::new(upstream.await).await, is_good)
}

fn ids(path: &std::path::Path) -> Vec<String> {
    let mut ids: Vec<String> = lines(path).iter().map(|line| line["id"].as_str().unwrap_or("-").to_owned()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn retry_failed_runs_only_what_failed() {
    let (fixture, is_good) = with_switch().await;
    let line = |id: &str, path: &str| format!("{{\"id\":\"{id}\",\"url\":\"{}\"}}\n", fixture.upstream.url(path));
    let text =
        [line("a", "/good"), line("b", "/bad"), "junk\n".into(), line("c", "/bad-too"), line("d", "/good")].concat();
    let input = fixture.write("in", text);
    let early = fixture.batch(&input, &["--retry-failed"]).await;
    assert!(early.status == 1 && early.stderr.contains("belongs to no batch"), "{}", early.stderr);
    assert!(!fixture.path("out").exists());

    assert_eq!(fixture.batch(&input, &[]).await.status, 4);
    assert_eq!(ids(&fixture.path("out.errors")), ["-", "b", "c"]);
    assert_eq!(fixture.batch(&input, &["--retry-failed"]).await.status, 4);
    assert_eq!(
        (ids(&fixture.path("out.errors")), fixture.upstream.count()),
        (vec!["-".into(), "b".into(), "c".into()], 6)
    );

    is_good.store(true, Ordering::SeqCst);
    let output = fixture.batch(&input, &["--retry-failed"]).await;
    assert_eq!(output.status, 4, "{}", output.stderr);
    let totals: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&totals["ok"], &totals["failed"], &totals["bad"]), (&json!(4), &json!(0), &json!(1)));
    assert_eq!(
        (ids(&fixture.path("out")), ids(&fixture.path("out.errors"))),
        (["a", "b", "c", "d"].map(str::to_owned).to_vec(), vec!["-".into()])
    );
    assert_eq!(fixture.upstream.count(), 8);
    // Without the option, a finished batch stays finished.
    let again = fixture.batch(&input, &[]).await;
    assert!(again.status == 4 && again.stderr.contains("finished before"), "{}", again.stderr);
    assert_eq!(fixture.upstream.count(), 8);
}

#[tokio::test]
async fn a_round_of_failed_lines_resumes_after_a_kill() {
    const LINES: usize = 400;
    let upstream = Upstream::start(|request| match request.nth {
        0..400 => Reply::status(400),
        _ => Reply::ok().json(&json!({"ok": true})).after(Duration::from_millis(20)),
    });
    let fixture = BatchFixture::new(upstream.await).await;
    let line = |n| format!("{{\"id\":\"n{n}\",\"url\":\"{}\"}}\n", fixture.upstream.url("/"));
    let input = fixture.write("in", (0..LINES).map(line).collect::<String>());
    assert_eq!(fixture.batch(&input, &[]).await.status, 4);
    let options = ["--retry-failed", "--window", "40"];
    let killed = async {
        super::eventually(super::SOON, async || (fixture.upstream.count() > 500).then_some(())).await;
    };
    tokio::select! {
        output = fixture.batch(&input, &options) => panic!("finished too soon: {}", output.stderr),
        () = killed => {}
    }
    // It goes on with the same round, not with another one.
    let output = fixture.batch(&input, &options).await;
    assert_eq!(output.status, 0, "{}", output.stderr);
    fixture.has_each_once(LINES);
    assert_eq!(fixture.upstream.count(), 2 * LINES as u64);
    assert_eq!(std::fs::metadata(fixture.path("out.errors")).unwrap().len(), 0);
}

#[tokio::test]
async fn timeout_and_retry_apply_to_lines_that_set_none() {
    let upstream = Upstream::start(|_| Reply::status(503));
    let fixture = BatchFixture::new(upstream.await).await;
    let url = |path: &str| fixture.upstream.url(path);
    let own = json!({"id": "own", "url": url("/own"), "retry": {"max_attempts": 2, "base_ms": 1}});
    let input = fixture.write("in", format!("{}\n{own}\n", json!({"id": "none", "url": url("/none"), "retry": null})));
    let output = fixture.batch(&input, &["--retry", r#"{"max_attempts": 3, "base_ms": 1}"#]).await;
    assert_eq!(output.status, 4, "{}", output.stderr);
    assert_eq!((fixture.upstream.calls_to("/none").len(), fixture.upstream.calls_to("/own").len()), (3, 2));

    let fixture = BatchFixture::new(Upstream::unruly().await).await;
    let line = json!({"custom_id": "t", "method": "POST", "url": "/hang", "body": {}}).to_string();
    let (input, base) = (fixture.write("in", line), fixture.upstream.url(""));
    let output = fixture.batch(&input, &["--base-url", &base, "--timeout", "1", "--retry", "1"]).await;
    assert_eq!((output.status, fixture.upstream.count()), (4, 1), "{}", output.stderr);
    let errors = lines(&fixture.path("out.errors"));
    assert!(errors[0]["error"]["message"].as_str().unwrap().contains("no answer within timeout_ms"), "{}", errors[0]);
}

#[tokio::test]
async fn a_batch_reads_standard_input_and_writes_standard_output() {
    let (fixture, is_good) = with_switch().await;
    let line = |id: &str, path: &str| format!("{{\"id\":\"{id}\",\"url\":\"{}\"}}\n", fixture.upstream.url(path));
    let text = [line("a", "/good"), line("b", "/bad")].concat();
    let cli = Cli::new(&fixture.redis);
    let output = cli.run_with_input(&["batch", "-", "-o", "-"], &text).await;
    assert_eq!(output.status, 4, "{}", output.stderr);
    let mut found: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    found.sort_by_key(|line| line["line"].as_u64());
    let found: Vec<_> = found.iter().map(|line| (line["id"].as_str(), line["status"].as_str())).collect();
    assert_eq!(found, [(Some("a"), Some("ok")), (Some("b"), Some("dead"))]);
    assert!(output.stderr.contains("1 lines answered, 1 failed"), "{}", output.stderr);

    // Failed lines go to their own file if there is one.
    let errors = fixture.path("failed");
    let args = ["batch", "-", "-o", "-", "--errors", errors.to_str().unwrap()];
    let output = cli.run_with_input(&args, &text).await;
    assert_eq!((output.stdout.lines().count(), ids(&errors)), (1, vec!["b".to_owned()]));
    assert!(output.stderr.contains(errors.to_str().unwrap()), "{}", output.stderr);

    // Into a file, the same input resumes or runs again what failed; another input does not.
    let out = fixture.path("out");
    let args = ["batch", "-", "-o", out.to_str().unwrap(), "--retry-failed"];
    assert_eq!(cli.run_with_input(&args[..4], &text).await.status, 4);
    let calls = fixture.upstream.count();
    is_good.store(true, Ordering::SeqCst);
    assert_eq!(cli.run_with_input(&args, &text).await.status, 0);
    assert_eq!((ids(&out), fixture.upstream.count() - calls), (vec!["a".into(), "b".into()], 1));
    let other = cli.run_with_input(&args, line("c", "/good")).await;
    assert!(other.status == 1 && other.stderr.contains("another input"), "{}", other.stderr);
    let hidden: Vec<_> =
        std::fs::read_dir(fixture.folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(hidden.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{hidden:?}");
}

#[tokio::test]
async fn wrong_options_are_refused_before_anything_is_written() {
    let fixture = BatchFixture::new(Upstream::unruly().await).await;
    let input = fixture.write("in", "{\"url\":\"http://h\"}\n");
    let table = fixture.write("in.csv", "a,b\n1,2\n");
    let template = fixture.write("template.json", "{\"url\":\"http://h/{{c}}\"}");
    let broken = fixture.write("broken.json", "{\"url\":{{c}}");
    let base = ["--base-url", "https://api.openai.com"];
    for (input, options, says) in [
        (&input, &["--base-url", "api.openai.com"][..], "--base-url"),
        (&input, &["--format", "openai"], "--base-url"),
        (&input, &["--format", "body", "--base-url", base[1]], "--url"),
        (&input, &["--format", "gemini", "--base-url", base[1]], "--url"),
        (&input, &["--base-url", base[1], "--url", "//evil.invalid/x"], "--url"),
        (&input, &["--base-url", base[1], "-H", "a: b\u{1}"], "--header"),
        (&input, &["--base-url", base[1], "-H", "Host: x"], "Host"),
        (&input, &["-H", "A: b"], "--header"),
        (&input, &["--retry", "0"], "max_attempts"),
        (&input, &["--retry", "{\"attempts\":3}"], "retry.attempts"),
        (&input, &["--retry", "often"], "--retry"),
        (&table, &[], "--template"),
        (&table, &["--template", &template], "\"c\""),
        (&table, &["--template", &broken], "not JSON"),
        (&input, &["--errors", &input], "used twice"),
    ] {
        let output = fixture.batch(input, options).await;
        assert_eq!(output.status, 1, "{options:?} {}", output.stderr);
        assert!(output.stderr.contains(says), "{options:?} {}", output.stderr);
        let written = ["out", "out.errors", "out.redial-state", "out.redial-done"];
        assert!(written.iter().all(|name| !fixture.path(name).exists()), "{options:?} has written files");
    }
    assert_eq!(fixture.upstream.count(), 0);
}

#[tokio::test]
async fn optional_columns_and_the_whole_row_fill_a_template() {
    let (fixture, _) = with_switch().await;
    let input = fixture.write("in.csv", "id,n,note\nx,1.50,\ny,007,\"a \"\"b\"\"\"\n");
    let url = fixture.upstream.url("/t");
    let body = r#"{"z":{{note?}},"a":"[{{note?}}{{absent?}}]","row":{{*}},"text":"{{*}}"}"#;
    let template = fixture.write("t.json", format!("{{\"url\":\"{url}\",\"body\":{body}}}"));
    let output = fixture.batch(&input, &["--template", &template]).await;
    assert_eq!(output.status, 0, "{}", output.stderr);
    let mut sent: Vec<String> =
        fixture.upstream.calls().iter().map(|call| String::from_utf8(call.body.to_vec()).unwrap()).collect();
    sent.sort();
    let expected = [
        r#"{"z":"a \"b\"","a":"[a \"b\"]","row":{"id":"y","n":"007","note":"a \"b\""},"text":"{\"id\":\"y\",\"n\":\"007\",\"note\":\"a \\\"b\\\"\"}"}"#,
        r#"{"z":null,"a":"[]","row":{"id":"x","n":1.50,"note":""},"text":"{\"id\":\"x\",\"n\":1.50,\"note\":\"\"}"}"#,
    ];
    assert_eq!(sent, expected);
    assert_eq!(ids(&fixture.path("out")), ["x", "y"]);
}

#[tokio::test]
async fn ok_when_and_retry_when_hold_for_lines_that_do_not_say_it() {
    let upstream = Upstream::start(|request| match (request.route(), request.json()["busy"].as_bool()) {
        ("/busy", _) if request.nth < 2 => Reply::ok().json(&json!({"error": {"message": "busy"}})),
        ("/empty", _) => Reply::ok().json(&json!({"data": []})),
        _ => Reply::ok().json(&json!({"data": [1]})),
    });
    let fixture = BatchFixture::new(upstream.await).await;
    let line = |id: &str, path: &str, more: &str| {
        format!("{{\"id\":\"{id}\",\"url\":\"{}\",\"retry\":{{\"base_ms\":10}}{more}}}\n", fixture.upstream.url(path))
    };
    let text = [
        line("busy", "/busy", ""),
        line("empty", "/empty", ""),
        line("good", "/good", ""),
        line("own", "/empty", ",\"ok_when\":{\"status\":[200]}"),
    ];
    let input = fixture.write("in", text.concat());
    for (option, given, says) in [
        ("--ok-when", "data", "not a JSONPath"),
        ("--ok-when", "{}", "neither `status` nor `path`"),
        ("--retry-when", "{\"pfad\": \"$.a\"}", "neither `status` nor `path`"),
        ("--retry-when", "{", "use a JSONPath"),
    ] {
        let refused = fixture.batch(&input, &[option, given]).await;
        assert!(refused.status == 1 && refused.stderr.contains(says), "{option} {given}: {}", refused.stderr);
        assert!(!fixture.path("out").exists() && !fixture.path("out.redial-state").exists());
    }
    let options = ["--ok-when", "$.data[0]", "--retry-when", "{\"path\": \"$.error\"}"];
    let output = fixture.batch(&input, &options).await;
    assert_eq!(output.status, 4, "{}", output.stderr);
    assert_eq!(ids(&fixture.path("out")), ["busy", "good", "own"]);
    let failed = lines(&fixture.path("out.errors"));
    assert_eq!((failed.len(), &failed[0]["id"], &failed[0]["reason"]), (1, &json!("empty"), &json!("rejected")));
}

#[tokio::test]
async fn links_beside_the_output_are_not_followed_and_what_is_written_is_for_its_user_only() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let (fixture, _) = with_switch().await;
    let input = fixture.write("in", format!("{{\"url\":\"{}\"}}\n", fixture.upstream.url("/good")));
    let victim = std::path::PathBuf::from(fixture.write("victim", "precious"));
    // Someone else who may write to the folder expects what the batch is about to write.
    for (link, target, says) in [
        ("out.redial-done", victim.clone(), "it is a link"),
        ("out.errors", fixture.path("nowhere"), "it is a link"),
        ("out", fixture.path("nowhere"), "it is a link"),
    ] {
        symlink(&target, fixture.path(link)).unwrap();
        let output = fixture.batch(&input, &[]).await;
        assert!(output.status == 1 && output.stderr.contains(says), "{link}: {}", output.stderr);
        for file in [link, "out.redial-state", "out.redial-done"] {
            let _ = std::fs::remove_file(fixture.path(file));
        }
        let _ = std::fs::remove_file(fixture.path("out"));
    }
    symlink(&victim, fixture.path("out.redial-state.new")).unwrap();
    let output = fixture.batch(&input, &[]).await;
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    assert!(!fixture.path("nowhere").exists());
    for file in ["out", "out.redial-state"] {
        assert_eq!(std::fs::metadata(fixture.path(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
}
