//! Takes up what others left: tasks of workers whose lease has ended, entries in this worker's name that it knows nothing
//! of, replies that were not delivered, lines that no one looks after.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use redial_core::WorkerId;
use redial_core::consumer::{DueCheck, MAX_BATCH, ParkedTasks, TakenBack, WaitReason};
use redial_core::protocol::id::Token;
use tokio::task::JoinHandle;

use crate::line;
use crate::sharer;
use crate::worker::{Lane, Worker};

/// Sweeps one queue, a little at each heartbeat. What fails is left for the next one.
#[derive(Debug)]
pub struct Sweeper {
    worker: Arc<Worker>,
    lane: Arc<Lane>,
    /// After Redis was away every lease has ended: the living get one lease's time to renew theirs.
    reap_after: Instant,
    /// Strays of the last beat: one that is there again is no coincidence.
    suspects: HashSet<Token>,
    /// Undelivered replies of the last beat, likewise.
    waiting_replies: HashSet<Token>,
    /// The last look after lines, while it takes.
    looking: Option<JoinHandle<()>>,
}

impl Sweeper {
    /// A sweeper that has seen nothing yet.
    pub fn new(worker: Arc<Worker>, lane: Arc<Lane>) -> Self {
        Self {
            worker,
            lane,
            reap_after: Instant::now(),
            suspects: HashSet::new(),
            waiting_replies: HashSet::new(),
            looking: None,
        }
    }

    /// Reap nothing for one lease.
    pub fn hold_off(&mut self) {
        self.reap_after = Instant::now() + self.worker.config.lease;
    }

    /// Takes back all that a worker held whose lease has ended.
    pub async fn reap(&self, ended: &WorkerId) {
        if Instant::now() < self.reap_after {
            return;
        }
        let mut total = 0;
        while let Ok(TakenBack { moved, remaining }) = self.lane.consumer.reap(ended).await {
            total += moved;
            if remaining == 0 || moved == 0 {
                break;
            }
        }
        if total > 0 {
            tracing::warn!(queue = %self.lane.name, ended = %ended, tasks = total, "a worker's lease has ended: its tasks are taken back");
            self.worker.metrics.reaped(&self.lane.name, total);
            self.worker.wake.notify_one();
        }
    }

    /// Compares what Redis has in this worker's name with what it knows of. What Redis does not have was cancelled, or is
    /// another worker's: its call is given up. What this worker does not know of it gives back: Redis lost a write of ours when
    /// it crashed. That must be seen at two beats in a row, for a claim or a finish may be under way.
    pub async fn compare(&mut self, held: usize) {
        // Both are read first: what is claimed from here on is not among them.
        let next_claim = self.lane.next_claim.load(Ordering::Relaxed);
        let mine = self.lane.tokens();
        if held == 0 && mine.is_empty() {
            self.suspects.clear();
            return;
        }
        let Ok(tokens) = self.lane.consumer.held_tokens().await else {
            return;
        };
        let tokens: HashSet<Token> = tokens.into_iter().collect();
        self.lane.lose(mine.into_iter().filter(|token| !tokens.contains(token)));
        let unknown = tokens
            .into_iter()
            .filter(|token| token.claim_number().is_none_or(|n| n < next_claim) && !self.lane.holds(token));
        let suspects: HashSet<Token> = unknown.collect();
        let strays: Vec<Token> = suspects.intersection(&self.suspects).take(MAX_BATCH).cloned().collect();
        self.suspects = suspects;
        if !strays.is_empty() && self.lane.consumer.release_strays(&strays).await.is_ok() {
            tracing::warn!(queue = %self.lane.name, tasks = strays.len(), "Redis lost a write when it crashed: these tasks run again");
            self.worker.wake.notify_one();
        }
    }

    /// Looks after lines whose tasks have waited for long, and tasks in them whose deadline has come.
    pub fn look_after(&mut self, watched: usize) {
        if watched == 0 || self.looking.as_ref().is_some_and(|looking| !looking.is_finished()) {
            return;
        }
        let (worker, lane) = (self.worker.clone(), self.lane.clone());
        // On its own: a beat must not wait for it.
        self.looking = Some(tokio::spawn(async move {
            let Ok(due) = lane.consumer.due_checks(worker.config.lease).await else { return };
            for DueCheck { list, task } in due {
                if task.is_some() {
                    let followers = ParkedTasks::new(lane.consumer.queue().clone(), &list);
                    sharer::promote(&worker, &followers, task.as_ref()).await;
                    continue;
                }
                match list.reason {
                    WaitReason::Memo => sharer::look_after(&worker, &lane, &list.name).await,
                    WaitReason::Breaker => line::tend(&worker, &lane, &list.name),
                }
            }
        }));
    }

    /// Delivers replies for lists in another Cluster slot that whoever finished their tasks did not get to deliver.
    pub async fn deliver_replies(&mut self, undelivered: usize) {
        if undelivered == 0 {
            self.waiting_replies.clear();
            return;
        }
        let Ok(tokens) = self.lane.consumer.undelivered().await else {
            return;
        };
        let tokens: HashSet<Token> = tokens.into_iter().collect();
        let left: Vec<Token> = tokens.intersection(&self.waiting_replies).cloned().collect();
        for token in left {
            if let Err(error) = self.lane.consumer.queue().deliver_reply(&token).await {
                tracing::warn!(queue = %self.lane.name, %error, "a reply can't be delivered yet");
            }
        }
        self.waiting_replies = tokens;
    }
}
