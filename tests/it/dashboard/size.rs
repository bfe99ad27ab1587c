//! Long queues and many dead letters: nothing that operators look at scans them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redial_tests::{Cli, GatewayProcess, RedisConnection, RedisServer, Reply, TestQueue, Upstream, Worker, eventually};
use serde_json::json;

use crate::promises::at_length;

/// The longest that a command may keep Redis from serving others, on average over all tries.
const MAX_COMMAND: Duration = Duration::from_millis(5);
/// How often each thing is looked at: other tests may hold up Redis now and then, but a scan is slow each time.
const TRIES: usize = 4;

/// A queue with so many tasks that wait and so many dead letters, as a worker writes them.
async fn fill(redis: &RedisServer, waiting: usize, dead: usize) {
    let (queue, upstream) = (TestQueue::new(redis, "default"), Upstream::start(|_| Reply::status(422)).await);
    let worker = Worker::spawn(redis);
    let task = |id: &str| json!({"id": id, "url": upstream.url("/v1/orders"), "body": {"n": 1}}).to_string();
    queue.push(task("order-0000000")).await;
    eventually(Duration::from_secs(40), || async { (queue.dead().await.len() == 1).then_some(()) }).await;
    worker.term();
    eventually(Duration::from_secs(40), || async { (!worker.is_running()).then_some(()) }).await;
    let mut connection = RedisConnection::open(redis.url()).await.unwrap();
    let letters: Vec<(Vec<u8>, f64)> = redis::cmd("ZRANGE")
        .arg("redial:{default}:dead")
        .arg("0")
        .arg("-1")
        .arg("WITHSCORES")
        .query_async(&mut connection)
        .await
        .unwrap();
    let letter = String::from_utf8(letters[0].0.clone()).unwrap();
    let header: serde_json::Value = serde_json::from_str(letter.lines().next().unwrap()).unwrap();
    let serial = header["serial"].as_str().unwrap();
    for first in (1..dead).step_by(1_000) {
        let mut add = redis::cmd("ZADD");
        add.arg("redial:{default}:dead");
        for n in first..dead.min(first + 1_000) {
            let other =
                letter.replace("order-0000000", &format!("order-{n:07}")).replace(serial, &format!("{serial}{n}"));
            add.arg(letters[0].1).arg(other);
        }
        add.exec_async(&mut connection).await.unwrap();
    }
    for first in (0..waiting).step_by(1_000) {
        let tasks: Vec<String> = (first..waiting.min(first + 1_000)).map(|n| task(&format!("wait-{n}"))).collect();
        redis::cmd("LPUSH").arg(queue.key()).arg(&tasks).exec_async(&mut connection).await.unwrap();
    }
}

/// What Redis was asked since its log was emptied: the names of commands, and how long each took.
async fn asked(connection: &mut RedisConnection) -> Vec<(String, Duration)> {
    type Entry = (i64, i64, u64, Vec<Vec<u8>>, String, String);
    let log: Vec<Entry> = redis::cmd("SLOWLOG").arg("GET").arg("100000").query_async(connection).await.unwrap();
    let commands = log.into_iter().map(|(_, _, micros, words, ..)| {
        (String::from_utf8_lossy(&words[0]).to_uppercase(), Duration::from_micros(micros))
    });
    commands.filter(|(name, _)| name != "SLOWLOG").collect()
}

/// With `REDIAL_SOAK` a million tasks and a hundred thousand letters; the figures of `docs/dashboard.md` are what this prints.
#[tokio::test]
async fn nothing_that_operators_look_at_scans_a_long_queue_or_all_dead_letters_at_once() {
    let (waiting, dead) = at_length((50_000, 5_000), (1_000_000, 100_000));
    let redis = RedisServer::start().await;
    fill(&redis, waiting, dead).await;
    let gateway = GatewayProcess::start(&redis, "").await;
    let mut connection = RedisConnection::open(redis.url()).await.unwrap();
    let page = gateway.send("GET", "/v1/queues/default/dead?limit=1", &[], b"").await.json();
    assert_eq!(page["dead"], json!(dead));
    let letter = format!("/v1/queues/default/dead/{}", page["letters"][0]["letter"].as_str().unwrap());
    let oldest = format!("/v1/queues/default/dead?before={}", 50);
    let deep = format!("/v1/queues/default/tasks?skip={}", waiting - 50);
    let paths = [
        "/v1/queues",
        "/v1/workers",
        "/v1/batches",
        "/v1/statistics",
        "/v1/statistics?window=hour",
        "/v1/limits",
        "/v1/breakers",
        "/v1/queues/default/tasks",
        "/v1/queues/default/tasks?skip=1000",
        deep.as_str(),
        "/v1/queues/default/waits",
        "/v1/queues/default/schedules",
        "/v1/queues/default/dead",
        oldest.as_str(),
        "/v1/queues/default/dead?text=order-0000001",
        "/v1/queues/default/dead/groups",
        letter.as_str(),
        "/v1/queues/default/dead-jobs",
        "redial top --once",
        "redial queues",
    ];
    let set_log = ["SET", "slowlog-log-slower-than", "0", "slowlog-max-len", "100000"];
    for what in paths {
        let (mut tries, mut spent) = (Vec::new(), BTreeMap::<String, (Duration, u32)>::new());
        for _ in 0..TRIES {
            redis::cmd("CONFIG").arg(&set_log).exec_async(&mut connection).await.unwrap();
            redis::cmd("SLOWLOG").arg("RESET").exec_async(&mut connection).await.unwrap();
            let began = Instant::now();
            if let Some(command) = what.strip_prefix("redial ") {
                let typed: Vec<&str> = command.split(' ').collect();
                let output = Cli::new(&redis).run(&typed).await;
                assert_eq!(output.status, 0, "{}", output.stderr);
                assert!(output.stdout.contains("default"), "{}", output.stdout);
            } else {
                let answer = gateway.send("GET", what, &[], b"").await;
                assert_eq!(answer.status, 200, "{what}: {}", answer.text());
            }
            let took = began.elapsed();
            let commands = asked(&mut connection).await;
            let slowest = commands.iter().max_by_key(|(_, took)| *took).expect("something was asked").clone();
            tries.push((slowest.1, slowest.0, took, commands.len()));
            for (name, took) in commands {
                let (sum, count) = spent.entry(name).or_default();
                (*sum, *count) = (*sum + took, *count + 1);
            }
        }
        // The groups are kept for a while once they were counted.
        let best = if what.ends_with("groups") { tries.first() } else { tries.iter().min() };
        let (slowest, name, took, commands) = best.unwrap();
        eprintln!("{what}: {took:.1?}, {commands} commands, the slowest {slowest:.2?} ({name})");
        for (name, (sum, count)) in spent {
            assert!(sum / count <= MAX_COMMAND, "{what}: {name} took {:?} on average", sum / count);
        }
    }
}
