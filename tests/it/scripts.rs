//! Every Lua script on its own, against a real Redis: keys before, call, reply, keys after. A file a script.
//!
//! The keys here are made by hand and look like nothing of Redial's, which shows that no script puts a key together.

mod acquire;
mod adjust;
mod announce;
mod announce_waiting;
mod append;
mod bury;
mod bury_stored;
mod claim;
mod claim_again;
mod consult;
mod dead_page;
mod define_limit;
mod deliver;
mod drain_limit;
mod drop_dead;
mod due_checks;
mod due_schedules;
mod enqueue_once;
mod extend_slots;
mod find_entry;
mod find_waiting;
mod finish;
mod fire_schedule;
mod forget;
mod full;
mod give_up;
mod grow_partitions;
mod heartbeat;
mod inspect_limit;
pub(crate) mod lead;
mod mark_started;
mod over_budget;
mod park;
mod park_in_turn;
mod parked_page;
mod pure;
mod put_schedule;
mod reap;
mod release_in_turn;
mod release_slots;
mod remove_schedule;
mod replay;
mod reply;
mod reschedule;
mod reset_limit;
mod settle;
mod stream_ends;
mod subscribe;
mod unpark;
mod watch_list;

use std::collections::BTreeMap;
use std::time::Duration;

use redial_core::script::TypedCall;
use redial_core::{Consumer, Db, QueueName, WorkerId};
use redial_tests::{RedisServer, stalls};
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisError, ToRedisArgs};

/// What no script may change, and every one must carry as it is.
pub(crate) const AWKWARD: [&[u8]; 6] =
    [b"{\"url\":\n\"http://h/\"}\r\n", b"\n", b"\0nul\0", b"\xff\xfe no text", b"w:9:9 5 1 1 -", b""];

/// A Redis of one's own, asked by raw commands. Its clock stands still until a test lets time [`pass`](Self::pass), so that a slow
/// machine changes no answer.
pub(crate) struct Desk {
    pub(crate) redis: RedisServer,
    wire: MultiplexedConnection,
}

/// All keys: what each holds, its bytes escaped, and whether it will go away by itself.
pub(crate) type Dump = BTreeMap<String, (Held, bool)>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Held {
    Text(String),
    List(Vec<String>),
    Hash(BTreeMap<String, String>),
    Sorted(Vec<(String, f64)>),
    /// The fields of each entry.
    Stream(Vec<Vec<String>>),
}

impl Desk {
    pub(crate) async fn new() -> Self {
        Self::with_args(&[]).await
    }

    pub(crate) async fn with_args(args: &[&str]) -> Self {
        let redis = RedisServer::with_args_and_fake_clock(args).await;
        redis.stop_clock_at(1_000 * stalls::now_ms());
        let wire = redis.connection().await;
        Self { redis, wire }
    }

    /// Moves its clock on by so many ms, or back.
    pub(crate) async fn pass(&self, ms: i64) {
        self.redis.stop_clock_at(self.now_us().await.saturating_add_signed(1_000 * ms));
    }

