//! lead.lua: a memo is asked what a task should do.

use redial_core::script::memo::{Lead, LeadRequest, Settle, SettleRequest};

use super::{Desk, hash};

const DAY: i64 = 86_400_000;

/// Who asks, and how; the rest seldom matters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) mode: &'static str,
    pub(crate) serial: &'a str,
    pub(crate) token: &'a str,
    pub(crate) queue: &'a str,
    pub(crate) call: &'a str,
    pub(crate) max_age: u64,
    pub(crate) lease: u64,
    pub(crate) once: u8,
}

pub(crate) const ASK: Ask =
    Ask { mode: "lead", serial: "s1", token: "t1", queue: "q", call: "", max_age: 1 << 53, lease: 60_000, once: 0 };

impl Ask<'_> {
    pub(crate) fn request(&self, memo: &str) -> LeadRequest {
        LeadRequest {
            memo: memo.into(),
            mode: self.mode,
            serial: self.serial.into(),
            token: self.token.into(),
            queue: self.queue.into(),
            fingerprint: self.call.into(),
            max_age_ms: self.max_age,
            lease_ms: self.lease,
            once: self.once == 1,
        }
    }

    /// What the memo says, its words joined.
    pub(crate) async fn of(self, desk: &Desk) -> String {
        ask(desk, &[self.request("memo")]).await.remove(0)
    }
}

/// What memos say, each one's words joined.
async fn ask(desk: &Desk, requests: &[LeadRequest]) -> Vec<String> {
    let replies = desk.run_raw::<Vec<Vec<String>>>(&Lead { requests }).await;
    replies.into_iter().map(|words| words.join(" ")).collect()
}

/// Another task than the leader of [`ASK`].
const OTHER: Ask = Ask { serial: "s2", token: "t2", ..ASK };

async fn settle(desk: &Desk, answer: &str, keep: u64) {
    let (memo, serial, token) = ("memo".into(), "s1".into(), "t1".into());
    let request = SettleRequest { memo, serial, token, answer: answer.into(), ttl_ms: keep, is_good: true };
    let _: Vec<Vec<String>> = desk.run_raw(&Settle { requests: &[request] }).await;
}

#[tokio::test]
async fn the_first_leads_and_the_others_follow() {
    let desk = Desk::new().await;
    let before = desk.now().await;
    assert_eq!(ASK.of(&desk).await, "lead");
    let (until, left): (u64, i64) = (desk.ask(("HGET", "memo", "leads_until")).await, desk.ask(("PTTL", "memo")).await);
    assert!((before + 60_000..before + 70_000).contains(&until));
    assert!((DAY..=DAY + 60_000).contains(&left), "{left}");
    let until = until.to_string();
    let held = [
        ("leader", "s1"),
        ("leader_token", "t1"),
        ("leads_until", until.as_str()),
        ("leads_once", "0"),
        ("fingerprint", ""),
    ];
    assert_eq!(desk.dump().await["memo"].0, hash(&held));
    // Whoever only asks changes nothing.
    let before = desk.dump().await;
    assert_eq!(OTHER.of(&desk).await, "follow");
    assert_eq!(Ask { mode: "check_leader", ..OTHER }.of(&desk).await, "follow", "and is noted, see below");
    assert_eq!(desk.dump().await.len(), before.len());
}

#[tokio::test]
async fn a_follower_that_rechecks_has_its_queue_recorded_once() {
    let desk = Desk::new().await;
    ASK.of(&desk).await;
    for queue in ["q", "mail", "q", "q/0"] {
        assert_eq!(Ask { mode: "recheck", queue, ..OTHER }.of(&desk).await, "follow");
    }
    assert_eq!(desk.ask::<String>(("HGET", "memo", "follower_queues")).await, " q mail q/0 ");
    assert!(desk.ask::<i64>(("PTTL", "memo")).await > DAY, "its time to live stays");
}

#[tokio::test]
async fn a_leader_that_asks_again_leads_on_under_its_new_token() {
    let desk = Desk::new().await;
    ASK.of(&desk).await;
    assert_eq!(Ask { token: "t9", lease: 120_000, ..ASK }.of(&desk).await, "lead");
    assert_eq!(Ask { mode: "recheck", token: "t10", ..ASK }.of(&desk).await, "lead");
    assert_eq!(desk.ask::<String>(("HGET", "memo", "leader_token")).await, "t10");
    let until: u64 = desk.ask(("HGET", "memo", "leads_until")).await;
    assert!(until > desk.now().await + 100_000, "a look makes the lead no shorter");
}

#[tokio::test]
async fn a_recheck_does_not_begin_to_lead() {
    let desk = Desk::new().await;
    for mode in ["recheck", "check_leader"] {
        assert_eq!(Ask { mode, ..ASK }.of(&desk).await, "free");
    }
    assert!(desk.dump().await.is_empty());
}

#[tokio::test]
async fn when_a_leads_lease_ends_the_next_task_leads() {
    let desk = Desk::new().await;
    assert_eq!(Ask { lease: 0, ..ASK }.of(&desk).await, "lead");
    assert_eq!(Ask { mode: "recheck", ..OTHER }.of(&desk).await, "free");
    assert_eq!(OTHER.of(&desk).await, "lead");
    assert_eq!(ASK.of(&desk).await, "follow", "the one that was too late");
}

