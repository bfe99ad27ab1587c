//! lead.lua: a memo is asked what a task should do.

use redial_core::script::memo::{Lead, LeadRequest, Settle, SettleRequest};

use super::{Desk, Held, hash};

const DAY: i64 = 86_400_000;
const MINUTE: u64 = 60_000;
/// A result as memos store it.
const ANSWER: &str = r#"{"id":null,"status":"ok","http_status":200,"headers":null,"reason":null,"error":null,"attempts":[],"source":"call","finished_at_ms":1,"meta":null}"#;

/// Who asks, and how; the rest seldom matters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) memo: &'a str,
    pub(crate) mode: &'static str,
    pub(crate) serial: &'a str,
    pub(crate) token: &'a str,
    pub(crate) queue: &'a str,
    pub(crate) call: &'a str,
    pub(crate) max_age: u64,
    pub(crate) lease: u64,
    pub(crate) once: u8,
    pub(crate) keep: u64,
}

pub(crate) const ASK: Ask = Ask {
    memo: "memo",
    mode: "lead",
    serial: "s1",
    token: "t1",
    queue: "q",
    call: "",
    max_age: 1 << 53,
    lease: 60_000,
    once: 0,
    keep: 60 * MINUTE,
};

impl Ask<'_> {
    pub(crate) fn request(self) -> LeadRequest {
        LeadRequest {
            memo: self.memo.into(),
            mode: self.mode,
            serial: self.serial.into(),
            token: self.token.into(),
            queue: self.queue.into(),
            fingerprint: self.call.into(),
            max_age_ms: self.max_age,
            lease_ms: self.lease,
            once: self.once == 1,
            keep_ms: self.keep,
        }
    }

    /// What the memo says, its words joined.
    pub(crate) async fn of(self, desk: &Desk) -> String {
        all(desk, &[self]).await.remove(0)
    }
}

