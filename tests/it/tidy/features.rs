//! What a build of this workspace compiles.

use std::collections::BTreeMap;
use std::process::Command;

use super::{none, root};

/// The features of every dependency when these kinds of dependencies are built.
fn features(kinds: &str) -> BTreeMap<String, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--workspace", "--locked", "--offline", "--prefix", "none", "--no-dedupe"])
        .args(["--edges", kinds, "--format", "{p}\t{f}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, list)| (name.to_owned(), list.to_owned()))
        .collect()
}

/// Otherwise `make demo` and `make test` would each compile these crates, and everything that depends on them.
#[test]
fn tests_enable_no_dependency_features_that_programs_do_not() {
    let (programs, tests) = (features("normal,build"), features("normal,build,dev"));
    assert!(programs.len() > 100, "{} crates", programs.len());
    let mut faults = Vec::new();
    for (name, list) in &programs {
        let other = &tests[name];
        if other != list {
            faults
                .push(format!("{name} has [{list}] in programs and [{other}] in tests: add them to tests/Cargo.toml"));
        }
    }
    none(&faults);
}
