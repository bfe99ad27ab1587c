//! Fills free slots with tasks: permit first, then claim, then spawn. At idle it sleeps until a push, or until something is
//! due; nothing is polled.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redial::consumer::{ClaimId, Claimed, MAX_BATCH};
use redial::store::BLOCK;
use redial::{Reason, Status, TaskResult, UnixMs};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::execute::execute;
use crate::persist::persist;
use crate::rotation::Rotation;
use crate::worker::{Lane, Worker};

/// Counts the fetcher's turns between busy and idle: odd is idle. A number, not a flag, so that a turn too short to be seen
/// is still noticed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Phase(u64);

impl Phase {
    fn is_idle(self) -> bool {
        self.0 % 2 == 1
    }
}

/// Runs until the worker stops claiming.
pub async fn run(worker: Arc<Worker>) {
    let mut rotation = Rotation::new(worker.lanes.iter().map(|lane| lane.weight));
    let (turn, phase) = watch::channel(Phase(0));
    for lane in &worker.lanes {
        tokio::spawn(wait_for_pushes(worker.clone(), lane.clone(), phase.clone()));
    }
    while let Some(mut permits) = free_slots(&worker).await {
        let had_woken = |lane: &&Arc<Lane>| lane.heard.swap(false, Ordering::Relaxed);
        let heard: Vec<_> = worker.lanes.iter().filter(had_woken).collect();
        let mut next_due: Option<UnixMs> = None;
        for index in rotation.next_order() {
            if permits.is_empty() {
                break;
            }
            let lane = &worker.lanes[index];
            let Some(claimed) = claim(&worker, lane, permits.len()).await else {
                return;
            };
            next_due = [next_due, claimed.next_due].into_iter().flatten().min();
            start(&worker, lane, claimed, &mut permits);
        }
        if permits.is_empty() {
            // What woke this worker may not have been taken, for want of slots: then it is for another one to hear.
            for lane in heard {
                persist(&worker, "pass on", || lane.consumer.pass_on_wake()).await;
            }
        } else {
            // Slots are left: every queue has given all that it has.
            drop(permits);
            sleep(&worker, &turn, next_due).await;
        }
    }
}

/// Waits for a free slot and takes all that are free then, up to a batch; `None` when the worker stops claiming.
async fn free_slots(worker: &Worker) -> Option<Vec<OwnedSemaphorePermit>> {
    let first = tokio::select! {
        biased;
        () = worker.stop.cancelled() => return None,
        permit = worker.slots.clone().acquire_owned() => permit.ok()?,
    };
    let mut permits = vec![first];
    while permits.len() < MAX_BATCH {
        match Semaphore::try_acquire_owned(worker.slots.clone()) {
            Ok(permit) => permits.push(permit),
            Err(_) => break,
        }
    }
    Some(permits)
}

/// Claims under one id until it is answered: if an answer was lost, the tasks in it were not.
async fn claim(worker: &Worker, lane: &Lane, most: usize) -> Option<Claimed> {
    let id = ClaimId::new(&worker.id, lane.next_claim.load(Ordering::Relaxed));
    let claimed = tokio::select! {
        claimed = persist(worker, "claim", || lane.consumer.claim(&id, most)) => claimed?,
        () = stopped_for_long(worker) => return None,
    };
    lane.next_claim.fetch_add(1, Ordering::Relaxed);
    worker.clock.sync(claimed.now);
    worker.metrics.claimed(&lane.name, claimed.entries.len());
    Some(claimed)
}

/// A claim under way when the worker stops gets time to be answered, so that its tasks go back by name.
async fn stopped_for_long(worker: &Worker) {
    worker.stop.cancelled().await;
    tokio::time::sleep(BLOCK).await;
}

fn start(
    worker: &Arc<Worker>,
    lane: &Arc<Lane>,
    claimed: Claimed,
    permits: &mut Vec<OwnedSemaphorePermit>,
) {
    for (token, error) in claimed.unreadable {
        tokio::spawn(set_aside(worker.clone(), lane.clone(), token, error));
    }
    for entry in claimed.entries {
        // A claim never brings more than it was asked for.
        let Some(permit) = permits.pop() else { break };
        let slot = lane.hold(&entry, permit);
        tokio::spawn(execute(worker.clone(), lane.clone(), entry, slot));
    }
}

/// One entry that can't be read stops no other: it becomes a dead letter with all its bytes.
async fn set_aside(
    worker: Arc<Worker>,
    lane: Arc<Lane>,
    token: redial::id::Token,
    error: redial::Error,
) {
    tracing::error!(queue = %lane.name, %error, "an entry can't be read");
    let mut result = TaskResult::new(None, Status::Dead, worker.clock.now());
    result.reason = Some(Reason::InvalidTask);
    result.error = Some(error.to_string());
    let letter = redial::consumer::letter(token.as_str(), &result);
    persist(&worker, "bury", || {
        lane.consumer.bury(&token, &letter, None)
    })
    .await;
}

/// Sleeps until a push, until something is due, or for as long as a blocked connection would at most.
async fn sleep(worker: &Worker, phase: &watch::Sender<Phase>, next_due: Option<UnixMs>) {
    worker.set_next_due(next_due);
    phase.send_modify(|phase| phase.0 += 1);
    let until_due = worker.clock.until(worker.next_due()).min(BLOCK);
    // Redis decides what is due by its own clock in whole milliseconds; ours may be a fraction ahead.
    let until_due = until_due + Duration::from_millis(1);
    tokio::select! {
        () = tokio::time::sleep(until_due) => {}
        () = worker.wake.notified() => {}
        () = worker.stop.cancelled() => {}
    }
    phase.send_modify(|phase| phase.0 += 1);
}

/// While the fetcher is idle, blocks on the list, so that a push from any language wakes it at once. A push that finds no
/// slot free is passed on to another worker.
async fn wait_for_pushes(worker: Arc<Worker>, lane: Arc<Lane>, mut phase: watch::Receiver<Phase>) {
    loop {
        let Some(idle) = next_phase(&worker, &mut phase, |phase| phase.is_idle()).await else {
            return;
        };
        let woken = persist(&worker, "wait", || lane.consumer.wait_for_push()).await;
        if woken != Some(true) {
            continue;
        }
        if worker.slots.available_permits() == 0 || worker.stop.is_cancelled() {
            persist(&worker, "pass on", || lane.consumer.pass_on_wake()).await;
            continue;
        }
        lane.heard.store(true, Ordering::Relaxed);
        worker.wake.notify_one();
        // Not again before the fetcher has looked.
        if next_phase(&worker, &mut phase, |phase| phase != idle)
            .await
            .is_none()
        {
            return;
        }
    }
}

/// The first phase that is as wanted; `None` when the worker stops claiming.
async fn next_phase(
    worker: &Worker,
    phase: &mut watch::Receiver<Phase>,
    wanted: impl Fn(Phase) -> bool,
) -> Option<Phase> {
    tokio::select! {
        biased;
        () = worker.stop.cancelled() => None,
        found = phase.wait_for(|phase| wanted(*phase)) => found.ok().map(|phase| *phase),
    }
}
