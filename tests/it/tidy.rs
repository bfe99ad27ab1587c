//! Checks on the source tree itself, so that readers can rely on its conventions without verifying them.

mod docs;
mod features;
mod modules;
mod names;
mod source;
mod style;

use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().unwrap()
}

/// The files of the tree with one of these endings (all without any), as paths below the root, with what they hold.
pub(crate) fn files(endings: &[&str]) -> Vec<(String, String)> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .ok()
        .filter(|output| output.status.success());
    let paths = match listed {
        Some(output) => String::from_utf8(output.stdout).unwrap(),
        // Not a checkout, but an unpacked archive.
        None => walk(&root()).join("\n"),
    };
    let wanted = |path: &&str| endings.is_empty() || endings.iter().any(|end| path.ends_with(end));
    let read = |path: &str| {
        let bytes = std::fs::read(root().join(path)).ok()?; // Removed, but still known to git.
        Some((path.to_owned(), String::from_utf8(bytes).ok()?))
    };
    let files: Vec<_> = paths.lines().filter(wanted).filter_map(read).collect();
    assert!(!files.is_empty(), "no files found");
    files
}

fn walk(folder: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    for item in std::fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (item.path(), item.file_name());
        if path.is_dir() && name != "target" && name != ".git" {
            paths.extend(walk(&path));
        } else if path.is_file() {
            let path = path.strip_prefix(root()).unwrap();
            paths.push(path.to_str().unwrap().to_owned());
        }
    }
    paths
}

/// The lines of a Rust source that are neither comments nor in its module of tests.
fn code(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let before_tests = source.split("#[cfg(test)]\nmod ").next().unwrap_or("");
    let numbered = before_tests.lines().enumerate();
    numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

pub(crate) fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
