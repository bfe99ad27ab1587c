//! Answers that are read while they arrive.

use std::collections::HashSet;
use std::time::Duration;

use redial_core::stream::reader::StreamReader;
use redial_core::{Db, EntryId, QueueName, StreamEntry, StreamEvent, TaskId};
use redial_tests::wait::within;
use redial_tests::{Cli, Reply, eventually};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{SOON, Stage, ids};

const EVENT_STREAM: (&str, &str) = ("content-type", "text/event-stream");

/// A reader in a process of its own, as far as connections are concerned.
pub(super) fn reader(stage: &Stage) -> StreamReader {
    let db = Db::open(stage.redis.url(), "redial").unwrap();
    StreamReader::new(db.queue(QueueName::new("default").unwrap()))
}

pub(super) fn id(name: &str) -> TaskId {
    TaskId::new(name).unwrap()
}

/// What one reader has read of a stream.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The ids of all entries.
    pub(super) ids: Vec<EntryId>,
    /// How often it was told to forget.
    pub(super) restarts: usize,
    /// The status of the last head.
    pub(super) status: Option<u16>,
    /// The body since then.
    pub(super) body: Vec<u8>,
    /// The last entry.
    pub(super) last: Option<StreamEvent>,
}

impl Reading {
    pub(super) fn take(&mut self, entry: StreamEntry) {
        self.ids.push(entry.id);
        match entry.event {
            StreamEvent::Head(head) => (self.status, self.body) = (Some(head.status), Vec::new()),
            StreamEvent::Data(bytes) => self.body.extend(bytes),
            StreamEvent::Restart { .. } => self.restarts += 1,
            last => self.last = Some(last),
        }
    }

