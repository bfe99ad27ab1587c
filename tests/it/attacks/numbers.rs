//! Every field that is a number, with numbers that it cannot be.

use super::attempt;

/// Fields of a task, and where they are.
const FIELDS: &[(&str, &str)] = &[
    ("timeout_ms", "{}"),
    ("connect_timeout_ms", "{}"),
    ("ttl_ms", "{}"),
    ("delay_ms", "{}"),
    ("cache_ttl_ms", "{}"),
    ("result_ttl_ms", "{}"),
    ("redirects", "{}"),
    ("retry", r#"{"max_attempts":N}"#),
    ("retry", r#"{"base_ms":N}"#),
    ("retry", r#"{"cap_ms":N}"#),
    ("limit", r#"{"name":"l","rate":1,"per_ms":N}"#),
    ("limit", r#"{"name":"l","concurrency":N}"#),
];

const WRONG: &[&str] =
    &["-1", "1e308", "18446744073709551616", "1.5", "\"5\"", "true", "[]", "{}", "1e-320", "99999999999999999999999"];

/// Numbers of limits that take fractions.
const LIMITS: &[&str] = &[
    r#"{"name":"l","rate":-1}"#,
    r#"{"name":"l","rate":0}"#,
    r#"{"name":"l","rate":1e308}"#,
    r#"{"name":"l","rate":1e-308}"#,
    r#"{"name":"l","rate":1,"burst":-1}"#,
    r#"{"name":"l","rate":1,"burst":0}"#,
    r#"{"name":"l","rate":1,"burst":1e308}"#,
    r#"{"name":"l","rate":1,"cost":-1}"#,
    r#"{"name":"l","rate":1,"cost":1e308}"#,
    r#"{"name":"l","rate":1,"per_ms":0}"#,
    r#"{"name":"l","concurrency":0}"#,
    r#"{"name":"","rate":1}"#,
    r#"{"name":"a{b}","rate":1}"#,
    r#"{"rate":1}"#,
    r#"{"name":5,"rate":1}"#,
    r#"{"name":"l","rate":"NaN"}"#,
    r#"{"name":"l","rate":null,"cost":1e300}"#,
];

#[tokio::test]
async fn no_number_breaks_a_worker_or_holds_a_slot() {
    let mut cases = Vec::new();
    for (field, form) in FIELDS {
        for number in WRONG {
            let value = if *form == "{}" { (*number).to_owned() } else { form.replace('N', number) };
            cases
                .push((format!(r#"{{"id":"ID","url":"http://127.0.0.1:PORT/ok","{field}":{value}}}"#), "invalid_task"));
        }
    }
    for limit in LIMITS {
        cases.push((format!(r#"{{"id":"ID","url":"http://127.0.0.1:PORT/ok","limit":{limit}}}"#), "invalid_task"));
    }
    for (field, value, expected) in [
        ("timeout_ms", "0", "invalid_task"),
        ("timeout_ms", "9007199254740993", "invalid_task"),
        ("run_at_ms", "18446744073709551615", "invalid_task"),
        ("expires_at_ms", "0", "expired"),
        ("expires_at_ms", "-1", "invalid_task"),
        ("run_at_ms", "0", "ok"),
        ("enqueued_at_ms", "0", "ok"),
        ("retry", r#"{"max_attempts":0}"#, "invalid_task"),
        ("retry", r#"{"max_attempts":1001}"#, "invalid_task"),
        ("redirects", "21", "invalid_task"),
        ("retry", r#"{"on":[99999]}"#, "invalid_task"),
        ("retry", r#"{"on":[-5]}"#, "invalid_task"),
        ("ttl_ms", "0", "expired"),
    ] {
        cases.push((format!(r#"{{"id":"ID","url":"http://127.0.0.1:PORT/ok","{field}":{value}}}"#), expected));
    }
    attempt(",127.0.0.0/8", cases).await;
}
