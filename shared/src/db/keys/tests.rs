use super::*;

/// Producers in every language spell these keys by hand: a change here breaks them.
#[test]
fn the_keys_of_the_protocol_do_not_change() -> Result<(), Box<dyn std::error::Error>> {
    let keys = QueueKeys::new(DEFAULT_PREFIX, &QueueName::new("default")?);
    assert_eq!(keys.waiting, "redial:{default}");
    assert_eq!(keys.handoff, "redial:{default}:handoff");
    assert_eq!(keys.scheduled, "redial:{default}:scheduled");
    assert_eq!(keys.workers, "redial:{default}:workers");
    assert_eq!(keys.dead, "redial:{default}:dead");
    assert_eq!(keys.stats, "redial:{default}:stats");
    assert_eq!(keys.replies, "redial:{default}:replies");
    assert_eq!(keys.stored, "redial:{default}:stored");
    assert_eq!(keys.watch, "redial:{default}:watch");
    assert_eq!(keys.waiters, "redial:{default}:waiters");
    assert_eq!(keys.paused, "redial:{default}:paused");
    let fleet = FleetKeys::new(DEFAULT_PREFIX);
    assert_eq!(fleet.queues(), "redial:queues");
    assert_eq!(fleet.announced(), "redial:workers");
    assert_eq!(fleet.partitions(), "redial:partitions");
    assert_eq!(keys.schedules, "redial:{default}:schedules");
    assert_eq!(keys.firings, "redial:{default}:firings");
    assert_eq!(keys.answers("x"), "redial:{default}:answers:x");
    assert_eq!(keys.wait_list(&WaitList::memo("ab")), "redial:{default}:wait:memo:ab");
    assert_eq!(fleet.memo("ab"), "redial:memo:{ab}");
    assert_eq!(fleet.limit("ab"), "redial:limit:{ab}");
    assert_eq!(fleet.limit_waiting("ab"), "redial:limit:{ab}:waiting");
    assert_eq!(fleet.limit_slots("ab"), "redial:limit:{ab}:slots");
    assert_eq!(fleet.limits(), "redial:limits");
    assert_eq!(
        keys.wait_list(&WaitList::breaker("api.example.com:443")),
        "redial:{default}:wait:breaker:api.example.com:443"
    );
    assert_eq!(fleet.breaker("api.example.com:443"), "redial:breaker:{api.example.com:443}");
    assert_eq!(fleet.breakers(), "redial:breakers");
    assert_eq!(fleet.busy_upstreams(), "redial:busy-upstreams");
    let worker = WorkerId::from_redis("w1".into());
    assert_eq!(keys.active(&worker), "redial:{default}:active:w1");
    assert_eq!(keys.claimed(&worker), "redial:{default}:claimed:w1");
    let list = WaitList::limit("ab");
    assert_eq!(keys.wait_list(&list), "redial:{default}:wait:limit:ab");
    assert_eq!(keys.turns(&list), "redial:{default}:turns:limit:ab");
    assert_eq!(keys.costs(&list), "redial:{default}:costs:limit:ab");
    assert_eq!(keys.result(&TaskId::new("a1")?), "redial:{default}:result:a1");
    assert_eq!(keys.upload(&Token("t1".into())), "redial:{default}:upload:t1");
    assert_eq!(keys.stream(&TaskId::new("a1")?), "redial:{default}:stream:a1");
    assert_eq!(keys.stream_wakeup("r"), "redial:{default}:stream-wakeup:r");
    assert_eq!(fleet.cancelled(&worker), "redial:cancelled:{w1}");
    assert_eq!(keys.pushed(&TaskId::new("a1")?), "redial:{default}:pushed:a1");
    assert_eq!(keys.batch_replies("b1"), "answers:{default}:batch:b1");
    assert_eq!(keys.batch_checkpoint("b1"), "redial:{default}:batch-checkpoint:b1");
    assert_eq!(keys.batch_progress("b1"), "redial:{default}:batch-progress:b1");
    assert_eq!(keys.batches, "redial:{default}:batches");
    assert!(!keys.is_own(&keys.batch_replies("b1")) && keys.same_slot(&keys.batch_replies("b1")));
    let other = QueueKeys::new("a:b", &QueueName::new("q/1")?);
    assert_eq!(other.batch_replies("b1"), "answers:{q/1}:batch:b1");
    assert!(keys.same_slot("answers:{default}") && !keys.same_slot("answers"));
    Ok(())
}

#[test]
fn a_reply_may_go_to_any_list_except_redials_own_keys() -> Result<(), Box<dyn std::error::Error>> {
    let keys = QueueKeys::new("mine", &QueueName::new("default")?);
    for own in [
        "{other}",
        "{q/0}:handoff",
        "{q}:dead",
        "{q}:active:w",
        "{q}:result:a",
        "{q}:stream:a",
        "limit:{x}",
        "memo:{x}",
        "queues",
    ] {
        assert!(keys.is_own(&format!("mine:{own}")), "{own}");
        assert!(is_reserved(&format!("redial:{own}")), "{own}");
    }
    for free in ["answers", "redial", "redial-x", "redial:x", "redial:{default}:mine", "answers:{default}"] {
        assert!(!is_reserved(free), "{free}");
    }
    assert!(!keys.is_own("redial:{default}"));
    Ok(())
}
