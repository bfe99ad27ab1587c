//! Schedules: each occurrence fires once, whatever happens to the workers.

use std::collections::BTreeMap;
use std::time::Duration;

use redial::Client;
use redial_tests::{Cli, Worker, eventually};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{SOON, Stage};

/// The occurrences, in seconds, for which each schedule's calls were made, in order.
fn times(stage: &Stage) -> BTreeMap<String, Vec<u64>> {
    let mut times: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for call in stage.upstream.calls() {
        let name = call.query("name").expect("these calls name their schedules").to_owned();
        times.entry(name).or_default().push(call.unix_ms / 1000);
    }
    times
}

/// How often the fleet has fired, as the queue counts it.
async fn fired(stage: &Stage) -> usize {
    let count = stage.redis.cli(&["HGET", "redial:{default}:stats", "fired"]).await;
    count.parse().unwrap_or(0)
}

/// The ids of all results.
async fn ended(stage: &Stage) -> Vec<String> {
    let keys = stage.redis.cli(&["KEYS", "redial:{default}:result:*"]).await;
    let mut ids: Vec<String> =
        keys.lines().filter_map(|key| key.strip_prefix("redial:{default}:result:")).map(str::to_owned).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn every_occurrence_of_ten_schedules_fires_exactly_once_despite_worker_kills() {
    const SCHEDULES: usize = 10;
    const FIRINGS: usize = 200;
    let stage = Stage::slow(Duration::ZERO).await;
    let start = || stage.worker().env("REDIAL_LEASE_MS", "1000").spawn();
    let mut workers: Vec<Worker> = (0..4).map(|_| start()).collect();
    let client = Client::open(stage.redis.url(), "default").unwrap();
    for n in 0..SCHEDULES {
        let task = json!({"url": stage.url(&format!("/?name=s{n}"))}).to_string();
        client.schedule(&format!("s{n}"), "* * * * * *", None, &task).await.unwrap();
    }
    let mut kill = 0;
    while fired(&stage).await < FIRINGS {
        sleep(Duration::from_millis(700)).await;
        workers[kill % 4].kill9();
        workers[kill % 4] = start();
        kill += 1;
        assert!(kill < 300, "only {} firings", fired(&stage).await);
    }
    for n in 0..SCHEDULES {
        assert!(client.unschedule(&format!("s{n}")).await.unwrap());
    }
    let pushed = fired(&stage).await;
    let all_ended = || async { (ended(&stage).await.len() >= pushed).then_some(()) };
    eventually(Duration::from_secs(90), all_ended).await;

    // As many tasks as firings, each with an occurrence of its own, and none skipped in between.
    let ids = ended(&stage).await;
    assert_eq!(ids.len(), pushed);
    assert!(pushed >= FIRINGS);
    for n in 0..SCHEDULES {
        let prefix = format!("s{n}@");
        let times: Vec<u64> = ids.iter().filter_map(|id| id.strip_prefix(&prefix)).map(second).collect();
        assert!(times.windows(2).all(|pair| pair[1] == pair[0] + 1), "s{n}: {times:?}");
        assert!(times.len() > 5, "s{n}: {times:?}");
    }
}

/// The occurrence that an id contains, in seconds.
fn second(time: &str) -> u64 {
    let time = humantime::parse_rfc3339(time).unwrap();
    time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn occurrences_missed_while_no_worker_ran_are_made_up_for_by_one() {
    let stage = Stage::slow(Duration::ZERO).await;
    let client = Client::open(stage.redis.url(), "default").unwrap();
    let task = |name: &str| json!({"url": stage.url(&format!("/?name={name}"))}).to_string();
    client.schedule("minutely", "* * * * *", None, &task("minutely")).await.unwrap();
    client.schedule("later", "0 0 1 1 *", None, &task("later")).await.unwrap();
    // As if it had become due three hours ago.
    let missed = redial_core::UnixMs::local_now().0 / 60_000 * 60_000 - 3 * 3_600_000;
    stage.redis.cli(&["ZADD", "redial:{default}:firings", &missed.to_string(), "minutely"]).await;
    let _worker = stage.ready_worker().await;
    let made_up = || async { (!ended(&stage).await.is_empty()).then_some(()) };
    eventually(SOON, made_up).await;
    let first = &ended(&stage).await[0];
    assert_eq!(second(first.strip_prefix("minutely@").unwrap()), missed / 1000);
    // The next occurrence lies in the future.
    let next = client.schedules().await.unwrap().into_iter().find(|schedule| schedule.name == "minutely").unwrap();
    assert!(next.next.unwrap().0 > missed + 3 * 3_600_000);
    sleep(Duration::from_secs(2)).await;
    assert!(times(&stage)["minutely"].len() <= 2, "{:?}", times(&stage));
    assert!(!times(&stage).contains_key("later"));
}

#[tokio::test]
async fn schedules_can_be_added_listed_and_removed() {
    let stage = Stage::slow(Duration::ZERO).await;
    let cli = Cli::new(&stage.redis);
    let output = cli.run(&["schedule", "list"]).await;
    assert_eq!((output.status, output.stdout.as_str()), (0, ""));
    assert!(output.stderr.contains("no schedules in queue default"), "{}", output.stderr);

    let task = json!({"url": stage.url("/?name=tick"), "headers": {"Authorization": "geheim"}}).to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &task).unwrap();
    let file = file.path().to_str().unwrap();
    let output = cli.run(&["schedule", "add", "nightly", "0 3 * * *", file, "--tz", "Europe/Berlin"]).await;
    assert!(output.status == 0 && output.stdout.starts_with("nightly: next at "), "{}{}", output.stdout, output.stderr);
    let output = cli.run_with_input(&["--json", "schedule", "add", "tick", "* * * * * *", "-"], &task).await;
    let added: Value = serde_json::from_str(&output.stdout).unwrap();
    assert!(added["next_ms"].is_u64(), "{added}");
    let listed = cli.run(&["--json", "schedule", "list"]).await.stdout;
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&listed[0]["name"], &listed[0]["tz"]), (&json!("nightly"), &json!("Europe/Berlin")));
    assert_eq!((&listed[1]["cron"], &listed[1]["tz"]), (&json!("* * * * * *"), &json!("UTC")));
    assert_eq!(listed[0]["task"]["headers"]["Authorization"], "[redacted]");
    let text = cli.run(&["schedule", "list"]).await.stdout;
    assert!(text.contains("nightly  0 3 * * * (Europe/Berlin)  next at "), "{text}");

    let _worker = stage.ready_worker().await;
    eventually(SOON, || async { (stage.upstream.count() >= 2).then_some(()) }).await;
    let output = cli.run(&["schedule", "remove", "tick", "nobody"]).await;
    assert_eq!((output.status, output.stdout.as_str()), (3, "tick: removed\n"));
    assert!(output.stderr.contains("nobody: no such schedule"), "{}", output.stderr);

    for (typed, expected) in [
        (["a", "* * *", "{\"url\":\"http://h/\"}"], "not a valid cron expression"),
        (["a", "0 0 30 2 *", "{\"url\":\"http://h/\"}"], "never fires"),
        (["a", "@daily", "{}"], "missing field `url`"),
        (["a", "@daily", "no/such/file"], "use a file"),
        (["a b", "@daily", "{\"url\":\"http://h/\"}"], "not a valid schedule name"),
        (["a", "@daily", "{\"url\":\"http://h/\",\"id\":\"x\"}"], "each firing gets its own"),
    ] {
        let output = cli.run(&[&["schedule", "add"][..], &typed[..]].concat()).await;
        assert_eq!(output.status, 1, "{typed:?}");
        assert!(output.stderr.contains(expected), "{typed:?}: {}", output.stderr);
    }
    assert_eq!(producer_names(&stage).await, ["nightly"]);
}

async fn producer_names(stage: &Stage) -> Vec<String> {
    let client = Client::open(stage.redis.url(), "default").unwrap();
    client.schedules().await.unwrap().into_iter().map(|schedule| schedule.name).collect()
}
