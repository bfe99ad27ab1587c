//! What happens to tasks, for those who watch.

use std::time::Duration;

use redial_core::event::feed::EventFeed;
use redial_core::{Db, EntryId, QueueName, Status, TaskEvent, TaskEventKind, TaskEventReader, TaskId, WaitCause};
use redial_tests::{Cli, Proxy, Reply, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::{sleep, timeout};

use super::{SOON, Stage, answered, ids};

fn feed(stage: &Stage) -> (redial_core::Queue, EventFeed) {
    feed_at(stage.redis.url())
}

fn feed_at(url: &str) -> (redial_core::Queue, EventFeed) {
    let db = Db::open(url, "redial").unwrap();
    let queue = db.queue(QueueName::new("default").unwrap());
    (queue.clone(), EventFeed::new(queue))
}

async fn watch(stage: &Stage, id: &str) -> Option<TaskEventReader> {
    let (queue, feed) = feed(stage);
    TaskEventReader::open(&feed, &queue, TaskId::new(id).unwrap(), 1_000).await.unwrap()
}

/// All events of a task until it is done.
async fn all(mut reader: TaskEventReader) -> Vec<TaskEvent> {
    let mut events = Vec::new();
    let read = async {
        while let Some(event) = reader.next().await {
            events.push(event);
        }
    };
    timeout(SOON, read).await.unwrap_or_else(|_| panic!("not done"));
    events
}

fn names(events: &[TaskEvent]) -> Vec<&'static str> {
    events.iter().map(|event| event.kind.name()).collect()
}

/// What a task waited for: the causes, and the names of what caused it.
fn waits(events: &[TaskEvent]) -> Vec<(WaitCause, String)> {
    let wait = |event: &TaskEvent| match &event.kind {
        TaskEventKind::Waiting { cause, name, .. } => Some((*cause, name.clone().unwrap_or_default())),
        _ => None,
    };
    events.iter().filter_map(wait).collect()
}

