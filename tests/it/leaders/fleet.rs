//! A queue, its memos, and three workers that do one thing at a time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redial_core::consumer::{ClaimId, Completion, DueCheck, LeaseRenewal, ParkedTasks, WaitList, dead_letter_header};
use redial_core::memo::{
    Delivery, KeptAnswer, LeadDecision, LeadOutcome, LeadTerms, MemoKey, MemoPurpose, Memos, StoredAnswer,
};
use redial_core::queue::entry::{Entry, StartMarker};
use redial_core::{Consumer, Db, Queue, QueueName, Reason, Status, TaskId, TaskResult, UnixMs, WorkerId};
use redis::aio::MultiplexedConnection;
use serde_json::Value;

use super::{Step, WORKERS};
use crate::scripts::lead::end_time_of_lead;

/// The memos: what for, and whether the call may be made only once.
pub(crate) const MEMOS: [(MemoPurpose, bool); 3] =
    [(MemoPurpose::Cache, false), (MemoPurpose::Idempotency, false), (MemoPurpose::Idempotency, true)];
/// Longer than any case.
const LONG: Duration = Duration::from_secs(3_600);

pub(crate) struct Fleet {
    wire: MultiplexedConnection,
    queue: Queue,
    workers: Vec<Hand>,
    pushed: Vec<usize>,
    /// Calls made, for each memo.
    calls: [u64; MEMOS.len()],
    /// Memos of which a leader's time was up while its task lived: then two may have called.
    lapsed: [bool; MEMOS.len()],
}

struct Hand {
    consumer: Consumer,
    claims: u64,
    held: Vec<Held>,
}

struct Held {
    entry: Entry,
    state: State,
}

/// How far a worker has come with a task.
enum State {
    Claimed,
    Leading,
    /// Its start is recorded, if the call may be made only once.
    Begun,
    Called(TaskResult),
    LeadOutcome(TaskResult),
    Parked,
}

/// Ends a lead as a worker does.
async fn settle(
    memos: &Memos,
    consumer: &Consumer,
    key: &MemoKey,
    delivery: Delivery<'_>,
    answer: Option<(&StoredAnswer, Duration)>,
) -> LeadOutcome {
    match memos.settle(&key.hash, delivery, answer).await.unwrap() {
        LeadOutcome::Lost => memos.settle_lost(consumer, key, delivery, answer).await.unwrap(),
        settled => settled,
    }
}

impl Fleet {
    pub(crate) async fn new(db: &Db, mut wire: MultiplexedConnection) -> Self {
        let () = redis::cmd("FLUSHALL").query_async(&mut wire).await.unwrap();
        let queue = db.queue(QueueName::new("q").unwrap());
        let workers = (0..WORKERS).map(|_| Hand::new(&queue)).collect();
        Self { wire, queue, workers, pushed: Vec::new(), calls: [0; MEMOS.len()], lapsed: [false; MEMOS.len()] }
    }

    pub(crate) async fn take(&mut self, step: Step) {
        match step {
            Step::Push { memo } => {
                let id = self.pushed.len();
                self.pushed.push(memo);
                self.queue.enqueue(&[format!("{{\"id\":\"{id}\",\"memo\":{memo}}}")]).await.unwrap();
            }
            Step::Claim { by } => self.workers[by].claim().await,
            Step::Act { by, which, good, reply_lost } => self.act(by, which, good, reply_lost).await,
            Step::Kill { by } => {
                self.take_back(by).await;
                self.workers[by].held.clear();
            }
            Step::Freeze { by } => self.take_back(by).await,
            Step::Lapse { memo } => self.lapse(memo).await,
            Step::Watch => self.watch().await,
        }
    }

    /// The lease of a worker ends, and another one notices.
    async fn take_back(&mut self, by: usize) {
        let consumer = &self.workers[by].consumer;
        let () = redis::cmd("ZADD")
            .arg(&self.queue.keys().workers)
            .arg(1)
            .arg(consumer.worker().as_str())
            .query_async(&mut self.wire)
            .await
            .unwrap();
        let other = &self.workers[(by + 1) % WORKERS].consumer;
        other.reap(consumer.worker(), &LeaseRenewal::from_redis("1".into())).await.unwrap();
    }

