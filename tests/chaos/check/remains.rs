//! What is in Redis at the end: every task is counted once, dead letters hold their bytes, and nothing is left behind.

use std::time::Duration;

use redial_core::QueueName;
use redial_tests::RedisConnection;

use super::{Evidence, Verdict, follows};
use crate::QUEUES;
use crate::kinds::{ELSEWHERE, Purpose, reply_list};
use crate::schedules::Ticks;
use crate::world::World;

pub(super) async fn check(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let ticks = check_ticks(evidence, verdict).await;
    for ((queue, _), fired) in QUEUES.iter().zip(0..).zip(ticks) {
        check_counts(evidence, queue, fired, verdict).await;
        check_letters(evidence, queue, verdict).await;
    }
    check_replies(evidence, verdict).await;
}

/// Each time of a schedule has one result. Returns how many firings each queue had.
async fn check_ticks(evidence: &Evidence<'_>, verdict: &mut Verdict) -> Vec<u64> {
    let due = evidence.ticks.stop(evidence.world).await.unwrap_or_default();
    // The last firing may just have been pushed.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut counts = Vec::new();
    for queue in QUEUES {
        let found = Ticks::results(evidence.world, queue).await;
        counts.push(found.len() as u64);
        for id in due.get(queue).into_iter().flatten() {
            let times = found.get(id).copied().unwrap_or(0);
            if evidence.world.topology.is_lossy() && times == 0 {
                verdict.lost += 1;
            } else {
                verdict.expect(times == 1, || format!("{id} of queue {queue} has {times} results, and must have one"));
            }
        }
    }
    counts
}

/// `waiting + active + scheduled + parked + complete + dead = pushed`.
async fn check_counts(evidence: &Evidence<'_>, queue: &'static str, fired: u64, verdict: &mut Verdict) {
    let db = evidence.world.topology.db();
    let Ok(overview) = db.queue(QueueName::new(queue).expect("the queues have valid names")).overview().await else {
        return verdict.violations.push(format!("queue {queue} cannot be read"));
    };
    let of_queue = || evidence.tasks.iter().filter(|task| task.queue == queue);
    let probes = || evidence.probes.iter().filter(|probe| probe.queue == queue);
    let follow_ups = of_queue().filter_map(|task| {
        let result = evidence.results.get(&task.id)?;
        task.follow_up().filter(|_| follows(task, result))
    });
    let more = follow_ups.count() as u64 + fired;
    let least = of_queue().filter(|task| task.acknowledged_ms.is_some()).count()
        + probes().filter(|probe| probe.pushed_ms.is_some()).count();
    let most = of_queue().count() + probes().count();
    let waiting = overview.waiting + overview.active + overview.scheduled + overview.parked;
    let counted = waiting + overview.completed + overview.died;
    let (least, most) = (least as u64 + more, most as u64 + more);
    let is_conserved = (least..=most).contains(&counted) || evidence.world.topology.is_lossy();
    verdict.expect(is_conserved, || {
        format!("queue {queue} counts {counted} tasks: {least} to {most} were pushed. {overview:?}")
    });
    let may_wait = of_queue().filter(|task| task.purpose == Purpose::Cancelled && !task.is_cancelled).count() as u64;
    verdict.expect(waiting <= may_wait, || format!("queue {queue} still holds {waiting} tasks: {overview:?}"));
}

/// Dead letters hold their producers' bytes.
async fn check_letters(evidence: &Evidence<'_>, queue: &'static str, verdict: &mut Verdict) {
    let letters = evidence.world.queue(queue).dead().await;
    for task in evidence.tasks.iter().filter(|task| task.queue == queue) {
        let result = evidence.results.get(&task.id);
        let must_be = match task.purpose {
            Purpose::NotJson => task.acknowledged_ms.is_some() && !evidence.world.topology.is_lossy(),
            _ => result.is_some_and(|result| result["status"] == "dead"),
        };
        let count = letters.iter().filter(|letter| letter.raw == task.raw.as_bytes()).count();
        verdict.expect(!must_be || count == 1, || {
            format!("{} has {count} dead letters with its bytes, and must have one", task.id)
        });
    }
}

/// A reply list in the queue's slot holds every result once, and one in another slot at least once.
async fn check_replies(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let elsewhere = evidence.world.queue(QUEUES[0]).list(ELSEWHERE).await;
    for queue in QUEUES {
        let here = evidence.world.queue(queue).list(&reply_list(queue)).await;
        for (task, _) in evidence.of(&[Purpose::Replied, Purpose::RepliedElsewhere]) {
            let (list, most) = if task.purpose == Purpose::Replied { (&here, 1) } else { (&elsewhere, usize::MAX) };
            let count = list.iter().filter(|reply| reply["id"] == task.id.as_str()).count();
            let is_lost = count == 0 && evidence.world.topology.is_lossy();
            verdict.expect(task.queue != queue || (1..=most).contains(&count) || is_lost, || {
                format!("{} has {count} replies on its list", task.id)
            });
        }
    }
}

/// No worker is left, so neither are the keys of one.
pub(super) async fn check_keys(world: &World, verdict: &mut Verdict) {
    const PARTS: [&str; 2] = ["}:active:", "}:wait:"];
    // The slot of a call whose worker was killed is dropped by the next request to its limit, which nobody may make any more.
    const ENDS: [&str; 2] = ["}:handoff", "}:replies"];
    let is_of_workers =
        |key: &str| PARTS.iter().any(|part| key.contains(part)) || ENDS.iter().any(|end| key.ends_with(end));
    let mut left = Vec::new();
    for server in world.topology.servers() {
        let Ok(mut connection) = RedisConnection::open(server.url()).await else { continue };
        let keys: Vec<String> =
            redis::cmd("KEYS").arg("redial:*").query_async(&mut connection).await.unwrap_or_default();
        for key in keys.iter().filter(|key| is_of_workers(key)) {
            // A list whose tasks have ended otherwise is removed when it is next looked at.
            let queue = key.split_once("}:").map_or("", |(queue, _)| queue);
            let is_watched = key.contains("}:wait:") && keys.contains(&format!("{queue}}}:watch"));
            if !is_watched {
                left.push(key.clone());
            }
        }
    }
    left.sort_unstable();
    left.dedup();
    verdict.expect(left.is_empty(), || format!("keys are left behind: {left:?}"));
}
