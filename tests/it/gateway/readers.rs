//! Readers of one long stream, while the gateway and the connections to Redis are killed under them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redial_tests::gateway::arrived;
use redial_tests::{Reply, Upstream, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::FrontDoor;

const EVENTS: usize = 2_000;
/// How often one of the readers leaves, and after how many entries of each connection.
const RECONNECTS: usize = 20;
const ENTRIES_BETWEEN: usize = 5;
/// For the whole stream, on a machine that runs other tests meanwhile.
const LONG: Duration = Duration::from_secs(150);

fn event(n: usize) -> String {
    format!("data: {{\"n\":{n}}}\n\n")
}

/// An entry of the stream, as the gateway sends it.
struct Entry {
    id: String,
    kind: String,
    data: Value,
}

impl Entry {
    /// `None` for a comment.
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let data = serde_json::from_str(&field("data: ")?).expect("data is JSON");
        Some(Self { id: field("id: ")?, kind: field("event: ")?, data })
    }
}

/// One who reads a stream to its end, from wherever it was when it lost its connection.
#[derive(Default)]
struct Reader {
    text: String,
    last: Option<String>,
    connections: usize,
    /// Shared with who watches it: how many bytes it has.
    progress: Arc<AtomicUsize>,
}

impl Reader {
    async fn read_to_the_end(mut self, port: u16, path: &str, leaves: usize) -> Self {
        loop {
            let stays = self.connections >= leaves;
            match self.read_once(port, path, if stays { usize::MAX } else { ENTRIES_BETWEEN }).await {
                Ok(true) => return self,
                Ok(false) => {}
                // The gateway is away.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Whether the stream is at its end; leaves after so many entries.
    async fn read_once(&mut self, port: u16, path: &str, max_entries: usize) -> std::io::Result<bool> {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
        let last = self.last.as_ref().map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{last}\r\n").as_bytes()).await?;
        let (mut bytes, mut entries) = (Vec::new(), 0);
        while entries < max_entries && socket.read_buf(&mut bytes).await? > 0 {
            let Some(body) = arrived(&bytes) else { continue };
            let body = String::from_utf8(body).expect("events are text");
            // What has not arrived whole is read again.
            let whole = body.rfind("\n\n").map_or("", |end| &body[..end]);
            for entry in whole.split("\n\n").filter_map(Entry::parse).skip(entries) {
                entries += 1;
                assert!(entry.kind != "error" && entry.kind != "restart", "{}", entry.data);
                self.text += entry.data["text"].as_str().unwrap_or_default();
                self.last = Some(entry.id);
                self.connections += usize::from(entries == 1);
                self.progress.store(self.text.len(), Ordering::Relaxed);
                if entry.kind == "end" {
                    return Ok(true);
                }
                if entries == max_entries {
                    break;
                }
            }
        }
        Ok(false)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_readers_have_every_byte_once_and_in_order_whatever_is_killed_meanwhile() {
    let upstream = Upstream::start(|_| {
        Reply::streamed((0..EVENTS).map(|n| (Duration::from_millis(5), event(n))))
            .header("content-type", "text/event-stream")
    })
    .await;
    let mut door = FrontDoor::before(upstream, "").await;
    let _worker = door.worker();
    let task = json!({"id": "long", "url": door.upstream.url("/long"), "stream": true, "timeout_ms": 300_000});
    let accepted = door.gateway.send("POST", "/v1/tasks", &[], task.to_string().as_bytes()).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());

    let (port, path) = (door.gateway.port(), "/v1/tasks/long/stream");
    let readers: Vec<Reader> = (0..3).map(|_| Reader::default()).collect();
    let slowest: Vec<_> = readers.iter().map(|reader| reader.progress.clone()).collect();
    let reading: Vec<_> = readers
        .into_iter()
        .zip([RECONNECTS, 0, 0])
        .map(|(reader, leaves)| tokio::spawn(reader.read_to_the_end(port, path, leaves)))
        .collect();
    let whole: String = (0..EVENTS).map(event).collect();
    // Each time all of them are in the middle of it.
    for (nth, tenths) in [1, 3, 5, 7].into_iter().enumerate() {
        let all_are_there = || async {
            let least = slowest.iter().map(|progress| progress.load(Ordering::Relaxed)).min();
            (least >= Some(whole.len() * tenths / 10)).then_some(())
        };
        eventually(LONG, all_are_there).await;
        if nth % 2 == 0 {
            door.gateway.kill9();
            door.gateway.restart().await;
        } else {
            let killed = door.redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await;
            assert!(killed.trim().parse::<u32>().is_ok_and(|killed| killed > 0), "{killed}");
        }
    }
    for (reading, connections) in reading.into_iter().zip([RECONNECTS, 2, 2]) {
        let reader = tokio::time::timeout(LONG, reading).await.expect("the stream has an end").unwrap();
        assert!(reader.connections > connections, "{} connections", reader.connections);
        let differs = reader.text.bytes().zip(whole.bytes()).position(|(read, sent)| read != sent);
        assert!(reader.text == whole, "{} of {} bytes, the same to {differs:?}", reader.text.len(), whole.len());
    }
    assert_eq!(door.upstream.calls().len(), 1, "the call was made once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_come_while_others_are_further_miss_nothing() {
    const FEW: usize = 400;
    let upstream = Upstream::start(|_| {
        Reply::streamed((0..FEW).map(|n| (Duration::from_millis(5), event(n))))
            .header("content-type", "text/event-stream")
    })
    .await;
    let door = FrontDoor::before(upstream, "").await;
    let _worker = door.worker();
    let task = json!({"id": "long", "url": door.upstream.url("/long"), "stream": true, "timeout_ms": 300_000});
    let accepted = door.gateway.send("POST", "/v1/tasks", &[], task.to_string().as_bytes()).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let (port, path) = (door.gateway.port(), "/v1/tasks/long/stream");
    let mut reading = tokio::task::JoinSet::new();
    for _ in 0..60 {
        reading.spawn(Reader::default().read_to_the_end(port, path, 0));
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let whole: String = (0..FEW).map(event).collect();
    for reader in tokio::time::timeout(LONG, reading.join_all()).await.expect("the stream has an end") {
        assert!(reader.text == whole, "{} of {} bytes", reader.text.len(), whole.len());
    }
}