    /// A breaker holds back the first task that a worker has in hand: it waits for its upstream, in a list of its own.
    pub(crate) async fn park_behind_breaker(&mut self, by: usize) {
        let Hand { consumer, held, .. } = &mut self.workers[by];
        let Held { entry, .. } = held.remove(0);
        let list = WaitList::breaker("upstream:80");
        assert!(consumer.park(&entry.token, &entry.header, &list, LONG, None).await.unwrap());
    }

    async fn lapse(&mut self, memo: usize) {
        let key = format!("redial:memo:{{{}}}", hash(memo));
        let led = self.queue.db().memos().is_led(&hash(memo)).await.unwrap();
        if led && !MEMOS[memo].1 {
            self.lapsed[memo] = true;
            end_time_of_lead(&mut self.wire, &key).await;
        }
    }

    /// What the sweeper does. It is always time to look.
    async fn watch(&mut self) {
        let memos = self.queue.db().memos();
        let round = self.workers[0].consumer.due_checks(Duration::ZERO).await.unwrap();
        let memo_of = |check: &DueCheck| match check {
            DueCheck::List(list) => (0..MEMOS.len()).find(|memo| hash(*memo) == list.name),
            DueCheck::Deadline(_) | DueCheck::Unreadable(_) => None,
        };
        for memo in round.due.iter().filter_map(memo_of) {
            let followers = ParkedTasks::new(self.queue.clone(), &WaitList::memo(&hash(memo)));
            if followers.next(1).await.unwrap().left == 0 {
                continue;
            }
            match memos.check_on_leader(&hash(memo), self.queue.name()).await.unwrap() {
                LeadDecision::Answer(kept) => self.share(memo, &kept).await,
                LeadDecision::Free => assert!(followers.unpark(None).await.unwrap()),
                LeadDecision::Follow => {
                    if memos.end_lead_of_parked(&hash(memo), &followers).await.unwrap() {
                        followers.unpark(None).await.unwrap();
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn act(&mut self, by: usize, which: usize, good: bool, reply_lost: bool) {
        let count = self.workers[by].held.len();
        if count == 0 {
            return;
        }
        let Held { entry, state } = self.workers[by].held.swap_remove(which % count);
        let next = self.step(by, &entry, state, good, reply_lost).await;
        if let Some(state) = next {
            self.workers[by].held.push(Held { entry, state });
        }
    }

    /// The next thing for a task; `None` when this worker is done with it.
    async fn step(&mut self, by: usize, entry: &Entry, state: State, good: bool, again: bool) -> Option<State> {
        let (_, memo) = named(&entry.raw);
        let (purpose, once) = MEMOS[memo];
        let key = MemoKey { purpose, hash: hash(memo), call: String::new() };
        let delivery = Delivery { serial: &entry.header.serial, token: &entry.token, queue: self.queue.name() };
        let memos = self.queue.db().memos();
        let times = 1 + usize::from(again);
        let terms = LeadTerms { max_age: None, lease: LONG, once, keep: LONG };
        match state {
            State::Claimed => {
                // Delivered again, with its start recorded: like the gate, the outcome in the memo takes precedence.
                if entry.header.crashes > 0
                    && let LeadDecision::Answer(kept) = memos.recheck(&key, delivery, None).await.unwrap()
                {
                    return Some(State::LeadOutcome(kept.result));
                }
                if entry.header.started == StartMarker::Calling {
                    return Some(State::Called(result(Status::Dead, u64::MAX)));
                }
                let mut standing = memos.lead(&key, delivery, terms).await.unwrap();
                if again {
                    standing = memos.lead(&key, delivery, terms).await.unwrap();
                }
                match standing {
                    LeadDecision::Lead => Some(State::Leading),
                    LeadDecision::Answer(kept) => Some(State::LeadOutcome(kept.result)),
                    LeadDecision::Follow => {
                        let mut parked = false;
                        for _ in 0..times {
                            let line = key.wait_list();
                            let follow = self.workers[by].consumer.park(
                                &entry.token,
                                &entry.header,
                                &line,
                                Duration::ZERO,
                                None,
                            );
                            parked |= follow.await.unwrap();
                        }
                        parked.then_some(State::Parked)
                    }
                    other => panic!("{other:?}"),
                }
            }
            State::Parked => {
                if !matches!(memos.recheck(&key, delivery, None).await.unwrap(), LeadDecision::Follow) {
                    let followers = ParkedTasks::new(self.queue.clone(), &key.wait_list());
                    followers.unpark(Some(&entry.header.parked_token())).await.unwrap();
                }
                None
            }
            State::Leading if once => {
                let mut header = entry.header.clone();
                header.started = StartMarker::Calling;
                self.workers[by].consumer.mark_started(&entry.token, &header).await.unwrap().then_some(State::Begun)
            }
            State::Leading | State::Begun => {
                let call = self.calls[memo];
                self.calls[memo] += 1;
                Some(State::Called(result(if good { Status::Ok } else { Status::Dead }, call)))
            }
            State::Called(mut result) => {
                let answer = StoredAnswer::of(&result);
                let keeps = purpose == MemoPurpose::Idempotency || result.status == Status::Ok;
                if entry.header.started == StartMarker::Calling {
                    // Its new delivery goes on leading before it settles; unless an earlier one, that was frozen, has done so.
                    assert!(match memos.recheck(&key, delivery, None).await.unwrap() {
                        LeadDecision::Answer(kept) => again || kept.by == entry.header.serial,
                        LeadDecision::Free => again,
                        _ => true,
                    });
                }
                let kept = keeps.then_some((&answer, LONG));
                let consumer = &self.workers[by].consumer;
                let mut settled = settle(&memos, consumer, &key, delivery, kept).await;
                if again {
                    settled = match settle(&memos, consumer, &key, delivery, kept).await {
                        LeadOutcome::Lost => settled,
                        other => other,
                    };
                }
                match settled {
                    LeadOutcome::Done(queues) if keeps && !queues.is_empty() => {
                        let kept = KeptAnswer { result: result.clone(), by: entry.header.serial.clone() };
                        self.share(memo, &kept).await;
                    }
                    LeadOutcome::Done(queues) if !queues.is_empty() => {
                        ParkedTasks::new(self.queue.clone(), &key.wait_list()).unpark(None).await.unwrap();
                    }
                    LeadOutcome::Stands(kept, _) if purpose == MemoPurpose::Idempotency => result = kept.result,
                    _ => {}
                }
                Some(State::LeadOutcome(result))
            }
            State::LeadOutcome(result) => {
                for _ in 0..times {
                    self.workers[by].end(entry, &result).await;
                }
                None
            }
        }
    }

    /// What the sharer does: some of it, for it may die on the way.
    async fn share(&mut self, memo: usize, kept: &KeptAnswer) {
        let followers = ParkedTasks::new(self.queue.clone(), &WaitList::memo(&hash(memo)));
        let page = followers.next(2).await.unwrap();
        for entry in page.entries {
            let answer = answer(&entry, &kept.result);
            match kept.result.status {
                Status::Ok => drop(followers.finish(&[answer]).await.unwrap()),
                Status::Dead => {
                    let dead_letter_header = dead_letter_header(&entry.header.serial, None, &kept.result);
                    followers.bury(&entry.token, &dead_letter_header, Some(&answer)).await.unwrap();
                }
            }
        }
    }

    /// Everyone goes on without failing until all is answered.
    pub(crate) async fn drain(&mut self) {
        for by in 0..WORKERS {
            self.take(Step::Kill { by }).await;
        }
        // Some wait for a moment by the clock, and the machine may stand still: a number of rounds says nothing.
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(30) {
            self.watch().await;
            self.workers[0].claim().await;
            while !self.workers[0].held.is_empty() {
                self.act(0, 0, true, false).await;
            }
            let counts = self.queue.counts().await.unwrap();
            if counts.waiting + counts.scheduled + counts.parked == 0 {
                break;
            }
        }
        self.watch().await;
    }

    /// Every task is in one place, and has its result when it has ended.
    pub(crate) async fn check_places(&mut self) {
        let counts = self.queue.counts().await.unwrap();
        let mut active = 0_u64;
        for worker in &self.workers {
            active += worker.consumer.held_tokens().await.unwrap().len() as u64;
        }
        let complete: Option<u64> =
            redis::cmd("HGET").arg(&self.queue.keys().stats).arg("complete").query_async(&mut self.wire).await.unwrap();
        let ended = complete.unwrap_or_default() + counts.dead;
        let all = counts.waiting + counts.scheduled + counts.parked + active + ended;
        assert_eq!(all, self.pushed.len() as u64, "{counts:?}, {active} active, {complete:?} complete");
    }

    pub(crate) async fn check_answers(&mut self) {
        self.check_places().await;
        let mut by_memo: HashMap<usize, Vec<String>> = HashMap::new();
        for (id, memo) in self.pushed.iter().enumerate() {
            let result = self.queue.result(&TaskId::new(&id.to_string()).unwrap()).await.unwrap();
            let result: Value = serde_json::from_str(&result.unwrap_or_else(|| panic!("{id} has no answer"))).unwrap();
            by_memo.entry(*memo).or_default().push(result["body_text"].to_string());
        }
        for (memo, (purpose, once)) in MEMOS.iter().enumerate() {
            let mut answers = by_memo.remove(&memo).unwrap_or_default();
            answers.dedup();
            assert!(!once || self.calls[memo] <= 1, "{} calls that may be made once", self.calls[memo]);
            if *purpose == MemoPurpose::Idempotency && !self.lapsed[memo] {
                assert!(answers.len() <= 1, "{answers:?}");
            }
            let key: Vec<String> = redis::cmd("KEYS").arg("*watch*").query_async(&mut self.wire).await.unwrap();
            assert!(key.is_empty(), "{key:?} of {purpose:?}: nothing is watched when no one waits");
        }
    }
}

impl Hand {
    fn new(queue: &Queue) -> Self {
        let consumer = Consumer::new(queue.clone(), WorkerId::random(), LONG);
        Self { consumer, claims: 0, held: Vec::new() }
    }

    async fn claim(&mut self) {
        self.claims += 1;
        let id = ClaimId::new(self.consumer.worker(), self.claims);
        let claimed = self.consumer.claim(&id, 4).await.unwrap();
        self.held.extend(claimed.entries.into_iter().map(|entry| Held { entry, state: State::Claimed }));
    }

    async fn end(&self, entry: &Entry, result: &TaskResult) {
        let answer = answer(entry, result);
        match result.status {
            Status::Ok => drop(self.consumer.finish(&[answer]).await.unwrap()),
            Status::Dead => {
                let dead_letter_header = dead_letter_header(&entry.header.serial, None, result);
                self.consumer.bury(&entry.token, &dead_letter_header, Some(&answer)).await.unwrap();
            }
        }
    }
}

pub(crate) fn hash(memo: usize) -> String {
    format!("m{memo}")
}

/// The id and the memo of a task.
fn named(raw: &[u8]) -> (String, usize) {
    let task: Value = serde_json::from_slice(raw).unwrap();
    (task["id"].as_str().unwrap().to_owned(), usize::try_from(task["memo"].as_u64().unwrap()).unwrap())
}

/// The result of the `n`th call.
fn result(status: Status, n: u64) -> TaskResult {
    let mut result = TaskResult::new(None, status, UnixMs(1));
    result.body_text = Some(format!("call {n}"));
    result.reason = (status == Status::Dead).then_some(Reason::OutcomeUnknown);
    result
}

fn answer(entry: &Entry, result: &TaskResult) -> Completion {
    let id = TaskId::new(&named(&entry.raw).0).unwrap();
    let result = TaskResult { id: Some(id.clone()), ..result.clone() };
    Completion {
        token: entry.token.clone(),
        id,
        result: result.to_line(),
        ttl: LONG,
        reply_to: None,
        last_entry: None,
        follow_ups: Vec::new(),
    }
}