    /// One command; it must succeed.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: impl ToRedisArgs) -> T {
        self.try_ask(command).await.unwrap()
    }

    pub(crate) async fn try_ask<T: FromRedisValue>(&self, command: impl ToRedisArgs) -> Result<T, RedisError> {
        let mut cmd = redis::Cmd::new();
        cmd.arg(command).query_async(&mut self.wire.clone()).await
    }

    /// Runs a script; it must succeed.
    pub(crate) async fn run<C: TypedCall>(&self, call: &C) -> C::Reply {
        self.try_run(call).await.unwrap()
    }

    pub(crate) async fn try_run<C: TypedCall>(&self, call: &C) -> Result<C::Reply, RedisError> {
        let reply = call.invocation().run(&mut self.wire.clone()).await?;
        Ok(C::parse(reply).unwrap())
    }

    /// Runs a script; its reply is parsed by other means than its own.
    pub(crate) async fn run_raw<T: FromRedisValue>(&self, call: &impl TypedCall) -> T {
        let reply = call.invocation().run(&mut self.wire.clone()).await.unwrap();
        redis::from_redis_value(reply).unwrap()
    }

    /// Runs a script that must fail on a key of another type and leave every key as it was.
    pub(crate) async fn refuses(&self, call: &impl TypedCall) {
        self.refuses_with(call, "WRONGTYPE").await;
    }

    /// Runs a script that must fail with this code and leave every key as it was.
    pub(crate) async fn refuses_with(&self, call: &impl TypedCall, code: &str) {
        let before = self.dump().await;
        let error = call.invocation().run(&mut self.wire.clone()).await.unwrap_err();
        assert!(error.to_string().contains(code), "{error}");
        assert_eq!(self.dump().await, before);
    }

    /// Runs a script that must answer like this and leave every key as it was.
    pub(crate) async fn changes_nothing<C>(&self, call: &C, answer: C::Reply)
    where
        C: TypedCall<Reply: PartialEq + std::fmt::Debug>,
    {
        let before = self.dump().await;
        assert_eq!(self.run(call).await, answer);
        assert_eq!(self.dump().await, before);
    }

    pub(crate) async fn hold(&self, token: &str, entry: &[u8]) {
        let () = self.ask(("HSET", "active", token, entry)).await;
    }

    pub(crate) async fn now(&self) -> u64 {
        self.now_us().await / 1_000
    }

    async fn now_us(&self) -> u64 {
        let (seconds, micros): (u64, u64) = self.ask("TIME").await;
        seconds * 1_000_000 + micros
    }

    pub(crate) async fn dump(&self) -> Dump {
        let mut dump = Dump::new();
        let keys: Vec<String> = self.ask(("KEYS", "*")).await;
        for key in keys {
            let kind: String = self.ask(("TYPE", &key)).await;
            let held = match kind.as_str() {
                "string" => Held::Text(escaped(&self.ask::<Vec<u8>>(("GET", &key)).await)),
                "list" => {
                    let all: Vec<Vec<u8>> = self.ask(("LRANGE", &key, 0, -1)).await;
                    Held::List(all.iter().map(|item| escaped(item)).collect())
                }
                "hash" => {
                    let all: Vec<(Vec<u8>, Vec<u8>)> = self.ask(("HGETALL", &key)).await;
                    Held::Hash(all.into_iter().map(|(k, v)| (escaped(&k), escaped(&v))).collect())
                }
                "zset" => {
                    let all: Vec<(Vec<u8>, f64)> = self.ask(("ZRANGE", &key, 0, -1, "WITHSCORES")).await;
                    Held::Sorted(all.into_iter().map(|(m, at)| (escaped(&m), at)).collect())
                }
                "stream" => {
                    let all: Vec<(String, Vec<Vec<u8>>)> = self.ask(("XRANGE", &key, "-", "+")).await;
                    Held::Stream(all.iter().map(|(_, fields)| fields.iter().map(|f| escaped(f)).collect()).collect())
                }
                // Its time to live ended between the two looks.
                "none" => continue,
                other => panic!("{key} is a {other}"),
            };
            let ttl: i64 = self.ask(("PTTL", &key)).await;
            dump.insert(key, (held, ttl >= 0));
        }
        dump
    }

    /// A worker at the queue `q` of this Redis, with its real keys.
    pub(crate) fn consumer(&self, worker: &str, lease: Duration) -> Consumer {
        let db = Db::open(self.redis.url(), "redial").unwrap();
        let queue = db.queue(QueueName::new("q").unwrap());
        Consumer::new(queue, WorkerId::from_redis(worker.into()), lease)
    }
}

pub(crate) fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

pub(crate) fn list<T: AsRef<[u8]>>(items: &[T]) -> Held {
    Held::List(items.iter().map(|i| escaped(i.as_ref())).collect())
}

pub(crate) fn hash<T: AsRef<[u8]>>(fields: &[(&str, T)]) -> Held {
    Held::Hash(fields.iter().map(|(k, v)| ((*k).to_owned(), escaped(v.as_ref()))).collect())
}

pub(crate) fn stream(entries: &[&[&str]]) -> Held {
    Held::Stream(entries.iter().map(|fields| fields.iter().map(ToString::to_string).collect()).collect())
}

pub(crate) fn sorted<T: AsRef<[u8]>>(members: &[(T, u64)]) -> Held {
    #[expect(clippy::cast_precision_loss, reason = "times are far below 2^53")]
    let member = |(m, at): &(T, u64)| (escaped(m.as_ref()), *at as f64);
    Held::Sorted(members.iter().map(member).collect())
}

/// An entry as it stands in `active` and `scheduled`.
pub(crate) fn entry(serial: &str, crashes: u32, started: bool, raw: &[u8]) -> Vec<u8> {
    let header = format!("{serial} 1000 {crashes} {} -\n", u8::from(started));
    [header.as_bytes(), raw].concat()
}

#[tokio::test]
async fn a_redis_that_forgot_its_scripts_gets_them_again() {
    let desk = Desk::new().await;
    let consumer = desk.consumer("w", Duration::from_secs(60));
    for n in 1..4 {
        let () = desk.ask(("LPUSH", "redial:{q}", "task")).await;
        let () = desk.ask(("SCRIPT", "FLUSH")).await;
        let id = redial_core::consumer::ClaimId::new(&WorkerId::from_redis("w".into()), n);
        let claimed = consumer.claim(&id, 1).await.unwrap();
        let [entry] = claimed.entries.as_slice() else {
            panic!("{claimed:?}");
        };
        let () = desk.ask(("SCRIPT", "FLUSH")).await;
        assert!(consumer.mark_started(&entry.token, &entry.header).await.unwrap());
        let () = desk.ask(("SCRIPT", "FLUSH")).await;
        let letter = format!("{{\"serial\":\"{}\"}}", entry.header.serial);
        assert!(consumer.bury(&entry.token, &letter, None).await.unwrap());
        let () = desk.ask(("SCRIPT", "FLUSH")).await;
        assert_eq!(consumer.heartbeat().await.unwrap().held, 0);
    }
    let dead: u64 = desk.ask(("ZCARD", "redial:{q}:dead")).await;
    assert_eq!(dead, 3);
}
