//! What happens to a queue besides its workers' calls: leases that end, sweeps, time, and operators.

use redial_core::consumer::{TakenBack, dead_letter_header};
use redial_core::script::TypedCall;
use redial_core::script::ending::{Ending, ReplyRoute};
use redial_core::script::stored::{BuriedTask, BuryStored};
use redial_core::script::task::{Bury, Reap};
use redial_core::{Reason, Status, TaskId, TaskResult, UnixMs};

use super::WORKERS;
use super::world::{Fate, World};

impl World {
    pub(super) async fn end_lease(&mut self, of: usize) {
        let workers = &self.queue.keys().workers;
        let worker = self.hands[of].id.as_str();
        let () = self.ask(("ZADD", workers, "XX", 1, worker)).await;
    }

    pub(super) async fn beat_and_reap(&mut self, by: usize, most: usize) {
        let beat = self.hands[by].consumer.heartbeat().await.unwrap();
        let keys = self.queue.keys();
        // Here, a lease ends when the test says so: by a renewal in the distant past.
        let others = beat.leases.into_iter().filter(|(worker, _)| *worker != self.hands[by].id);
        for (ended, renewal) in others.filter(|(_, renewal)| renewal.stated_end() == UnixMs(1)) {
            let call = Reap {
                workers: &keys.workers,
                active: &keys.active(&ended),
                scheduled: &keys.scheduled,
                stored: &keys.stored,
                stats: &keys.stats,
                worker: ended.as_str(),
                reason: "reaped",
                renewal: renewal.as_str(),
                max_tasks: most,
                max_bytes: 1 << 20,
                tokens: &[],
            };
            call.invocation().run(&mut self.wire.clone()).await.unwrap();
        }
    }

    pub(super) async fn release_strays(&mut self, by: usize) {
        let hand = &self.hands[by];
        let mut strays = hand.consumer.held_tokens().await.unwrap();
        let next = hand.next_claim;
        strays.retain(|token| token.claim_number().is_some_and(|n| n < next));
        strays.retain(|token| !hand.held.iter().any(|entry| entry.token == *token));
        let count = strays.len();
        let TakenBack { moved: taken, .. } = hand.consumer.release_strays(&strays).await.unwrap();
        assert_eq!(taken, count);
    }

    pub(super) async fn all_due(&mut self) {
        let scheduled = &self.queue.keys().scheduled;
        let entries: Vec<Vec<u8>> = self.ask(("ZRANGE", scheduled, 0, -1)).await;
        for entry in entries {
            let () = self.ask(("ZADD", scheduled, "XX", 1, entry)).await;
        }
    }

    pub(super) async fn replay(&mut self, which: usize) {
        let letters = self.queue.dead_page(0).await.unwrap();
        let Some(letter) = letters.get(which % letters.len().max(1)) else {
            return;
        };
        assert!(self.queue.replay(letter).await.unwrap());
        assert!(!self.queue.replay(letter).await.unwrap());
        let task = self.task_of(&letter.raw);
        self.tasks[task].fate = Fate::Live;
        self.replayed += 1;
    }

    pub(super) async fn drop_dead(&mut self, which: usize) {
        let letters = self.queue.dead_page(0).await.unwrap();
        let Some(letter) = letters.get(which % letters.len().max(1)) else {
            return;
        };
        assert!(self.queue.drop_dead(letter).await.unwrap());
        assert!(!self.queue.drop_dead(letter).await.unwrap());
        let task = self.task_of(&letter.raw);
        let Fate::Dead(result) = self.tasks[task].fate.clone() else {
            panic!("a dead letter of a task that is not dead");
        };
        self.tasks[task].fate = Fate::Dropped(result);
    }

