//! claim.lua: what is taken, in which order, and how much.

use std::time::Duration;

use redial_core::consumer::{ClaimId, MAX_BATCH};
use redial_core::script::task::{Claim, ClaimReply};
use redial_core::{UnixMs, WorkerId};

use super::{AWKWARD, Desk, Held, entry, hash, list, sorted};

const LEASE: u64 = 60_000;
const MANY: usize = 1 << 20;

pub(crate) fn call(request_id: &str, max_tasks: usize, max_bytes: usize) -> Claim<'_> {
    Claim {
        waiting: "waiting",
        handoff: "handoff",
        scheduled: "scheduled",
        stored: "stored",
        watch: "watch",
        active: "active",
        workers: "workers",
        claimed: "claimed",
        paused: "paused",
        worker: "w",
        request_id,
        max_tasks,
        lease_ms: LEASE,
        max_bytes,
    }
}

impl Desk {
    pub(crate) async fn claim(&self, number: u64, most: usize, bytes: usize) -> ClaimReply {
        self.run(&call(&format!("w:{number}"), most, bytes)).await
    }

    async fn schedule(&self, serial: &str, due: u64, entry: &[u8]) {
        let () = self.ask(("HSET", "stored", serial, entry)).await;
        let () = self.ask(("ZADD", "scheduled", due, serial)).await;
    }

    /// How many commands there were, those in scripts included, and this one not.
    async fn commands(&self) -> u64 {
        let stats: String = self.ask(("INFO", "stats")).await;
        let count = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        count.unwrap().parse().unwrap()
    }

    async fn raws_of(&self, number: u64, most: usize, bytes: usize) -> Vec<Vec<u8>> {
        let mut entries = self.claim(number, most, bytes).await.entries;
        for entry in &mut entries {
            let newline = entry.iter().position(|byte| *byte == b'\n').unwrap();
            entry.drain(..=newline);
        }
        entries
    }
}

#[tokio::test]
async fn due_tasks_come_before_handed_off_ones_and_those_before_waiting_ones() {
    let desk = Desk::new().await;
    let (due, later) = (entry("s:1:1", 1, false, b"due"), entry("s:1:2", 0, false, b"later"));
    let tomorrow = desk.now().await + 86_400_000;
    desk.schedule("s:1:1", 5, &due).await;
    desk.schedule("s:1:2", tomorrow, &later).await;
    let () = desk.ask(("LPUSH", "handoff", "handoff")).await;
    let () = desk.ask(("LPUSH", "waiting", "first", "second", "third")).await;

    let reply = desk.claim(7, 4, MANY).await;

    let fresh = |i: u32, raw: &str| format!("w:7:{i} {} 0 0 -\n{raw}", reply.now).into_bytes();
    let taken = [due, fresh(2, "handoff"), fresh(3, "first"), fresh(4, "second")];
    assert_eq!(reply.entries, taken);
    assert_eq!(reply.next_due, Some(UnixMs(tomorrow)));
    assert!(reply.now.0.abs_diff(desk.now().await) < 5_000);
    let mut dump = desk.dump().await;
    let tokens = ["w:7:1", "w:7:2", "w:7:3", "w:7:4"];
    let active: Vec<_> = tokens.into_iter().zip(&taken).collect();
    assert_eq!(dump.remove("active"), Some((hash(&active), false)));
    assert_eq!(dump.remove("waiting"), Some((list(&["third"]), false)));
    let left = sorted(&[("s:1:2", tomorrow)]);
    assert_eq!(dump.remove("scheduled"), Some((left, false)));
    assert_eq!(dump.remove("stored"), Some((hash(&[("s:1:2", later)]), false)));
    let lease = sorted(&[("w", reply.now.0 + LEASE)]);
    assert_eq!(dump.remove("workers"), Some((lease, false)));
    let mark = Held::Text("7".into());
    assert_eq!(dump.remove("claimed"), Some((mark, true)));
    assert!(dump.is_empty(), "{dump:?}");
}

#[tokio::test]
async fn a_claim_from_an_empty_queue_returns_nothing_and_begins_no_lease() {
    let desk = Desk::new().await;
    let reply = desk.claim(1, 100, MANY).await;
    assert_eq!((reply.next_due, reply.paused, reply.entries.len()), (None, false, 0));
    assert_eq!(desk.ask::<u64>(("EXISTS", "workers")).await, 0);
}

