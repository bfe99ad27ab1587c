//! One queue, its workers as they see themselves, and what becomes of every task.

use std::time::Duration;

use redial_core::consumer::{ClaimId, Completion, RescheduleReason, dead_letter_header};
use redial_core::queue::entry::{Entry, StartMarker};
use redial_core::{Consumer, Db, Queue, QueueName, Reason, Status, TaskId, TaskResult, UnixMs, WorkerId};
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, ToRedisArgs};

use super::{Step, WORKERS};
use crate::scripts::AWKWARD;

const HOUR: Duration = Duration::from_secs(3600);

/// What has become of a task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fate {
    /// It is on its way.
    Live,
    /// It was finished, with this result.
    Complete(String),
    /// It is a dead letter, with this result.
    Dead(String),
    /// Its dead letter was dropped; this result may still stand.
    Dropped(String),
}

#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) raw: Vec<u8>,
    pub(crate) fate: Fate,
}

/// A worker, and what it believes.
pub(super) struct Hand {
    pub(super) consumer: Consumer,
    pub(super) id: WorkerId,
    pub(super) next_claim: u64,
    pub(super) held: Vec<Entry>,
}

pub(crate) struct World {
    pub(crate) queue: Queue,
    pub(super) wire: MultiplexedConnection,
    pub(super) hands: Vec<Hand>,
    /// Every worker there ever was.
    pub(crate) workers: Vec<WorkerId>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) replayed: u64,
}

impl World {
    pub(crate) async fn new(db: &Db, wire: MultiplexedConnection) -> Self {
        let mut world = Self {
            queue: db.queue(QueueName::new("q").unwrap()),
            wire,
            hands: Vec::new(),
            workers: Vec::new(),
            tasks: Vec::new(),
            replayed: 0,
        };
        let () = world.ask("FLUSHALL").await;
        for _ in 0..WORKERS {
            let hand = world.hire();
            world.hands.push(hand);
        }
        world
    }

    pub(super) fn hire(&mut self) -> Hand {
        let id = WorkerId::from_redis(format!("w{}", self.workers.len()));
        self.workers.push(id.clone());
        Hand { consumer: Consumer::new(self.queue.clone(), id.clone(), HOUR), id, next_claim: 0, held: Vec::new() }
    }

    pub(crate) async fn ask<T: FromRedisValue>(&self, command: impl ToRedisArgs) -> T {
        let mut cmd = redis::Cmd::new();
        let answer = cmd.arg(command).query_async(&mut self.wire.clone()).await;
        answer.unwrap()
    }

    pub(crate) async fn take(&mut self, step: Step) {
        match step {
            Step::Push { kind } => self.push(kind).await,
            Step::Wake => self.wake().await,
            Step::PassOn => self.hands[0].consumer.forward_wakeup().await.unwrap(),
            Step::Claim { by, most, answer_lost } => self.claim(by, most, answer_lost).await,
            Step::LateCopy { by, back } => self.late_copy(by, back).await,
            Step::Begin { by, which } => self.begin(by, which).await,
            Step::Finish { by, most, answer_lost } => self.finish(by, most, answer_lost).await,
            Step::Retry { by, which, later } => self.retry(by, which, later).await,
            Step::Bury { by, which } => self.bury(by, which).await,
            Step::Kill { by } => self.hands[by] = self.hire(),
            Step::LeaseEnds { of } => self.end_lease(of).await,
            Step::BeatAndReap { by, most } => self.beat_and_reap(by, most).await,
            Step::Release { by } => drop(self.hands[by].consumer.release().await.unwrap()),
            Step::ReleaseStrays { by } => self.release_strays(by).await,
            Step::AllDue => self.all_due().await,
            Step::Replay { which } => self.replay(which).await,
            Step::Drop { which } => self.drop_dead(which).await,
            Step::Cancel { which } => self.cancel(which).await,
            Step::ForgetScripts => self.ask(("SCRIPT", "FLUSH")).await,
        }
    }

    async fn push(&mut self, kind: usize) {
        let mut raw = format!("{}|", self.tasks.len()).into_bytes();
        raw.extend_from_slice(AWKWARD[kind]);
        self.queue.enqueue(&[&raw]).await.unwrap();
        let fate = Fate::Live;
        self.tasks.push(Task { raw, fate });
    }

    /// What `wait_for_push` does on an empty list when a push comes, without the wait.
    async fn wake(&mut self) {
        let keys = self.queue.keys();
        let (waiting, woken) = (keys.waiting.clone(), keys.handoff.clone());
        let _: Option<Vec<u8>> = self.ask(("LMOVE", waiting, woken, "RIGHT", "LEFT")).await;
    }

    pub(super) async fn claim(&mut self, by: usize, most: usize, answer_lost: bool) {
        let hand = &mut self.hands[by];
        let id = ClaimId::new(&hand.id, hand.next_claim);
        let claimed = hand.consumer.claim(&id, most).await.unwrap();
        assert!(claimed.unreadable.is_empty());
        if !answer_lost {
            hand.next_claim += 1;
            hand.held.extend(claimed.entries);
        }
    }

