//! What looking at a queue costs Redis while a million tasks wait in it and a hundred thousand are dead.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use redial_core::{Db, QueueName};
use redial_tests::{Cli, GatewayProcess, RedisServer};
use redis::aio::MultiplexedConnection;

use crate::bare;

const WAITING: usize = 1_000_000;
const DEAD: usize = 100_000;
/// How many of them are written at a time.
const CHUNK: usize = 5_000;
/// How often each view is looked at.
const TIMES: u32 = 5;
/// What is looked at, and how it is asked for.
const VIEWS: [(&str, &str); 9] = [
    ("queues", "/v1/queues"),
    ("workers", "/v1/workers"),
    ("statistics", "/v1/statistics?window=minute"),
    ("why work waits", "/v1/queues/default/waits"),
    ("the first tasks that wait", "/v1/queues/default/tasks?state=waiting&limit=100"),
    ("the last tasks that wait", "/v1/queues/default/tasks?state=waiting&skip=999900&limit=100"),
    ("the newest dead letters", "/v1/queues/default/dead?limit=100"),
    ("a search that finds nothing in 4,000 dead letters", "/v1/queues/default/dead?text=nothing-of-it"),
    ("dead letters by reason and upstream", "/v1/queues/default/dead/groups"),
];

/// What a view costs.
pub struct ViewCost {
    pub view: &'static str,
    /// How long it took, on average, in milliseconds.
    pub taken: f64,
    /// How many commands and scripts it sent, on average.
    pub commands: f64,
    /// How long Redis spent on the scripts among them, or on all if there are none, in milliseconds: the median, and the longest. It serves
    /// no one else meanwhile.
    pub median: f64,
    pub longest: f64,
}

/// The id, the time, the microseconds, the arguments, the address and the name of the client of a command.
type SlowCommand = (u64, u64, u64, Vec<Vec<u8>>, String, String);

/// Looks at everything, and prints one frame of `redial top`.
pub async fn measure() -> anyhow::Result<Vec<ViewCost>> {
    let redis = RedisServer::start().await;
    let mut connection = redis.connection().await;
    fill(&redis, &mut connection).await?;
    for (setting, value) in [("slowlog-log-slower-than", "0"), ("slowlog-max-len", "1000000")] {
        redis::cmd("CONFIG").arg("SET").arg(setting).arg(value).exec_async(&mut connection).await?;
    }
    let gateway = GatewayProcess::start(&redis, "").await;
    let mut costs = Vec::new();
    for (view, path) in VIEWS {
        let look = async || {
            let response = gateway.send("GET", path, &[], b"").await;
            anyhow::ensure!(response.status == 200, "{path}: {}", response.text());
            // The groups are counted again only after a rest.
            tokio::time::sleep(Duration::from_millis(if path.ends_with("groups") { 1_000 } else { 0 })).await;
            Ok(())
        };
        costs.push(cost(view, TIMES, &mut connection, look).await?);
    }
    let cli = Cli::new(&redis);
    let top = async || {
        let ended = cli.run(&["top", "--once"]).await;
        anyhow::ensure!(ended.status == 0, "{ended:?}");
        Ok(())
    };
    costs.push(cost("redial top --once", 1, &mut connection, top).await?);
    Ok(costs)
}

#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
async fn cost(
    view: &'static str,
    times: u32,
    connection: &mut MultiplexedConnection,
    look: impl AsyncFn() -> anyhow::Result<()>,
) -> anyhow::Result<ViewCost> {
    redis::cmd("SLOWLOG").arg("RESET").exec_async(connection).await?;
    let began = Instant::now();
    for _ in 0..times {
        look().await?;
    }
    let taken = began.elapsed() / times;
    let commands: Vec<SlowCommand> = redis::cmd("SLOWLOG").arg("GET").arg(-1).query_async(connection).await?;
    let is_script = |words: &[Vec<u8>]| words.first().is_some_and(|name| name.eq_ignore_ascii_case(b"EVALSHA"));
    let of = |scripts: bool| {
        let steps = commands.iter().filter(move |(_, _, _, words, ..)| !scripts || is_script(words));
        let mut steps: Vec<u64> = steps.map(|(_, _, us, ..)| *us).collect();
        steps.sort_unstable();
        steps
    };
    let steps = Some(of(true)).filter(|steps| !steps.is_empty()).unwrap_or_else(|| of(false));
    let (median, longest) = (steps.get(steps.len() / 2).copied(), steps.last().copied());
    let (median, longest) = median.zip(longest).context("a view asks Redis")?;
    Ok(ViewCost {
        view,
        taken: taken.as_secs_f64() * 1_000.0,
        commands: commands.len() as f64 / f64::from(times),
        median: median as f64 / 1_000.0,
        longest: longest as f64 / 1_000.0,
    })
}

async fn fill(redis: &RedisServer, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
    let db = Db::open(redis.as_ref(), "redial")?;
    db.register_queues(&[QueueName::new("default")?]).await?;
    let task =
        |n: usize| format!(r#"{{"id":"t{n}","url":"https://api-{}.example.com/v1","body":{}}}"#, n % 50, bare::BODY);
    for first in (0..WAITING).step_by(CHUNK) {
        let mut push = redis::cmd("LPUSH");
        push.arg("redial:{default}");
        for n in first..first + CHUNK {
            push.arg(task(n));
        }
        push.exec_async(connection).await?;
    }
    for first in (0..DEAD).step_by(CHUNK) {
        let mut add = redis::cmd("ZADD");
        add.arg("redial:{default}:dead");
        for n in first..first + CHUNK {
            let header = format!(
                r#"{{"serial":"s:1:{n}","id":"t{n}","status":"dead","reason":"rejected","error":"HTTP 404","attempts":1}}"#
            );
            add.arg(1_700_000_000_000 + n).arg(format!("{header}\n{}", task(n)));
        }
        add.exec_async(connection).await?;
    }
    Ok(())
}
