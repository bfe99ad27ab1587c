//! settle.lua: a lead ends.

use redial_core::script::memo::{Settle, SettleRequest};

use super::Desk;
use super::lead::{ASK, Ask};

const ANSWER: &str = "{\"status\":\"ok\"}";

fn call(serial: &str, token: &str, answer: &str, ttl_ms: u64) -> SettleRequest {
    let (memo, serial, token) = ("memo".into(), serial.into(), token.into());
    SettleRequest { memo, serial, token, answer: answer.into(), ttl_ms, is_good: true }
}

async fn settle(desk: &Desk, request: &SettleRequest) -> String {
    settle_all(desk, std::slice::from_ref(request)).await.remove(0)
}

async fn settle_all(desk: &Desk, requests: &[SettleRequest]) -> Vec<String> {
    let replies = desk.run_raw::<Vec<Vec<String>>>(&Settle { requests }).await;
    replies.into_iter().map(|words| words.join(" ")).collect()
}

/// It must answer that another one leads, and change nothing.
async fn loses(desk: &Desk, call: &SettleRequest) {
    let before = desk.dump().await;
    assert_eq!(settle(desk, call).await, "lost");
    assert_eq!(desk.dump().await, before);
}

async fn led_desk(followers: &[&str]) -> Desk {
    let desk = Desk::new().await;
    ASK.of(&desk).await;
    for queue in followers {
        Ask { mode: "recheck", serial: "s2", token: "t2", queue, ..ASK }.of(&desk).await;
    }
    desk
}

#[tokio::test]
async fn an_answer_is_kept_for_its_time_and_the_queues_that_wait_are_named() {
    let desk = led_desk(&["q", "mail"]).await;
    let before = desk.now().await;
    assert_eq!(settle(&desk, &call("s1", "t1", ANSWER, 50_000)).await, "settled q mail");
    let (stored_at, expires_at): (u64, u64) = desk.ask(("HMGET", "memo", "stored_at", "expires_at")).await;
    assert!((before..before + 5_000).contains(&stored_at) && expires_at == stored_at + 50_000);
    let rest: Vec<Option<String>> = desk
        .ask(("HMGET", "memo", "answer", "is_good", "stored_by", "leader", "leader_token", "leads_until", "leads_once"))
        .await;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(rest, [text(ANSWER), text("1"), text("s1"), None, None, None, None]);
    let left: i64 = desk.ask(("PTTL", "memo")).await;
    assert!((1..=50_000).contains(&left), "{left}");
}

#[tokio::test]
async fn sent_twice_it_tells_what_stands_and_who_waits() {
    let desk = led_desk(&["q"]).await;
    let again = call("s1", "t1", ANSWER, 50_000);
    settle(&desk, &again).await;
    let before = desk.dump().await;
    assert_eq!(settle(&desk, &again).await, format!("kept {ANSWER} s1 q"));
    assert_eq!(settle(&desk, &call("s1", "t1", "other", 1)).await, format!("kept {ANSWER} s1 q"));
    assert_eq!(desk.dump().await, before);
}

#[tokio::test]
async fn without_an_answer_the_memo_is_gone_unless_someone_waits() {
    let desk = led_desk(&[]).await;
    assert_eq!(settle(&desk, &call("s1", "t1", "", 0)).await, "settled");
    assert!(desk.dump().await.is_empty());
    loses(&desk, &call("s1", "t1", "", 0)).await;

    let desk = led_desk(&["q"]).await;
    assert_eq!(settle(&desk, &call("s1", "t1", "", 0)).await, "settled q");
    assert_eq!(Ask { serial: "s2", ..ASK }.of(&desk).await, "lead");
}

#[tokio::test]
async fn an_answer_that_stands_outlives_a_leader_that_has_none() {
    let desk = led_desk(&[]).await;
    settle(&desk, &call("s1", "t1", ANSWER, 50_000)).await;
    assert_eq!(Ask { serial: "s2", token: "t2", max_age: 0, ..ASK }.of(&desk).await, "lead");
    assert_eq!(settle(&desk, &call("s2", "t2", "", 0)).await, "settled");
    assert_eq!(Ask { serial: "s3", ..ASK }.of(&desk).await, format!("answer {ANSWER} s1"));
}

#[tokio::test]
async fn a_task_that_does_not_lead_settles_nothing() {
    let desk = led_desk(&["q"]).await;
    for (serial, token) in [("s2", "t1"), ("s1", "t0"), ("s2", "t2")] {
        loses(&desk, &call(serial, token, ANSWER, 50_000)).await;
    }
    // An older delivery of the leader itself.
    Ask { token: "t9", ..ASK }.of(&desk).await;
    loses(&desk, &call("s1", "t1", ANSWER, 50_000)).await;
    assert_eq!(settle(&desk, &call("s1", "t9", "the first", 50_000)).await, "settled q");
    // One that lost the lead long ago learns what stands.
    assert_eq!(settle(&desk, &call("s0", "t0", ANSWER, 50_000)).await, "kept the first s1 q");
    let () = desk.ask(("HSET", "memo", "expires_at", 1)).await;
    loses(&desk, &call("s0", "t0", ANSWER, 50_000)).await;
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "memo", "x")).await;
    desk.refuses(&Settle { requests: &[call("s1", "t1", ANSWER, 1)] }).await;
}

#[tokio::test]
async fn many_leads_end_at_once_and_a_broken_memo_stops_no_other() {
    let desk = led_desk(&["q"]).await;
    let () = desk.ask(("SET", "broken", "x")).await;
    let of = |memo: &str, answer: &str| SettleRequest { memo: memo.into(), ..call("s1", "t1", answer, 50_000) };
    let requests = [of("broken", ANSWER), of("memo", ANSWER), of("other", ANSWER), of("memo", "second")];
    let replies = settle_all(&desk, &requests).await;
    assert_eq!(replies, ["failed", "settled q", "lost", format!("kept {ANSWER} s1 q").as_str()]);
    assert_eq!(desk.ask::<String>(("HGET", "memo", "answer")).await, ANSWER);
}
