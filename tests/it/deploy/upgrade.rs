//! Workers of two releases on one queue, as while a fleet is upgraded, or put back. The old one is the program that `REDIAL_OLD_WORKER` names, or
//! else a copy of this build whose scripts have other texts: Redis then has both releases' scripts, as it does during an upgrade.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redial_tests::{Cli, RedisServer, TestQueue, Upstream, Worker, eventually};
use serde_json::json;

/// For all calls, those of the killed worker included, whose lease has to end first.
const SOON: Duration = Duration::from_secs(120);
const CALLS: usize = 300;
/// Each script has this line in its header, and both are of one length.
const LINES: [&[u8]; 2] = [b"-- Guarantees:", b"-- guarantees:"];

fn this_worker(redis: &RedisServer) -> PathBuf {
    Cli::new(redis).program().with_file_name("redial-worker")
}

fn old_worker(redis: &RedisServer, folder: &Path) -> PathBuf {
    if let Some(given) = std::env::var_os("REDIAL_OLD_WORKER") {
        return given.into();
    }
    let mut program = std::fs::read(this_worker(redis)).unwrap();
    let mut changed = 0;
    for at in 0..program.len() - LINES[0].len() {
        if program[at..].starts_with(LINES[0]) {
            program[at..at + LINES[1].len()].copy_from_slice(LINES[1]);
            changed += 1;
        }
    }
    assert!(changed > 20, "{changed} scripts");
    let copy = folder.join("redial-worker-old");
    std::fs::write(&copy, program).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

async fn cached_scripts(redis: &RedisServer) -> u64 {
    let info = redis.cli(&["INFO", "memory"]).await;
    let count = info.lines().find_map(|line| line.trim_end().strip_prefix("number_of_cached_scripts:"));
    count.unwrap().parse().unwrap()
}

/// A task of each way in which one release leaves something in Redis that another finds: waiting, scheduled, for a limit, shared, under a key that
/// several have and that may be used once, to be retried.
fn task(number: usize, upstream: &Upstream) -> String {
    let id = format!("u{number}");
    let url = upstream.url(&format!("/slow/20?key={id}"));
    let task = match number % 6 {
        0 => json!({"id": id, "url": url}),
        1 => json!({"id": id, "url": url, "delay_ms": 1 + number * 10}),
        2 => json!({"id": id, "url": url, "limit": {"name": "upgrade", "rate": 40}}),
        3 => json!({"id": id, "url": upstream.url("/slow/20?key=shared"), "cache_ttl_ms": 60_000}),
        4 => {
            let key = format!("k{}", number / 24);
            json!({"id": id, "url": upstream.url(&format!("/slow/20?key={key}")), "idempotency_key": key})
        }
        _ => json!({"id": id, "url": upstream.url(&format!("/flaky/1/503?key={id}")), "retry": {"base_ms": 500}}),
    };
    task.to_string()
}

/// Replaces workers of one program by workers of another while they work; one is killed.
async fn replaces(before: &Path, after: &Path, redis: &RedisServer) {
    let (queue, upstream) = (TestQueue::new(redis, "default"), Upstream::unruly().await);
    let start = |program: &Path| Worker::builder(redis).program(program).env("REDIAL_LEASE_MS", "4000").spawn();
    let (leaving, killed) = (start(before), start(before));
    leaving.wait_ready().await;
    killed.wait_ready().await;
    queue.push_all((0..CALLS / 2).map(|number| task(number, &upstream))).await;
    eventually(SOON, async || (upstream.count() > 30).then_some(())).await;

    let scripts = cached_scripts(redis).await;
    let joining = start(after);
    joining.wait_ready().await;
    queue.push_all((CALLS / 2..CALLS).map(|number| task(number, &upstream))).await;
    killed.kill9();
    leaving.term();
    assert!(leaving.wait_exit(SOON).await.success(), "{}", leaving.log());

    let ids: Vec<String> = (0..CALLS).map(|number| format!("u{number}")).collect();
    let results = queue.wait_results(&ids, SOON).await;
    let failed: Vec<_> = results.iter().filter(|result| result["status"] != "ok").collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(cached_scripts(redis).await > scripts, "both programs have the same scripts");
    for log in [leaving.log(), joining.log()] {
        assert!(!log.contains("ERROR") && !log.contains("unexpected data"), "{log}");
    }
}

#[tokio::test]
async fn workers_of_two_releases_on_one_queue_lose_nothing_whichever_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    for is_upgrade in [true, false] {
        let redis = RedisServer::start().await;
        let (old, new) = (old_worker(&redis, folder.path()), this_worker(&redis));
        let (before, after) = if is_upgrade { (&old, &new) } else { (&new, &old) };
        replaces(before, after, &redis).await;
    }
}
