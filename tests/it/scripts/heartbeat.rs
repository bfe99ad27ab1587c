//! heartbeat.lua: a lease renewed, and the leases that ended.

use std::time::Duration;

use redial_core::WorkerId;
use redial_core::script::task::{Heartbeat, HeartbeatReply};

use super::{Desk, sorted};

fn call(worker: &str, lease_ms: u64) -> Heartbeat<'_> {
    Heartbeat { workers: "workers", active: "active", replies: "replies", watch: "watch", worker, lease_ms }
}

async fn beat(desk: &Desk, worker: &str, lease: u64) -> (u64, usize, usize, usize, Vec<String>) {
    let HeartbeatReply { now, held, undelivered, watched, ended } = desk.run(&call(worker, lease)).await;
    (now.0, held, undelivered, watched, ended.iter().map(ToString::to_string).collect())
}

#[tokio::test]
async fn a_heartbeat_renews_the_lease_and_counts_what_there_is_to_do() {
    let desk = Desk::new().await;
    let (now, held, undelivered, watched, ended) = beat(&desk, "w", 60_000).await;
    assert!(now.abs_diff(desk.now().await) < 5_000);
    assert_eq!((held, undelivered, watched, ended.len()), (0, 0, 0, 0));
    let dump = desk.dump().await;
    assert_eq!(dump["workers"], (sorted(&[("w", now + 60_000)]), false));
    assert_eq!(dump.len(), 1);

    desk.hold("t1", b"h\nraw").await;
    desk.hold("t2", b"h\nraw").await;
    let () = desk.ask(("HSET", "replies", "t0", "1 {}\nlist")).await;
    let () = desk.ask(("ZADD", "watch", 1, "memo a", now + 60_000, "memo b")).await;
    let (_, held, undelivered, watched, _) = beat(&desk, "w", 60_000).await;
    assert_eq!((held, undelivered, watched), (2, 1, 1));
}

#[tokio::test]
async fn ended_leases_are_listed_ten_at_a_time_the_longest_ended_first() {
    let desk = Desk::new().await;
    for n in 0..25 {
        let () = desk.ask(("ZADD", "workers", 1_000 + n, format!("w{n:02}"))).await;
    }
    let future = desk.now().await + 60_000;
    let () = desk.ask(("ZADD", "workers", future, "alive")).await;
    let (.., ended) = beat(&desk, "me", 60_000).await;
    let first: Vec<String> = (0..10).map(|n| format!("w{n:02}")).collect();
    assert_eq!(ended, first);
}

#[tokio::test]
async fn a_workers_own_lease_is_never_among_those_that_ended() {
    let desk = Desk::new().await;
    let () = desk.ask(("ZADD", "workers", 1, "w")).await;
    let (.., ended) = beat(&desk, "w", 1).await;
    assert!(ended.is_empty(), "{ended:?}");
}

#[tokio::test]
async fn a_lease_ends_by_the_clock_of_redis_and_not_before() {
    let desk = Desk::new().await;
    let brief = desk.consumer("brief", Duration::from_millis(40));
    let other = desk.consumer("other", Duration::from_secs(60));
    let started = brief.heartbeat().await.unwrap().now;
    redial_tests::eventually(Duration::from_secs(10), || async {
        let beat = other.heartbeat().await.unwrap();
        let over = beat.now.since(started) >= 40;
        let ended = !beat.ended.is_empty();
        assert_eq!(ended, over, "{beat:?}, {started}");
        assert!(beat.ended.iter().all(|w| *w == WorkerId::from_redis("brief".into())));
        ended.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_is_written() {
    for key in ["workers", "active", "replies", "watch"] {
        let desk = Desk::new().await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call("w", 1_000)).await;
    }
}
