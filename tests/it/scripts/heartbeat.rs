//! heartbeat.lua: a lease renewed, what there is to do, and the leases of others.

use redial_core::script::task::{Heartbeat, HeartbeatReply};

use super::{Desk, sorted};

fn call(worker: &str, lease_ms: u64) -> Heartbeat<'_> {
    Heartbeat {
        workers: "workers",
        active: "active",
        waiting: "waiting",
        handoff: "handoff",
        scheduled: "scheduled",
        replies: "replies",
        watch: "watch",
        firings: "firings",
        worker,
        lease_ms,
    }
}

async fn beat(desk: &Desk) -> HeartbeatReply {
    desk.run(&call("w", 60_000)).await
}

#[tokio::test]
async fn a_heartbeat_renews_the_lease_on_tasks_and_counts_what_there_is_to_do() {
    let desk = Desk::new().await;
    desk.hold("t1", b"h\nraw").await;
    desk.hold("t2", b"h\nraw").await;
    let now = desk.now().await;
    let () = desk.ask(("HSET", "replies", "t0", "1 {}\nlist")).await;
    let () = desk.ask(("ZADD", "watch", 1, "memo a", now + 60_000, "memo b")).await;
    let reply = beat(&desk).await;
    assert!(reply.now.0.abs_diff(now) < 5_000);
    assert_eq!((reply.held, reply.undelivered, reply.watched, reply.is_in_use), (2, 1, 1, true));
    let dump = desk.dump().await;
    assert_eq!(dump["workers"], (sorted(&[("w", reply.now.0 + 60_000)]), false));
    let [(worker, renewal)] = reply.leases.as_slice() else { panic!("{reply:?}") };
    assert_eq!((worker.as_str(), renewal.stated_end().0), ("w", reply.now.0 + 60_000));
}

#[tokio::test]
async fn a_worker_without_tasks_has_no_lease() {
    let desk = Desk::new().await;
    desk.hold("t", b"h\nraw").await;
    assert_eq!(beat(&desk).await.leases.len(), 1);
    let () = desk.ask(("DEL", "active")).await;
    let reply = beat(&desk).await;
    assert_eq!((reply.held, reply.leases.len(), reply.is_in_use), (0, 0, false));
    assert!(desk.dump().await.is_empty());
}

#[tokio::test]
async fn a_queue_is_in_use_while_it_holds_anything_to_attend_to() {
    for (command, key) in [
        ("LPUSH", "waiting"),
        ("LPUSH", "handoff"),
        ("ZADD", "scheduled"),
        ("HSET", "replies"),
        ("ZADD", "watch"),
        ("ZADD", "firings"),
        ("ZADD", "workers"),
    ] {
        let desk = Desk::new().await;
        let mut add = vec![command, key, "1", "x"];
        if command == "LPUSH" {
            add.pop();
        }
        let () = desk.ask(add).await;
        assert!(beat(&desk).await.is_in_use, "{key}");
    }
}

#[tokio::test]
async fn leases_that_are_renewed_no_longer_are_always_among_those_returned() {
    let desk = Desk::new().await;
    let now = desk.now().await;
    let mut add = redis::cmd("ZADD");
    add.arg("workers");
    for n in 0..150_u64 {
        add.arg(now + 1_000 + n).arg(format!("alive{n}"));
    }
    // Two stopped before the clock was set: forward, and back by an hour.
    add.arg(now - 9_000).arg("before").arg(now + 3_600_000).arg("ahead");
    let arguments: Vec<Vec<u8>> = add
        .args_iter()
        .map(|arg| match arg {
            redis::Arg::Simple(bytes) => bytes.to_vec(),
            _ => unreachable!("only plain arguments"),
        })
        .collect();
    let () = desk.ask(arguments).await;
    let leases = beat(&desk).await.leases;
    assert_eq!(leases.len(), 100);
    for stopped in ["before", "ahead"] {
        assert!(leases.iter().any(|(worker, _)| worker.as_str() == stopped), "{stopped}");
    }
    let mut names: Vec<&str> = leases.iter().map(|(worker, _)| worker.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 100, "each once");
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_is_written() {
    for key in ["workers", "active"] {
        let desk = Desk::new().await;
        if key != "active" {
            desk.hold("t", b"h\nraw").await;
        }
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call("w", 1_000)).await;
    }
}

#[tokio::test]
async fn replies_and_deadlines_of_another_type_do_not_cost_a_worker_its_lease() {
    for key in ["replies", "watch"] {
        let desk = Desk::new().await;
        desk.hold("t", b"h\nraw").await;
        let () = desk.ask(("SET", key, "something else")).await;
        let reply = desk.run(&call("w", 1_000)).await;
        assert_eq!((reply.held, reply.undelivered, reply.watched, reply.leases.len()), (1, 0, 0, 1), "{key}");
    }
}
