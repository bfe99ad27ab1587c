//! Who may define a limit, and whose responses may move it.

use std::path::PathBuf;
use std::time::Duration;

use redial_tests::{Cli, Reply, Upstream, Worker, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{SOON, Stage};

/// A response that asks for a pause of a minute, with a body that states an enormous usage.
fn hostile(status: u16) -> Reply {
    Reply::status(status)
        .header("retry-after", "60")
        .header("x-ratelimit-remaining-tokens", "0")
        .header("x-ratelimit-reset-tokens", "60s")
        .json(&json!({"usage": {"total_tokens": 900}}))
}

/// A configuration file with these lines.
fn configured(lines: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("redial.toml");
    std::fs::write(&path, lines).unwrap();
    (folder, path)
}

async fn worker_with(stage: &Stage, path: &std::path::Path) -> Worker {
    let worker = stage.worker().arg("--config").arg(path.to_str().unwrap()).spawn();
    worker.wait_ready().await;
    worker
}

async fn status(stage: &Stage, name: &str) -> Value {
    let shown = Cli::new(&stage.redis).run(&["--json", "limits", "show", name]).await;
    assert_eq!(shown.status, 0, "{}", shown.stderr);
    serde_json::from_str(&shown.stdout).unwrap()
}

/// Calls `url` under a limit, and tells whether the limit is closed afterwards, and how much of it is gone.
async fn moved(stage: &Stage, id: &str, url: &str, limit: Value) -> (bool, f64) {
    let name = limit["name"].as_str().unwrap_or("shared").to_owned();
    let task = json!({"id": id, "url": url, "limit": limit, "retry": {"max_attempts": 1}, "ttl_ms": 2_000});
    stage.queue.push(task.to_string()).await;
    stage.queue.wait_result(id, SOON).await;
    let status = status(stage, &name).await;
    (status["closed_ms"].as_u64().unwrap() > 0, 1_000.0 - status["left"].as_f64().unwrap())
}

const LIMIT: &str = "[[limit]]\nname = \"shared\"\nrate = 1000\nper_ms = 86400000\nburst = 1000\ncost = 10\n";

#[tokio::test]
async fn the_response_of_a_task_s_own_server_moves_no_limit_that_operators_define() {
    for by_hand in [false, true] {
        for (id, code) in [("paused", 429), ("spent", 200)] {
            let stage = Stage::answering(move |_| hostile(code)).await;
            let vendor = Upstream::start(|_| Reply::ok()).await;
            let upstream = format!("[[upstream]]\nurl = \"{}\"\nlimits = [\"other\"]\n", vendor.url("/"));
            let other = LIMIT.replace("shared", "other");
            let limits = if by_hand { other } else { format!("{LIMIT}{other}") };
            let (_folder, path) = configured(&format!("{limits}{upstream}"));
            if by_hand {
                let set = ["limits", "set", "shared", "--rate", "1000", "--per-ms", "86400000", "--burst", "1000"];
                assert_eq!(Cli::new(&stage.redis).run(&set).await.status, 0);
            }
            let _worker = worker_with(&stage, &path).await;
            // Even if the task brings a definition of its own, and says where the usage is.
            let own = json!({"name": "shared", "cost": 10, "rate": 5, "usage": "usage.total_tokens"});
            let (closed, gone) = moved(&stage, id, &stage.url("/"), own).await;
            // Besides its cost, it may be charged a little for a late start.
            assert!(!closed && gone <= 11.0, "by hand: {by_hand}, {code}: closed {closed}, {gone} gone");
        }
    }
}

#[tokio::test]
async fn the_response_of_an_upstream_moves_the_limits_that_the_configuration_names_for_it() {
    for (words, name) in [
        ("limits = [\"shared\"]", "shared"),
        ("adjusts = [\"shared\"]", "shared"),
        ("adjusts = [\"sha*\"]", "shared"),
        ("adjusts = [\"shared*\", \"x\"]", "shared"),
    ] {
        for (id, code) in [("paused", 429), ("spent", 200)] {
            let stage = Stage::answering(move |_| hostile(code)).await;
            let (_folder, path) =
                configured(&format!("{LIMIT}[[upstream]]\nurl = \"{}\"\n{words}\n", stage.url("/v1/")));
            let _worker = worker_with(&stage, &path).await;
            let (closed, gone) = moved(&stage, id, &stage.url("/v1/x"), json!({"name": name})).await;
            assert!(closed, "{words}, {code}");
            if code == 200 {
                assert!(gone > 800.0, "{words}: {gone} gone");
            }
        }
    }
}

#[tokio::test]
async fn the_response_to_a_task_moves_the_limits_that_only_tasks_define() {
    for (id, code) in [("paused", 429), ("spent", 200)] {
        let stage = Stage::answering(move |_| hostile(code)).await;
        let (_folder, path) = configured(LIMIT);
        let _worker = worker_with(&stage, &path).await;
        let own = json!({"name": "own", "cost": 10, "rate": 1000, "per_ms": 86_400_000, "burst": 1_000});
        let (closed, gone) = moved(&stage, id, &stage.url("/"), own).await;
        assert!(closed, "{code}");
        if code == 200 {
            assert!(gone > 800.0, "{gone} gone");
        }
        let shown = Cli::new(&stage.redis).run(&["limits", "show", "own"]).await.stdout;
        assert!(shown.contains("127.0.0.1 answered") && shown.contains("closed"), "{shown}");
    }
}

#[tokio::test]
async fn workers_state_what_they_configure_and_old_ones_do_not_flip_it_back() {
    let stage = Stage::unruly().await;
    let (_old_folder, old_path) = configured(LIMIT);
    let (_new_folder, new_path) = configured(&LIMIT.replace("rate = 1000", "rate = 2000"));
    let _old = worker_with(&stage, &old_path).await;
    let rate = async || {
        let shown = Cli::new(&stage.redis).run(&["--json", "limits", "show", "shared"]).await.stdout;
        let status: Option<Value> = serde_json::from_str(&shown).ok();
        status.map(|status| (status["defined_by"].clone(), status["rate"].as_f64().unwrap()))
    };
    // Before any task names it.
    eventually(SOON, || async { (rate().await == Some((json!("config"), 1_000.0))).then_some(()) }).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let new = worker_with(&stage, &new_path).await;
    eventually(SOON, || async { (rate().await == Some((json!("config"), 2_000.0))).then_some(()) }).await;
    // Both go on making calls, and stating what they are configured with.
    for n in 0..40 {
        let id = format!("t{n}");
        let result = stage.answer(json!({"id": id, "url": stage.url("/ok"), "limit": "shared"})).await;
        assert_eq!(result["status"], "ok");
        assert_eq!(rate().await, Some((json!("config"), 2_000.0)), "after {n} calls");
    }
    assert!(new.log().matches("limit definition changed").count() <= 1, "{}", new.log());

    // A worker that is gone states nothing any more: as if a minute had passed, the older one's counts.
    new.kill9();
    let until: f64 = stage.redis.cli(&["HGET", "redial:limit:{shared}", "config_until"]).await.trim().parse().unwrap();
    stage.redis.cli(&["HSET", "redial:limit:{shared}", "config_until", &format!("{:.2}", until - 60e6)]).await;
    eventually(SOON, || async { (rate().await == Some((json!("config"), 1_000.0))).then_some(()) }).await;
}

#[tokio::test]
async fn a_limit_by_hand_goes_before_the_configuration_and_that_before_tasks() {
    let stage = Stage::unruly().await;
    let (_folder, path) = configured(LIMIT);
    let _worker = worker_with(&stage, &path).await;
    let cli = Cli::new(&stage.redis);
    assert_eq!(cli.run(&["limits", "set", "shared", "--rate", "7", "--burst", "100"]).await.status, 0);
    let task =
        |id: &str| json!({"id": id, "url": stage.url("/ok"), "limit": {"name": "shared", "rate": 3, "burst": 50}});
    assert_eq!(stage.answer(task("a")).await["status"], "ok");
    let shown = status(&stage, "shared").await;
    assert_eq!((&shown["defined_by"], &shown["rate"]), (&json!("set"), &json!(7.0)));
    assert_eq!(shown["definitions"]["config"]["rate"], 1_000.0, "{shown}");
    assert_eq!(cli.run(&["limits", "clear", "shared"]).await.status, 0);
    assert_eq!(stage.answer(task("b")).await["status"], "ok");
    let shown = status(&stage, "shared").await;
    assert_eq!((&shown["defined_by"], &shown["rate"]), (&json!("config"), &json!(1_000.0)));
}