    /// Reads a stream to its end.
    pub(super) async fn all(reader: &StreamReader, name: &str) -> Self {
        let mut reading = Self::default();
        let mut entries = reader.read(&id(name), EntryId::START);
        while let Some(entry) = timeout(SOON, entries.next()).await.expect("a stream goes on") {
            reading.take(entry);
        }
        reading
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn assert_each_once(&self) {
        assert!(self.ids.is_sorted_by(|a, b| a < b), "{:?}", self.ids);
    }
}

/// Events as AI APIs send them, one every so often.
pub(super) fn events(count: usize, pause: Duration) -> Vec<(Duration, String)> {
    (0..count).map(|n| (pause, format!("data: {{\"n\":{n}}}\n\n"))).collect()
}

fn body_of(pieces: &[(Duration, String)]) -> String {
    pieces.iter().map(|(_, piece)| piece.as_str()).collect()
}

/// A task whose answer is streamed.
pub(super) fn streamed(stage: &Stage, name: &str, more: &Value) -> String {
    let mut task =
        json!({"id": name, "url": stage.url("/"), "body": {"stream": true}, "stream": true, "timeout_ms": 120_000});
    for (field, value) in more.as_object().unwrap() {
        task[field] = value.clone();
    }
    task.to_string()
}

#[tokio::test]
async fn the_first_bytes_can_be_read_while_the_call_is_still_running() {
    let stage = Stage::answering(|_| {
        Reply::streamed([(Duration::ZERO, "data: 1\n\n")]).header(EVENT_STREAM.0, EVENT_STREAM.1).stalled()
    })
    .await;
    let _worker = stage.ready_worker().await;
    let mut entries = reader(&stage).read(&id("a"), EntryId::START);
    stage.queue.push(streamed(&stage, "a", &json!({}))).await;
    let head = timeout(SOON, entries.next()).await.unwrap().unwrap();
    let StreamEvent::Head(head) = head.event else { panic!("{head:?}") };
    assert_eq!((head.status, head.headers["content-type"].as_str()), (200, "text/event-stream"));
    let data = timeout(SOON, entries.next()).await.unwrap().unwrap();
    assert_eq!(data.event, StreamEvent::Data(b"data: 1\n\n".to_vec()));
    assert_eq!((stage.upstream.in_flight(), stage.queue.result("a").await), (1, None));
    assert!(stage.redis.cli(&["PTTL", "redial:{default}:stream:a"]).await.parse::<i64>().unwrap() > 3_600_000);
}

#[tokio::test]
async fn two_thousand_events_reach_three_readers_once_and_in_order_although_connections_break() {
    let pieces = events(2_000, Duration::from_millis(2));
    let expected = body_of(&pieces);
    let stage = Stage::answering(move |_| Reply::streamed(pieces.clone()).header(EVENT_STREAM.0, EVENT_STREAM.1)).await;
    let _worker = stage.ready_worker().await;
    stage.queue.push(streamed(&stage, "a", &json!({}))).await;
    let (first, second) = (reader(&stage), reader(&stage));
    let reconnecting = async {
        let (mut reading, mut reconnections) = (Reading::default(), 0);
        while reading.last.is_none() {
            // A process of its own each time.
            let (reader, after) = (reader(&stage), reading.ids.last().copied().unwrap_or(EntryId::START));
            let mut entries = reader.read(&id("a"), after);
            for _ in 0..5 {
                let Some(entry) = timeout(SOON, entries.next()).await.expect("a stream goes on") else { break };
                reading.take(entry);
            }
            reconnections += 1;
        }
        (reading, reconnections)
    };
    // Of readers and of the worker alike.
    let breaking = async {
        for _ in 0..6 {
            sleep(Duration::from_millis(400)).await;
            stage.redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        }
    };
    let late = async {
        sleep(Duration::from_secs(2)).await;
        Reading::all(&second, "a").await
    };
    let (one, other, (last, reconnections), ()) = tokio::join!(Reading::all(&first, "a"), late, reconnecting, breaking);
    assert!(reconnections >= 20, "{reconnections}");
    for reading in [&one, &other, &last] {
        reading.assert_each_once();
        assert_eq!((reading.last.as_ref(), reading.restarts), (Some(&StreamEvent::End), 0));
        assert_eq!(reading.text(), expected);
        assert_eq!(reading.ids, one.ids);
    }
    let result = stage.queue.wait_result("a", SOON).await;
    assert_eq!((&result["body_text"], &result["stream_error"]), (&json!(expected), &Value::Null));
    assert_eq!(stage.upstream.count(), 1);
    let ttl = stage.redis.cli(&["PTTL", "redial:{default}:stream:a"]).await.parse::<i64>().unwrap();
    assert!((3_000_000..=3_600_000).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn hundreds_of_streams_are_read_over_few_connections_and_a_slow_reader_holds_up_no_other() {
    const STREAMS: usize = 250;
    let stage = Stage::answering(|_| Reply::streamed(events(40, Duration::from_millis(20)))).await;
    let worker = stage.worker().env("REDIAL_CONCURRENCY", "300").spawn();
    worker.wait_ready().await;
    let reader = reader(&stage);
    // Nobody takes its entries until the others are done.
    let mut slow = reader.read(&id("t0"), EntryId::START);
    let ids = ids("t", STREAMS);
    let reading: Vec<_> = ids
        .iter()
        .map(|name| {
            let (reader, name) = (reader.clone(), name.clone());
            tokio::spawn(async move { Reading::all(&reader, &name).await })
        })
        .collect();
    stage.queue.push_all(ids.iter().map(|name| streamed(&stage, name, &json!({})))).await;
    stage.wait_in_flight(STREAMS / 2).await;
    let blocked = stage.redis.info_number("blocked_clients").await;
    assert!(blocked <= 3 + 2, "{blocked} connections block");
    let expected = body_of(&events(40, Duration::ZERO));
    for reading in reading {
        let reading = reading.await.unwrap();
        reading.assert_each_once();
        assert_eq!((reading.text(), reading.last), (expected.clone(), Some(StreamEvent::End)));
    }
    let mut slowly = Reading::default();
    while let Some(entry) = timeout(SOON, slow.next()).await.expect("a stream goes on") {
        slowly.take(entry);
    }
    assert_eq!((slowly.text(), slowly.last), (expected, Some(StreamEvent::End)));
    drop((slow, reader));
    let gone = || async { (stage.redis.info_number("blocked_clients").await <= 2).then_some(()) };
    eventually(SOON, gone).await;
}

#[tokio::test]
async fn an_answer_that_another_task_has_is_in_the_stream_at_once() {
    let pieces = events(20, Duration::from_millis(50));
    let expected = body_of(&pieces);
    let stage = Stage::answering(move |_| Reply::streamed(pieces.clone())).await;
    let _worker = stage.ready_worker().await;
    let reader = reader(&stage);
    let more = json!({"cache_ttl_ms": 60_000});
    stage.queue.push_all(["leader", "follower"].map(|name| streamed(&stage, name, &more))).await;
    let (leader, follower) = tokio::join!(Reading::all(&reader, "leader"), Reading::all(&reader, "follower"));
    stage.queue.push(streamed(&stage, "cached", &more)).await;
    let cached = Reading::all(&reader, "cached").await;
    for reading in [leader, follower, cached] {
        assert_eq!((reading.status, reading.text()), (Some(200), expected.clone()));
        assert_eq!(reading.last, Some(StreamEvent::End));
    }
    let sources: HashSet<String> = stage
        .queue
        .wait_results(&["leader", "follower", "cached"], SOON)
        .await
        .iter()
        .map(|result| result["source"].to_string())
        .collect();
    assert_eq!((sources.len(), stage.upstream.count()), (3, 1), "{sources:?}");
}

#[tokio::test]
async fn before_the_first_byte_of_a_body_calls_are_retried_as_ever() {
    let pieces = events(3, Duration::from_millis(5));
    let expected = body_of(&pieces);
    let stage = Stage::answering(move |request| match request.nth {
        0 => Reply::status(503).body("busy"),
        1 => Reply::reset(),
        2 => Reply::streamed::<&str>([]).cut_off(),
        _ => Reply::streamed(pieces.clone()),
    })
    .await;
    let _worker = stage.ready_worker().await;
    stage.queue.push(streamed(&stage, "a", &json!({"retry": {"base_ms": 0}}))).await;
    let reading = Reading::all(&reader(&stage), "a").await;
    assert_eq!((reading.restarts, reading.text(), reading.last), (0, expected, Some(StreamEvent::End)));
    assert_eq!(stage.upstream.count(), 4);
}

#[tokio::test]
async fn a_task_without_a_good_answer_says_so_in_its_stream_and_the_result_has_the_answer() {
    let stage = Stage::answering(|_| Reply::status(400).json(&json!({"error": "no such model"}))).await;
    let worker = stage.ready_worker().await;
    let reader = reader(&stage);
    stage.queue.push(streamed(&stage, "refused", &json!({}))).await;
    stage.queue.push(streamed(&stage, "expired", &json!({"expires_at_ms": 5}))).await;
    for (name, reason) in [("refused", "rejected"), ("expired", "expired")] {
        let reading = Reading::all(&reader, name).await;
        let Some(StreamEvent::Error(failure)) = reading.last else { panic!("{reading:?}") };
        assert_eq!((reading.status, failure.reason.map(|reason| reason.as_str())), (None, Some(reason)));
    }
    assert_eq!(stage.queue.wait_result("refused", SOON).await["body"]["error"], "no such model");
    // Of what was answered without a stream there is nothing to wait for.
    stage.queue.push(json!({"id": "plain", "url": stage.url("/")}).to_string()).await;
    let reading = Reading::all(&reader, "plain").await;
    assert!(matches!(reading.last, Some(StreamEvent::Error(failure)) if failure.error.contains("read its result")));
    drop(worker);
}

#[tokio::test]
async fn a_key_that_cannot_be_written_holds_up_neither_the_call_nor_other_readers() {
    let stage = Stage::answering(|_| Reply::streamed(events(10, Duration::from_millis(10)))).await;
    let _worker = stage.ready_worker().await;
    stage.redis.cli(&["SET", "redial:{default}:stream:a", "mine"]).await;
    let reader = reader(&stage);
    let (mut blocked, mut well) = (reader.read(&id("a"), EntryId::START), reader.read(&id("b"), EntryId::START));
    stage.queue.push_all(["a", "b"].map(|name| streamed(&stage, name, &json!({})))).await;
    let result = stage.queue.wait_result("a", SOON).await;
    assert_eq!((&result["status"], &result["reason"]), (&json!("ok"), &Value::Null));
    let error = result["stream_error"].as_str().unwrap();
    assert!(error.contains("WRONGTYPE"), "{error}");
    let refused = timeout(SOON, blocked.next()).await.unwrap().unwrap();
    assert!(matches!(refused.event, StreamEvent::Error(failure) if failure.error.contains("WRONGTYPE")));
    let mut reading = Reading::default();
    while let Some(entry) = timeout(SOON, well.next()).await.expect("a stream goes on") {
        reading.take(entry);
    }
    assert_eq!(reading.last, Some(StreamEvent::End));
    assert!(within(SOON, || async { stage.queue.result("b").await }).await.is_some());
}

#[tokio::test]
async fn the_usage_that_a_stream_states_at_its_end_settles_its_limit() {
    let stage = Stage::answering(|_| {
        let mut pieces = events(5, Duration::from_millis(5));
        let usage =
            json!({"choices": [], "usage": {"prompt_tokens": 300, "completion_tokens": 400, "total_tokens": 700}});
        pieces.push((Duration::from_millis(5), format!("data: {usage}\n\ndata: [DONE]\n\n")));
        Reply::streamed(pieces).header(EVENT_STREAM.0, EVENT_STREAM.1)
    })
    .await;
    let _worker = stage.ready_worker().await;
    let limit = json!({"name": "tokens", "rate": 1_000, "per_ms": 86_400_000, "burst": 1_000, "cost": 50});
    stage.queue.push(streamed(&stage, "a", &json!({"limit": limit}))).await;
    assert_eq!(stage.queue.wait_result("a", SOON).await["status"], "ok");
    let shown = Cli::new(&stage.redis).run(&["--json", "limits", "show", "tokens"]).await;
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    let left = shown["left"].as_f64().unwrap();
    assert!((299.0..=301.0).contains(&left), "{shown}");
}

#[tokio::test]
async fn the_command_line_prints_an_answer_and_goes_on_where_it_was() {
    let stage = Stage::answering(|request| match request.nth {
        0 => Reply::streamed(["one ", "two"].map(|piece| (Duration::from_millis(100), piece))),
        _ => Reply::streamed([(Duration::ZERO, "half")]).cut_off(),
    })
    .await;
    let _worker = stage.ready_worker().await;
    let cli = Cli::new(&stage.redis);
    let missing = cli.run(&["stream", "a", "--timeout", "1"]).await;
    assert_eq!((missing.status, missing.stdout.as_str()), (3, ""), "{}", missing.stderr);
    stage.queue.push(streamed(&stage, "a", &json!({}))).await;
    let printed = cli.run(&["stream", "a"]).await;
    assert_eq!((printed.status, printed.stdout.as_str()), (0, "one two"), "{}", printed.stderr);
    let entries = cli.run(&["--json", "stream", "a"]).await;
    let entries: Vec<Value> = entries.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = entries.iter().map(|entry| entry["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["head", "data", "data", "end"]);
    let rest = cli.run(&["stream", "a", "--after", entries[1]["entry"].as_str().unwrap()]).await;
    assert_eq!(rest.stdout, "two");
    stage.queue.push(streamed(&stage, "b", &json!({}))).await;
    let broken = cli.run(&["stream", "b"]).await;
    assert_eq!((broken.status, broken.stdout.as_str()), (5, "half"));
    assert!(broken.stderr.contains("on_break"), "{}", broken.stderr);
}

#[tokio::test]
async fn a_new_task_under_a_used_id_is_not_taken_for_the_earlier_one() {
    let stage =
        Stage::answering(|request| Reply::streamed([(Duration::from_millis(300), format!("answer {}", request.nth))]))
            .await;
    let _worker = stage.ready_worker().await;
    let client = redial::Client::open(stage.redis.url(), "default").unwrap();
    for round in 0..3 {
        let task = streamed(&stage, "a", &json!({}));
        if round < 2 {
            // The library deletes what the earlier one left.
            client.enqueue(task.as_str()).await.unwrap();
        } else {
            stage.queue.push(task).await;
            eventually(SOON, || async { (stage.upstream.in_flight() == 1).then_some(()) }).await;
            stage.queue.wait_result("a", SOON).await;
            let again = || async { (Reading::all(&reader(&stage), "a").await.text() == "answer 2").then_some(()) };
            eventually(SOON, again).await;
        }
        let mut reading = Reading::default();
        let mut entries = client.stream(&id("a"), EntryId::START);
        while let Some(entry) = timeout(SOON, entries.next()).await.expect("a stream goes on") {
            reading.take(entry);
        }
        assert_eq!((reading.text(), reading.restarts), (format!("answer {round}"), 0));
    }
}
