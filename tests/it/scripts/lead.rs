//! lead.lua: a memo is asked what a task should do.

use redial_core::script::memo::{Lead, LeadRequest, Settle, SettleRequest};
use redis::aio::MultiplexedConnection;

use super::{Desk, hash};

const DAY: u64 = 86_400_000;
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

/// What Redis stores as the memo of [`ASK`].
pub(crate) async fn stored(desk: &Desk) -> String {
    desk.ask(("GET", "memo")).await
}

/// Ends the time of a memo's lead, as a clock that jumps ahead does.
pub(crate) async fn end_time_of_lead(wire: &mut MultiplexedConnection, key: &str) {
    let memo: String = redis::cmd("GET").arg(key).query_async(wire).await.unwrap();
    let mut parts: Vec<&str> = memo.splitn(4, ';').collect();
    let mut lead: Vec<&str> = parts[2].split(' ').collect();
    lead[2] = "1";
    let lead = lead.join(" ");
    parts[2] = &lead;
    let () = redis::cmd("SET").arg(key).arg(parts.join(";")).arg("KEEPTTL").query_async(wire).await.unwrap();
}

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
    assert_eq!(ASK.of(&desk).await, "lead");
    let until = desk.now().await + MINUTE;
    assert_eq!(stored(&desk).await, format!("0 0 0 -;;s1 t1 {until} 0;\n"));
    let left: u64 = desk.ask(("PTTL", "memo")).await;
    assert_eq!(left, 61 * MINUTE, "its lease, and as long as its answer will be kept");
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
    assert!(stored(&desk).await.ends_with(";q mail q/0 \n"));
    assert_eq!(desk.ask::<u64>(("PTTL", "memo")).await, 61 * MINUTE, "its time to live stays");
}

#[tokio::test]
async fn a_leader_that_asks_again_leads_on_under_its_new_token() {
    let desk = Desk::new().await;
    ASK.of(&desk).await;
    assert_eq!(Ask { token: "t9", lease: 120_000, ..ASK }.of(&desk).await, "lead");
    assert_eq!(Ask { mode: "recheck", token: "t10", ..ASK }.of(&desk).await, "lead");
    let until = desk.now().await + 120_000;
    assert_eq!(stored(&desk).await, format!("0 0 0 -;;s1 t10 {until} 0;\n"), "a look makes the lead no shorter");
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
    desk.pass(60_000).await;
    for mode in ["lead", "recheck", "check_leader"] {
        assert_eq!(Ask { mode, ..OTHER }.of(&desk).await, "unknown");
    }
    assert_eq!(Ask { once: 1, ..ASK }.of(&desk).await, "lead", "its own task knows more");
    desk.pass(60_000).await;
    settle(&desk, "", 0).await;
    assert_eq!(OTHER.of(&desk).await, "lead", "it has said that it made none");
}

#[tokio::test]
async fn an_answer_is_taken_until_it_expires_by_tasks_for_which_it_is_young_enough() {
    let desk = Desk::new().await;
    ASK.of(&desk).await;
    let now = desk.now().await;
    settle(&desk, "{\"a\":1}", 60_000).await;
    let answer = format!("answer {} {now} 1 s1;;- - 0 0;\n{{\"a\":1}}", now + 60_000);
    let before = desk.dump().await;
    for mode in ["lead", "recheck", "check_leader"] {
        assert_eq!(Ask { mode, max_age: 50_000, ..OTHER }.of(&desk).await, answer);
    }
    assert_eq!(desk.dump().await, before, "it costs no write");
    // Too old for this one, which makes the call; meanwhile it is good enough for others.
    assert_eq!(Ask { max_age: 0, lease: 120_000, ..OTHER }.of(&desk).await, "lead");
    let told = Ask { serial: "s3", ..ASK }.of(&desk).await;
    assert_eq!(told, format!("answer {}", stored(&desk).await));
    assert_eq!(Ask { serial: "s3", max_age: 0, ..ASK }.of(&desk).await, "follow");
    assert_eq!(
        Ask { mode: "check_leader", serial: "", ..ASK }.of(&desk).await,
        "follow",
        "who waits, waits for a new one"
    );
    assert_eq!(desk.ask::<u64>(("PTTL", "memo")).await, 62 * MINUTE);
    desk.pass(60_000).await;
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
    assert_eq!(Ask { call: "c1", ..OTHER }.of(&desk).await, format!("answer {}", stored(&desk).await));
    desk.pass(60_000).await;
    assert_eq!(second.of(&desk).await, "lead", "no one leads and no answer stands");
    let until = desk.now().await + MINUTE;
    assert_eq!(stored(&desk).await, format!("0 0 0 -;c2;s2 t2 {until} 0;\n"));
}

#[tokio::test]
async fn a_memo_outlives_its_lead_as_long_as_that_may_matter() {
    for (keep, once, spare) in [
        // All followers find out that their leader is gone.
        (0, 0, 10 * MINUTE),
        (60 * MINUTE, 0, 60 * MINUTE),
        // Storing the answer sets the time to live.
        (1 << 50, 0, DAY),
        // A call may have been sent, and that is not forgotten with its leader.
        (0, 1, DAY),
    ] {
        let desk = Desk::new().await;
        assert_eq!(Ask { once, keep, ..ASK }.of(&desk).await, "lead");
        assert_eq!(desk.ask::<u64>(("PTTL", "memo")).await, MINUTE + spare, "{keep} {once}");
    }
}

#[tokio::test]
async fn many_memos_are_asked_in_one_call_each_as_if_alone() {
    let desk = Desk::new().await;
    Ask { memo: "known", ..ASK }.of(&desk).await;
    settle_one(&desk, "known", ANSWER, 60_000).await;
    let () = desk.ask(("HSET", "broken", "by", "hand")).await;
    let () = desk.ask(("SET", "corrupt", "0 0 0 -;;s9 t9 soon 0;\n")).await;
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
    let known: String = desk.ask(("GET", "known")).await;
    let known = format!("answer {known}");
    for round in 0..2 {
        let said = all(&desk, &asks).await;
        let (broken, corrupt) = (said[0].as_str(), said[6].as_str());
        assert!(broken.starts_with("error WRONGTYPE Operation"), "{broken}");
        assert_eq!(corrupt, "error WRONGTYPE the value of this key is not a memo");
        let others = [1, 2, 3, 4, 5, 7, 8].map(|n| said[n].as_str());
        assert_eq!(others, [known.as_str(), "lead", "follow", "follow", "lead", "lead", "free"], "round {round}");
        assert!(stored(&desk).await.contains(";s1 t9 "));
        assert!(desk.ask::<String>(("GET", "third")).await.contains(";s3 t3 "));
        assert_eq!(desk.dump().await["broken"].0, hash(&[("by", "hand")]));
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
    let () = desk.ask(("ACL", "SETUSER", "default", "-set")).await;
    let refused = desk.try_run(&Lead { requests: &requests }).await.unwrap_err();
    assert!(refused.to_string().contains("can't run this command"), "{refused}");
}

#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    let desk = Desk::new().await;
    let () = desk.ask(("LPUSH", "memo", "x")).await;
    let before = desk.dump().await;
    assert!(ASK.of(&desk).await.starts_with("error WRONGTYPE "));
    assert_eq!(desk.dump().await, before);
}
