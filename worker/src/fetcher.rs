//! Fills free slots with tasks: permit first, then claim, then spawn. At idle it sleeps until a push, or until something is
//! due; nothing is polled.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redial_core::consumer::{ClaimId, Claimed, MAX_BATCH};
use redial_core::db::BLOCK_TIMEOUT;
use redial_core::protocol::id::Token;
use redial_core::protocol::task::{InvalidTask, ReturnAddress, TaskError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::execute::execute;
use crate::job::Unfit;
use crate::persist::{Backoff, answered, failed, persist};
use crate::rotation::Rotation;
use crate::settle::Settler;
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

/// Runs until the worker stops claiming. Returns what still waits for pushes: Redis may give it one until it is told to end.
pub async fn run(worker: Arc<Worker>) -> JoinSet<()> {
    let mut rotation = Rotation::new(worker.lanes.iter().map(|lane| lane.weight));
    let mut claims: Vec<Claims> = worker.lanes.iter().cloned().map(Claims::new).collect();
    let (turn, phase) = watch::channel(Phase(0));
    let mut waits = JoinSet::new();
    for lane in &worker.lanes {
        waits.spawn(wait_for_pushes(worker.clone(), lane.clone(), phase.clone()));
    }
    while let Some(mut permits) = free_slots(&worker).await {
        // Whatever is scheduled from here on may be missed by the claims below, so it rings.
        worker.set_next_due(None);
        let had_woken = |lane: &&Arc<Lane>| lane.heard.swap(false, Ordering::Relaxed);
        let heard: Vec<_> = worker.lanes.iter().filter(had_woken).collect();
        for index in rotation.next_order() {
            if !permits.is_empty() {
                claims[index].fill(&worker, &mut permits).await;
            }
        }
        if permits.is_empty() {
            // What woke this worker may not have been taken, for want of slots: then it is for another one to hear.
            for lane in heard {
                pass_on(&worker, lane).await;
            }
        } else {
            // Slots are left: every queue has given all that it has.
            drop(permits);
            let next = claims.iter().filter_map(|claims| claims.look_again).min();
            sleep(&worker, &turn, next).await;
        }
    }
    for lane in &worker.lanes {
        pass_on_unheard(&worker, lane).await;
    }
    waits
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

/// The claims on one queue. A queue that can't be claimed from is left alone for a while, so that it holds up the others for
/// one command's time at most.
struct Claims {
    lane: Arc<Lane>,
    /// When a scheduled task is due, or a claim that failed may be sent again.
    look_again: Option<Instant>,
    failing: Option<Backoff>,
}

impl Claims {
    fn new(lane: Arc<Lane>) -> Self {
        Self { lane, look_again: None, failing: None }
    }

    /// Claims as many tasks as there are permits, and starts them. A claim that failed is sent again under its id: if it was
    /// carried out and its answer was lost, the tasks in it were not.
    async fn fill(&mut self, worker: &Arc<Worker>, permits: &mut Vec<OwnedSemaphorePermit>) {
        if self.failing.is_some() && self.look_again.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let lane = &self.lane;
        let id = ClaimId::new(lane.consumer.worker(), lane.next_claim.load(Ordering::Relaxed));
        match lane.consumer.claim(&id, permits.len()).await {
            Ok(claimed) => {
                answered(lane);
                lane.clock.sync(claimed.now);
                worker.metrics.claimed(&lane.name, claimed.entries.len());
                self.failing = None;
                if lane.paused.swap(claimed.paused, Ordering::Relaxed) != claimed.paused {
                    tracing::info!(queue = %lane.name, paused = claimed.paused, "the queue was paused or resumed");
                }
                self.look_again = claimed.next_due.map(|due| Instant::now() + lane.clock.until(due));
                start(worker, lane, claimed, permits).await;
                // Not before all are in hand, or the sweeper would take them for strays.
                lane.next_claim.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                failed(worker, lane, "claim", &error);
                let wait = self.failing.get_or_insert_default().next();
                self.look_again = Some(Instant::now() + wait);
            }
        }
    }
}

async fn start(worker: &Arc<Worker>, lane: &Arc<Lane>, claimed: Claimed, permits: &mut Vec<OwnedSemaphorePermit>) {
    for (token, error) in claimed.unreadable {
        tokio::spawn(set_aside(worker.clone(), lane.clone(), token, error));
    }
    for entry in claimed.entries {
        // A claim that was sent again may bring more than was asked for this time.
        let permit = match permits.pop() {
            Some(permit) => permit,
            None => match worker.slots.clone().acquire_owned().await {
                Ok(permit) => permit,
                Err(_) => return,
            },
        };
        let slot = lane.hold(&entry, permit);
        tokio::spawn(execute(worker.clone(), lane.clone(), entry, slot));
    }
}

/// One entry that can't be read stops no other: it becomes a dead letter with all its bytes.
async fn set_aside(worker: Arc<Worker>, lane: Arc<Lane>, token: Token, error: redial_core::Error) {
    tracing::error!(queue = %lane.name, %error, "an entry can't be read");
    let cause = InvalidTask::UnreadableEntry(error.to_string());
    let refusal = TaskError { cause, return_address: ReturnAddress::default() };
    let unfit = Unfit { serial: token.as_str().to_owned(), token, refusal: Box::new(refusal) };
    Settler::new(&worker, &lane).refuse(unfit).await;
}

/// Sleeps until a push, until it is time to look again, or for as long as a blocked connection would at most.
async fn sleep(worker: &Worker, turn: &watch::Sender<Phase>, look_again: Option<Instant>) {
    worker.set_next_due(look_again);
    turn.send_modify(|phase| phase.0 += 1);
    // Redis decides what is due by its own clock in whole milliseconds; ours may be a fraction ahead.
    let until = look_again.map_or(BLOCK_TIMEOUT, |at| at.saturating_duration_since(Instant::now()).min(BLOCK_TIMEOUT))
        + Duration::from_millis(1);
    tokio::select! {
        () = tokio::time::sleep(until) => {}
        () = worker.wake.notified() => {}
        () = worker.stop.cancelled() => {}
    }
    turn.send_modify(|phase| phase.0 += 1);
}

/// While the fetcher is idle, blocks on the list, so that a push from any language wakes it at once. A push that finds no
/// slot free is passed on to another worker.
async fn wait_for_pushes(worker: Arc<Worker>, lane: Arc<Lane>, mut phase: watch::Receiver<Phase>) {
    loop {
        let Some(idle) = next_phase(&worker, &mut phase, |phase| phase.is_idle()).await else {
            return;
        };
        if lane.paused.load(Ordering::Relaxed) {
            // Nothing is moved off a paused queue; each claim sees whether it still is one.
            if next_phase(&worker, &mut phase, |phase| phase != idle).await.is_none() {
                return;
            }
            continue;
        }
        let woken = persist(&worker, &lane, "wait", || lane.consumer.wait_for_push()).await;
        if woken != Some(true) {
            continue;
        }
        if worker.slots.available_permits() == 0 || worker.stop.is_cancelled() {
            pass_on(&worker, &lane).await;
            continue;
        }
        lane.heard.store(true, Ordering::Relaxed);
        worker.wake.notify_one();
        // Not again before the fetcher has looked.
        if next_phase(&worker, &mut phase, |phase| phase != idle).await.is_none() {
            return pass_on_unheard(&worker, &lane).await;
        }
    }
}

/// A worker that stops just when a push woke it will not claim it any more: it is for another one to hear.
async fn pass_on_unheard(worker: &Worker, lane: &Lane) {
    if lane.heard.swap(false, Ordering::Relaxed) {
        pass_on(worker, lane).await;
    }
}

/// Ends the waits, and passes on what one of them was given in its last moment: nobody here would hear of it.
pub async fn end_waits(worker: &Worker, mut waits: JoinSet<()>) {
    waits.shutdown().await;
    for lane in &worker.lanes {
        if let Err(error) = lane.consumer.forward_wakeup().await {
            tracing::debug!(%error, queue = %lane.name, "a push may be heard only at another worker's next look");
        }
    }
}

/// Lets a push that woke this worker wake another one.
async fn pass_on(worker: &Worker, lane: &Lane) {
    persist(worker, lane, "pass on", || lane.consumer.forward_wakeup()).await;
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