#[tokio::test]
async fn a_call_that_may_have_been_sent_is_made_by_no_other_task() {
    let desk = Desk::new().await;
    assert_eq!(Ask { once: 1, ..ASK }.of(&desk).await, "lead");
    assert_eq!(OTHER.of(&desk).await, "follow");
    let () = desk.ask(("HSET", "memo", "leads_until", 1)).await;
    for mode in ["lead", "recheck", "check_leader"] {
        assert_eq!(Ask { mode, ..OTHER }.of(&desk).await, "unknown");
    }
    assert_eq!(Ask { once: 1, ..ASK }.of(&desk).await, "lead", "its own task knows more");
    let () = desk.ask(("HSET", "memo", "leads_until", 1)).await;
    settle(&desk, "", 0).await;
    assert_eq!(OTHER.of(&desk).await, "lead", "it has said that it made none");
}

#[tokio::test]
async fn an_answer_is_taken_until_it_expires_by_tasks_for_which_it_is_young_enough() {
    let desk = Desk::new().await;
    ASK.of(&desk).await;
    settle(&desk, "{\"a\":1}", 60_000).await;
    let before = desk.dump().await;
    for mode in ["lead", "recheck", "check_leader"] {
        assert_eq!(Ask { mode, max_age: 50_000, ..OTHER }.of(&desk).await, "answer {\"a\":1} s1");
    }
    assert_eq!(desk.dump().await, before, "it costs no write");
    // Too old for this one, which makes the call; meanwhile it is good enough for others.
    assert_eq!(Ask { max_age: 0, ..OTHER }.of(&desk).await, "lead");
    assert_eq!(Ask { serial: "s3", ..ASK }.of(&desk).await, "answer {\"a\":1} s1");
    assert_eq!(Ask { serial: "s3", max_age: 0, ..ASK }.of(&desk).await, "follow");
    assert_eq!(
        Ask { mode: "check_leader", serial: "", ..ASK }.of(&desk).await,
        "follow",
        "who waits, waits for a new one"
    );
    assert!(desk.ask::<i64>(("PTTL", "memo")).await > DAY);
    let () = desk.ask(("HSET", "memo", "expires_at", 1)).await;
    assert_eq!(Ask { serial: "s3", ..ASK }.of(&desk).await, "follow", "its time is over");
}

#[tokio::test]
async fn a_memo_of_another_call_is_a_mismatch_as_long_as_it_lasts() {
    let desk = Desk::new().await;
    let (first, second) = (Ask { call: "c1", ..ASK }, Ask { call: "c2", ..OTHER });
    assert_eq!(first.of(&desk).await, "lead");
    let before = desk.dump().await;
    for mode in ["lead", "recheck"] {
        assert_eq!(Ask { mode, ..second }.of(&desk).await, "mismatch");
    }
    assert_eq!(desk.dump().await, before);
    settle(&desk, "{}", 60_000).await;
    assert_eq!(second.of(&desk).await, "mismatch");
    assert_eq!(Ask { call: "c1", ..OTHER }.of(&desk).await, "answer {} s1");
    let () = desk.ask(("HSET", "memo", "expires_at", 1)).await;
    assert_eq!(second.of(&desk).await, "lead", "no one leads and no answer stands");
    assert_eq!(desk.ask::<String>(("HGET", "memo", "fingerprint")).await, "c2");
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "memo", "x")).await;
    desk.refuses(&Lead { requests: &[ASK.request("memo")] }).await;
}

#[tokio::test]
async fn many_memos_are_asked_at_once_and_a_broken_one_stops_no_other() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "broken", "x")).await;
    Ask { serial: "s0", token: "t0", ..ASK }.of(&desk).await;
    let requests = [
        ASK.request("first"),
        ASK.request("memo"),
        ASK.request("broken"),
        // The same one again, as if it had been sent later.
        OTHER.request("first"),
        ASK.request("last"),
    ];
    assert_eq!(ask(&desk, &requests).await, ["lead", "follow", "failed", "follow", "lead"]);
    let keys = desk.dump().await;
    assert_eq!(keys.keys().map(String::as_str).collect::<Vec<_>>(), ["broken", "first", "last", "memo"]);
    assert_eq!(desk.ask::<String>(("HGET", "first", "leader")).await, "s1");
    // Sent again because the reply was lost, it says the same.
    assert_eq!(ask(&desk, &requests).await, ["lead", "follow", "failed", "follow", "lead"]);
}

#[tokio::test]
async fn many_memos_are_led_while_redis_is_out_of_memory() {
    let desk = Desk::new().await;
    desk.fill().await;
    let requests = ["a", "b", "c"].map(|memo| ASK.request(memo));
    assert_eq!(ask(&desk, &requests).await, ["lead", "lead", "lead"]);
    let recheck = Ask { mode: "recheck", ..OTHER };
    assert_eq!(ask(&desk, &["a", "b"].map(|memo| recheck.request(memo))).await, ["follow", "follow"]);
    assert_eq!(desk.ask::<String>(("HGET", "b", "follower_queues")).await, " q ");
}
