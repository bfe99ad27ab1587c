//! The clients in Python and TypeScript. Their own tests are run with this build's programs, where this machine has the language and can
//! install their packages; elsewhere the test says SKIPPED.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redial_tests::{Cli, RedisServer};
use tempfile::TempDir;
use tokio::process::Command;

use crate::drop_in::install::{self, run_within};

/// For all tests of a client, on a machine that runs other tests meanwhile.
const TIMEOUT: Duration = Duration::from_secs(400);
/// A Redis server by any of its names. Debian's `redis-tools` has it as `redis-check-rdb`, which behaves as it is called.
const SERVERS: [&str; 3] = ["redis-server", "valkey-server", "redis-check-rdb"];

/// What the tests of a client need besides its packages.
struct Stage {
    programs: PathBuf,
    path: OsString,
    _folder: TempDir,
}

impl Stage {
    /// The tests start `redis-server`: a link of this name is on their PATH.
    async fn new() -> Self {
        let programs = Cli::new(&RedisServer::start().await).program().parent().unwrap().to_owned();
        let (folder, known) = (tempfile::tempdir().unwrap(), std::env::var_os("PATH").unwrap_or_default());
        let folders: Vec<PathBuf> = std::env::split_paths(&known).collect();
        let find = |name: &&str| folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
        let server = SERVERS.iter().find_map(find).expect("the harness has just started one");
        std::os::unix::fs::symlink(server, folder.path().join("redis-server")).unwrap();
        let path = std::env::join_paths([folder.path().to_owned()].into_iter().chain(folders)).unwrap();
        Self { programs, path, _folder: folder }
    }

    /// Runs a command in the client's folder and expects it to succeed and to say so in these words.
    async fn succeeds(&self, folder: &Path, command: &[&str], words: &str) {
        let program = if command[0].contains('/') { folder.join(command[0]) } else { command[0].into() };
        let mut started = Command::new(program);
        started.args(&command[1..]).current_dir(folder).env("PATH", &self.path).env_remove("REDIS_URL");
        started.env("REDIAL_PROGRAMS", &self.programs).env("NODE_OPTIONS", "").env("FORCE_COLOR", "0");
        let ended = run_within(TIMEOUT, &mut started).await.unwrap();
        let said = format!("{command:?}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.success && said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn the_python_client_passes_its_own_tests() {
    let Some(folder) = install::python_client().await else { return };
    let stage = Stage::new().await;
    stage.succeeds(&folder, &["venv/bin/ruff", "check", "src", "tests"], "All checks passed").await;
    stage.succeeds(&folder, &["venv/bin/mypy", "--python-executable", "venv/bin/python"], "no issues found").await;
    stage.succeeds(&folder, &["venv/bin/python", "-m", "pytest", "-q", "tests"], " passed").await;
}

#[tokio::test]
async fn the_typescript_client_passes_its_own_tests() {
    let Some(folder) = install::node_client().await else { return };
    let stage = Stage::new().await;
    stage.succeeds(&folder, &["node_modules/.bin/tsc", "--noEmit"], "").await;
    let files = ["test/client.test.ts", "test/gateway.test.ts", "test/trace.test.ts"];
    let tests = [&["node", "--import", "tsx", "--test", "--test-reporter=tap"][..], &files].concat();
    stage.succeeds(&folder, &tests, "# fail 0").await;
}
