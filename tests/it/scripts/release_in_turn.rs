//! release_in_turn.lua: tasks leave a wait list for a worker, and the next ones are read.

use redial_core::UnixMs;
use redial_core::limit::{NextInTurn, TakenInTurn};
use redial_core::protocol::id::Token;
use redial_core::script::task::ReleaseInTurn;
use redial_core::script::turn::{ReleasedInTurn, TurnTask};

use super::park_in_turn::{self, task};
use super::{AWKWARD, Desk};

fn call(tasks: &[TakenInTurn]) -> ReleaseInTurn<'_> {
    ReleaseInTurn {
        wait_list: "list",
        turns: "turns",
        costs: "costs",
        stored: "stored",
        watch: "watch",
        active: "taken",
        workers: "workers",
        paused: "paused",
        stats: "stats",
        list_name: "limit l",
        worker: "w",
        lease_ms: 60_000,
        max_bytes: 1 << 20,
        max_next: 3,
        tasks,
    }
}

fn taken(serials: &[&str]) -> Vec<TakenInTurn> {
    let task = |serial: &&str| TakenInTurn { serial: (*serial).to_owned(), token: token(serial) };
    serials.iter().map(task).collect()
}

fn token(serial: &str) -> Token {
    redial_core::consumer::DrainId::new(1).token(&redial_core::WorkerId::from_redis("w".into()), serial.len())
}

/// With these tasks parked, in this order, each with a deadline; every one costs as much as its place.
async fn desk(raws: &[&[u8]]) -> Desk {
    let desk = Desk::new().await;
    for (n, raw) in raws.iter().enumerate() {
        desk.hold("t", &[b"h\n", *raw].concat()).await;
        let serial = "s".repeat(n + 1);
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        let task = TurnTask { cost: (n + 1) as f64, deadline: Some(UnixMs(99_000)), ..task("t", &serial, "k") };
        assert_eq!(desk.run(&park_in_turn::call(&[task])).await, [true]);
    }
    desk
}

fn serials(next: &[NextInTurn]) -> Vec<(String, f64)> {
    next.iter().map(|task| (task.serial.clone(), task.cost)).collect()
}

#[tokio::test]
async fn tasks_are_taken_with_their_bytes_and_the_next_ones_are_read_in_their_order() {
    let desk = desk(&AWKWARD).await;
    let before = desk.dump().await;
    let ReleasedInTurn { left, next, .. } = desk.run(&call(&[])).await;
    assert_eq!(left, Some(6));
    assert_eq!(serials(&next), [("s".into(), 1.0), ("ss".into(), 2.0), ("sss".into(), 3.0)]);
    assert_eq!(next[2].position, "3");
    assert_eq!(desk.dump().await, before, "reading changes nothing");

    let tasks = taken(&["s", "sss"]);
    let ReleasedInTurn { left, taken, next } = desk.run(&call(&tasks)).await;
    assert_eq!((left, serials(&next)[0].clone()), (Some(4), ("ss".to_owned(), 2.0)));
    let expected = |n: usize| [park_in_turn::HEADER.as_bytes(), b"\n", AWKWARD[n]].concat();
    assert_eq!(taken, [(tasks[0].token.clone(), expected(0)), (tasks[1].token.clone(), expected(2))]);
    let held: Vec<u8> = desk.ask(("HGET", "taken", tasks[1].token.as_str())).await;
    assert_eq!(held, expected(2));
    assert_eq!(desk.ask::<u64>(("HEXISTS", "stored", "s")).await, 0);
    assert_eq!(desk.ask::<Option<u64>>(("ZSCORE", "watch", "s")).await, None, "its deadline is this worker's now");
    assert_eq!(desk.ask::<u64>(("ZCARD", "workers")).await, 1);
    assert_eq!(desk.ask::<u64>(("HGET", "stats", "unparked")).await, 2);
}

#[tokio::test]
async fn sent_again_it_returns_what_the_worker_still_holds_and_takes_nothing_more() {
    let desk = desk(&[b"a", b"b", b"c"]).await;
    let tasks = taken(&["s", "ss"]);
    let first = desk.run(&call(&tasks)).await;
    assert_eq!(desk.run(&call(&tasks)).await, first);
    let () = desk.ask(("HDEL", "taken", tasks[0].token.as_str())).await;
    let again = desk.run(&call(&tasks)).await;
    assert_eq!((again.left, again.taken.len()), (Some(1), 1));
}

#[tokio::test]
async fn tasks_that_have_ended_are_passed_over_and_an_empty_list_leaves_nothing_behind() {
    let desk = desk(&[b"a", b"b", b"c", b"d", b"e"]).await;
    let () = desk.ask(("HDEL", "stored", "s", "ss", "ssss")).await;
    let ReleasedInTurn { left, next, taken: none } = desk.run(&call(&taken(&["s"]))).await;
    assert_eq!((left, none.len()), (Some(2), 0));
    assert_eq!(serials(&next), [("sss".into(), 3.0), ("sssss".into(), 5.0)]);
    let last = desk.run(&call(&taken(&["sss", "sssss"]))).await;
    assert_eq!((last.left, last.taken.len(), last.next.len()), (Some(0), 2, 0));
    let dump = desk.dump().await;
    assert_eq!(dump.keys().collect::<Vec<_>>(), ["stats", "taken", "workers"]);
}

#[tokio::test]
async fn nothing_is_taken_from_a_paused_queue() {
    let desk = desk(&[b"a"]).await;
    let () = desk.ask(("SET", "paused", "1")).await;
    let nothing = ReleasedInTurn { left: None, taken: Vec::new(), next: Vec::new() };
    desk.changes_nothing(&call(&taken(&["s"])), nothing).await;
}

#[tokio::test]
async fn the_task_that_reaches_the_byte_limit_is_the_last_one() {
    let desk = desk(&[&[b'x'; 500], &[b'y'; 500], b"z"]).await;
    let tasks = taken(&["s", "ss", "sss"]);
    let released = desk.run(&ReleaseInTurn { max_bytes: 600, ..call(&tasks) }).await;
    assert_eq!((released.taken.len(), released.left), (2, Some(1)));
}

#[tokio::test]
async fn the_turns_of_keys_that_wait_no_longer_do_not_pile_up() {
    let desk = desk(&[b"a", b"b"]).await;
    for n in 0..62 {
        let () = desk.ask(("ZADD", "list", 100, format!("gone {n}"))).await;
        let () = desk.ask(("HSET", "stored", format!("gone {n}"), "h\nraw")).await;
    }
    for n in 0..1_100 {
        let () = desk.ask(("HSET", "turns", format!("gone {n}"), "1")).await;
    }
    desk.run(&call(&[])).await;
    assert_eq!(desk.ask::<u64>(("EXISTS", "turns")).await, 0);
    assert_eq!(desk.ask::<u64>(("ZCARD", "list")).await, 64);
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_moves() {
    for key in ["list", "costs", "stored", "watch", "taken", "workers"] {
        let desk = desk(&[b"a"]).await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call(&taken(&["s"]))).await;
    }
}