    /// What `Queue::cancel` does once it has found a task; the tasks here have no readable id.
    pub(super) async fn cancel(&mut self, which: usize) {
        let live: Vec<usize> = (0..self.tasks.len()).filter(|n| self.tasks[*n].fate == Fate::Live).collect();
        if live.is_empty() {
            return;
        }
        let number = live[which % live.len()];
        let raw = self.tasks[number].raw.clone();
        let (place, place_type, member) = self.lies_at(&raw).await;
        let keys = self.queue.keys();
        let id = TaskId::new(&number.to_string()).unwrap();
        let result_key = keys.result(&id);
        let mut told = TaskResult::new(Some(id), Status::Dead, UnixMs(1));
        told.reason = Some(Reason::Cancelled);
        let ending = Ending {
            result_key: &result_key,
            ttl_ms: 3_600_000,
            result: "cancelled",
            reply: ReplyRoute::None,
            stream: None,
            follow_ups: &[],
        };
        if place_type == "stored" {
            let letter = dead_letter_header("c", None, &told);
            return self.cancel_stored(number, &member, &letter, ending).await;
        }
        let call = Bury {
            place: &place,
            dead: &keys.dead,
            stats: &keys.stats,
            replies: &keys.replies,
            waiters: &keys.waiters,
            waiting: &keys.waiting,
            stored: &keys.stored,
            scheduled: &keys.scheduled,
            place_type,
            member: &member,
            letter_header: &dead_letter_header("c", None, &told),
            token: "c",
            ending: Some(ending),
        };
        for done in [true, false] {
            let reply = call.invocation().run(&mut self.wire.clone()).await.unwrap();
            assert_eq!(Bury::parse(reply).unwrap(), done);
        }
        self.tasks[number].fate = Fate::Dead("cancelled".into());
    }

    async fn cancel_stored(&mut self, number: usize, serial: &[u8], letter_header: &str, ending: Ending<'_>) {
        let keys = self.queue.keys();
        let serial = std::str::from_utf8(serial).unwrap();
        let tasks = [BuriedTask { serial, letter_header, ending: Some(ending) }];
        let call = BuryStored {
            stored: &keys.stored,
            scheduled: &keys.scheduled,
            watch: &keys.watch,
            dead: &keys.dead,
            stats: &keys.stats,
            replies: &keys.replies,
            waiters: &keys.waiters,
            waiting: &keys.waiting,
            tasks: &tasks,
        };
        for done in [true, false] {
            let reply = call.invocation().run(&mut self.wire.clone()).await.unwrap();
            assert_eq!(BuryStored::parse(reply).unwrap(), [done]);
        }
        self.tasks[number].fate = Fate::Dead("cancelled".into());
    }

    async fn lies_at(&self, raw: &[u8]) -> (String, &'static str, Vec<u8>) {
        let keys = self.queue.keys();
        let ends = [b"\n", raw].concat();
        for list in [&keys.waiting, &keys.handoff] {
            let raws: Vec<Vec<u8>> = self.ask(("LRANGE", list, 0, -1)).await;
            if raws.iter().any(|lies| lies == raw) {
                return (list.clone(), "list", raw.to_vec());
            }
        }
        let stored: Vec<(Vec<u8>, Vec<u8>)> = self.ask(("HGETALL", &keys.stored)).await;
        if let Some((serial, _)) = stored.into_iter().find(|(_, entry)| entry.ends_with(&ends)) {
            return (keys.stored.clone(), "stored", serial);
        }
        for worker in &self.workers {
            let active = keys.active(worker);
            let held: Vec<(Vec<u8>, Vec<u8>)> = self.ask(("HGETALL", &active)).await;
            if let Some((token, _)) = held.into_iter().find(|(_, entry)| entry.ends_with(&ends)) {
                return (active, "hash", token);
            }
        }
        panic!("a live task is nowhere");
    }

    /// Every worker dies, and a new one finishes all that is left.
    pub(super) async fn drain(&mut self) {
        for hand in 0..WORKERS {
            self.end_lease(hand).await;
            self.hands[hand] = self.hire();
        }
        // Those who were killed before hold a lease that would end in an hour.
        let workers = &self.queue.keys().workers;
        let known: Vec<String> = self.ask(("ZRANGE", workers, 0, -1)).await;
        for worker in known {
            let () = self.ask(("ZADD", workers, 1, worker)).await;
        }
        while self.tasks.iter().any(|task| task.fate == Fate::Live) {
            self.beat_and_reap(0, 100).await;
            self.all_due().await;
            self.claim(0, 100, false).await;
            self.finish(0, 100, false).await;
        }
    }
}
