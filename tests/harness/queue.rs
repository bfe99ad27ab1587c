//! A queue as a producer sees it: raw commands on the keys that the protocol defines, without our library.

use std::time::Duration;

use redis::{FromRedisValue, RedisResult};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::connection::RedisConnection;
use crate::wait::within;

/// Commands or keys per round trip: many for speed, bounded to spare Redis.
const BATCH: usize = 1_000;
/// How many results are polled at a time.
const POLL_CHUNK: usize = 200;
/// How long a query is retried while Redis restarts.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);

/// One queue. It connects on first use, and reconnects after its connection breaks.
#[allow(missing_debug_implementations, reason = "the client's connections do not implement it")]
pub struct TestQueue {
    url: String,
    name: String,
    connection: Mutex<Option<RedisConnection>>,
}

/// A member of the sorted set of dead letters.
#[derive(Clone, Debug, PartialEq)]
pub struct RawDeadLetter {
    /// What Redial recorded about it: the line of JSON before the first newline.
    pub header: Value,
    /// What the producer pushed, byte for byte.
    pub raw: Vec<u8>,
}

impl TestQueue {
    /// The queue of this name on this Redis (a URL, a `RedisServer` or a `Cluster`).
    pub fn new(redis: impl AsRef<str>, name: &str) -> Self {
        Self { url: redis.as_ref().to_owned(), name: name.to_owned(), connection: Mutex::new(None) }
    }

    /// The key of the list of waiting tasks.
    pub fn key(&self) -> String {
        format!("redial:{{{}}}", self.name)
    }

    /// The key of a task's result.
    pub fn result_key(&self, id: &str) -> String {
        format!("redial:{{{}}}:result:{id}", self.name)
    }

    /// Pushes one task.
    pub async fn push(&self, task: impl AsRef<[u8]>) {
        self.try_push(task).await.expect("this Redis accepts a task");
    }

    /// Pushes one task, without retrying. After an error it may or may not have been pushed.
    pub async fn try_push(&self, task: impl AsRef<[u8]>) -> RedisResult<()> {
        let mut pipeline = redis::pipe();
        pipeline.lpush(self.key(), task.as_ref()).ignore();
        self.send(&pipeline).await
    }

    /// Pushes many tasks, one `LPUSH` each, pipelined.
    pub async fn push_all<T: AsRef<[u8]>>(&self, tasks: impl IntoIterator<Item = T>) {
        let mut pipeline = redis::pipe();
        for task in tasks {
            pipeline.lpush(self.key(), task.as_ref()).ignore();
            if pipeline.len() == BATCH {
                self.send::<()>(&pipeline).await.expect("this Redis accepts tasks");
                pipeline.clear();
            }
        }
        if !pipeline.is_empty() {
            self.send::<()>(&pipeline).await.expect("this Redis accepts tasks");
        }
    }

    /// A task's result, if there is one.
    pub async fn result(&self, id: &str) -> Option<Value> {
        self.results(&[id]).await.pop().flatten()
    }

    /// The results of these tasks in the order of the ids, each if there is one.
    pub async fn results<I: AsRef<str>>(&self, ids: &[I]) -> Vec<Option<Value>> {
        let mut results = Vec::with_capacity(ids.len());
        for ids in ids.chunks(BATCH) {
            let mut pipeline = redis::pipe();
            pipeline.mget(ids.iter().map(|id| self.result_key(id.as_ref())).collect::<Vec<_>>());
            let (found,): (Vec<Option<Vec<u8>>>,) = self.query(&pipeline).await;
            results.extend(
                found
                    .into_iter()
                    .map(|found| found.map(|json| serde_json::from_slice(&json).expect("a result is JSON"))),
            );
        }
        results
    }

    /// Waits for a task's result; panics at the timeout.
    pub async fn wait_result(&self, id: &str, timeout: Duration) -> Value {
        let mut results = self.wait_results(&[id], timeout).await;
        results.pop().expect("one id has one result")
    }

    /// Waits for the results of all these tasks and returns them in the order of the ids; panics at the timeout.
    ///
    /// It polls one chunk of ids until all of its results exist, then the next: polling thousands at a time would put load on
    /// the Redis under test.
    pub async fn wait_results<I: AsRef<str>>(&self, ids: &[I], timeout: Duration) -> Vec<Value> {
        let deadline = Instant::now() + timeout;
        let mut results = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(POLL_CHUNK) {
            let left = deadline.saturating_duration_since(Instant::now());
            let all_present = || async { self.results(chunk).await.into_iter().collect() };
            let found: Option<Vec<Value>> = within(left, all_present).await;
            match found {
                Some(found) => results.extend(found),
                None => self.panic_for_missing(ids, timeout).await,
            }
        }
        results
    }

    async fn panic_for_missing<I: AsRef<str>>(&self, ids: &[I], timeout: Duration) {
        let results = self.results(ids).await;
        let missing = ids.iter().zip(&results).filter(|(_, result)| result.is_none());
        let missing: Vec<&str> = missing.map(|(id, _)| id.as_ref()).collect();
        let (left, total) = (missing.len(), ids.len());
        let some = &missing[..left.min(5)];
        panic!("{left} of {total} results missing after {timeout:?}, such as {some:?}");
    }

    /// The length of the list of waiting tasks.
    pub async fn waiting(&self) -> u64 {
        let (length,) = self.query(redis::pipe().llen(self.key())).await;
        length
    }

    /// The results on a reply list, newest first.
    pub async fn list(&self, key: &str) -> Vec<Value> {
        let (lines,): (Vec<String>,) = self.query(redis::pipe().lrange(key, 0, -1)).await;
        lines.iter().map(|line| serde_json::from_str(line).expect("a reply is JSON")).collect()
    }

    /// All dead letters, oldest first.
    pub async fn dead(&self) -> Vec<RawDeadLetter> {
        let key = format!("{}:dead", self.key());
        let (members,): (Vec<Vec<u8>>,) = self.query(redis::pipe().zrange(key, 0, -1)).await;
        members.iter().map(|member| RawDeadLetter::parse(member)).collect()
    }

    /// Runs a read-only pipeline, which is safe to repeat while Redis is down.
    async fn query<T: FromRedisValue>(&self, pipeline: &redis::Pipeline) -> T {
        within(QUERY_TIMEOUT, || async { self.send(pipeline).await.ok() })
            .await
            .unwrap_or_else(|| panic!("no reply from {} within {QUERY_TIMEOUT:?}", self.url))
    }

    async fn send<T: FromRedisValue>(&self, pipeline: &redis::Pipeline) -> RedisResult<T> {
        let mut connection = self.connection().await?;
        let reply = pipeline.query_async(&mut connection).await;
        if let Err(error) = &reply
            && error.is_unrecoverable_error()
        {
            *self.connection.lock().await = None;
        }
        reply
    }

    async fn connection(&self) -> RedisResult<RedisConnection> {
        let mut connection = self.connection.lock().await;
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        Ok(connection.insert(RedisConnection::open(&self.url).await?).clone())
    }
}

impl RawDeadLetter {
    fn parse(member: &[u8]) -> Self {
        let end = member.iter().position(|byte| *byte == b'\n');
        let end = end.expect("a dead letter begins with a line of JSON");
        Self {
            header: serde_json::from_slice(&member[..end]).expect("its first line is JSON"),
            raw: member[end + 1..].to_vec(),
        }
    }
}
