//! A Redis that is out of memory takes no new tasks, and can still be drained.

use std::time::Duration;

use redial_core::consumer::{ClaimId, Completion, ParkedTasks, RescheduleReason, TakenBack, dead_letter_header};
use redial_core::memo::{Delivery, LeadDecision, LeadOutcome, LeadTerms, MemoKey, MemoPurpose, StoredAnswer};
use redial_core::script::memo::{Lead, LeadRequest, Settle, SettleRequest};
use redial_core::script::task::Deliver;
use redial_core::{Reason, Status, TaskId, TaskResult, UnixMs, WorkerId};

use super::{Desk, lead, settle};

/// A Redis with room for little more than itself, filled to the brim.
async fn full_desk(tasks: u32) -> Desk {
    let desk = Desk::with_args(&["--maxmemory-policy", "noeviction"]).await;
    for n in 0..tasks {
        let () = desk.ask(("LPUSH", "redial:{q}", format!("task {n}"))).await;
    }
    desk
}

impl Desk {
    async fn fill(&self) {
        let () = self.ask(("CONFIG", "SET", "maxmemory", "100kb")).await;
        let refused = self.try_ask::<u64>(("LPUSH", "redial:{q}", "one more")).await;
        let error = refused.unwrap_err();
        assert_eq!(error.code(), Some("OOM"), "{error}");
    }
}

#[tokio::test]
async fn a_full_redis_can_still_be_drained() {
    let desk = full_desk(6).await;
    desk.fill().await;
    let consumer = desk.consumer("w", Duration::from_millis(1));
    let other = desk.consumer("other", Duration::from_secs(60));
    let id = |worker: &str, n| ClaimId::new(&WorkerId::from_redis(worker.into()), n);
    let answer = |entry: &redial_core::queue::entry::Entry, id: &str| Completion {
        token: entry.token.clone(),
        id: TaskId::new(id).unwrap(),
        result: format!("{{\"id\":\"{id}\"}}"),
        ttl: Duration::from_secs(60),
        reply_to: Some("answers".into()),
        last_entry: None,
        follow_ups: Vec::new(),
    };

    let claimed = consumer.claim(&id("w", 1), 5).await.unwrap().entries;
    let [finished, retried, buried, replayed, reaped] = claimed.as_slice() else {
        panic!("{claimed:?}");
    };
    assert!(consumer.mark_started(&finished.token, &finished.header).await.unwrap());
    let done = consumer.finish(&[answer(finished, "a")]).await.unwrap();
    assert_eq!(done, [true]);
    let due = consumer
        .reschedule(&retried.token, &retried.header, Duration::ZERO, UnixMs(0), None, RescheduleReason::Retried)
        .await
        .unwrap();
    assert!(due.is_some());
    for (entry, id) in [(buried, "b"), (replayed, "c")] {
        let mut result = TaskResult::new(TaskId::new(id).ok(), Status::Dead, UnixMs(1));
        result.reason = Some(Reason::Rejected);
        let letter = dead_letter_header(&entry.header.serial, None, &result);
        let answer = answer(entry, id);
        assert!(consumer.bury(&entry.token, &letter, Some(&answer)).await.unwrap());
    }
    assert_eq!(consumer.heartbeat().await.unwrap().held, 1);
    desk.pass(5).await;
    let beat = other.heartbeat().await.unwrap();
    let [(worker, renewal)] = beat.leases.as_slice() else { panic!("{beat:?}") };
    assert_eq!(*worker, WorkerId::from_redis("w".into()));
    assert_eq!(other.reap(worker, renewal).await.unwrap(), TakenBack { moved: 1, remaining: 0 });
    let letters = other.queue().dead_page(0).await.unwrap();
    assert!(other.queue().drop_dead(&letters[0]).await.unwrap());
    assert!(other.queue().replay(&letters[1]).await.unwrap());

    // What was retried, reaped, replayed, and never claimed.
    let rest = other.claim(&id("other", 1), 100).await.unwrap().entries;
    let mut raws: Vec<_> = rest.iter().map(|entry| entry.raw.clone()).collect();
    raws.sort();
    assert_eq!(raws, [&retried.raw[..], &replayed.raw, &reaped.raw, b"task 5"]);
    let answers: Vec<_> = rest.iter().map(|entry| answer(entry, "z")).collect();
    assert_eq!(other.finish(&answers).await.unwrap(), [true; 4]);
    let dump = desk.dump().await;
    assert!(!dump.keys().any(|key| key.contains("active")), "{dump:?}");
    let replies: u64 = desk.ask(("LLEN", "answers")).await;
    assert_eq!(replies, 7);
}

