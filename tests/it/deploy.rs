//! The files by which a fleet is run: what can be checked of them without a container engine and a cluster.
//!
//! - [`compose`]: `docker-compose.yml` and the image; [`container`]: what programs advise in a container
//! - [`kubernetes`]: the manifests; [`schemas`]: the same against the schemas of what reads them
//! - [`systemd`]: the units, and what programs tell systemd
//! - [`release`]: what `make dist` packs; [`upgrade`]: workers of two releases on one queue

mod compose;
mod container;
mod kubernetes;
mod release;
mod schemas;
mod systemd;
mod upgrade;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use redial_tests::{Cli, RedisServer};
use serde_json::Value;

use crate::drop_in::install::text;

/// How long a worker drains by default, and how long giving back may take after it.
const DRAIN: Duration = Duration::from_secs(30);
/// What programs of others read, and what settings name: not ours to know.
const FOREIGN: [&str; 2] = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The documents of a YAML file.
fn yaml(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The programs of this build: `redial-worker` and `redial`.
struct Programs {
    folder: PathBuf,
    worker_variables: BTreeSet<String>,
    gateway_help: String,
    worker_help: String,
}

impl Programs {
    async fn new() -> Self {
        let redis = RedisServer::start().await;
        let folder = Cli::new(&redis).program().parent().unwrap().to_owned();
        let said = |program: &str, args: &[&str]| {
            let output = Command::new(folder.join(program)).args(args).output().unwrap();
            assert!(output.status.success(), "{program} {args:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let settings: toml::Table = toml::from_str(&said("redial-worker", &["--print-config"])).unwrap();
        let variable = |name: &String| match name.as_str() {
            "redis_url" => "REDIS_URL".to_owned(),
            "log" => "RUST_LOG".to_owned(),
            name => format!("REDIAL_{}", name.to_uppercase()),
        };
        let mut worker_variables: BTreeSet<String> = settings.keys().map(variable).collect();
        worker_variables.insert("REDIAL_CONFIG".to_owned());
        let (gateway_help, worker_help) = (said("redial", &["serve", "--help"]), said("redial-worker", &["--help"]));
        Self { folder, worker_variables, gateway_help, worker_help }
    }

    /// Checks that a command is one of ours, with options that it has.
    fn check_command(&self, command: &[&str]) {
        let (program, options) = command.split_first().unwrap();
        let help = match (Path::new(program).file_name().unwrap().to_str().unwrap(), options.first()) {
            ("redial-worker", _) => &self.worker_help,
            ("redial", Some(&"serve")) => &self.gateway_help,
            _ => panic!("{command:?} is not a program of this build"),
        };
        for option in options.iter().filter(|option| option.starts_with("--")) {
            assert!(help.contains(option), "{command:?}: there is no {option}");
        }
    }

    /// Checks that a program reads this variable.
    fn check_variable(&self, program: &str, name: &str) {
        let is_read = match program {
            "redial-worker" => self.worker_variables.contains(name) || FOREIGN.contains(&name),
            _ => self.gateway_help.contains(name) || name == "REDIAL_GATEWAY_TOKEN",
        };
        assert!(is_read, "{program} does not read {name}");
    }
}
