//! The calls of scripts that are measured.

use redial_core::consumer::DrainId;
use redial_core::limit::TakenInTurn;
use redial_core::script::dead_page::DeadPage;
use redial_core::script::ending::{Ending, FinishedTask, FinishedTasks, ReplyRoute};
use redial_core::script::stored::{BuriedTask, BuryStored, DueChecks, FindEntry, FindWaiting, WatchList};
use redial_core::script::task::{
    Bury, Claim, DropDead, Finish, GiveUp, Heartbeat, MarkStarted, Park, ParkInTurn, ReadParkedPage, Reap,
    ReleaseInTurn, Replay, Reschedule, Selection, StartedTask, Unpark,
};
use redial_core::script::turn::TurnTask;
use redial_core::script::{Invocation, MoreKeys, TypedCall};
use redial_core::{UnixMs, WorkerId};

use super::MIB;

/// As `Consumer` has it.
const MAX_BYTES: usize = 512 << 10;

/// A call of a script, for the nth run.
pub(super) type Call = Box<dyn Fn(usize) -> Invocation>;

pub(super) fn serial(n: usize) -> String {
    format!("s:1:{n}")
}

/// The calls that a worker or a command would make, each on tasks of its own.
#[expect(clippy::too_many_lines, reason = "a table with a row for each script")]
pub(super) fn calls() -> Vec<(&'static str, Call)> {
    fn ending(result: &str) -> Ending<'_> {
        Ending { result_key: "result", ttl_ms: 60_000, result, reply: ReplyRoute::None, stream: None, follow_ups: &[] }
    }
    fn claim(n: usize, waiting: &str, scheduled: &str) -> Invocation {
        let request_id = format!("w:{n}");
        let (active, stored, watch) = ("claimed-active", "stored", "watch");
        let claimed = format!("claimed:{waiting}:{scheduled}");
        Claim {
            waiting,
            handoff: "handoff",
            scheduled,
            stored,
            watch,
            active,
            workers: "workers",
            claimed: &claimed,
            paused: "paused",
            worker: "w",
            request_id: &request_id,
            max_tasks: 100,
            lease_ms: 60_000,
            max_bytes: MAX_BYTES,
        }
        .invocation()
    }
    let bury_stored = |n: usize| {
        let serial = serial(n + 30);
        let tasks = [BuriedTask { serial: &serial, letter_header: "{}", ending: Some(ending("{}")) }];
        BuryStored {
            stored: "stored",
            scheduled: "scheduled",
            watch: "watch",
            dead: "dead",
            stats: "stats",
            replies: "replies",
            waiters: "waiters",
            waiting: "waiting",
            tasks: &tasks,
        }
        .invocation()
    };
    let find_waiting = |skip: usize, serial: &str| {
        FindWaiting {
            list: "waiting",
            stored: "found",
            scheduled: "found-scheduled",
            id: "last",
            json_id: "\"last\"",
            skip,
            max_tasks: 1,
            serial,
            hold_ms: 1,
        }
        .invocation()
    };
    vec![
        ("task/claim", Box::new(|n| claim(n, "waiting", "none"))),
        ("task/claim", Box::new(|n| claim(n, "none", "scheduled"))),
        (
            "task/reschedule",
            Box::new(|n| {
                let token = format!("t{n}");
                Reschedule {
                    active: "active",
                    scheduled: "scheduled",
                    stored: "stored",
                    watch: "watch",
                    stats: "stats",
                    token: &token,
                    serial: &token,
                    wait_ms: 60_000,
                    not_before_ms: 0,
                    deadline_ms: Some(UnixMs(4_000_000_000_000)),
                    header: "h",
                    reason: "retried",
                }
                .invocation()
            }),
        ),
        (
            "task/park",
            Box::new(|n| {
                let token = format!("t{}", n + 10);
                Park {
                    active: "active",
                    stored: "stored",
                    wait_list: "list",
                    watch: "watch",
                    stats: "stats",
                    token: &token,
                    serial: &token,
                    header: "h",
                    list_name: "memo ab",
                    check_in_ms: 60_000,
                    deadline_ms: None,
                    position: None,
                }
                .invocation()
            }),
        ),
        (
            "task/mark_started",
            Box::new(|n| {
                let task = StartedTask { token: format!("t{}", n + 20), header: "h".into() };
                MarkStarted { active: "active", tasks: &[task] }.invocation()
            }),
        ),
        (
            "task/give_up",
            Box::new(|n| {
                let token = format!("t{n}");
                let (active, scheduled, stored, stats) = ("given-up", "reaped-scheduled", "reaped-stored", "stats");
                GiveUp { active, scheduled, stored, stats, token: &token, wait_ms: 1 }.invocation()
            }),
        ),
        (
            "task/finish",
            Box::new(|n| {
                let token = format!("t{}", n + 20);
                let result = "x".repeat(MIB);
                let tasks = [FinishedTask { token: &token, ending: ending(&result) }];
                let (stats, replies, waiters, waiting) = ("stats", "replies", "waiters", "waiting");
                Finish {
                    held: "active",
                    stats,
                    replies,
                    waiters,
                    waiting,
                    stored: "stored",
                    scheduled: "scheduled",
                    tasks: FinishedTasks(&tasks),
                }
                .invocation()
            }),
        ),
        (
            "task/bury",
            Box::new(|n| {
                let token = format!("t{}", n + 30);
                Bury {
                    place: "active",
                    dead: "dead",
                    stats: "stats",
                    replies: "replies",
                    waiters: "waiters",
                    waiting: "waiting",
                    stored: "stored",
                    scheduled: "scheduled",
                    place_type: "hash",
                    member: token.as_bytes(),
                    letter_header: "{}",
                    token: &token,
                    ending: Some(ending("{}")),
                }
                .invocation()
            }),
        ),
        (
            "task/reap",
            Box::new(|_| {
                let (workers, active, scheduled, stored, stats) =
                    ("workers", "reaped", "reaped-scheduled", "reaped-stored", "stats");
                let (worker, reason, max_tasks, max_bytes) = ("w", "released", 100, MAX_BYTES);
                let renewal = "";
                Reap {
                    workers,
                    active,
                    scheduled,
                    stored,
                    stats,
                    worker,
                    reason,
                    renewal,
                    max_tasks,
                    max_bytes,
                    tokens: &[],
                }
                .invocation()
            }),
        ),
        (
            "task/heartbeat",
            Box::new(|_| {
                let (workers, active, replies, watch) = ("workers", "active", "replies", "watch");
                let (waiting, handoff, scheduled, firings) = ("waiting", "handoff", "scheduled", "firings");
                Heartbeat {
                    workers,
                    active,
                    waiting,
                    handoff,
                    scheduled,
                    replies,
                    watch,
                    firings,
                    worker: "w",
                    lease_ms: 60_000,
                }
                .invocation()
            }),
        ),
        (
            "task/unpark",
            Box::new(|_| {
                let (wait_list, stored, scheduled, stats) = ("list", "stored", "unparked", "stats");
                Unpark { wait_list, stored, scheduled, stats, serial: "", selection: Selection::Next(100) }.invocation()
            }),
        ),
        (
            "task/parked_page",
            Box::new(|_| {
                let (wait_list, stored, watch, list_name) = ("list2", "stored", "watch", "memo cd");
                ReadParkedPage { wait_list, stored, watch, list_name, max_tasks: 100, max_bytes: MAX_BYTES }
                    .invocation()
            }),
        ),
        (
            "task/watch_list",
            Box::new(|_| {
                WatchList { wait_list: "list2", watch: "watch", list_name: "memo cd", check_in_ms: 9_000 }.invocation()
            }),
        ),
        (
            "task/due_checks",
            Box::new(|_| {
                let (watch, stored, recheck_in_ms) = ("watch", "stored", 60_000);
                DueChecks { watch, stored, recheck_in_ms, max_checks: 100, max_bytes: MAX_BYTES }.invocation()
            }),
        ),
        ("task/bury_stored", Box::new(bury_stored)),
        ("task/find_waiting", Box::new(move |n| find_waiting(n, ""))),
        ("task/find_waiting", Box::new(move |n| find_waiting(10 + n, "taken"))),
        (
            "task/find_entry",
            Box::new(|_| {
                let (held, json_id, cursor, max_tasks, max_bytes) = ("stored", "\"no such\"", "0", 512, 512 << 10);
                FindEntry { held, json_id, first_seen_ms: None, cursor, max_tasks, max_bytes }.invocation()
            }),
        ),
        (
            "task/dead_page",
            Box::new(|_| DeadPage { dead: "letters", skip: 0, max_letters: 200, max_bytes: 512 << 10 }.invocation()),
        ),
        (
            "task/drop_dead",
            Box::new(|n| {
                let letter = [format!("{{}}\n{n}").into_bytes(), vec![b'x'; MIB]].concat();
                DropDead { dead: "letters", stats: "stats", letter: &letter }.invocation()
            }),
        ),
        (
            "task/replay",
            Box::new(|n| {
                let letter = [format!("{{}}\n{}", n + 10).into_bytes(), vec![b'x'; MIB]].concat();
                let answer_keys = MoreKeys(&[]);
                Replay {
                    dead: "letters",
                    waiting: "replayed",
                    stats: "stats",
                    stored: "stored",
                    scheduled: "scheduled",
                    letter: &letter,
                    serial: "",
                    answer_keys,
                }
                .invocation()
            }),
        ),
        (
            "task/park_in_turn",
            Box::new(|n| {
                let (token, serial) = (format!("t{}", 10 + n), format!("parked {n}"));
                let header = format!("{serial} 1000 0 0 -");
                let (fairness_key, deadline, position) = ("k", None, None);
                let task = TurnTask {
                    token: &token,
                    serial: &serial,
                    header: &header,
                    deadline,
                    cost: 2.0,
                    fairness_key,
                    position,
                    dies_when_spent: false,
                };
                let (active, stored, wait_list, turns, costs) = ("active", "stored", "list3", "turns", "costs");
                let (watch, stats, list_name, check_in_ms) = ("watch", "stats", "limit l", 9_000);
                let tasks = &[task];
                ParkInTurn { active, stored, wait_list, turns, costs, watch, stats, list_name, check_in_ms, tasks }
                    .invocation()
            }),
        ),
        (
            "task/release_in_turn",
            Box::new(|n| {
                let token = DrainId::new(1).token(&WorkerId::from_redis("w".into()), n);
                let tasks = [TakenInTurn { serial: format!("parked {n}"), token }];
                ReleaseInTurn {
                    wait_list: "list3",
                    turns: "turns",
                    costs: "costs",
                    stored: "stored",
                    watch: "watch",
                    active: "active",
                    workers: "workers",
                    paused: "none",
                    stats: "stats",
                    list_name: "limit l",
                    worker: "w",
                    lease_ms: 9_000,
                    max_bytes: MAX_BYTES,
                    max_next: 100,
                    tasks: &tasks,
                }
                .invocation()
            }),
        ),
    ]
}
