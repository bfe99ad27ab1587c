//! Responses that are judged by more than their status.

use redial_core::protocol::task::{Condition, RawCondition};

use super::super::judge::{Criteria, Judgement};
use super::{ANY, headers, outcome_judged, preset, put};
use crate::http::types::{Redirection, Response};

/// The conditions, the status, the content type and the body of a response, and what follows.
type ConditionRow = (&'static str, &'static str, u16, &'static str, &'static str, &'static str);

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream; charset=utf-8";
const ERROR_EVENT: &str = "event: message_start\ndata: {\"n\":1}\n\nevent: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";

#[rustfmt::skip]
const ROWS: &[ConditionRow] = &[
    // Without conditions, the status decides.
    ("", "", 200, JSON, r#"{"error":{"code":1}}"#, "complete"),
    ("", "", 200, "text/html", "<html>Maintenance</html>", "complete"),
    ("", "", 500, JSON, r#"{"ok":true}"#, "retry"),

    // `ok_when` by path.
    (r#"{"path":"$.choices[0]"}"#, "", 200, JSON, r#"{"choices":[{}]}"#, "rejected"),
    (r#"{"path":"$.choices[0]"}"#, "", 200, JSON, r#"{"choices":[{"text":"hi"}]}"#, "complete"),
    (r#"{"path":"$.choices[0]"}"#, "", 200, JSON, "\u{feff}{\"choices\":[1]}", "complete"),
    (r#"{"path":"$.choices[0]"}"#, "", 200, "text/plain", r#"{"choices":[1]}"#, "complete"),
    (r#"{"path":"$.choices[0]"}"#, "", 200, JSON, r#"{"choices":[]}"#, "rejected"),
    (r#"{"path":"$.ok"}"#, "", 200, JSON, r#"{"ok":false,"error":"not_in_channel"}"#, "rejected"),
    (r#"{"path":"$.ok"}"#, "", 200, "text/html", "<html>Maintenance</html>", "retry"),
    (r#"{"path":"$.ok"}"#, "", 200, JSON, "", "retry"),
    (r#"{"path":"$.ok"}"#, "", 200, JSON, r#"{"ok":tr"#, "retry"),
    (r#"{"path":"$.ok"}"#, "", 404, JSON, r#"{"ok":true}"#, "rejected"),
    (r#"{"path":"$.ok"}"#, "", 503, JSON, r#"{"ok":true}"#, "retry"),
    (r#"{"path":"$[?$.state == 'done']"}"#, "", 200, JSON, r#"{"state":"done"}"#, "complete"),
    (r#"{"path":"$[?$.state == 'done']"}"#, "", 200, JSON, r#"{"state":"running"}"#, "rejected"),

    // `ok_when` by status.
    (r#"{"status":[200,404]}"#, "", 404, JSON, "{}", "complete"),
    (r#"{"status":[200,404]}"#, "", 200, "text/html", "<html>", "complete"),
    (r#"{"status":[200,404]}"#, "", 204, "", "", "rejected"),
    (r#"{"status":[200,404]}"#, "", 410, "", "", "rejected"),
    (r#"{"status":[200,404]}"#, "", 502, "", "", "retry"),
    (r#"{"status":[404],"path":"$.code"}"#, "", 404, JSON, r#"{"code":"no_such_user"}"#, "complete"),
    (r#"{"status":[404],"path":"$.code"}"#, "", 404, "text/html", "<html>", "rejected"),

    // `retry_when`, which comes first.
    ("", r#"{"path":"$.error"}"#, 200, JSON, r#"{"error":{"message":"overloaded"}}"#, "retry"),
    ("", r#"{"path":"$.error"}"#, 200, JSON, r#"{"error":null,"id":1}"#, "complete"),
    ("", r#"{"path":"$.error"}"#, 200, "text/html", "<html>", "complete"),
    ("", r#"{"path":"$.error"}"#, 400, JSON, r#"{"error":{"message":"invalid"}}"#, "rejected"),
    ("", r#"{"status":[400],"path":"$.error"}"#, 400, JSON, r#"{"error":{"message":"busy"}}"#, "retry"),
    ("", r#"{"status":[404]}"#, 404, "", "", "retry"),
    ("", r#"{"status":[404]}"#, 200, "", "", "complete"),
    ("", r#"{"status":[]}"#, 200, "", "", "complete"),
    ("", r#"{"path":"$.error"}"#, 200, JSON, r#"{"error":{"code":"insufficient_quota"}}"#, "rejected"),
    (r#"{"path":"$.data"}"#, r#"{"path":"$.error"}"#, 200, JSON, r#"{"data":1,"error":2}"#, "retry"),
    (r#"{"path":"$.data"}"#, r#"{"path":"$.error"}"#, 200, JSON, r#"{"data":1}"#, "complete"),
    (r#"{"path":"$.data"}"#, r#"{"path":"$.error"}"#, 200, JSON, "{}", "rejected"),

    // Streams of events.
    ("", "", 200, EVENTS, "data: {\"n\":1}\n\ndata: [DONE]\n\n", "complete"),
    ("", "", 200, EVENTS, ERROR_EVENT, "retry"),
    ("", "", 200, "Text/Event-Stream", "event:error\r\ndata:oh no\r\n\r\n", "retry"),
    ("", "", 200, EVENTS, "event: error", "retry"),
    ("", "", 200, EVENTS, "data: {\"n\":1}\n\ndata: {\"error\":{\"message\":\"busy\"}}\n\n", "retry"),
    ("", "", 200, EVENTS, "data: {\"error\":{\"code\":\"insufficient_quota\"}}\n\n", "rejected"),
    ("", "", 200, EVENTS, "data: {\"error\":null}\n\n", "complete"),
    ("", "", 200, EVENTS, ": event: error\ndata: event: error\n\n", "complete"),
    ("", "", 200, "text/plain", ERROR_EVENT, "complete"),
    (r#"{"path":"$.choices[0].finish_reason"}"#, "", 200, EVENTS,
        "data: {\"choices\":[{\"finish_reason\":null}]}\n\ndata: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n", "complete"),
    (r#"{"path":"$.choices[0].finish_reason"}"#, "", 200, EVENTS, "data: {\"choices\":[{\"finish_reason\":null}]}\n\n", "rejected"),
    ("", r#"{"path":"$.busy"}"#, 200, EVENTS, "data: {\"a\":1}\ndata:\n\ndata: {\n\ndata: {\"busy\":\ndata: true}\n\n", "retry"),
];

fn condition(text: &str, field: &'static str) -> Option<Condition> {
    let raw: Option<RawCondition> = serde_json::from_str(if text.is_empty() { "null" } else { text }).unwrap();
    raw.map(|raw| raw.check(field).unwrap())
}

#[test]
fn a_response_is_judged_by_its_conditions_and_by_the_errors_in_it() {
    let mut faults = Vec::new();
    for (ok, retry, status, content_type, body, expected) in ROWS {
        let headers =
            headers(&if content_type.is_empty() { String::new() } else { format!("content-type: {content_type}") });
        let response =
            Response { status: *status, headers, body: body.as_bytes().to_vec(), redirection: Redirection::default() };
        let (ok_when, retry_when) = (condition(ok, "ok_when"), condition(retry, "retry_when"));
        let judgement = Criteria::new(ok_when.as_ref(), retry_when.as_ref(), preset(ANY)).judge(&response);
        let found = put(&outcome_judged(&response, &judgement, preset(ANY)));
        if found != *expected {
            faults.push(format!(
                "{status} {body} with {ok} {retry}\n    means {found:?}, expected {expected:?}: {judgement:?}"
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_condition_of_the_task_replaces_that_of_its_upstream() {
    let response = |body: &str| Response {
        status: 200,
        headers: headers("content-type: application/json"),
        body: body.as_bytes().to_vec(),
        redirection: Redirection::default(),
    };
    let upstream = preset("openrouter.ai");
    let failed = response(r#"{"error":{"code":502}}"#);
    assert!(matches!(Criteria::new(None, None, upstream).judge(&failed), Judgement::Retry { .. }));
    let never = condition(r#"{"status":[]}"#, "retry_when");
    assert_eq!(Criteria::new(None, never.as_ref(), upstream).judge(&failed), Judgement::ByStatus);
}

#[test]
fn the_reason_quotes_what_was_found_in_few_words() {
    let retry = condition(r#"{"path":"$.error"}"#, "retry_when");
    let body = format!(r#"{{"error":"{}"}}"#, "x".repeat(100_000));
    let response =
        Response { status: 200, headers: headers(""), body: body.into_bytes(), redirection: Redirection::default() };
    let Judgement::Retry { why, .. } = Criteria::new(None, retry.as_ref(), preset(ANY)).judge(&response) else {
        panic!("the condition holds");
    };
    assert!(why.starts_with("retry_when holds: $.error: {\"error\":\"xxx") && why.len() < 300, "{why}");
}
