use http::header;

use super::*;

type Tested = Result<(), Box<dyn std::error::Error>>;

fn parse(json: &str) -> Result<Task, Box<TaskError>> {
    Task::parse(json.as_bytes(), MAX_BYTES)
}

fn refused(json: &str) -> String {
    match parse(json) {
        Ok(task) => format!("accepted: {task:?}"),
        Err(refusal) => format!("{}: {refusal}", refusal.reason().as_str()),
    }
}

#[test]
fn a_url_is_enough() -> Tested {
    let task = parse(r#"{"url":"https://api.example.com/v1"}"#)?;
    assert_eq!(task.method, Method::GET);
    assert_eq!(task.body, None);
    assert_eq!(task.timeout, Duration::from_secs(30));
    assert_eq!(task.connect_timeout, Duration::from_secs(5));
    assert_eq!(task.result_ttl, Duration::from_secs(3600));
    assert_eq!(task.effect, Effect::Idempotent);
    assert_eq!((task.retry.max_attempts, task.retry.jitter), (8, Jitter::Equal));
    assert_eq!(task.retry.base, Duration::from_secs(1));
    assert_eq!(task.retry.cap, Duration::from_secs(60));
    Ok(())
}

#[test]
fn a_json_body_is_sent_byte_for_byte() -> Tested {
    let task = parse(r#"{"url":"http://h/","body":{"n": 9007199254740993.10,  "ü":[]}}"#)?;
    assert_eq!(task.method, Method::POST);
    assert_eq!(task.body.as_deref(), Some(r#"{"n": 9007199254740993.10,  "ü":[]}"#.as_bytes()));
    assert_eq!(task.headers[header::CONTENT_TYPE], "application/json");
    Ok(())
}

#[test]
fn a_body_may_be_text_or_bytes_and_null_is_absent() -> Tested {
    let text = parse(r#"{"url":"http://h/","body":null,"body_text":"hü","id":null}"#)?;
    assert_eq!(text.body.as_deref(), Some("hü".as_bytes()));
    let bytes = parse(r#"{"url":"http://h/","body_base64":"/wA","headers":{"Content-Type":"image/x"}}"#)?;
    assert_eq!(bytes.body.as_deref(), Some(&[0xff, 0][..]));
    assert_eq!(bytes.headers[header::CONTENT_TYPE], "image/x");
    Ok(())
}

#[test]
fn an_invalid_task_is_refused_with_the_field_and_the_reason() {
    for (json, says) in [
        ("nonsense", "invalid_task: the task is not JSON"),
        ("", "invalid_task: the task is not JSON"),
        (r#"": "http://h/"}"#, "invalid_task: the task is not JSON"),
        (r#"{"url":"http://h/","retry":[3,null,null,null,null]}"#, "invalid_task: `retry`: invalid type: sequence"),
        (r#"{"url":"http://h/","ok_when":[[200],"$.a"]}"#, "invalid_task: `ok_when`: invalid type: sequence"),
        (
            r#"{"url":"http://h/","parts":[["a","b",null,null,null]]}"#,
            "invalid_task: `parts[0]`: invalid type: sequence",
        ),
        (r#"{"url":"http://h/","limit":[["l",1,1,1000,1,1,null,null,null,null]]}"#, "invalid_task: `limit`"),
        ("[1]", "invalid_task: the task is JSON but not an object"),
        (r#"{"url":"http://h/"} x"#, "invalid_task: the task is not one JSON object"),
        ("{}", "invalid_task: missing field `url`"),
        (r#"{"url":5}"#, "invalid_task: `url`: invalid type"),
        (r#"{"url":"http://h/","timeout_ms":"5"}"#, "invalid_task: `timeout_ms`: invalid type"),
        (r#"{"url":"http://h/","timeout_ms":0}"#, "invalid_task: `timeout_ms` is 0"),
        (r#"{"url":"http://h/","retry":{"base_ms":-1}}"#, "invalid_task: `retry.base_ms`"),
        (r#"{"url":"http://h/","retry":{"jitter":"some"}}"#, "invalid_task: `retry.jitter`: unknown variant"),
        (r#"{"url":"http://h/","retry":{"max_attempts":0}}"#, "invalid_task: `retry.max_attempts` is 0"),
        (r#"{"url":"http://h/","retry":{"on":[99]}}"#, "invalid_task: `retry.on` contains 99"),
        (r#"{"url":"/v1"}"#, "invalid_task: `url` relative URL"),
        (r#"{"url":"http://"}"#, "invalid_task: `url` empty host"),
        (r#"{"url":"file:///etc/passwd"}"#, "invalid_task: `url` has the scheme"),
        (r#"{"url":"http://h/","method":"FETCH"}"#, "invalid_task: `method` \"FETCH\" is unknown"),
        (r#"{"url":"http://h/","headers":{"X":"a\r\nB: c"}}"#, "invalid_task: `headers` \"X\" has a value"),
        (r#"{"url":"http://h/","headers":{"X\n":"a"}}"#, "invalid_task: `headers` \"X\\n\" is not a valid header name"),
        (r#"{"url":"http://h/","headers":{"Host":"i"}}"#, "invalid_task: `headers` \"Host\" belongs"),
        (r#"{"url":"http://h/","body":1,"body_text":"1"}"#, "invalid_task: more than one of"),
        (r#"{"url":"http://h/","body_base64":"?"}"#, "invalid_task: `body_base64` cannot be decoded"),
        (r#"{"url":"http://h/","effect":"twice"}"#, "invalid_task: `effect`: unknown variant"),
        (r#"{"url":"http://h/","idempotency_key":"a\nb"}"#, "invalid_task: `idempotency_key`"),
        (r#"{"url":"http://h/","cache_key":""}"#, "invalid_task: `cache_key`"),
        (r#"{"url":"http://h/","cache_scope":"all"}"#, "invalid_task: `cache_scope`"),
        (r#"{"url":"http://h/","stream":"yes"}"#, "invalid_task: `stream`: invalid type"),
        (r#"{"url":"http://h/","on_break":"retry"}"#, "invalid_task: `on_break`: unknown variant"),
        (r#"{"url":"http://h/","limit":5}"#, "invalid_task: `limit`"),
        (r#"{"url":"http://h/","limit":{"name":"a","rate":0}}"#, "invalid_task: `limit` \"a\" has a `rate`"),
        (
            r#"{"url":"http://h/","limit":{"name":"a","rate":1e-308}}"#,
            "invalid_task: `limit` \"a\" has a `rate` that is out of range",
        ),
        (
            r#"{"url":"http://h/","limit":{"name":"a","cost":1e308}}"#,
            "invalid_task: `limit` \"a\" has a `cost` that is out of range",
        ),
        (
            r#"{"url":"http://h/","limit":{"name":"a","rate":1,"per_ms":18446744073709551615}}"#,
            "invalid_task: `limit` \"a\" has a `per_ms` that is out of range",
        ),
        (
            r#"{"url":"http://h/","limit":{"name":"a","concurrency":4000000000}}"#,
            "invalid_task: `limit` \"a\" has a `concurrency` that is out of range",
        ),
        (
            r#"{"url":"http://h/","limit":{"name":"a","rate":1,"burst":1e12}}"#,
            "invalid_task: `limit` \"a\" takes more than 2 years to refill its `burst`",
        ),
        (
            r#"{"url":"http://h/","limit":{"name":"a","rate":1e-9}}"#,
            "invalid_task: `limit` \"a\" takes more than 2 years to refill its `rate`",
        ),
        (
            r#"{"url":"http://h/","limit":{"name":"a","usage":{}}}"#,
            "invalid_task: `limit` \"a\" has a `usage` with 0 paths",
        ),
        (
            r#"{"url":"http://h/","limit":{"name":"a","usage":{"x":-1}}}"#,
            "invalid_task: `limit` \"a\" has a `usage` with a weight",
        ),
        (r#"{"url":"http://h/","callback_url":"x"}"#, "invalid_task: `callback_url`"),
        (r#"{"url":"http://h/","reply_to":""}"#, "invalid_task: `reply_to` is empty"),
        (
            r#"{"url":"http://h/","reply_to":"redial:{default}"}"#,
            "invalid_task: `reply_to` names a key of Redial's own",
        ),
        (r#"{"url":"http://h/","id":""}"#, "invalid_task: `id` is empty"),
    ] {
        let refusal = refused(json);
        assert!(refusal.starts_with(says), "{json}: {refusal}");
    }
}

#[test]
fn text_that_would_break_a_json_parser_is_refused() {
    let deep = format!(r#"{{"url":"http://h/","body":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    assert!(refused(&deep).contains("nests deeper"));
    let not_utf8 = Task::parse(b"{\"url\":\"http://h/\xff\"}", MAX_BYTES);
    assert!(not_utf8.is_err_and(|refusal| refusal.to_string().contains("not UTF-8: byte 17")));
}

#[test]
fn an_invalid_task_still_gives_its_id_where_it_can_be_read() {
    let id_of = |json: &[u8], max| Task::parse(json, max).err().and_then(|refusal| refusal.return_address.id);
    let named = TaskId::new("a").ok();
    assert_eq!(id_of(br#"{"id":"a","url":5}"#, MAX_BYTES), named);
    assert_eq!(id_of(br#"{"url":5,"x":[[1]],"id":"a"}"#, MAX_BYTES), named);
    assert_eq!(id_of(br#"{"id":"a","url":"http://h/"}"#, 5), named);
    assert_eq!(id_of(br#"{"id":"a","url""#, MAX_BYTES), None);
    assert_eq!(id_of(br#"{"id":7,"url":5}"#, MAX_BYTES), None);
}

#[test]
fn unknown_fields_are_named() -> Tested {
    let task =
        parse(r#"{"url":"http://h/","colour":1,"retry":{"x":{}},"limit":["a",{"name":"b","rate":0.5,"later":1}]}"#)?;
    assert_eq!(task.unknown, ["colour", "retry.x"]);
    Ok(())
}

#[test]
fn an_answer_is_streamed_only_on_request_and_fails_when_it_breaks_off() -> Tested {
    let plain = parse(r#"{"url":"http://h/"}"#)?;
    assert_eq!((plain.stream, plain.on_break), (false, OnBreak::Fail));
    let streamed = parse(r#"{"url":"http://h/","stream":true,"on_break":"restart"}"#)?;
    assert_eq!((streamed.stream, streamed.on_break), (true, OnBreak::Restart));
    assert!(streamed.unknown.is_empty());
    Ok(())
}

#[test]
fn spans_count_from_the_push_when_its_time_is_known() -> Tested {
    let seen = UnixMs(1_000);
    let task = parse(r#"{"url":"http://h/","ttl_ms":50,"expires_at_ms":2000,"delay_ms":5}"#)?;
    assert_eq!(task.deadline(seen), Some(UnixMs(1_050)));
    assert_eq!(task.not_before(seen), Some(UnixMs(1_005)));
    let task = parse(r#"{"url":"http://h/","ttl_ms":50,"enqueued_at_ms":900,"run_at_ms":3000,"delay_ms":5}"#)?;
    assert_eq!(task.deadline(seen), Some(UnixMs(950)));
    assert_eq!(task.not_before(seen), Some(UnixMs(3_000)));
    Ok(())
}
