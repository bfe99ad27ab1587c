//! What is no task, or one that is hard to read.

use serde_json::json;

use super::{attempt, with};

#[tokio::test]
async fn no_shape_of_a_task_stalls_a_worker() {
    let deep = |open: &str, close: &str, depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    let filters = format!("{{{{$[?({}1==1{})]}}}}", "(".repeat(500), ")".repeat(500));
    let mut cases: Vec<(String, &'static str)> = vec![
        (format!(r#"{{"id":"ID","url":"http://h/","body":{}}}"#, deep("[", "]", 5_000)), "invalid_task"),
        (format!(r#"{{"id":"ID","url":"http://h/","meta":{}}}"#, deep("{\"a\":", "}", 5_000)), "invalid_task"),
        (format!(r#"{{"id":"ID","url":"http://h/{}"}}"#, "a".repeat(20_000)), "invalid_task"),
        (
            format!(r#"{{"id":"ID","url":"http://{}.example/","retry":{{"max_attempts":1}}}}"#, "a.".repeat(5_000)),
            "invalid_task",
        ),
        (format!(r#"{{"id":"ID","url":"http://h/","body_text":"{}"}}"#, "a".repeat(2 << 20)), "too_large"),
        (r#"{"id":"ID","url":"http://h/","url":"http://i/"}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":["http://h/"]}"#.into(), "invalid_task"),
        (r#"{"id":"ID"}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":null}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","body":1,"body_text":"a"}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","body_base64":"not base64!"}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","form":{"a":{"b":1}}}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","parts":[]}"#.into(), "invalid_task"),
        (
            format!(
                r#"{{"id":"ID","url":"http://h/","parts":[{}]}}"#,
                vec![r#"{"name":"a","text":"b"}"#; 1_001].join(",")
            ),
            "invalid_task",
        ),
        (
            r#"{"id":"ID","url":"http://h/","parts":[{"name":"a","text":"b","type":"a/b\r\nX: y"}]}"#.into(),
            "invalid_task",
        ),
        (r#"{"id":"ID","url":"http://127.0.0.1:PORT/ok","parts":[{"name":"a\"\r\nX: y","text":"b"}]}"#.into(), "ok"),
        (
            r#"{"id":"ID","url":"http://127.0.0.1:PORT/ok","parts":[{"name":"a","filename":"\r\n\r\n","text":"b"}]}"#
                .into(),
            "ok",
        ),
        (r#"{"id":"ID","url":"http://h/","callback_of":"other"}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","callback_url":"file:///etc/passwd"}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","reply_to":"redial:{default}"}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","reply_to":"celery"}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","tenant":""}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","then":[]}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","then":{"url":"http://h/{{$"}}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","then":{"url":"http://h/","tenant":"b"}}"#.into(), "invalid_task"),
        (format!(r#"{{"id":"ID","url":"http://h/","then":{{"url":"{filters}"}}}}"#), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","ok_when":{"path":"$..*..*..*..*..*["}}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","effect":"twice"}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","cache_scope":"everyone"}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","retry":[]}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","retry":[3,null,null,null,null]}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","ok_when":[[200],"$.a"]}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","parts":[["a","b",null,null,null]]}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","limit":[["l",1,1,1000,1,1,null,null,null,null]]}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","headers":[]}"#.into(), "invalid_task"),
        (r#"{"id":"ID","url":"http://h/","headers":{"a":5}}"#.into(), "invalid_task"),
        (format!(r#"{{"id":"ID","url":"http://h/","cache_key":"{}"}}"#, "k".repeat(2_000)), "invalid_task"),
        (format!(r#"{{"id":"ID","url":"http://h/","idempotency_key":"{}"}}"#, "k".repeat(300)), "invalid_task"),
    ];
    let many: serde_json::Map<String, serde_json::Value> = (0..101).map(|n| (format!("x-{n}"), json!("v"))).collect();
    cases.push((with(&json!({"headers": many})), "invalid_task"));
    cases.push((with(&json!({"limit": vec!["a"; 9]})), "invalid_task"));
    cases.push((with(&json!({"__proto__": {"a": 1}, "constructor": 5, "of_a_later_version": [1]})), "ok"));
    attempt(",127.0.0.0/8", cases).await;
}
