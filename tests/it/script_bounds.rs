//! No script holds Redis up: each is bounded in items and in bytes, at the largest tasks and at the longest queues.

mod calls;

use std::collections::BTreeMap;

use redial_core::script::stored::FindWaiting;
use redial_core::script::{self, TypedCall};

use crate::promises::at_length;
use crate::scripts::Desk;
use calls::{Call, calls, serial};

/// How long a script may take. On an idle machine it takes 6 ms at most: Lua copies the megabyte three times to replace its header. The
/// shortest of several runs counts, and still tests beside this one have the processor's caches.
const MAX_US: u64 = 15_000;
const RUNS: usize = 9;
const MIB: usize = 1 << 20;

/// Scripts whose keys have no tasks in them and do not grow with a queue, or only by what their callers send at once.
const SMALL: [&str; 23] = [
    "breaker/consult",
    "fleet/announce",
    "limit/acquire",
    "fleet/grow_partitions",
    "limit/adjust",
    "limit/announce_waiting",
    "limit/define_limit",
    "limit/drain_limit",
    "limit/extend_slots",
    "limit/inspect_limit",
    "limit/release_slots",
    "limit/reset_limit",
    "memo/forget",
    "memo/lead",
    "memo/settle",
    "schedule/due_schedules",
    "schedule/fire_schedule",
    "schedule/put_schedule",
    "schedule/remove_schedule",
    "stream/append",
    "task/deliver",
    "task/enqueue_once",
    "task/subscribe",
];

/// Forty tasks of 1 MB wherever a task can be.
async fn large_tasks(desk: &Desk) {
    let body = "x".repeat(MIB - 100);
    for n in 0..40 {
        let serial = serial(n);
        let () = desk.ask(("LPUSH", "waiting", format!("{{\"n\":{n},\"url\":\"{body}\"}}"))).await;
        let stored = format!("{serial} 1000 0 0 -\n{body}");
        let () = desk.ask(("HSET", "stored", &serial, stored)).await;
        let () = desk.ask(("ZADD", "scheduled", 1, &serial)).await;
        let () = desk.ask(("ZADD", "watch", 1, &serial)).await;
        let () = desk.ask(("ZADD", "list", n, &serial)).await;
        let () = desk.ask(("ZADD", "list2", n, &serial)).await;
        let entry = format!("t{n} 1000 0 0 -\n{body}");
        let () = desk.ask(("HSET", "active", format!("t{n}"), &entry)).await;
        if n < 20 {
            let () = desk.ask(("HSET", "reaped", format!("t{n}"), &entry)).await;
            let () = desk.ask(("HSET", "given-up", format!("t{n}"), &entry)).await;
            let letter = format!("{{}}\n{n}{}", "x".repeat(MIB));
            let () = desk.ask(("ZADD", "letters", 1, letter)).await;
        }
    }
}

/// How much processor time Redis has used, in us. Unlike its own statistics, this leaves out when other processes ran.
async fn script_us(desk: &Desk) -> u64 {
    let stats: String = desk.ask(("INFO", "cpu")).await;
    let us = |line: &str| {
        let (name, seconds) = line.trim().split_once(':')?;
        let (whole, fraction) = seconds.split_once('.')?;
        let us = whole.parse::<u64>().ok()? * 1_000_000 + fraction.parse::<u64>().ok()?;
        name.ends_with("_main_thread").then_some(us)
    };
    stats.lines().filter_map(us).sum()
}

/// The shortest time of each script.
async fn measure(desk: &Desk, calls: &[(&'static str, Call)]) -> BTreeMap<String, u64> {
    let mut wire = desk.redis.connection().await;
    let mut fastest = BTreeMap::new();
    for (at, (path, call)) in calls.iter().enumerate() {
        for run in 0..RUNS {
            let invocation = call(run);
            let before = script_us(desk).await;
            invocation.run(&mut wire).await.unwrap();
            let took = script_us(desk).await - before;
            // The first one compiles the script.
            if run > 0 {
                let best = fastest.entry(format!("{path} ({at})")).or_insert(u64::MAX);
                *best = took.min(*best);
            }
        }
    }
    fastest
}

#[test]
fn every_script_is_measured_or_known_to_be_small() {
    let calls = calls();
    for script in script::all() {
        let is_measured = calls.iter().any(|(path, _)| *path == script.path);
        assert!(is_measured != SMALL.contains(&script.path), "{}: measure it, or list it as small", script.path);
    }
}

#[tokio::test]
async fn no_script_holds_redis_up_at_tasks_of_a_megabyte() {
    let desk = Desk::new().await;
    large_tasks(&desk).await;
    let fastest = measure(&desk, &calls()).await;
    let slow: Vec<_> = fastest.iter().filter(|(_, us)| **us > MAX_US).collect();
    assert!(slow.is_empty(), "{slow:?} of {fastest:?}");
}

/// Pushes small tasks, the last of which has the id `last`.
async fn long_list(desk: &Desk, tasks: usize) {
    const AT_ONCE: usize = 1_000;
    let body = "x".repeat(970);
    for _ in 0..tasks / AT_ONCE {
        let mut push = redis::cmd("LPUSH");
        push.arg("waiting");
        for n in 0..AT_ONCE {
            push.arg(format!("{{\"id\":\"n{n}\",\"url\":\"{body}\"}}"));
        }
        let () = push.query_async(&mut desk.redis.connection().await).await.unwrap();
    }
    let () = desk.ask(("LPUSH", "waiting", "{\"id\":\"last\"}")).await;
}

#[tokio::test]
async fn the_newest_of_many_waiting_tasks_is_found_and_taken_in_short_steps() {
    let tasks = at_length(100_000, 1_000_000);
    let desk = Desk::new().await;
    long_list(&desk, tasks).await;
    let mut wire = desk.redis.connection().await;
    let (mut skip, mut steps, mut longest) = (0, 0, Vec::new());
    loop {
        let call = FindWaiting {
            list: "waiting",
            stored: "stored",
            scheduled: "scheduled",
            id: "last",
            json_id: "\"last\"",
            skip,
            max_tasks: 512,
            serial: "s",
            hold_ms: 1,
        };
        let before = script_us(&desk).await;
        let reply = FindWaiting::parse(call.invocation().run(&mut wire).await.unwrap()).unwrap();
        longest.push(script_us(&desk).await - before);
        (skip, steps) = (skip + reply.tasks, steps + 1);
        if let Some(found) = reply.before {
            assert_eq!((found, desk.ask::<usize>(("LLEN", "waiting")).await), (tasks, tasks));
            break;
        }
    }
    assert!(steps <= tasks / 512 + 1, "{steps} steps");
    longest.sort_unstable();
    let (median, most) = (longest[longest.len() / 2], longest[longest.len() * 99 / 100]);
    assert!(median <= MAX_US, "a step takes {median} us, and the slowest of a hundred {most} us");
}