#[tokio::test]
async fn a_full_redis_takes_tasks_back_from_a_worker() {
    let desk = full_desk(3).await;
    let consumer = desk.consumer("w", Duration::from_secs(60));
    let id = ClaimId::new(&WorkerId::from_redis("w".into()), 1);
    let entries = consumer.claim(&id, 3).await.unwrap().entries;
    desk.fill().await;
    let stray = [entries[0].token.clone()];
    assert_eq!(consumer.release_strays(&stray).await.unwrap(), TakenBack { moved: 1, remaining: 2 });
    assert_eq!(consumer.release().await.unwrap(), TakenBack { moved: 2, remaining: 0 });
    assert_eq!(consumer.queue().counts().await.unwrap().scheduled, 3);
}

#[tokio::test]
async fn a_full_redis_accepts_a_reply_for_another_slot() {
    let desk = full_desk(0).await;
    desk.fill().await;
    for _ in 0..2 {
        assert!(desk.run(&Deliver { reply_list: "reply", ttl_ms: "1000", result: "answer" }).await);
    }
    assert_eq!(desk.ask::<u64>(("LLEN", "reply")).await, 2);
    assert!(desk.ask::<i64>(("PTTL", "reply")).await > 0);
}

#[tokio::test]
async fn a_full_redis_asks_and_settles_many_memos_in_one_call() {
    let desk = full_desk(0).await;
    desk.fill().await;
    let memos = ["a", "b", "c"];
    let leads = memos.map(|memo| LeadRequest { memo: memo.into(), ..lead::ASK.request() });
    let settled = memos.map(|memo| SettleRequest { memo: memo.into(), ..settle::call("s1", "t1", "{}", 60_000) });
    for _ in 0..2 {
        let led: Vec<Vec<String>> = desk.run_raw(&Lead { requests: &leads }).await;
        assert_eq!(led, [["lead"]; 3]);
    }
    let ended: Vec<Vec<String>> = desk.run_raw(&Settle { requests: &settled }).await;
    assert_eq!(ended, [["settled"]; 3]);
    let answered: Vec<Vec<String>> = desk.run_raw(&Lead { requests: &leads }).await;
    for (memo, answer) in memos.iter().zip(answered) {
        assert_eq!(answer, ["answer".to_owned(), desk.ask(("GET", memo)).await]);
        assert!(desk.ask::<i64>(("PTTL", memo)).await > 0);
    }
}

#[tokio::test]
async fn a_full_redis_settles_its_memos() {
    let desk = full_desk(3).await;
    desk.fill().await;
    let consumer = desk.consumer("w", Duration::from_secs(60));
    let memos = consumer.queue().db().memos();
    let id = ClaimId::new(&WorkerId::from_redis("w".into()), 1);
    let claimed = consumer.claim(&id, 3).await.unwrap().entries;
    let key = MemoKey { purpose: MemoPurpose::Cache, hash: "ab".into(), call: String::new() };
    let delivery = |n: usize| Delivery {
        serial: &claimed[n].header.serial,
        token: &claimed[n].token,
        queue: consumer.queue().name(),
    };
    let lease = Duration::from_secs(60);
    assert!(matches!(
        memos.lead(&key, delivery(0), LeadTerms { max_age: None, lease, once: false, keep: lease }).await,
        Ok(LeadDecision::Lead)
    ));
    for (n, follower) in claimed.iter().enumerate().skip(1) {
        assert!(
            consumer
                .park(
                    &follower.token,
                    &follower.header,
                    &redial_core::consumer::WaitList::memo("ab"),
                    Duration::ZERO,
                    Some(UnixMs(1))
                )
                .await
                .unwrap()
        );
        assert!(matches!(memos.recheck(&key, delivery(n), None).await, Ok(LeadDecision::Follow)));
    }
    assert_eq!(consumer.due_checks(lease).await.unwrap().due.len(), 3);
    let result = TaskResult::new(None, Status::Ok, UnixMs(1));
    let settled = memos.settle("ab", delivery(0), Some((&StoredAnswer::of(&result), lease))).await.unwrap();
    assert!(matches!(settled, LeadOutcome::Done(queues) if queues.len() == 1));
    let followers = ParkedTasks::new(consumer.queue().clone(), &redial_core::consumer::WaitList::memo("ab"));
    assert!(followers.unpark(None).await.unwrap());
    let page = followers.next(10).await.unwrap();
    assert_eq!((page.left, page.entries.len()), (1, 1));
    let answer = Completion {
        token: page.entries[0].token.clone(),
        id: TaskId::new("a").unwrap(),
        result: result.to_line(),
        ttl: lease,
        reply_to: None,
        last_entry: None,
        follow_ups: Vec::new(),
    };
    assert_eq!(followers.finish(&[answer]).await.unwrap(), [true]);
    assert_eq!(followers.next(10).await.unwrap().left, 0);
    assert!(memos.forget("ab").await.unwrap());
}
