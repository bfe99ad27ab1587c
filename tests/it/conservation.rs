//! Nothing is lost and nothing is doubled, whatever happens in whatever order.
//!
//! Random interleavings of all that producers, workers, failures and operators do to a queue, against a real Redis. After
//! every step each task must be in exactly one place with its producer's bytes, and the counters must add up; in the end a
//! single worker must be able to finish everything that is left. Nothing depends on time: leases end and tasks become due by steps of
//! their own, so that a failing case fails again, and shrinks.

mod ledger;
mod sweeps;
mod world;

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use redial_tests::RedisServer;

use world::World;

/// How many interleavings are tried: all of them in well under a minute.
const CASES: u32 = 96;
const MOST_STEPS: usize = 80;
const WORKERS: usize = 3;

/// What may happen. Workers are numbered; `which` picks among what is there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// A producer pushes a task with this kind of bytes.
    Push { kind: usize },
    /// A push wakes an idle worker.
    Wake,
    /// A worker that was woken has no room for the task.
    PassOn,
    /// A worker claims; if the reply to its last claim was lost, under the same id.
    Claim { by: usize, most: usize, answer_lost: bool },
    /// A broken connection delivers a copy of an older claim.
    LateCopy { by: usize, back: u64 },
    /// A worker records that it is about to make a call.
    Begin { by: usize, which: usize },
    /// A worker finishes some of the tasks that it believes to hold; if the reply is lost, it does so again.
    Finish { by: usize, most: usize, answer_lost: bool },
    /// A worker gives a task back, to be claimed at once or later.
    Retry { by: usize, which: usize, later: bool },
    /// A worker buries a task.
    Bury { by: usize, which: usize },
    /// A worker is killed; another one takes its place.
    Kill { by: usize },
    /// A worker is cut off until its lease has ended, without noticing.
    LeaseEnds { of: usize },
    /// A worker renews its lease, and takes back this many tasks from each whose lease has ended.
    BeatAndReap { by: usize, most: usize },
    /// A worker gives back everything that it holds.
    Release { by: usize },
    /// A worker gives back the tasks that Redis lists under its name and that it does not know.
    ReleaseStrays { by: usize },
    /// Time passes until all scheduled tasks are due.
    AllDue,
    /// An operator replays a dead letter.
    Replay { which: usize },
    /// An operator drops a dead letter.
    Drop { which: usize },
    /// A producer cancels one of its tasks, wherever it is.
    Cancel { which: usize },
    /// Redis forgets its scripts.
    ForgetScripts,
}

fn step() -> impl Strategy<Value = Step> {
    let by = 0..WORKERS;
    let which = 0..8_usize;
    prop_oneof![
        8 => (0..6_usize).prop_map(|kind| Step::Push { kind }),
        3 => Just(Step::Wake),
        1 => Just(Step::PassOn),
        8 => (by.clone(), 1..5_usize, any::<bool>())
            .prop_map(|(by, most, answer_lost)| Step::Claim { by, most, answer_lost }),
        3 => (by.clone(), 0..3_u64).prop_map(|(by, back)| Step::LateCopy { by, back }),
        2 => (by.clone(), which.clone()).prop_map(|(by, which)| Step::Begin { by, which }),
        4 => (by.clone(), 1..4_usize, any::<bool>())
            .prop_map(|(by, most, answer_lost)| Step::Finish { by, most, answer_lost }),
        4 => (by.clone(), which.clone(), any::<bool>())
            .prop_map(|(by, which, later)| Step::Retry { by, which, later }),
        3 => (by.clone(), which.clone()).prop_map(|(by, which)| Step::Bury { by, which }),
        1 => by.clone().prop_map(|by| Step::Kill { by }),
        3 => by.clone().prop_map(|of| Step::LeaseEnds { of }),
        3 => (by.clone(), 1..4_usize).prop_map(|(by, most)| Step::BeatAndReap { by, most }),
        1 => by.clone().prop_map(|by| Step::Release { by }),
        2 => by.prop_map(|by| Step::ReleaseStrays { by }),
        3 => Just(Step::AllDue),
        2 => which.clone().prop_map(|which| Step::Replay { which }),
        1 => which.clone().prop_map(|which| Step::Drop { which }),
        3 => which.prop_map(|which| Step::Cancel { which }),
        1 => Just(Step::ForgetScripts),
    ]
}

#[test]
fn every_task_is_in_exactly_one_place_whatever_happens() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let redis = runtime.block_on(RedisServer::start());
    let db = redial_core::Db::open(redis.url(), "redial").unwrap();
    let wire = runtime.block_on(redis.connection());
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_time: 60_000, ..Config::default() };
    let steps = prop::collection::vec(step(), 1..MOST_STEPS);
    let result = TestRunner::new(config).run(&steps, |steps| {
        runtime.block_on(async {
            let mut world = World::new(&db, wire.clone()).await;
            for step in steps {
                world.take(step).await;
                world.check().await;
            }
            tokio::time::timeout(Duration::from_secs(10), world.drain()).await.expect("what is left can be finished");
            world.check().await;
        });
        Ok(())
    });
    // As text: the debug form of a failing case is its steps, one a line.
    result.unwrap_or_else(|failure| panic!("{failure}"));
}
