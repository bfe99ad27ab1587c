//! A queue as a producer sees it: raw commands on the keys that the protocol fixes, no library of
//! ours in between.

use std::time::Duration;

use redis::{FromRedisValue, RedisResult};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::connection::RedisConnection;
use crate::wait::within;

/// How many commands or keys go in one round trip: large for speed, bounded for Redis's sake.
const BATCH: usize = 1_000;
/// How many results are waited for at a time.
const PART: usize = 200;
/// How long a look waits for a Redis that is being restarted.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// One queue. It connects when first used, and again after its connection broke.
#[allow(missing_debug_implementations, reason = "the client's connections have none")]
pub struct TestQueue {
    url: String,
    name: String,
    link: Mutex<Option<RedisConnection>>,
}

/// A member of the dead letters.
#[derive(Clone, Debug, PartialEq)]
pub struct RawDeadLetter {
    /// What Redial says of it: the line of JSON before the first line end.
    pub header: Value,
    /// What the producer pushed, byte by byte.
    pub raw: Vec<u8>,
}

impl TestQueue {
    /// The queue of this name on this Redis (a URL, a `RedisServer` or a `Cluster`).
    pub fn new(redis: impl AsRef<str>, name: &str) -> Self {
        Self { url: redis.as_ref().to_owned(), name: name.to_owned(), link: Mutex::new(None) }
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
        self.try_push(task).await.expect("this Redis takes a task");
    }

    /// Pushes one task, once. After an error it may or may not be there.
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
                self.send::<()>(&pipeline).await.expect("this Redis takes tasks");
                pipeline.clear();
            }
        }
        if !pipeline.is_empty() {
            self.send::<()>(&pipeline).await.expect("this Redis takes tasks");
        }
    }

    /// A task's result, if it is there.
    pub async fn result(&self, id: &str) -> Option<Value> {
        self.results(&[id]).await.pop().flatten()
    }

    /// The results of tasks, in the order of the ids, where they are there.
    pub async fn results<I: AsRef<str>>(&self, ids: &[I]) -> Vec<Option<Value>> {
        let mut results = Vec::with_capacity(ids.len());
        for ids in ids.chunks(BATCH) {
            let mut pipeline = redis::pipe();
            pipeline.mget(ids.iter().map(|id| self.result_key(id.as_ref())).collect::<Vec<_>>());
            let (found,): (Vec<Option<Vec<u8>>>,) = self.look(&pipeline).await;
            results.extend(
                found
                    .into_iter()
                    .map(|found| found.map(|json| serde_json::from_slice(&json).expect("a result is JSON"))),
            );
        }
        results
    }

    /// Waits for a task's result; panics when there is none at the timeout.
    pub async fn wait_result(&self, id: &str, timeout: Duration) -> Value {
        let mut results = self.wait_results(&[id], timeout).await;
        results.pop().expect("one id has one result")
    }

    /// Waits for the results of all these tasks, and gives them in the order of the ids.
    ///
    /// It looks at a part of them at a time, the next when all of it are there: to ask for
    /// thousands again and again would load the Redis that is being tested.
    pub async fn wait_results<I: AsRef<str>>(&self, ids: &[I], timeout: Duration) -> Vec<Value> {
        let deadline = Instant::now() + timeout;
        let mut results = Vec::with_capacity(ids.len());
        for part in ids.chunks(PART) {
            let left = deadline.saturating_duration_since(Instant::now());
            let all_there = || async { self.results(part).await.into_iter().collect() };
            let found: Option<Vec<Value>> = within(left, all_there).await;
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

    /// How many tasks wait in the list.
    pub async fn waiting(&self) -> u64 {
        let (length,) = self.look(redis::pipe().llen(self.key())).await;
        length
    }

    /// The results on a reply list, the newest first.
    pub async fn list(&self, key: &str) -> Vec<Value> {
        let (lines,): (Vec<String>,) = self.look(redis::pipe().lrange(key, 0, -1)).await;
        lines.iter().map(|line| serde_json::from_str(line).expect("a reply is JSON")).collect()
    }

    /// All dead letters, the oldest first.
    pub async fn dead(&self) -> Vec<RawDeadLetter> {
        let key = format!("{}:dead", self.key());
        let (members,): (Vec<Vec<u8>>,) = self.look(redis::pipe().zrange(key, 0, -1)).await;
        members.iter().map(|member| RawDeadLetter::read(member)).collect()
    }

    /// A look changes nothing, so it is repeated while Redis is away.
    async fn look<T: FromRedisValue>(&self, pipeline: &redis::Pipeline) -> T {
        within(LOOK_TIMEOUT, || async { self.send(pipeline).await.ok() })
            .await
            .unwrap_or_else(|| panic!("no answer from {} within {LOOK_TIMEOUT:?}", self.url))
    }

    async fn send<T: FromRedisValue>(&self, pipeline: &redis::Pipeline) -> RedisResult<T> {
        let mut link = self.link().await?;
        let answer = pipeline.query_async(&mut link).await;
        if let Err(error) = &answer
            && error.is_unrecoverable_error()
        {
            *self.link.lock().await = None;
        }
        answer
    }

    async fn link(&self) -> RedisResult<RedisConnection> {
        let mut link = self.link.lock().await;
        if let Some(link) = &*link {
            return Ok(link.clone());
        }
        Ok(link.insert(RedisConnection::open(&self.url).await?).clone())
    }
}

impl RawDeadLetter {
    fn read(member: &[u8]) -> Self {
        let end = member.iter().position(|byte| *byte == b'\n');
        let end = end.expect("a dead letter has a line of JSON before the producer's bytes");
        Self {
            header: serde_json::from_slice(&member[..end]).expect("its first line is JSON"),
            raw: member[end + 1..].to_vec(),
        }
    }
}
