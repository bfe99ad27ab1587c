//! Files as users have them (`cases/`): what the upstream receives for each, byte for byte, and what is written.

use redial_tests::{Request, Upstream};
use serde_json::{Value, json};

use super::{BatchFixture, lines};

/// Runs a batch over one of the files.
async fn run(file: &str, more: &[&str]) -> (BatchFixture, redial_tests::cli::CommandOutput) {
    let upstream = Upstream::start(|request| match request.route() {
        "/refuse" => redial_tests::Reply::status(400).json(&json!({"error": {"message": "no", "code": 400}})),
        _ => redial_tests::Reply::ok().json(&json!({"ok": true})),
    });
    let fixture = BatchFixture::new(upstream.await).await;
    let base = fixture.upstream.url("");
    let more: Vec<String> = more.iter().map(|option| option.replace("BASE", &base)).collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let output = fixture.batch(&case(file), &more).await;
    (fixture, output)
}

fn case(file: &str) -> String {
    format!("{}/it/batch/cases/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// The bodies that the upstream received, in any order.
fn sent(fixture: &BatchFixture) -> Vec<String> {
    let mut sent: Vec<String> = fixture.upstream.calls().iter().map(body).collect();
    sent.sort();
    sent
}

fn body(request: &Request) -> String {
    String::from_utf8(request.body.to_vec()).unwrap()
}

/// A field of every line of a file of answers.
fn each(fixture: &BatchFixture, file: &str, field: &str) -> Vec<Value> {
    lines(&fixture.path(file)).iter().map(|line| line[field].clone()).collect()
}

const BASE: [&str; 3] = ["--base-url", "BASE", "--ordered"];

#[tokio::test]
async fn a_template_keeps_every_cell_and_the_order_of_its_keys() {
    let text = std::fs::read_to_string(case("values.template.json")).unwrap();
    let upstream = Upstream::unruly().await;
    let fixture = BatchFixture::new(upstream).await;
    let template = fixture.write("template.json", text.replace("{{BASE}}", &fixture.upstream.url("")));
    let output = fixture.batch(&case("values.csv"), &["--template", &template, "--ordered"]).await;
    assert_eq!(output.status, 0, "{}", output.stderr);
    let values = [
        "1.10",
        "1e5",
        "007",
        "0.1000",
        "123456789012345678901234567890",
        "true",
        "-0",
        r#"a,\"b\""#,
        r"two\r\nlines",
        "",
    ];
    let mut expected: Vec<String> =
        values.iter().map(|value| format!(r#"{{"z":"{value}","a":"v is {value}","n":1}}"#)).collect();
    expected.sort();
    assert_eq!(sent(&fixture), expected);
    let ids: Vec<String> = (0..10).map(|n| format!("r{n}")).collect();
    assert_eq!(each(&fixture, "out", "id"), ids);
    assert_eq!(each(&fixture, "out", "line"), [2, 3, 4, 5, 6, 7, 8, 9, 10, 12]);
}

#[tokio::test]
async fn a_byte_order_mark_is_skipped() {
    let (fixture, output) = run("bom.jsonl", &BASE).await;
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert_eq!(sent(&fixture), [r#"{"n":1}"#, r#"{"n":2}"#]);
    assert_eq!(each(&fixture, "out", "custom_id"), ["b1", "b2"]);
    // In a table and its template as well.
    let input = fixture.write("rows.csv", "\u{feff}id,n\nx,1.0\n");
    let url = fixture.upstream.url("/table");
    let template =
        fixture.write("t.json", format!("\u{feff}{{\"url\":\"{url}\",\"body\":[\"{{{{id}}}}\",{{{{n}}}}]}}"));
    let out = fixture.path("table");
    let table = redial_tests::Cli::new(&fixture.redis);
    let table = table.run(&["batch", &input, "-o", out.to_str().unwrap(), "--template", &template]).await;
    assert_eq!(table.status, 0, "{}", table.stderr);
    assert_eq!(fixture.upstream.calls_to("/table").iter().map(body).collect::<Vec<_>>(), [r#"["x",1.0]"#]);
}

#[tokio::test]
async fn a_file_in_utf16_is_read_and_resumed_and_one_in_utf32_is_refused_before_anything_is_written() {
    let (fixture, output) = run("utf16.jsonl", &BASE).await;
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert_eq!(each(&fixture, "out", "custom_id"), ["u1"]);
    assert_eq!(sent(&fixture), ["{}"]);
    let (base, path) = (fixture.upstream.url(""), case("utf16.jsonl"));
    let again = fixture.batch(&path, &["--base-url", &base, "--ordered"]).await;
    assert!(again.status == 0 && again.stderr.contains("finished before"), "{}", again.stderr);
    assert_eq!(fixture.upstream.count(), 1);

    // The other byte order, without a mark, for a table and its template.
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
    let url = fixture.upstream.url("/table");
    let template =
        fixture.write("t.json", utf16(&format!("{{\"url\":\"{url}\",\"body\":[\"{{{{id}}}}\",\"{{{{n}}}}\"]}}")));
    let input = fixture.write("rows.csv", utf16("id,n\nx,größe 🦀\n"));
    let out = fixture.path("table");
    let table = redial_tests::Cli::new(&fixture.redis);
    let table = table.run(&["batch", &input, "-o", out.to_str().unwrap(), "--template", &template]).await;
    assert_eq!(table.status, 0, "{}", table.stderr);
    assert_eq!(fixture.upstream.calls_to("/table").iter().map(body).collect::<Vec<_>>(), [r#"["x","größe 🦀"]"#]);

    let utf32: Vec<u8> = "{}\n".chars().flat_map(|character| u32::from(character).to_be_bytes()).collect();
    let input = fixture.write("in", utf32);
    let out = fixture.path("utf32");
    let refused = redial_tests::Cli::new(&fixture.redis).run(&["batch", &input, "-o", out.to_str().unwrap()]).await;
    assert!(refused.status == 1 && refused.stderr.contains("iconv -f UTF-32BE"), "{}", refused.stderr);
    assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
    assert!(!out.exists() && !fixture.path("utf32.redial-state").exists());
}

#[tokio::test]
async fn blank_lines_are_skipped_and_counted() {
    let (fixture, output) = run("crlf-blank-noend.jsonl", &BASE).await;
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert_eq!(each(&fixture, "out", "custom_id"), ["c1", "c2"]);
    assert_eq!(sent(&fixture), ["{}", "{}"]);
    let text = std::fs::read_to_string(case("crlf-blank-noend.jsonl")).unwrap();
    let input = fixture.write("in", text + "\r\n\r\n\t\r\njunk");
    std::fs::remove_file(fixture.path("out.redial-state")).unwrap();
    std::fs::remove_file(fixture.path("out")).unwrap();
    std::fs::remove_file(fixture.path("out.errors")).unwrap();
    let base = fixture.upstream.url("");
    let output = fixture.batch(&input, &["--base-url", &base]).await;
    assert_eq!(output.status, 4, "{}", output.stderr);
    let errors = lines(&fixture.path("out.errors"));
    assert!(errors.len() == 1 && errors[0]["error"]["message"].as_str().unwrap().starts_with("line 7: "), "{errors:?}");
}

#[tokio::test]
async fn bodies_are_sent_exactly_as_they_stand() {
    let (fixture, output) = run("bytes.jsonl", &BASE).await;
    assert_eq!(output.status, 0, "{}", output.stderr);
    let expected = [
        r#"{"schema":{"zeta":1,"alpha":2,"mid":3}}"#,
        r#"{"z":1.10,"a":123456789012345678901234567890,"m":1e400,"s":"\ud83d\ude00","k":-0.0,"dup":1}"#,
    ];
    assert_eq!(sent(&fixture), expected);
}

#[tokio::test]
async fn no_line_of_a_batch_leaves_the_origin_of_its_base_url() {
    let options = [&BASE[..], &["-H", "Authorization: Bearer secret"]].concat();
    let (fixture, output) = run("hosts.jsonl", &options).await;
    assert_eq!(output.status, 4, "{}", output.stderr);
    let calls = fixture.upstream.calls();
    let called: Vec<_> = calls.iter().map(|call| (call.path.as_str(), call.headers.get("authorization"))).collect();
    assert_eq!(called, [("/x", Some("Bearer secret"))]);
    assert_eq!(each(&fixture, "out", "custom_id"), ["h5"]);
    assert_eq!(each(&fixture, "out.errors", "custom_id"), ["h1", "h2", "h3", "h4"]);
    for (at, line) in lines(&fixture.path("out.errors")).iter().enumerate() {
        let message = line["error"]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("line {}: `url`", at + 1)), "{message}");
    }
    // Below a path, `..` leaves the base although it stays at the origin; a query of the base belongs to every line.
    let below = ["/chat?a=1", "/../x", "/%2e%2e/x", "/..%2fx", "/\\evil/x", "/a\tb", "\t//evil/x", "/x#y", ""];
    let line = |(n, url): (usize, &&str)| json!({"custom_id": n.to_string(), "method": "POST", "url": url, "body": {}});
    let text: Vec<String> = below.iter().enumerate().map(|line_of| line(line_of).to_string()).collect();
    let input = fixture.write("in", text.join("\n"));
    let (out, base) = (fixture.path("below"), fixture.upstream.url("/openai/d?api-version=2024-10-21"));
    let output = redial_tests::Cli::new(&fixture.redis);
    let output = output.run(&["batch", &input, "-o", out.to_str().unwrap(), "--base-url", &base]).await;
    assert_eq!(output.status, 4, "{}", output.stderr);
    assert_eq!(lines(&fixture.path("below.errors")).len(), below.len() - 1);
    let last = fixture.upstream.calls().pop().unwrap();
    assert_eq!(last.path, "/openai/d/chat?api-version=2024-10-21&a=1");
    assert_eq!(fixture.upstream.count(), 2);
}

#[tokio::test]
async fn each_line_is_sent_whole_as_the_body_with_its_id_by_option() {
    let expected = [
        r#"{"model":"text-embedding-3-small","input":"0\n"}"#,
        r#"{"model":"text-embedding-3-small","input":"1\n","metadata":{"row_id":1}}"#,
    ];
    let to_path = ["--base-url", "BASE", "--url", "/v1/embeddings"];
    let to_url = ["--url", "BASE/v1/embeddings"];
    for (url, ids, last) in [(&to_path[..], "line", "2"), (&to_url[..], "metadata.row_id", "1")] {
        let (fixture, output) = run("cookbook.jsonl", &[url, &["--ordered", "--id", ids]].concat()).await;
        assert_eq!(output.status, 0, "{}", output.stderr);
        assert_eq!(sent(&fixture), expected);
        assert_eq!(fixture.upstream.calls_to("/v1/embeddings").len(), 2);
        assert_eq!(
            (each(&fixture, "out", "id")[1].as_str(), each(&fixture, "out", "line")),
            (Some(last), vec![json!(1), json!(2)])
        );
    }
}

#[tokio::test]
async fn anthropic_batches_are_read_and_answered_in_their_format() {
    let format = ["--format", "anthropic", "--base-url", "BASE", "-H", "anthropic-version: 2023-06-01"];
    let (fixture, output) = run("anthropic.json", &format).await;
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert_eq!(sent(&fixture), [r#"{"model":"m","max_tokens":8,"messages":[{"role":"user","content":"hi"}]}"#]);
    let calls = fixture.upstream.calls_to("/v1/messages");
    assert_eq!(calls[0].headers.get("anthropic-version"), Some("2023-06-01"));
    let expected = "{\"custom_id\":\"a1\",\"result\":{\"type\":\"succeeded\",\"message\":{\"ok\":true}}}\n";
    assert_eq!(std::fs::read_to_string(fixture.path("out")).unwrap(), expected);

    // Requests over several lines, and what fails: refused with an error, and without an id.
    let many = "{\"requests\": [\n {\"custom_id\":\"a\",\n  \"params\":{\"x\":1.10}},\n {\"params\":{}} ] }";
    let (input, out, url) = (fixture.write("in", many), fixture.path("failed"), fixture.upstream.url("/refuse"));
    let cli = redial_tests::Cli::new(&fixture.redis);
    let args = ["batch", &input, "-o", out.to_str().unwrap(), "--format", "anthropic", "--url", &url, "--ordered"];
    assert_eq!(cli.run(&args).await.status, 4);
    assert_eq!(body(&fixture.upstream.calls_to("/refuse")[0]), r#"{"x":1.10}"#);
    let errors = lines(&fixture.path("failed.errors"));
    let find = |id: &Value| errors.iter().find(|line| line["custom_id"] == *id).unwrap()["result"].clone();
    assert_eq!(find(&json!("a")), json!({"type": "errored", "error": {"error": {"message": "no", "code": 400}}}));
    let invalid = find(&Value::Null);
    assert_eq!(
        (&invalid["type"], &invalid["error"]["error"]["type"]),
        (&json!("errored"), &json!("invalid_request_error"))
    );
    assert_eq!(invalid["error"]["error"]["message"], "line 2: it has no `custom_id`");

    // One request a line, and an array that is cut off, which starts no calls.
    let input = fixture.write("in", "{\"custom_id\":\"l\",\"params\":{\"y\":1}}\n");
    let out = fixture.path("lines");
    let args = ["batch", &input, "-o", out.to_str().unwrap(), "--format", "anthropic", "--url", &url];
    assert_eq!(cli.run(&args).await.status, 4);
    assert_eq!(body(&fixture.upstream.calls_to("/refuse")[1]), r#"{"y":1}"#);
    let input = fixture.write("in", "{\"requests\":[{\"custom_id\":\"l\",\"params\":{}},{\"cus");
    let out = fixture.path("cut-off");
    let args = ["batch", &input, "-o", out.to_str().unwrap(), "--format", "anthropic", "--url", &url];
    let cut_off = cli.run(&args).await;
    assert!(cut_off.status == 1 && cut_off.stderr.contains("ends before its array"), "{}", cut_off.stderr);
    assert!(!out.exists() && fixture.upstream.calls_to("/refuse").len() == 2);
}

#[tokio::test]
async fn gemini_batches_are_read_and_answered_in_their_format() {
    let url = ["--base-url", "BASE", "--url", "/v1beta/models/m:generateContent"];
    let (fixture, output) = run("gemini.jsonl", &[&["--format", "gemini"], &url[..]].concat()).await;
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert_eq!(sent(&fixture), [r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#]);
    assert_eq!(fixture.upstream.calls_to("/v1beta/models/m:generateContent").len(), 1);
    let answer = std::fs::read_to_string(fixture.path("out")).unwrap();
    assert_eq!(answer, "{\"key\":\"g1\",\"response\":{\"ok\":true}}\n");
    let (out, refuse) = (fixture.path("failed"), fixture.upstream.url("/refuse"));
    let input = fixture.write("in", "{\"key\":\"g\",\"request\":{}}\n{\"key\":\"h\"}\n");
    let args = ["batch", &input, "-o", out.to_str().unwrap(), "--format", "gemini", "--url", &refuse];
    assert_eq!(redial_tests::Cli::new(&fixture.redis).run(&args).await.status, 4);
    let mut errors = lines(&fixture.path("failed.errors"));
    errors.sort_by_key(|line| line["key"].is_null());
    assert_eq!(errors[0], json!({"key": "g", "error": {"message": "no", "code": 400}}));
    assert_eq!((&errors[1]["error"]["code"], &errors[1]["error"]["status"]), (&json!(3), &json!("INVALID_ARGUMENT")));
}

#[tokio::test]
async fn of_two_lines_with_one_id_the_first_is_answered_and_the_second_names_both() {
    let (fixture, output) = run("duplicates.jsonl", &BASE).await;
    assert_eq!(output.status, 4, "{}", output.stderr);
    assert_eq!(sent(&fixture), [r#"{"n":1}"#]);
    assert_eq!(each(&fixture, "out", "custom_id"), ["d"]);
    let errors = lines(&fixture.path("out.errors"));
    let message = errors[0]["error"]["message"].as_str().unwrap();
    assert_eq!((errors.len(), message), (1, "line 2: the id \"d\" was used by line 1"));
}
