//! settle.lua: a lead ends.

use redial_core::script::memo::{Settle, SettleRequest};

use super::lead::{ASK, Ask, stored};
use super::{Desk, Held};

const ANSWER: &str = "{\"status\":\"ok\"}";

pub(crate) fn call(serial: &str, token: &str, answer: &str, ttl_ms: u64) -> SettleRequest {
    let (memo, serial, token) = ("memo".into(), serial.into(), token.into());
    SettleRequest { memo, serial, token, answer: answer.into(), ttl_ms, is_good: true }
}

async fn settle(desk: &Desk, request: &SettleRequest) -> String {
    all(desk, std::slice::from_ref(request)).await.remove(0)
}

/// What becomes of the leads of one call, the words of each joined.
async fn all(desk: &Desk, requests: &[SettleRequest]) -> Vec<String> {
    let replies: Vec<Vec<String>> = desk.run_raw(&Settle { requests }).await;
    replies.iter().map(|words| words.join(" ")).collect()
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
    let now = desk.now().await;
    assert_eq!(settle(&desk, &call("s1", "t1", ANSWER, 50_000)).await, "settled q mail");
    let expected = format!("{} {now} 1 s1;;- - 0 0;q mail \n{ANSWER}", now + 50_000);
    assert_eq!(stored(&desk).await, expected, "nobody leads");
    assert_eq!(desk.ask::<u64>(("PTTL", "memo")).await, 50_000);
    let fresh = Ask { serial: "s2", token: "t2", max_age: 0, ..ASK };
    assert_eq!(
        fresh.of(&desk).await,
        "lead",
        "a lead that has ended keeps nobody waiting, for however long it was taken"
    );
}

#[tokio::test]
async fn sent_twice_it_tells_what_stands_and_who_waits() {
    let desk = led_desk(&["q"]).await;
    let again = call("s1", "t1", ANSWER, 50_000);
    settle(&desk, &again).await;
    let before = desk.dump().await;
    let kept = format!("kept {} q", stored(&desk).await);
    assert_eq!(settle(&desk, &again).await, kept);
    assert_eq!(settle(&desk, &call("s1", "t1", "other", 1)).await, kept);
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
    assert_eq!(Ask { serial: "s3", ..ASK }.of(&desk).await, format!("answer {}", stored(&desk).await));
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
    let kept = settle(&desk, &call("s0", "t0", ANSWER, 50_000)).await;
    assert!(kept.starts_with("kept ") && kept.ends_with("\nthe first q"), "{kept}");
    desk.pass(50_000).await;
    loses(&desk, &call("s0", "t0", ANSWER, 50_000)).await;
}

#[tokio::test]
async fn a_memo_lives_about_as_long_as_its_answer() {
    const HOUR: u64 = 3_600_000;
    // (the lead's lease, how long it said that the answer will be kept, how long it is, what is left of it after 2 ms)
    for (lease, keep, ttl, left) in [
        (60_000, HOUR, HOUR, HOUR + 60_000 - 2),
        // Its lead would keep it too long, or not long enough.
        (60_000, HOUR, 60_000, 60_000),
        (0, HOUR, HOUR, HOUR),
        (24 * HOUR, HOUR, HOUR, HOUR),
        (60_000, 48 * HOUR, 48 * HOUR, 48 * HOUR),
    ] {
        let desk = Desk::new().await;
        Ask { lease, keep, ..ASK }.of(&desk).await;
        desk.pass(2).await;
        assert_eq!(settle(&desk, &call("s1", "t1", ANSWER, ttl)).await, "settled");
        assert_eq!(desk.ask::<u64>(("PTTL", "memo")).await, left, "{lease} {keep} {ttl}");
    }
}

#[tokio::test]
async fn once_settled_a_call_that_may_have_been_sent_is_over() {
    let desk = Desk::new().await;
    Ask { once: 1, ..ASK }.of(&desk).await;
    assert_eq!(settle(&desk, &call("s1", "t1", ANSWER, 50_000)).await, "settled");
    desk.pass(50_000).await;
    assert_eq!(Ask { serial: "s2", ..ASK }.of(&desk).await, "lead");
}

#[tokio::test]
async fn many_leads_are_settled_in_one_call_each_as_if_alone() {
    let desk = led_desk(&["q"]).await;
    for memo in ["broken", "second", "third"] {
        Ask { memo, ..ASK }.of(&desk).await;
    }
    let () = desk.ask(("SET", "broken", "by hand")).await;
    let of = |memo: &str, request: SettleRequest| SettleRequest { memo: memo.into(), ..request };
    let requests = [
        of("broken", call("s1", "t1", ANSWER, 50_000)),
        call("s1", "t1", ANSWER, 50_000),
        // The same memo again, by its leader and by one that is not.
        call("s1", "t1", ANSWER, 50_000),
        call("s2", "t2", "other", 50_000),
        of("second", call("s1", "t0", ANSWER, 50_000)),
        of("second", call("s1", "t1", "", 0)),
        of("third", call("s1", "t1", ANSWER, 50_000)),
    ];
    let said = all(&desk, &requests).await;
    assert!(said[0].starts_with("error WRONGTYPE "), "{said:?}");
    let kept = format!("kept {} q", stored(&desk).await);
    assert_eq!(said[1..], ["settled q", &kept, &kept, "lost", "settled", "settled"]);
    let before = desk.dump().await;
    let again = all(&desk, &requests).await;
    let third = format!("kept {}", desk.ask::<String>(("GET", "third")).await);
    assert_eq!(again[1..], [kept.as_str(), &kept, &kept, "lost", "lost", &third]);
    assert_eq!(desk.dump().await, before);
    assert_eq!(before["broken"].0, Held::Text("by hand".into()));
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    let desk = Desk::new().await;
    let () = desk.ask(("LPUSH", "memo", "x")).await;
    let before = desk.dump().await;
    assert!(settle(&desk, &call("s1", "t1", ANSWER, 1)).await.starts_with("error WRONGTYPE "));
    assert_eq!(desk.dump().await, before);
}