#[tokio::test]
async fn the_producers_bytes_are_claimed_exactly_as_they_were_pushed() {
    let desk = Desk::new().await;
    for raw in AWKWARD {
        let () = desk.ask(("LPUSH", "waiting", raw)).await;
    }
    assert_eq!(desk.raws_of(1, 100, MANY).await, AWKWARD);
}

#[tokio::test]
async fn a_claim_takes_at_most_a_hundred_tasks_in_the_order_they_were_pushed() {
    let desk = Desk::new().await;
    let consumer = desk.consumer("w", Duration::from_secs(60));
    let tasks: Vec<String> = (0..250).map(|n| format!("task {n}")).collect();
    consumer.queue().enqueue(&tasks).await.unwrap();
    let mut claimed = Vec::new();
    for (number, expected) in [(0, MAX_BATCH), (1, MAX_BATCH), (2, 50), (3, 0)] {
        let id = ClaimId::new(&WorkerId::from_redis("w".into()), number);
        let batch = consumer.claim(&id, 1_000).await.unwrap();
        assert_eq!(batch.entries.len(), expected);
        assert_eq!(batch.next_due, None);
        for (i, entry) in batch.entries.iter().enumerate() {
            assert_eq!(entry.token.as_str(), format!("w:{number}:{}", i + 1));
            assert_eq!(entry.header.serial, entry.token.as_str());
            assert_eq!(entry.header.first_seen, batch.now);
            claimed.push(String::from_utf8(entry.raw.clone()).unwrap());
        }
    }
    assert_eq!(claimed, tasks);
}

#[tokio::test]
async fn due_tasks_are_taken_in_the_order_of_their_times_over_many_claims() {
    let desk = Desk::new().await;
    for n in 0..45 {
        let serial = format!("s:1:{n}");
        desk.schedule(&serial, 1_000 + n, &entry(&serial, 0, false, format!("{n}").as_bytes())).await;
    }
    let mut taken = Vec::new();
    for number in 1..5 {
        taken.extend(desk.raws_of(number, 12, MANY).await);
    }
    let all: Vec<Vec<u8>> = (0..45).map(|n| format!("{n}").into_bytes()).collect();
    assert_eq!(taken, all);
    let left: u64 = desk.ask(("ZCARD", "scheduled")).await;
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_serial_whose_task_has_ended_is_removed_and_takes_no_place() {
    let desk = Desk::new().await;
    desk.schedule("s:1:2", 2, &entry("s:1:2", 0, false, b"raw")).await;
    let () = desk.ask(("ZADD", "scheduled", 1, "s:1:1")).await;
    let () = desk.ask(("ZADD", "watch", 1, "s:1:1", 1, "s:1:2", 1, "memo ab")).await;
    assert_eq!(desk.raws_of(1, 2, MANY).await, [b"raw"]);
    let dump = desk.dump().await;
    assert!(!dump.contains_key("scheduled") && !dump.contains_key("stored"), "{dump:?}");
    assert_eq!(dump["watch"].0, sorted(&[("memo ab", 1)]));
}

/// Small ones first, so that the large ones come as a surprise and have to be put back.
#[tokio::test]
async fn the_byte_limit_ends_a_claim_and_the_rest_stays_in_order() {
    let tasks: Vec<String> =
        (0..60).map(|n| format!("{n:->width$}", width = if n % 20 < 12 { 30 } else { 5_000 })).collect();
    for from in ["waiting", "handoff", "scheduled"] {
        let desk = Desk::new().await;
        for (n, task) in tasks.iter().enumerate() {
            if from == "scheduled" {
                let serial = format!("s:1:{n}");
                desk.schedule(&serial, 1_000 + n as u64, &entry(&serial, 0, false, task.as_bytes())).await;
            } else {
                let () = desk.ask(("LPUSH", from, task)).await;
            }
        }
        let mut taken: Vec<String> = Vec::new();
        for number in 1.. {
            let batch = desk.raws_of(number, 100, 12_000).await;
            let Some((last, before)) = batch.split_last() else {
                break;
            };
            let bytes: usize = before.iter().map(Vec::len).sum();
            assert!(bytes < 12_000, "{bytes} of {from} without {} more", last.len());
            taken.extend(batch.into_iter().map(|raw| String::from_utf8(raw).unwrap()));
        }
        assert_eq!(taken, tasks, "{from}");
    }
}

#[tokio::test]
async fn one_task_is_taken_however_large() {
    let desk = Desk::new().await;
    let () = desk.ask(("LPUSH", "waiting", vec![b'x'; 50_000], "next")).await;
    assert_eq!(desk.raws_of(1, 100, 100).await, [vec![b'x'; 50_000]]);
    assert_eq!(desk.raws_of(2, 100, 100).await, [b"next"]);
}

/// Copying a hundred of them into Lua, only to put them back, blocked Redis for half a second.
#[tokio::test]
async fn large_tasks_are_not_taken_out_only_to_be_put_back() {
    let desk = Desk::new().await;
    for _ in 0..20 {
        let () = desk.ask(("LPUSH", "waiting", vec![b'x'; 100_000])).await;
    }
    assert_eq!(desk.claim(1, 100, 350_000).await.entries.len(), 4);
    let stats: String = desk.ask(("INFO", "commandstats")).await;
    assert!(!stats.contains("cmdstat_rpush"), "{stats}");
}

#[tokio::test]
async fn a_task_that_comes_alone_is_claimed_with_ten_commands() {
    let desk = Desk::new().await;
    // Redis does not know the script before its first call.
    desk.claim(1, 100, MANY).await;
    let () = desk.ask(("LPUSH", "handoff", "a")).await;
    let before = desk.commands().await;
    assert_eq!(desk.claim(2, 100, MANY).await.entries.len(), 1);
    // What counted them before is one more.
    assert_eq!(desk.commands().await - before, 10 + 1);
}

#[tokio::test]
async fn a_key_of_another_type_stops_a_claim_before_it_takes_anything() {
    for key in ["waiting", "handoff", "scheduled", "stored", "watch", "active"] {
        let desk = Desk::new().await;
        let () = desk.ask(("LPUSH", "waiting", "a")).await;
        let () = desk.ask(("LPUSH", "handoff", "b")).await;
        desk.schedule("s:1:1", 1, &entry("s:1:1", 0, false, b"c")).await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call("w:1", 100, MANY)).await;
    }
}

