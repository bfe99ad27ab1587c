//! The dashboard in a real browser: `dashboard/page.mjs` drives Chromium before a real gateway, workers, Redis and upstream. Where this
//! machine has no Chromium or Node, the test says SKIPPED.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redial_tests::{Cli, GatewayProcess, RedisServer, Reply, Upstream, Worker};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::drop_in::install::{self, run_within};

/// For all steps, on a machine that runs other tests meanwhile.
const TIMEOUT: Duration = Duration::from_secs(400);
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    BROWSERS.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file()))
}

/// An upstream that finds what it is asked for only once it is healed.
async fn upstream() -> Upstream {
    let is_healed = Arc::new(AtomicBool::new(false));
    Upstream::start(move |request| {
        let route = request.route();
        match route {
            "/heal" => {
                is_healed.store(true, Ordering::Relaxed);
                Reply::ok()
            }
            "/stream" => {
                Reply::streamed(["one ", "two ", "three"].map(|word| (Duration::from_secs(3), word)))
                    .header("content-type", "text/plain")
            }
            "/evil" => Reply::status(422)
                .header("x-evil", "<script>window.pwned=1</script>")
                .json(&json!({"error": {"message": "\"><img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script>"}})),
            "/evil-ok" => Reply::ok().header("content-type", "text/html").body("<script>window.pwned=1</script>"),
            _ if route.starts_with("/missing/") && !is_healed.load(Ordering::Relaxed) => {
                Reply::status(404).json(&json!({"error": "no such order"}))
            }
            _ => Reply::ok().json(&json!({"ok": true})),
        }
    })
    .await
}

#[tokio::test]
async fn an_operator_sees_and_steers_the_fleet_in_a_browser() {
    let Some(chromium) = browser() else {
        eprintln!("SKIPPED: no Chromium: deploy/install-chromium.sh installs it");
        return;
    };
    let Some(folder) = install::node_tools("tests/it/dashboard").await else { return };
    let (redis, upstream) = (RedisServer::start().await, upstream().await);
    let gateway = GatewayProcess::start(&redis, "").await;
    let digest = Sha256::digest("token-of-reader");
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let hex: String = digits.map(|digit| char::from_digit(digit.into(), 16).unwrap()).collect();
    let guarded = GatewayProcess::start(
        &redis,
        &format!("[[token]]\nname = \"reader\"\nhash = \"sha256:{hex}\"\naccess = \"read\"\n"),
    )
    .await;
    let task = json!({"url": upstream.url("/good")}).to_string();
    assert_eq!(Cli::new(&redis).run(&["schedule", "add", "nightly", "0 3 * * *", &task]).await.status, 0);
    let worker = Worker::spawn(&redis);
    worker.wait_ready().await;

    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard");
    let mut script = Command::new("node");
    script.arg("page.mjs").current_dir(&folder).env("CHROMIUM", chromium).env("SHOTS", &shots);
    script.env("GATEWAY", gateway.url("")).env("GUARDED", guarded.url("")).env("UPSTREAM", upstream.url(""));
    let ended = run_within(TIMEOUT, &mut script).await.unwrap();
    assert!(
        ended.success && ended.stdout.contains("the dashboard works"),
        "{}{}\n{}",
        ended.stdout,
        ended.stderr,
        gateway.log()
    );
}