#[tokio::test]
async fn the_life_of_a_task_is_told_as_it_happens_and_again_afterwards() {
    let stage = Stage::answering(|request| match request.nth {
        0 => Reply::status(503),
        _ => Reply::ok().json(&json!({"ok": true})),
    })
    .await;
    let task = json!({"id": "a", "url": stage.upstream.url("/x"), "retry": {"base_ms": 300, "jitter": "none"}});
    stage.queue.push(task.to_string()).await;
    let reader = watch(&stage, "a").await.expect("it waits on the list");
    let _worker = stage.worker().spawn();
    let told = all(reader).await;
    assert_eq!(names(&told), ["queued", "started", "attempt_failed", "waiting", "started", "done"], "{told:?}");
    assert!(told.windows(2).skip(1).all(|two| two[0].at_ms <= two[1].at_ms), "{told:?}");
    match &told[2].kind {
        TaskEventKind::AttemptFailed { attempt: 1, http_status: Some(503), error, .. } => {
            assert!(error.contains("503"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    match &told[3].kind {
        TaskEventKind::Waiting { cause: WaitCause::Time, until_ms: Some(until), .. } => {
            assert!(until.since(told[3].at_ms) <= 300, "{told:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(&told[5].kind, TaskEventKind::Done { status: Status::Ok, .. }), "{told:?}");
    let again = all(watch(&stage, "a").await.expect("it has a result")).await;
    assert_eq!(names(&again), ["started", "attempt_failed", "started", "done"], "{again:?}");
    assert!(watch(&stage, "b").await.is_none());
}

#[tokio::test]
async fn a_wait_names_what_it_is_for() {
    let stage = Stage::answering(|request| match request.route() {
        "/slow" => Reply::ok().json(&json!(1)).after(Duration::from_secs(4)),
        _ => Reply::ok().json(&json!(1)),
    })
    .await;
    // Longer than a busy machine takes until the others are there.
    let limit = json!({"name": "narrow", "rate": 1, "per_ms": 4_000, "burst": 1});
    let cached = |id: &str| json!({"id": id, "url": stage.upstream.url("/slow"), "cache_ttl_ms": 60_000});
    let limited = |id: &str| json!({"id": id, "url": stage.upstream.url("/ok"), "limit": limit});
    let _worker = stage.ready_worker().await;
    stage.queue.push_all([limited("l1"), cached("c1")].map(|task| task.to_string())).await;
    eventually(SOON, async || (stage.upstream.calls().len() >= 2).then_some(())).await;
    stage.queue.push_all([limited("l2"), cached("c2")].map(|task| task.to_string())).await;
    let later = json!({"id": "t", "url": stage.upstream.url("/ok"), "delay_ms": 300});
    stage.queue.push(later.to_string()).await;
    for (id, waited) in [
        ("l2", vec![(WaitCause::Limit, "narrow".to_owned())]),
        ("c2", vec![(WaitCause::Answer, String::new())]),
        ("t", vec![(WaitCause::Time, String::new())]),
    ] {
        stage.queue.wait_result(id, SOON).await;
        let found = async {
            loop {
                let (queue, _) = feed(&stage);
                let pages = queue.events_after(EntryId::START, 1_000).await.unwrap();
                let own = |event: &TaskEvent| event.task.as_ref().is_some_and(|task| task.as_str() == id);
                let events: Vec<TaskEvent> = pages.into_iter().flat_map(|page| page.events).filter(own).collect();
                if events.iter().any(|event| event.kind.name() == "done") {
                    return events;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let events = timeout(SOON, found).await.unwrap();
        assert_eq!(waits(&events), waited, "{id}: {events:?}");
    }
}

#[tokio::test]
async fn a_busy_queue_records_a_sample_and_one_that_is_off_nothing() {
    for (per_second, is_on) in [("20", true), ("0", false)] {
        let stage = Stage::unruly().await;
        let worker = stage.worker().env("REDIAL_EVENTS_PER_S", per_second).spawn();
        worker.wait_ready().await;
        let began = std::time::Instant::now();
        let ids = ids("t", 3_000);
        stage.push_many(&ids, "/ok", &json!({})).await;
        let results = stage.queue.wait_results(&ids, SOON).await;
        assert_eq!(answered(&results), ids.len());
        sleep(Duration::from_millis(500)).await;
        let windows = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
        let (queue, _) = feed(&stage);
        let pages = queue.events_after(EntryId::START, 10_000).await.unwrap();
        let recorded: usize = pages.iter().map(|page| page.events.len()).sum();
        assert!(recorded <= 20 * windows, "{recorded} in {windows} s");
        assert_eq!(recorded > 0, is_on, "{per_second}: {recorded}");
        let ttl: i64 = stage.redis.cli(&["PTTL", "redial:{default}:events"]).await.trim().parse().unwrap();
        assert!(if is_on { (1..=3_600_000).contains(&ttl) } else { ttl == -2 }, "{ttl}");
        // A watcher learns the end of a task that is not in the sample, with its attempts.
        let reader = watch(&stage, &ids[2_999]).await.expect("it has a result");
        assert_eq!(names(&all(reader).await).last(), Some(&"done"));
    }
}

#[tokio::test]
async fn the_end_of_a_task_whose_events_are_not_recorded_is_told_by_its_result() {
    let stage = Stage::slow(Duration::from_millis(500)).await;
    let _worker = stage.worker().env("REDIAL_EVENTS_PER_S", "0").spawn();
    stage.queue.push(json!({"id": "a", "url": stage.upstream.url("/x")}).to_string()).await;
    let reader = eventually_watched(&stage, "a").await;
    let told = all(reader).await;
    assert_eq!(names(&told).last(), Some(&"done"), "{told:?}");
    assert!(names(&told).contains(&"started"), "{told:?}");
}

async fn eventually_watched(stage: &Stage, id: &str) -> TaskEventReader {
    let watched = async {
        loop {
            if let Some(reader) = watch(stage, id).await {
                return reader;
            }
        }
    };
    timeout(SOON, watched).await.unwrap()
}

#[tokio::test]
async fn the_stream_of_events_is_bounded_by_its_bytes() {
    let stage = Stage::unruly().await;
    let _worker = stage.worker().env("REDIAL_EVENTS_PER_S", "100000").env("REDIAL_EVENTS_MAX_BYTES", "100000").spawn();
    for round in 0..4 {
        let ids: Vec<String> = (0..1_000).map(|n| format!("r{round}-{n}")).collect();
        stage.push_many(&ids, "/ok", &json!({})).await;
        stage.queue.wait_results(&ids, SOON).await;
    }
    let bytes: u64 = stage.redis.cli(&["MEMORY", "USAGE", "redial:{default}:events"]).await.trim().parse().unwrap();
    // 12,000 events are about 1 MB. Redis deletes whole nodes of a stream, of 4 KB or an entry.
    assert!((1..=400_000).contains(&bytes), "{bytes}");
}

#[tokio::test]
async fn readers_of_events_survive_the_loss_of_their_connections() {
    let stage = Stage::unruly().await;
    let _worker = stage.ready_worker().await;
    let proxy = Proxy::before(stage.redis.port()).await;
    let (_, feed) = feed_at(&proxy.url());
    let mut readers = [feed.read(EntryId::START), feed.read(EntryId::START)];
    let ids = ids("t", 20);
    for id in &ids {
        stage.push_many(std::slice::from_ref(id), "/ok", &json!({})).await;
        stage.queue.wait_result(id, SOON).await;
        proxy.break_all();
    }
    stage.push_many(&["last".to_owned()], "/ok", &json!({})).await;
    let mut seen: Vec<Vec<String>> = Vec::new();
    for reader in &mut readers {
        let mut done = Vec::new();
        let read = async {
            while done.last().is_none_or(|id| id != "last") {
                let page = reader.next().await;
                let ends = page.events.into_iter().filter(|event| event.kind.name() == "done");
                done.extend(ends.filter_map(|event| event.task.map(|id| id.to_string())));
            }
        };
        timeout(SOON, read).await.unwrap_or_else(|_| panic!("the last event did not arrive"));
        seen.push(done);
    }
    let expected: Vec<&str> = ids.iter().map(String::as_str).chain(["last"]).collect();
    assert_eq!(seen, [expected.clone(), expected]);
}

#[tokio::test]
async fn the_command_line_tells_what_happens() {
    let stage = Stage::unruly().await;
    let _worker = stage.ready_worker().await;
    let cli = Cli::new(&stage.redis);
    let dead = json!({"id": "dead", "url": stage.upstream.url("/status/404")});
    stage.queue.push(dead.to_string()).await;
    stage.queue.wait_result("dead", SOON).await;
    let told = cli.run(&["events", "dead"]).await;
    assert_eq!(told.status, 5, "{told:?}");
    assert!(told.stdout.contains("done") && told.stdout.contains("dead, rejected: "), "{told:?}");
    assert_eq!(cli.run(&["events", "nothing"]).await.status, 3);
    let mut all = cli.start(&["events", "--since", "1h", "--json"]);
    let mut lines = BufReader::new(all.stdout.take().unwrap()).lines();
    let found = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the end of the call");
            if line.contains("\"done\"") {
                return line;
            }
        }
    };
    let line = timeout(SOON, found).await.unwrap();
    all.kill().await.unwrap();
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&event["task"], &event["status"], &event["reason"]),
        (&json!("dead"), &json!("dead"), &json!("rejected"))
    );
}