/// What the memos say to requests of one call.
async fn all(desk: &Desk, asks: &[Ask<'_>]) -> Vec<String> {
    let requests: Vec<LeadRequest> = asks.iter().map(|ask| ask.request()).collect();
    let replies: Vec<Vec<String>> = desk.run_raw(&Lead { requests: &requests }).await;
    replies.iter().map(|words| words.join(" ")).collect()
}

/// Another task than the leader of [`ASK`].
const OTHER: Ask = Ask { serial: "s2", token: "t2", ..ASK };

/// Ends the lead of [`ASK`] in a memo.
async fn settle_one(desk: &Desk, memo: &str, answer: &str, ttl_ms: u64) {
    let (memo, serial, token) = (memo.into(), "s1".into(), "t1".into());
    let requests = [SettleRequest { memo, serial, token, answer: answer.into(), ttl_ms, is_good: true }];
    let _: Vec<Vec<String>> = desk.run_raw(&Settle { requests: &requests }).await;
}

async fn settle(desk: &Desk, answer: &str, keep: u64) {
    settle_one(desk, "memo", answer, keep).await;
}

#[tokio::test]
async fn the_first_leads_and_the_others_follow() {
    let desk = Desk::new().await;
    let before = desk.now().await;
    assert_eq!(ASK.of(&desk).await, "lead");
    let (until, left): (u64, i64) = (desk.ask(("HGET", "memo", "leads_until")).await, desk.ask(("PTTL", "memo")).await);
    assert!((before + 60_000..before + 70_000).contains(&until));
    let minutes = u64::try_from(left).unwrap().div_ceil(MINUTE);
    assert_eq!(minutes, 61, "its lease, and as long as its answer will be kept");
    let until = until.to_string();
    let held = [("leader", "s1"), ("leader_token", "t1"), ("leads_until", until.as_str())];
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
    assert!(desk.ask::<i64>(("PTTL", "memo")).await > 59 * 60_000, "its time to live stays");
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
    assert!(desk.ask::<i64>(("PTTL", "memo")).await > 59 * 60_000);
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
async fn a_memo_outlives_its_lead_as_long_as_that_may_matter() {
    for (keep, once, least, most) in [
        // All followers find out that their leader is gone.
        (0, 0, 10 * MINUTE, 11 * MINUTE),
        (60 * MINUTE, 0, 60 * MINUTE, 61 * MINUTE),
        // Storing the answer sets the time to live.
        (1 << 50, 0, DAY.cast_unsigned(), DAY.cast_unsigned() + MINUTE),
        // A call may have been sent, and that is not forgotten with its leader.
        (0, 1, DAY.cast_unsigned(), DAY.cast_unsigned() + MINUTE),
    ] {
        let desk = Desk::new().await;
        assert_eq!(Ask { once, keep, ..ASK }.of(&desk).await, "lead");
        let left: u64 = desk.ask(("PTTL", "memo")).await;
        assert!((least..=most).contains(&left), "{keep} {once}: {left}");
    }
}

#[tokio::test]
async fn many_memos_are_asked_in_one_call_each_as_if_alone() {
    let desk = Desk::new().await;
    Ask { memo: "known", ..ASK }.of(&desk).await;
    settle_one(&desk, "known", ANSWER, 60_000).await;
    let () = desk.ask(("SET", "broken", "by hand")).await;
    let () = desk.ask(("HSET", "corrupt", "leader", "s9", "leads_until", "soon")).await;
    let asks = [
        Ask { memo: "broken", ..ASK },
        Ask { memo: "known", ..OTHER },
        ASK,
        // The same memo again, for another task and for the same one.
        OTHER,
        Ask { mode: "recheck", ..OTHER },
        Ask { token: "t9", ..ASK },
        Ask { memo: "corrupt", ..ASK },
        Ask { memo: "third", serial: "s3", token: "t3", queue: "mail", ..ASK },
        Ask { memo: "fourth", mode: "recheck", ..ASK },
    ];
    let known = format!("answer {ANSWER} s1");
    for round in 0..2 {
        let said = all(&desk, &asks).await;
        let (broken, corrupt) = (said[0].as_str(), said[6].as_str());
        assert!(broken.starts_with("error WRONGTYPE "), "{broken}");
        assert!(corrupt.starts_with("error ERR ") && corrupt.contains("attempt to "), "{corrupt}");
        let others = [1, 2, 3, 4, 5, 7, 8].map(|n| said[n].as_str());
        assert_eq!(others, [known.as_str(), "lead", "follow", "follow", "lead", "lead", "free"], "round {round}");
        assert_eq!(desk.ask::<String>(("HGET", "memo", "leader_token")).await, "t9");
        assert_eq!(desk.ask::<String>(("HGET", "third", "leader")).await, "s3");
        assert_eq!(desk.dump().await["broken"].0, Held::Text("by hand".into()));
    }
    let errors: Vec<_> = desk.run(&Lead { requests: &asks.map(Ask::request) }).await.0;
    let errors: Vec<_> = errors.into_iter().filter_map(Result::err).collect();
    assert!(errors.len() == 2 && errors.iter().all(|error| !error.is_temporary()), "{errors:?}");
}

#[tokio::test]
async fn what_concerns_all_memos_is_an_error_of_the_whole_call() {
    let desk = Desk::new().await;
    let () = desk.ask(("CONFIG", "SET", "min-replicas-to-write", 1)).await;
    let requests = [ASK, Ask { memo: "other", ..ASK }].map(Ask::request);
    let refused = desk.try_run(&Lead { requests: &requests }).await.unwrap_err();
    assert_eq!(refused.code(), Some("NOREPLICAS"), "{refused}");
    let () = desk.ask(("CONFIG", "SET", "min-replicas-to-write", 0)).await;
    let () = desk.ask(("ACL", "SETUSER", "default", "-hset")).await;
    let refused = desk.try_run(&Lead { requests: &requests }).await.unwrap_err();
    assert!(refused.to_string().contains("can't run this command"), "{refused}");
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    let desk = Desk::new().await;
    let () = desk.ask(("SET", "memo", "x")).await;
    let before = desk.dump().await;
    assert!(ASK.of(&desk).await.starts_with("error WRONGTYPE "));
    assert_eq!(desk.dump().await, before);
}
