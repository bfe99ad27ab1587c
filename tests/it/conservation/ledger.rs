//! Where every task is, by Redis, against where it must be.

use std::collections::{BTreeMap, BTreeSet};

use redial_core::TaskId;

use super::world::{Fate, World};

/// Every place with the raw bytes in it, by task.
pub(crate) type Places = BTreeMap<usize, Vec<String>>;

impl World {
    /// Where each task is; panics at bytes that no producer pushed, and at two entries of one serial.
    pub(crate) async fn places(&self) -> Places {
        let keys = self.queue.keys();
        let mut places = Places::new();
        let mut put = |raw: &[u8], place: &str| {
            let task = self.task_of(raw);
            places.entry(task).or_default().push(place.to_owned());
        };
        for list in [&keys.waiting, &keys.handoff] {
            let raws: Vec<Vec<u8>> = self.ask(("LRANGE", list, 0, -1)).await;
            for raw in &raws {
                put(raw, list);
            }
        }
        let letters: Vec<Vec<u8>> = self.ask(("ZRANGE", &keys.dead, 0, -1)).await;
        for letter in &letters {
            put(split(letter).1, "dead");
        }

        let mut entries: Vec<(String, Vec<u8>)> = Vec::new();
        let stored: Vec<(String, Vec<u8>)> = self.ask(("HGETALL", &keys.stored)).await;
        for (serial, entry) in stored {
            let at: Option<f64> = self.ask(("ZSCORE", &keys.scheduled, serial)).await;
            assert!(at.is_some(), "no one would ever claim a stored task");
            entries.push(("scheduled".into(), entry));
        }
        let known: BTreeSet<String> = self.ask(("ZRANGE", &keys.workers, 0, -1)).await;
        for worker in &self.workers {
            let held: Vec<Vec<u8>> = self.ask(("HVALS", keys.active(worker))).await;
            let reachable = held.is_empty() || known.contains(worker.as_str());
            assert!(reachable, "no one would ever reap {worker}");
            entries.extend(held.into_iter().map(|entry| (worker.to_string(), entry)));
        }
        let mut serials = BTreeSet::new();
        for (place, entry) in &entries {
            let (header, raw) = split(entry);
            put(raw, place);
            let serial = header.split(|byte| *byte == b' ').next().unwrap();
            assert!(serials.insert(serial), "two entries of one serial");
        }
        places
    }

    /// Each task in exactly one place, and every counter as it must be.
    pub(crate) async fn check(&self) {
        let places = self.places().await;
        let (mut complete, mut dead, mut dropped) = (0_u64, 0_u64, 0_u64);
        for (n, task) in self.tasks.iter().enumerate() {
            let found = places.get(&n).map_or(&[][..], Vec::as_slice);
            let result = self.result(n).await;
            let expected = match &task.fate {
                Fate::Live => {
                    let [place] = found else { panic!("task {n} is in {found:?}") };
                    assert_ne!(place, "dead", "task {n}");
                    None
                }
                Fate::Complete(result) => {
                    complete += 1;
                    assert!(found.is_empty(), "task {n} is complete, and in {found:?}");
                    Some(result)
                }
                Fate::Dead(result) => {
                    dead += 1;
                    assert_eq!(found, ["dead"], "task {n}");
                    Some(result)
                }
                Fate::Dropped(result) => {
                    dropped += 1;
                    assert!(found.is_empty(), "task {n} was dropped, and is in {found:?}");
                    Some(result)
                }
            };
            assert_eq!(result.as_ref(), expected, "the result of task {n}");
        }
        assert_eq!(self.count("complete").await, complete);
        assert_eq!(self.count("dropped").await, dropped);
        assert_eq!(self.count("replayed").await, self.replayed);
        let deaths = dead + dropped + self.replayed;
        assert_eq!(self.count("dead").await, deaths);
        self.the_sum_is_right(complete, dropped).await;
    }

    /// The sum as an operator would take it, from Redis alone.
    async fn the_sum_is_right(&self, complete: u64, dropped: u64) {
        let keys = self.queue.keys();
        let counts = self.queue.counts().await.unwrap();
        let mut active = 0;
        for worker in &self.workers {
            active += self.ask::<u64>(("HLEN", keys.active(worker))).await;
        }
        let sum = counts.waiting + active + counts.scheduled + counts.parked + complete + counts.dead + dropped;
        assert_eq!(sum, self.tasks.len() as u64);
    }

    async fn count(&self, counter: &str) -> u64 {
        let count: Option<u64> = self.ask(("HGET", &self.queue.keys().stats, counter)).await;
        count.unwrap_or(0)
    }

    async fn result(&self, task: usize) -> Option<String> {
        let id = TaskId::new(&task.to_string()).unwrap();
        self.queue.result(&id).await.unwrap()
    }
}

fn split(entry: &[u8]) -> (&[u8], &[u8]) {
    let newline = entry.iter().position(|byte| *byte == b'\n').unwrap();
    (&entry[..newline], &entry[newline + 1..])
}
