//! Answers that the gateway passes on while they arrive.

use std::time::Duration;

use redial_tests::{Reply, TestQueue, Upstream, eventually};
use serde_json::{Value, json};

use super::{FrontDoor, Headers, SOON, read_until};

const JSON: Headers = &[("content-type", "application/json")];
const ASK: &[u8] = br#"{"stream":true}"#;

fn event(n: usize) -> String {
    format!("data: {{\"n\":{n}}}\n\n")
}

/// An upstream that sends events, and holds each back for this long.
fn events(count: usize, pause: Duration) -> Reply {
    Reply::streamed((0..count).map(move |n| (pause, event(n)))).header("content-type", "text/event-stream")
}

#[tokio::test]
async fn a_streaming_request_is_answered_while_the_upstream_still_sends() {
    let upstream = Upstream::start(|_| {
        let first = [(Duration::ZERO, event(1)), (Duration::from_secs(3_600), event(2))];
        Reply::streamed(first).header("content-type", "text/event-stream").header("x-answer", "42")
    })
    .await;
    let door = FrontDoor::before(upstream, "").await;
    let _worker = door.worker();
    let mut socket = door.gateway.open("POST", "/u/api/chat", JSON, ASK).await.unwrap();
    let begun = read_until(&mut socket, "\"n\":1").await;
    assert!(
        begun.starts_with("HTTP/1.1 200") && begun.contains("x-answer: 42") && begun.contains("redial-id: "),
        "{begun}"
    );
}

#[tokio::test]
async fn every_event_arrives_once_and_in_order_and_the_result_holds_them_too() {
    let door = FrontDoor::before(Upstream::start(|_| events(200, Duration::from_millis(2))).await, "").await;
    let _worker = door.worker();
    let all: String = (0..200).map(event).collect();
    for headers in [JSON, &[("content-type", "application/json"), ("redial-on-break", "restart")]] {
        let answer = door.gateway.send("POST", "/u/api/chat", headers, ASK).await;
        assert_eq!((answer.status, answer.text() == all), (200, true), "{}", answer.text());
        let stored = TestQueue::new(&door.redis, "default").wait_result(answer.header("redial-id"), SOON).await;
        assert_eq!(stored["body_text"], all);
    }
    // One that wants the whole answer gets it so, and an answer without events streams as well.
    let whole = [("content-type", "application/json"), ("redial-stream", "false")];
    let answer = door.gateway.send("POST", "/u/api/chat", &whole, ASK).await;
    assert_eq!((answer.header("redial-attempts"), answer.text() == all), ("1", true));
}

#[tokio::test]
async fn what_fails_before_it_is_streamed_is_retried_or_comes_back_as_the_upstreams_own_error() {
    let upstream = Upstream::start(|request| match (request.route(), request.nth) {
        ("/refused", _) => Reply::status(401).json(&json!({"error": {"message": "who are you?"}})),
        (_, 0) => Reply::status(503),
        _ => events(3, Duration::ZERO),
    })
    .await;
    let door = FrontDoor::before(upstream, "retry = { max_attempts = 3, base_ms = 20 }\n").await;
    let _worker = door.worker();
    let answer = door.gateway.send("POST", "/u/api/chat", JSON, ASK).await;
    assert_eq!((answer.status, answer.text()), (200, (0..3).map(event).collect()));
    let answer = door.gateway.send("POST", "/u/api/refused", JSON, ASK).await;
    assert_eq!((answer.status, &answer.json()["error"]["message"]), (401, &json!("who are you?")));
    assert_eq!(answer.header("x-should-retry"), "false");
}

