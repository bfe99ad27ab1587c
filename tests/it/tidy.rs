//! The tree itself: what a reader may rely on without looking.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Longer files want to be two.
const MAX_LINES: usize = 400;

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

/// Whoever looks for a key must find it in one file.
#[test]
fn no_redis_key_is_spelled_outside_keys_rs() {
    let suffixes = "handoff scheduled active claimed workers dead stats replies result";
    let mut marks: Vec<String> = suffixes.split(' ').map(|s| format!(":{s}")).collect();
    marks.push("redial:{".into());
    let mut faults = Vec::new();
    for (path, source) in files(&[".rs", ".lua"]) {
        let ships = ["shared/", "worker/", "producer/"].iter().any(|top| path.starts_with(top));
        if !ships || is_test(&path) || path == "shared/src/db/keys.rs" {
            continue;
        }
        for (n, line) in code(&source) {
            // What stands between quotes: every second piece.
            for text in line.split('"').skip(1).step_by(2) {
                let ends = |mark: &String| {
                    text.match_indices(mark.as_str()).any(|(at, _)| {
                        let next = text[at + mark.len()..].chars().next();
                        mark.ends_with('{') || !next.is_some_and(char::is_alphanumeric)
                    })
                };
                // A Rust path, such as `redial_core::protocol::result`, is no key.
                if !text.contains("::") && marks.iter().any(ends) {
                    faults.push(format!("{path}:{}: {text:?}", n + 1));
                }
            }
        }
    }
    none(&faults);
}

#[test]
fn no_source_file_exceeds_the_line_limit() {
    let mut faults = Vec::new();
    for (path, source) in files(&[".rs", ".lua"]) {
        let lines = source.lines().count();
        if lines > MAX_LINES {
            faults.push(format!("{path} has {lines} lines, {MAX_LINES} are allowed"));
        }
    }
    none(&faults);
}

#[test]
fn shipped_code_has_no_todo_no_dbg_and_no_unwrap() {
    let marks = ["todo!(", "unimplemented!(", "dbg!(", ".unwrap()"];
    let mut faults = Vec::new();
    for (path, source) in files(&[".rs"]) {
        if is_test(&path) {
            continue;
        }
        for (n, line) in code(&source) {
            if marks.iter().any(|mark| line.contains(mark)) {
                faults.push(format!("{path}:{}: {}", n + 1, line.trim()));
            }
        }
    }
    none(&faults);
}

/// A promise without its test is a wish.
#[test]
fn every_test_named_in_the_guarantees_exists() {
    let named: Vec<String> = files(&["docs/guarantees.md"])
        .iter()
        .flat_map(|(_, page)| page.lines())
        .filter(|line| line.starts_with('|'))
        .filter_map(|line| line.trim_end_matches('|').rsplit('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(|name| format!("fn {name}("))
        .collect();
    assert!(named.len() > 20, "{named:?}");
    let tests: String = files(&[".rs"]).into_iter().map(|(_, source)| source).collect();
    let missing: Vec<String> = named.into_iter().filter(|name| !tests.contains(name)).collect();
    none(&missing);
}

/// What works only where it was written.
#[test]
fn no_file_contains_a_path_of_one_machine() {
    // In two pieces, so that this file does not name them.
    let places = [("/wo", "rk/"), ("/ro", "ot/"), ("/ho", "me/"), ("/Use", "rs/")];
    let mut faults = Vec::new();
    for (path, text) in files(&[]) {
        for (n, line) in text.lines().enumerate() {
            for (a, b) in places {
                let place = format!("{a}{b}");
                // In a URL it is a path of that host.
                let named = line.match_indices(&place).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || "/.:-_}".contains(c))
                });
                if named {
                    faults.push(format!("{path}:{}: {}", n + 1, line.trim()));
                }
            }
        }
    }
    none(&faults);
}