    async fn late_copy(&mut self, by: usize, back: u64) {
        let hand = &self.hands[by];
        let Some(number) = hand.next_claim.checked_sub(1 + back) else {
            return;
        };
        let before = self.places().await;
        let id = ClaimId::new(&hand.id, number);
        hand.consumer.claim(&id, 100).await.unwrap();
        assert_eq!(self.places().await, before, "a late copy moved a task");
    }

    /// Lets go of one entry that a worker believes to hold, and says whether it does.
    async fn let_go(&mut self, by: usize, which: usize) -> Option<(Entry, bool)> {
        let held = &mut self.hands[by].held;
        if held.is_empty() {
            return None;
        }
        let entry = held.remove(which % held.len());
        let holds = self.holds(by, &entry).await;
        Some((entry, holds))
    }

    /// Whether a worker still holds what it believes to hold. If a token ever stood for two tasks, this finds out.
    async fn holds(&self, by: usize, entry: &Entry) -> bool {
        let active = self.queue.keys().active(&self.hands[by].id);
        let found: Option<Vec<u8>> = self.ask(("HGET", active, entry.token.as_str())).await;
        found.is_some_and(|found| {
            let ends = [b"\n", entry.raw.as_slice()].concat();
            assert!(found.ends_with(&ends), "a token stands for another task");
            true
        })
    }

    async fn begin(&mut self, by: usize, which: usize) {
        let Some((mut entry, holds)) = self.let_go(by, which).await else {
            return;
        };
        entry.header.started = StartMarker::Calling;
        let hand = &mut self.hands[by];
        let may = hand.consumer.mark_started(&entry.token, &entry.header).await.unwrap();
        assert_eq!(may, holds);
        hand.held.push(entry);
    }

    pub(super) async fn finish(&mut self, by: usize, most: usize, answer_lost: bool) {
        let (mut answers, mut expected) = (Vec::new(), Vec::new());
        while answers.len() < most
            && let Some((entry, holds)) = self.let_go(by, 0).await
        {
            answers.push(answer(&entry, "ok"));
            expected.push(holds);
        }
        let consumer = &self.hands[by].consumer;
        assert_eq!(consumer.finish(&answers).await.unwrap(), expected);
        if answer_lost {
            let again = consumer.finish(&answers).await.unwrap();
            assert_eq!(again, vec![false; answers.len()]);
        }
        for (answer, _) in answers.into_iter().zip(expected).filter(|(_, done)| *done) {
            self.meets(&answer.id, Fate::Complete(answer.result));
        }
    }

    /// A task that is on its way, and no other, meets its fate.
    fn meets(&mut self, id: &TaskId, fate: Fate) {
        let task: usize = id.as_str().parse().unwrap();
        let task = &mut self.tasks[task];
        assert_eq!(task.fate, Fate::Live, "a second answer");
        task.fate = fate;
    }

    async fn retry(&mut self, by: usize, which: usize, later: bool) {
        let Some((mut entry, holds)) = self.let_go(by, which).await else {
            return;
        };
        entry.header.state.counted += 1;
        entry.header.started = StartMarker::Absent;
        let wait = if later { HOUR } else { Duration::ZERO };
        let consumer = &self.hands[by].consumer;
        let due = consumer
            .reschedule(&entry.token, &entry.header, wait, UnixMs(0), Some(UnixMs(u64::MAX)), RescheduleReason::Retried)
            .await
            .unwrap();
        assert_eq!(due.is_some(), holds);
    }

    async fn bury(&mut self, by: usize, which: usize) {
        let Some((entry, holds)) = self.let_go(by, which).await else {
            return;
        };
        let answer = answer(&entry, "dead");
        let mut result = TaskResult::new(Some(answer.id.clone()), Status::Dead, UnixMs(1));
        result.reason = Some(Reason::Rejected);
        let letter = dead_letter_header(&entry.header.serial, None, &result);
        let consumer = &self.hands[by].consumer;
        let buried = consumer.bury(&entry.token, &letter, Some(&answer)).await;
        assert_eq!(buried.unwrap(), holds);
        if holds {
            self.meets(&answer.id, Fate::Dead(answer.result));
        }
    }

    /// Which task these bytes are.
    pub(crate) fn task_of(&self, raw: &[u8]) -> usize {
        let task = self.tasks.iter().position(|task| task.raw == raw);
        task.unwrap_or_else(|| panic!("no task is {:?}", raw.escape_ascii().to_string()))
    }
}

fn answer(entry: &Entry, what: &str) -> Completion {
    let number = entry.raw.split(|byte| *byte == b'|').next().unwrap();
    Completion {
        token: entry.token.clone(),
        id: TaskId::new(std::str::from_utf8(number).unwrap()).unwrap(),
        result: format!("{what} {}", entry.token.as_str()),
        ttl: HOUR,
        reply_to: None,
        last_entry: None,
        follow_ups: Vec::new(),
    }
}
