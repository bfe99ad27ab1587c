//! How finish.lua, bury.lua and deliver.lua deliver replies.

use std::time::Duration;

use redial_core::consumer::{ClaimId, Completion};
use redial_core::script::ending::{Ending, FinishedTask, ReplyRoute};
use redial_core::script::task::{Bury, Deliver};
use redial_core::{TaskId, WorkerId};

use super::{Desk, Held, bury, hash, list};

fn ending(ttl_ms: u64, reply: ReplyRoute<'_>) -> Ending<'_> {
    Ending { result_key: "result", ttl_ms, result: "answer", reply, stream: None, follow_ups: &[] }
}

impl Desk {
    /// Lets a result get to the list `reply` in one of the three ways, with this time to live.
    async fn reply(&self, way: usize, token: &str, ttl_ms: u64) {
        self.hold(token, b"h\nraw").await;
        let ending = ending(ttl_ms, ReplyRoute::Push("reply"));
        match way {
            0 => assert_eq!(self.finish_all(&[FinishedTask { token, ending }]).await, [true]),
            1 => assert!(self.run(&Bury { ending: Some(ending), ..bury::without_id(token) }).await),
            _ => {
                let deliver = Deliver { reply_list: "reply", ttl_ms: &ttl_ms.to_string(), result: "answer" };
                let _delivered = self.run(&deliver).await;
            }
        }
    }

    async fn ttl(&self) -> i64 {
        let ttl: i64 = self.ask(("PTTL", "reply")).await;
        ttl
    }
}

#[tokio::test]
async fn a_reply_list_holds_all_results_and_expires_with_the_last_of_them() {
    for way in 0..3 {
        let desk = Desk::new().await;
        desk.reply(way, "t1", 50_000).await;
        assert!((45_000..=50_000).contains(&desk.ttl().await));
        // A short-lived answer takes no other with it, a long-lived one keeps all.
        desk.reply(way, "t2", 1).await;
        assert!((45_000..=50_000).contains(&desk.ttl().await));
        desk.reply(way, "t3", 90_000).await;
        assert!((85_000..=90_000).contains(&desk.ttl().await));
        assert_eq!(desk.dump().await["reply"].0, list(&["answer"; 3]));
    }
}

#[tokio::test]
async fn of_results_that_come_together_the_longest_lived_counts_whatever_their_order() {
    for ttls in [[50_000, 90_000, 1_000], [90_000, 50_000, 1_000], [1_000, 50_000, 90_000]] {
        for was_there in [false, true] {
            let desk = Desk::new().await;
            if was_there {
                let () = desk.ask(("LPUSH", "reply", "someone's")).await;
            }
            let names: Vec<_> = (0..3).map(|n| (format!("t{n}"), format!("result{n}"))).collect();
            let mut tasks = Vec::new();
            for ((token, result_key), ttl) in names.iter().zip(ttls) {
                desk.hold(token, b"h\nraw").await;
                let ending = Ending { result_key, ..ending(ttl, ReplyRoute::Push("reply")) };
                tasks.push(FinishedTask { token, ending });
            }
            assert_eq!(desk.finish_all(&tasks).await, [true; 3]);
            let lives = desk.ttl().await;
            assert!(if was_there { lives == -1 } else { (85_000..=90_000).contains(&lives) }, "{ttls:?}: {lives}");
        }
    }
}

#[tokio::test]
async fn a_list_that_existed_before_does_not_expire() {
    for way in 0..3 {
        let desk = Desk::new().await;
        let () = desk.ask(("LPUSH", "reply", "someone's")).await;
        desk.reply(way, "t", 1_000).await;
        let dump = desk.dump().await;
        assert_eq!(dump["reply"], (list(&["answer", "someone's"]), false));
    }
}

#[tokio::test]
async fn a_reply_key_that_is_not_a_list_harms_neither_the_result_nor_that_key() {
    for way in 0..3 {
        let desk = Desk::new().await;
        let () = desk.ask(("SET", "reply", "someone's")).await;
        desk.reply(way, "t", 1_000).await;
        let dump = desk.dump().await;
        assert_eq!(dump["reply"], (Held::Text("someone\\'s".into()), false));
        if way < 2 {
            assert_eq!(dump["result"], (Held::Text("answer".into()), true));
            assert!(!dump.contains_key("active"));
        }
    }
}

#[tokio::test]
async fn a_waiter_that_is_woken_finds_the_result_in_its_place() {
    let desk = Desk::new().await;
    let mut waiter = desk.redis.connection().await;
    let waits = tokio::spawn(async move {
        let mut pop = redis::cmd("BRPOP");
        pop.arg("reply").arg(20);
        let (_, reply): (String, String) = pop.query_async(&mut waiter).await.unwrap();
        let mut get = redis::cmd("GET");
        let result: String = get.arg("result").query_async(&mut waiter).await.unwrap();
        (reply, result)
    });
    redial_tests::eventually(Duration::from_secs(10), || async {
        (desk.redis.info_number("blocked_clients").await == 1).then_some(())
    })
    .await;
    desk.reply(0, "t", 1_000).await;
    assert_eq!(waits.await.unwrap(), ("answer".into(), "answer".into()));
}

#[tokio::test]
async fn a_reply_for_another_slot_is_kept_until_delivered() {
    let desk = Desk::new().await;
    desk.hold("t", b"h\nraw").await;
    let tasks = [FinishedTask { token: "t", ending: ending(60_000, ReplyRoute::Later("a\nlist")) }];
    assert_eq!(desk.finish_all(&tasks).await, [true]);
    let kept = hash(&[("t", "60000 answer\na\nlist")]);
    assert_eq!(desk.dump().await["replies"], (kept, false));
    desk.finds_lost(&tasks).await;
}

/// A result in the waiting list would be a task, and its time to live would end all tasks beside it.
#[tokio::test]
async fn a_task_cannot_have_its_reply_pushed_to_a_key_of_redials_own() {
    let desk = Desk::new().await;
    let consumer = desk.consumer("w", Duration::from_secs(60));
    for (n, own) in ["redial:{q}", "redial:{q}:handoff", "redial:{q}:dead", "redial:{other}"].into_iter().enumerate() {
        let () = desk.ask(("LPUSH", "redial:{q}", "task")).await;
        let id = ClaimId::new(&WorkerId::from_redis("w".into()), n as u64);
        let claimed = consumer.claim(&id, 1).await.unwrap();
        let answer = Completion {
            token: claimed.entries[0].token.clone(),
            id: TaskId::new(&n.to_string()).unwrap(),
            result: "answer".into(),
            ttl: Duration::from_secs(60),
            reply_to: Some(own.into()),
            last_entry: None,
            follow_ups: Vec::new(),
        };
        assert_eq!(consumer.finish(&[answer]).await.unwrap(), [true]);
        let dump = desk.dump().await;
        assert!(!dump.contains_key(own), "{dump:?}");
        assert!(dump.contains_key(&format!("redial:{{q}}:result:{n}")));
    }
}
