//! Leaders of memos fail at random, in every way and between any two steps, and their followers get an answer all the same.
//!
//! The workers here make the same calls as the real one, one at a time, so that they can be killed between any two, and a failing case
//! shrinks. The real worker is killed in `promises/sharing.rs` and `promises/idempotency.rs`.

mod fleet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use redial_tests::RedisServer;

use fleet::Fleet;

const CASES: u32 = 96;
const MOST_STEPS: usize = 100;
pub(crate) const WORKERS: usize = 3;

/// What may happen. `which` picks among what a worker has in hand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// A task is pushed: of this memo.
    Push { memo: usize },
    /// A worker takes what waits.
    Claim { by: usize },
    /// A worker does the next thing for a task; if it is a call, it is good or not; if the reply to a command is lost, the
    /// command is sent again.
    Act { by: usize, which: usize, good: bool, reply_lost: bool },
    /// A worker is killed. What it held is taken back.
    Kill { by: usize },
    /// A worker is frozen until its lease has ended, and goes on: what it held is taken back, and it does not know.
    Freeze { by: usize },
    /// The time of a lead is up, though its task lives. Not where the call may be made only once.
    Lapse { memo: usize },
    /// Some worker looks after the memos.
    Watch,
}

fn step() -> impl Strategy<Value = Step> {
    let by = 0..WORKERS;
    let memo = 0..fleet::MEMOS.len();
    prop_oneof![
        4 => memo.clone().prop_map(|memo| Step::Push { memo }),
        5 => by.clone().prop_map(|by| Step::Claim { by }),
        20 => (by.clone(), 0..8_usize, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(by, which, good, reply_lost)| Step::Act { by, which, good, reply_lost }),
        1 => by.clone().prop_map(|by| Step::Kill { by }),
        3 => by.prop_map(|by| Step::Freeze { by }),
        1 => memo.prop_map(|memo| Step::Lapse { memo }),
        2 => Just(Step::Watch),
    ]
}

#[test]
fn however_leaders_fail_every_follower_is_answered_and_no_key_is_acted_on_twice() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let redis = runtime.block_on(RedisServer::start());
    let db = redial_core::Db::open(redis.url(), "redial").unwrap();
    let wire = runtime.block_on(redis.connection());
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_time: 60_000, ..Config::default() };
    let steps = prop::collection::vec(step(), 1..MOST_STEPS);
    let result = TestRunner::new(config).run(&steps, |steps| {
        runtime.block_on(async {
            let mut fleet = Fleet::new(&db, wire.clone()).await;
            for step in steps {
                fleet.take(step).await;
                fleet.check_places().await;
            }
            fleet.drain().await;
            fleet.check_answers().await;
        });
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

#[tokio::test]
async fn a_delivery_that_lost_its_lease_cannot_keep_the_lead_from_the_one_that_holds_it() {
    let redis = RedisServer::start().await;
    let db = redial_core::Db::open(redis.url(), "redial").unwrap();
    for memo in 0..fleet::MEMOS.len() {
        let mut fleet = Fleet::new(&db, redis.connection().await).await;
        let act = |by| Step::Act { by, which: 0, good: true, reply_lost: false };
        // The frozen one asks for the lead when the second delivery has it already, and so leads in its stead.
        let leads =
            [Step::Push { memo }, Step::Claim { by: 0 }, Step::Freeze { by: 0 }, Step::Claim { by: 1 }, act(1), act(0)];
        let ends = [Step::Push { memo }, Step::Claim { by: 2 }, act(2), act(1), act(1), act(1), act(1)];
        for step in leads.into_iter().chain(ends) {
            fleet.take(step).await;
            fleet.check_places().await;
        }
        fleet.drain().await;
        fleet.check_answers().await;
    }
}

#[tokio::test]
async fn a_lead_taken_by_a_lost_delivery_of_a_parked_task_does_not_strand_its_followers() {
    let redis = RedisServer::start().await;
    let db = redial_core::Db::open(redis.url(), "redial").unwrap();
    for memo in 0..fleet::MEMOS.len() {
        let mut fleet = Fleet::new(&db, redis.connection().await).await;
        let act = |by, which| Step::Act { by, which, good: true, reply_lost: false };
        // A worker freezes with the first task. The next worker has it parked behind the second task, and dies.
        let parks = [
            Step::Push { memo },
            Step::Claim { by: 0 },
            Step::Freeze { by: 0 },
            Step::Push { memo },
            Step::Claim { by: 1 },
            act(1, 1),
            act(1, 0),
            act(1, 1),
            Step::Kill { by: 1 },
        ];
        // The lead ends by itself, and the frozen worker goes on: it asks for the lead, gets it, and dies, too.
        for step in parks.into_iter().chain([Step::Lapse { memo }, act(0, 0), Step::Kill { by: 0 }]) {
            fleet.take(step).await;
            fleet.check_places().await;
        }
        fleet.drain().await;
        fleet.check_answers().await;
    }
}

#[tokio::test]
async fn a_leader_that_waits_for_its_upstream_keeps_the_lead() {
    let redis = RedisServer::start().await;
    let db = redial_core::Db::open(redis.url(), "redial").unwrap();
    for memo in 0..fleet::MEMOS.len() {
        let mut fleet = Fleet::new(&db, redis.connection().await).await;
        let act = |by, which| Step::Act { by, which, good: true, reply_lost: false };
        // The first task leads and the second is parked behind it. Then the breaker of its upstream parks the leader, too.
        let leads = [Step::Push { memo }, Step::Claim { by: 0 }, act(0, 0)];
        let follows = [Step::Push { memo }, Step::Claim { by: 1 }, act(1, 0), act(1, 0)];
        for step in leads.into_iter().chain(follows) {
            fleet.take(step).await;
        }
        fleet.park_behind_breaker(0).await;
        fleet.take(Step::Watch).await;
        fleet.check_places().await;
        assert!(db.memos().is_led(&fleet::hash(memo)).await.unwrap(), "memo {memo}");
    }
}