#[tokio::test]
async fn an_unreadable_entry_does_not_stop_the_others() {
    let desk = Desk::new().await;
    let () = desk.ask(("HSET", "redial:{q}:stored", "a", "no header", "b", "s:1:1 5 0 0 {\nraw")).await;
    let () = desk.ask(("ZADD", "redial:{q}:scheduled", 1, "a", 2, "b")).await;
    let () = desk.ask(("LPUSH", "redial:{q}", "good")).await;
    let consumer = desk.consumer("w", Duration::from_secs(60));
    let id = ClaimId::new(&WorkerId::from_redis("w".into()), 1);
    let claimed = consumer.claim(&id, 10).await.unwrap();
    let unreadable: Vec<_> = claimed.unreadable.iter().map(|(t, _)| t.as_str()).collect();
    assert_eq!(unreadable, ["w:1:1", "w:1:2"]);
    assert_eq!(claimed.entries[0].raw, b"good");
    assert!(claimed.now > UnixMs(0));
    for (token, _) in &claimed.unreadable {
        assert!(consumer.bury(token, "{}", None).await.unwrap());
    }
    let dead: Vec<String> = desk.ask(("ZRANGE", "redial:{q}:dead", 0, -1)).await;
    assert_eq!(dead, ["{}\nno header", "{}\nraw"]);
}

#[tokio::test]
async fn nothing_is_claimed_from_a_paused_queue() {
    let desk = Desk::new().await;
    let () = desk.ask(("LPUSH", "waiting", "a", "b")).await;
    let taken = desk.claim(1, 1, MANY).await.entries;
    let () = desk.ask(("SET", "paused", "1")).await;
    // A copy of the claim from before the pause brings what that took.
    assert_eq!((desk.claim(1, 1, MANY).await.entries, taken.len()), (taken, 1));
    let paused = desk.claim(2, 9, MANY).await;
    assert_eq!((paused.entries.len(), paused.paused), (0, true));
    let () = desk.ask(("DEL", "paused")).await;
    let resumed = desk.claim(3, 9, MANY).await;
    assert_eq!((resumed.entries.len(), resumed.next_due, resumed.paused), (1, None, false));
}
