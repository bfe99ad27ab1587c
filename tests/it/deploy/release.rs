//! What `make dist` packs: manual pages and completions of every command, and packages that say what they are.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use redial_tests::{Cli, RedisServer};
use regex::Regex;
use serde_json::Value;

use super::{Programs, root, text};

/// The crates that are published, as `tests/it/library.rs` packs them.
const CRATES: [&str; 6] = ["shared", "shared/traces", "producer", "producer/gateway", "producer/cli", "worker"];

fn said(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that the help of a command lists.
fn subcommands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(Into::into).collect()
}

#[tokio::test]
async fn every_command_has_a_manual_page() {
    let redial = Cli::new(&RedisServer::start().await).program();
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man");
    said(&redial, &["man-pages", pages.to_str().unwrap()]);
    let mut expected = BTreeSet::from(["redial.1".to_owned()]);
    for command in subcommands(&said(&redial, &["--help"])) {
        expected.insert(format!("redial-{command}.1"));
        for nested in subcommands(&said(&redial, &[&command, "--help"])) {
            expected.insert(format!("redial-{command}-{nested}.1"));
        }
    }
    assert!(expected.len() > 25, "{expected:?}");
    for name in &expected {
        let page = std::fs::read_to_string(pages.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH OPTIONS"), "{name}: {page}");
    }
    let page = said(&redial.with_file_name("redial-worker"), &["--man-page"]);
    assert!(page.contains(".TH redial-worker 1") && page.contains("check\\-config"), "{page}");
    // A folder that cannot be written is named.
    let refused = Command::new(&redial).args(["man-pages", "/proc/none"]).output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot write manual pages to /proc/none"));
}

#[tokio::test]
async fn both_programs_print_completions() {
    let programs = Programs::new().await;
    for shell in ["bash", "zsh", "fish"] {
        let of_worker = said(&programs.folder.join("redial-worker"), &["--completions", shell]);
        assert!(of_worker.contains("check-config"), "{shell}: {of_worker}");
        let of_redial = said(&programs.folder.join("redial"), &["completions", shell]);
        assert!(of_redial.contains("man-pages"), "{shell}: {of_redial}");
    }
}

#[test]
fn packages_say_what_they_are() {
    let workspace: toml::Table = toml::from_str(&text("Cargo.toml")).unwrap();
    let workspace = &workspace["workspace"]["package"];
    let version = workspace["version"].as_str().unwrap();
    for folder in CRATES {
        let manifest: toml::Table = toml::from_str(&text(&format!("{folder}/Cargo.toml"))).unwrap();
        let package = manifest["package"].as_table().unwrap();
        for field in ["version", "license", "repository", "homepage", "readme", "keywords", "rust-version"] {
            assert_eq!(package[field]["workspace"].as_bool(), Some(true), "{folder}: {field}");
        }
        for field in ["description", "documentation"] {
            assert!(package[field].as_str().is_some_and(|text| !text.is_empty()), "{folder}: {field}");
        }
        assert!(package["categories"].as_array().is_some_and(|categories| !categories.is_empty()), "{folder}");
    }
    let python: toml::Table = toml::from_str(&text("producer/python/pyproject.toml")).unwrap();
    let node: Value = serde_json::from_str(&text("producer/typescript/package.json")).unwrap();
    assert_eq!(python["project"]["version"].as_str(), Some(version), "the client for Python");
    assert_eq!(node["version"].as_str(), Some(version), "the client for Node");
    assert!(text("CHANGELOG.md").contains("\n## "), "the changelog has no release");
}

#[test]
fn the_package_for_debian_has_files_that_exist_or_that_make_dist_makes() {
    let manifest: toml::Table = toml::from_str(&text("worker/Cargo.toml")).unwrap();
    let package = &manifest["package"]["metadata"]["deb"];
    let dist = text("deploy/dist.sh");
    let mut installed = Vec::new();
    for asset in package["assets"].as_array().unwrap() {
        let [source, to, rights] = [0, 1, 2].map(|at| asset[at].as_str().unwrap());
        match source.strip_prefix("../target/dist-pages/") {
            Some(made) => {
                let folder = made.split(['/', '*']).next().unwrap();
                assert!(dist.contains(&format!("$pages/{folder}")), "make dist does not make {source}");
            }
            None if source.starts_with("target/release/") => assert_eq!(rights, "755", "{source}"),
            None => {
                let file = root().join("worker").join(source.replace("*.service", "redial-worker.service"));
                assert!(file.is_file(), "{source} does not exist");
            }
        }
        installed.push(to);
    }
    for (unit, program) in [("redial-worker", "redial-worker"), ("redial-gateway", "redial")] {
        let started = format!("ExecStart=/usr/bin/{program}");
        assert!(text(&format!("deploy/systemd/{unit}.service")).contains(&started), "{unit}");
    }
    for folder in ["usr/bin/", "etc/redial/", "usr/lib/systemd/system/", "usr/share/man/man1/"] {
        assert!(installed.contains(&folder), "{folder}");
    }
    assert_eq!(package["conf-files"][0].as_str(), Some("/etc/redial/redial.toml"));
}

#[test]
fn make_dist_packs_every_published_crate() {
    let dist = text("deploy/dist.sh");
    let packed = Regex::new(r"(?m)^crates=\((.*)\)$").unwrap();
    let packed: BTreeSet<&str> = packed.captures(&dist).unwrap().extract::<1>().1[0].split(' ').collect();
    let named = CRATES.map(|folder| {
        let manifest: toml::Table = toml::from_str(&text(&format!("{folder}/Cargo.toml"))).unwrap();
        manifest["package"]["name"].as_str().unwrap().to_owned()
    });
    assert_eq!(packed, named.iter().map(String::as_str).collect());
}
