//! claim.lua when it comes twice: a reply was lost, or a broken connection delivered a copy late.

use redial_core::script::task::{Claim, ClaimReply, Reap};

use super::{Desk, Dump};
use super::{claim, finish, reap};

const MANY: usize = 1 << 20;

impl Desk {
    async fn push(&self, tasks: &[&str]) {
        for task in tasks {
            let () = self.ask(("LPUSH", "waiting", task)).await;
        }
    }

    /// Claims again; whatever comes back, no task may move.
    async fn claim_again(&self, number: u64) -> ClaimReply {
        let before = self.dump_without_lease().await;
        let reply = self.claim(number, 100, MANY).await;
        assert_eq!(self.dump_without_lease().await, before);
        reply
    }

    async fn dump_without_lease(&self) -> Dump {
        let mut dump = self.dump().await;
        dump.remove("workers");
        dump
    }

    async fn finish(&self, token: &str) {
        assert_eq!(self.finish_all(&[finish::plain(token, "result")]).await, [true]);
    }

    async fn reap(&self, most: usize) {
        let () = self.ask(("ZADD", "workers", 1, "w")).await;
        let taken = self.run(&Reap { max_tasks: most, ..reap::call("reaped", most, MANY) }).await;
        assert_eq!(taken.moved, most);
    }
}

#[tokio::test]
async fn a_claim_sent_twice_returns_the_same_tasks_and_takes_no_others() {
    let desk = Desk::new().await;
    desk.push(&["a", "b", "c", "d"]).await;
    let first = desk.claim(1, 3, MANY).await;
    for _ in 0..2 {
        assert_eq!(desk.claim_again(1).await.entries, first.entries);
    }
    assert_eq!(desk.claim(2, 3, MANY).await.entries.len(), 1);
}

#[tokio::test]
async fn a_claim_that_found_nothing_finds_nothing_when_it_is_sent_again() {
    let desk = Desk::new().await;
    assert!(desk.claim(1, 3, MANY).await.entries.is_empty());
    desk.push(&["a"]).await;
    assert!(desk.claim_again(1).await.entries.is_empty());
    assert_eq!(desk.claim(2, 3, MANY).await.entries.len(), 1);
}

/// It would have taken other tasks, under the tokens of those still held, whose entries were then gone for good.
#[tokio::test]
async fn a_late_copy_of_a_claim_harms_no_task_that_is_still_held() {
    let desk = Desk::new().await;
    desk.push(&["a", "b", "c", "d", "e"]).await;
    desk.claim(1, 3, MANY).await;
    desk.finish("w:1:1").await;
    assert!(desk.claim_again(1).await.entries.is_empty());
    desk.finish("w:1:2").await;
    desk.finish("w:1:3").await;
    assert!(desk.claim_again(1).await.entries.is_empty());
}

#[tokio::test]
async fn a_late_copy_of_an_older_claim_takes_nothing_however_many_followed() {
    let desk = Desk::new().await;
    for number in 1..4 {
        desk.push(&["a", "b"]).await;
        desk.claim(number, 1, MANY).await;
    }
    desk.finish("w:1:1").await;
    assert!(desk.claim_again(1).await.entries.is_empty());
    assert_eq!(desk.claim_again(2).await.entries.len(), 1);
    // The older number did not lower the mark.
    assert_eq!(desk.claim_again(3).await.entries.len(), 1);
}

#[tokio::test]
async fn a_claim_sent_again_after_a_reap_returns_no_task_that_was_taken_back() {
    let desk = Desk::new().await;
    desk.push(&["a", "b", "c"]).await;
    desk.claim(1, 2, MANY).await;
    desk.reap(1).await;
    let held: Vec<String> = desk.ask(("HKEYS", "active")).await;
    let again = desk.claim_again(1).await;
    // Of what is left, what follows a gap is found by its worker as a stray.
    assert_eq!(again.entries.len(), usize::from(held == ["w:1:1"]));
    desk.reap(1).await;
    assert!(desk.claim_again(1).await.entries.is_empty());
}

#[tokio::test]
async fn each_worker_numbers_its_own_claims() {
    let desk = Desk::new().await;
    desk.push(&["a", "b"]).await;
    desk.claim(5, 1, MANY).await;
    let call = claim::call("v:1", 9, MANY);
    let other = Claim { active: "active:v", claimed: "claimed:v", worker: "v", lease_ms: 1_000, ..call };
    assert_eq!(desk.run(&other).await.entries.len(), 1);
}

#[tokio::test]
async fn the_number_of_the_last_claim_expires() {
    let desk = Desk::new().await;
    desk.claim(1, 1, MANY).await;
    let ttl: i64 = desk.ask(("PTTL", "claimed")).await;
    assert!((3_500_000..=3_600_000).contains(&ttl), "{ttl}");
}
