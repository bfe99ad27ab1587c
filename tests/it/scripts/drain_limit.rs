//! drain_limit.lua: a limit is asked for the calls that wait for it, and who asks.

use std::time::Duration;

use redial_core::limit::{DrainReply, DrainRole, Grant};
use redial_core::script::limit::{DrainLimit, WaitingCall};

use super::Desk;
use super::acquire::{ONE, told, words};

pub(super) fn call<'a>(worker: &'a str, calls: &'a [WaitingCall<'a>]) -> DrainLimit<'a> {
    DrainLimit {
        limit_key: "l",
        slots: "l:slots",
        waiting: "l:waiting",
        group: "g",
        worker,
        lead_ms: 3_000,
        is_full: false,
        emptied: "",
        lead_us: 1_000,
        window_us: 250_000,
        slot_lease_ms: 8_000,
        idle_ttl_ms: 60_000,
        calls,
    }
}

fn calls<'a>(tokens: &[&'a str]) -> Vec<WaitingCall<'a>> {
    tokens.iter().map(|token| WaitingCall { cost: 1.0, token, dies_when_spent: false }).collect()
}

/// Asks for calls that cost one each.
pub(super) async fn drain(desk: &Desk, worker: &str, tokens: &[&str]) -> DrainReply {
    desk.run(&call(worker, &calls(tokens))).await
}

/// A limit of this definition for which calls wait in the queue `q`.
async fn desk(definition: &str) -> Desk {
    let desk = Desk::new().await;
    let () = desk.ask(("HSET", "l", "inline", definition)).await;
    let () = desk.ask(("HSET", "l:waiting", "q", "7.00")).await;
    desk
}

/// How far ahead the granted calls are, in us.
fn ahead(reply: &DrainReply) -> Vec<f64> {
    let at = |grant: &Grant| if let Grant::Granted { at, .. } = grant { at - reply.now } else { f64::NAN };
    reply.grants.iter().map(at).collect()
}

#[tokio::test]
async fn as_many_are_granted_as_may_go_soon_and_the_rest_learns_when() {
    let desk = desk("10 1000 2 -").await;
    let reply = drain(&desk, "w1", &["a", "b", "c", "d", "e", "f"]).await;
    assert_eq!(ahead(&reply), [1_000.0, 1_000.0, 101_000.0, 201_000.0]);
    assert_eq!((reply.next_in, reply.per_second), (Duration::from_millis(301), Some(10.0)));
    assert_eq!(reply.queues, [("q".to_owned(), "7.00".to_owned())]);
    let reply = drain(&desk, "w1", &["e", "f"]).await;
    assert!(reply.grants.is_empty() && reply.next_in == Duration::from_millis(301), "{reply:?}");
    assert_eq!(words(&told(&desk, "inline", "10 1000 2 -", &[ONE]).await), "waiting", "they come first");
}

#[tokio::test]
async fn one_worker_leads_until_its_lease_ends_and_others_help_it_only_if_it_is_full() {
    let desk = desk("10 1000 2 -").await;
    assert_eq!(drain(&desk, "w1", &[]).await.role, DrainRole::Leader);
    let other = drain(&desk, "w2", &[]).await;
    assert_eq!(other.role, DrainRole::Bystander);
    assert_eq!(other.lease, Duration::from_secs(3));
    assert_eq!(desk.run(&DrainLimit { is_full: true, ..call("w1", &[]) }).await.role, DrainRole::Leader);
    assert_eq!(drain(&desk, "w2", &[]).await.role, DrainRole::Helper);
    assert_eq!(drain(&desk, "w1", &[]).await.role, DrainRole::Leader);
    assert_eq!(drain(&desk, "w2", &[]).await.role, DrainRole::Bystander);
    // Of those that serve other queues, another one leads.
    assert_eq!(desk.run(&DrainLimit { group: "h", ..call("w3", &[]) }).await.role, DrainRole::Leader);
    desk.run(&DrainLimit { lead_ms: 0, ..call("w1", &[]) }).await;
    assert_eq!(drain(&desk, "w2", &[]).await.role, DrainRole::Leader, "the first one has resigned");
}

#[tokio::test]
async fn a_queue_is_forgotten_when_its_list_is_empty_unless_it_announced_a_call_since() {
    let desk = desk("10 1000 2 -").await;
    let () = desk.ask(("HSET", "l:waiting", "r", "8.00")).await;
    drain(&desk, "w1", &[]).await;
    let reply = desk.run(&DrainLimit { emptied: "q 7.00\nr 7.50\n", ..call("w1", &[]) }).await;
    assert_eq!(reply.queues, [("r".to_owned(), "8.00".to_owned())]);
    let reply = desk.run(&DrainLimit { emptied: "r 8.00\n", ..call("w1", &[]) }).await;
    assert!(reply.queues.is_empty());
    assert_eq!(desk.ask::<u64>(("EXISTS", "l:waiting")).await, 0);
    assert_eq!(drain(&desk, "w2", &[]).await.role, DrainRole::Leader, "nothing is left to lead");
    assert_eq!(words(&told(&desk, "inline", "10 1000 2 -", &[ONE]).await), "granted");
}

#[tokio::test]
async fn free_slots_bound_what_is_granted_and_each_belongs_to_its_call() {
    let desk = desk("- 1000 - 2").await;
    let reply = drain(&desk, "w1", &["a", "b", "c"]).await;
    assert_eq!((reply.grants.len(), reply.next_in, reply.per_second), (2, Duration::ZERO, None));
    assert!(matches!(reply.grants[0], Grant::Granted { holds_slot: true, .. }));
    assert_eq!(desk.ask::<Vec<String>>(("ZRANGE", "l:slots", 0, -1)).await, ["a", "b"]);
}

#[tokio::test]
async fn calls_that_can_never_go_are_told_apart_and_hold_up_no_one() {
    let desk = desk("10 1000 2 -").await;
    let costs = [
        WaitingCall { cost: 3.0, token: "a", dies_when_spent: false },
        WaitingCall { cost: 1.0, token: "b", dies_when_spent: false },
    ];
    let reply = desk.run(&call("w1", &costs)).await;
    assert!(matches!(reply.grants[..], [Grant::OverBurst(2.0), Grant::Granted { .. }]), "{reply:?}");
    let () = desk.ask(("DEL", "l")).await;
    assert_eq!(drain(&desk, "w1", &["a", "b"]).await.grants, [Grant::Undefined, Grant::Undefined]);
    assert_eq!(desk.ask::<u64>(("EXISTS", "l")).await, 0);
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_is_written() {
    for key in ["l", "l:slots", "l:waiting"] {
        let desk = desk("10 1000 2 1").await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call("w", &calls(&["a"]))).await;
    }
}
