//! Two minutes of `make chaos`: see `docs/guarantees.md`.

use std::time::Duration;

/// The faults, the tasks that are left after them, and a machine on which other tests run.
const TIMEOUT: Duration = Duration::from_secs(240);
/// A run that anyone can repeat; the others have seeds of their own, which a failure prints.
const FIXED_SEED: u64 = 13;

/// Runs it for this long, and expects that it finds no violation.
async fn withstands(redis: &str, seconds: u32, seed: Option<u64>) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_chaos"));
    command.args(["--redis", redis, "--minutes", &(f64::from(seconds) / 60.0).to_string()]).kill_on_drop(true);
    if let Some(seed) = seed {
        command.args(["--seed", &seed.to_string()]);
    }
    let output = tokio::time::timeout(TIMEOUT, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("still running after {TIMEOUT:?}")).expect("the program is built");
    let report = String::from_utf8_lossy(&output.stderr);
    eprintln!("{report}");
    assert!(output.status.success() && report.contains(" 0 violations"), "see above for the violations and the seed");
}

#[tokio::test]
async fn every_promise_holds_under_random_faults_on_one_node() {
    withstands("node", 20, Some(FIXED_SEED)).await;
    withstands("node", 20, None).await;
}

#[tokio::test]
async fn every_promise_holds_under_random_faults_with_a_sentinel() {
    withstands("sentinel", 40, None).await;
}

#[tokio::test]
async fn every_promise_holds_under_random_faults_on_a_cluster() {
    withstands("cluster", 40, None).await;
}