#[tokio::test]
async fn an_answer_that_breaks_off_ends_with_an_error_event_or_begins_again() {
    let upstream = Upstream::start(|request| {
        let is_whole = request.route() == "/heals" && request.nth > 0;
        if is_whole {
            return events(3, Duration::ZERO);
        }
        let pieces = ["data: {\"n\":0}\n\n", "data: {\"n\":"].map(|piece| (Duration::from_millis(50), piece));
        Reply::streamed(pieces).cut_off().header("content-type", "text/event-stream")
    })
    .await;
    let door = FrontDoor::before(upstream, "retry = { max_attempts = 3, base_ms = 20 }\n").await;
    let _worker = door.worker();
    let restart = [("content-type", "application/json"), ("redial-on-break", "restart")];
    let answer = door.gateway.send("POST", "/u/api/heals", &restart, ASK).await.text();
    let (before, after) = answer.split_once("event: redial.restart\n").expect("an event for the restart");
    assert_eq!(before, event(0), "the event that broke off is not passed on");
    assert!(after.ends_with(&(0..3).map(event).collect::<String>()), "{after}");

    let answer = door.gateway.send("POST", "/u/api/breaks", JSON, ASK).await.text();
    let (before, last) = answer.split_once("event: error\ndata: ").expect("an event for the error");
    let last: Value = serde_json::from_str(last.trim_end()).unwrap();
    assert_eq!(
        (before, &last["type"], &last["error"]["code"]),
        (event(0).as_str(), &json!("error"), &json!("outcome_unknown"))
    );
}

#[tokio::test]
async fn a_caller_that_goes_away_stops_the_call_if_it_said_so() {
    let door = FrontDoor::before(Upstream::start(|_| events(100_000, Duration::from_millis(20))).await, "").await;
    let _worker = door.worker();
    let headers = [("content-type", "application/json"), ("redial-on-disconnect", "cancel")];
    let mut socket = door.gateway.open("POST", "/u/api/chat", &headers, ASK).await.unwrap();
    let begun = read_until(&mut socket, "\"n\":2").await;
    let id = begun.lines().find_map(|line| line.strip_prefix("redial-id: ")).unwrap().trim().to_owned();
    drop(socket);
    let result = TestQueue::new(&door.redis, "default").wait_result(&id, SOON).await;
    assert_eq!(result["reason"], "cancelled");
}

#[tokio::test]
async fn readers_go_on_where_they_were_whatever_becomes_of_the_gateway() {
    let mut door = FrontDoor::before(Upstream::start(|_| events(150, Duration::from_millis(20))).await, "").await;
    let _worker = door.worker();
    let mut socket = door.gateway.open("POST", "/u/api/chat", JSON, ASK).await.unwrap();
    let begun = read_until(&mut socket, "\"n\":3").await;
    let id = begun.lines().find_map(|line| line.strip_prefix("redial-id: ")).unwrap().trim().to_owned();
    let path = format!("/v1/tasks/{id}/stream");
    let mut reader = door.gateway.open("GET", &path, &[], b"").await.unwrap();
    let seen = read_until(&mut reader, "\\\"n\\\":3").await;
    let last = seen.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().unwrap().to_owned();
    // An event whose end did not arrive is read again.
    let whole = &seen[..=seen.rfind("\n\n").unwrap()];
    let last = whole.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().unwrap_or(&last).to_owned();
    door.gateway.kill9();
    door.gateway.restart().await;
    let rest = door.gateway.send("GET", &path, &[("last-event-id", last.as_str())], b"").await;
    assert_eq!((rest.status, rest.header("content-type")), (200, "text/event-stream"));
    let rest = rest.text();
    let text = |events: &str| -> String {
        let data = events.split("\n\n").filter(|event| event.contains("event: data\n"));
        let data =
            data.filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ").map(str::to_owned)));
        data.map(|json| serde_json::from_str::<Value>(&json).unwrap()["text"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(text(whole) + &text(&rest), (0..150).map(event).collect::<String>());
    assert!(rest.trim_end().ends_with("event: end\ndata: {}"), "{rest}");
    // All of it, once more.
    let again = door.gateway.send("GET", &path, &[], b"").await.text();
    assert_eq!(text(&again), (0..150).map(event).collect::<String>());
    let missing = eventually(SOON, || async {
        let answer = door.gateway.send("GET", "/v1/tasks/nobody/stream", &[], b"").await;
        (answer.status == 404).then_some(answer)
    })
    .await;
    assert_eq!(missing.json()["code"], "unknown_task");
    let wrong = door.gateway.send("GET", &path, &[("last-event-id", "x")], b"").await;
    assert_eq!((wrong.status, wrong.json()["code"].as_str()), (400, Some("invalid_request")), "{}", wrong.text());
}
