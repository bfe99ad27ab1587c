//! Rules for each line of the sources and the docs.

use regex::Regex;

use super::{code, files, is_test, none};

/// A longer file should be split.
const MAX_LINES: usize = 400;

/// Every key is defined in one file, so that whoever looks for a key finds it there.
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
            // The text between quotes is every second piece.
            for text in line.split('"').skip(1).step_by(2) {
                let ends = |mark: &String| {
                    text.match_indices(mark.as_str()).any(|(at, _)| {
                        let next = text[at + mark.len()..].chars().next();
                        mark.ends_with('{') || !next.is_some_and(char::is_alphanumeric)
                    })
                };
                // A Rust path, such as `redial_core::protocol::result`, is not a key.
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

/// Such a path would work only where it was written.
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

/// Phrases that read as translated from another language; the comment is what to write instead.
#[test]
fn no_line_contains_a_phrase_that_reads_as_translated() {
    // In pieces, so that this file does not contain them.
    let phrases = [
        r"\b(is|are) n\u{6f} [a-z]+ (name|header|task|call|place)\b", // is not a valid header name
        r"\bis (?-i:non\u{65})\b", // does not exist, has no value; `is None` is Python
        r"\bunless sai\u{64}\b",   // by default
        r"\bane\u{77}\b",          // again
        r"\bin vai\u{6e}\b",       // without success
        r"\bis tol\u{64}\b",       // learns, receives
        r"\bput dow\u{6e}\b",      // record, add
        r"\bThat of Redi\u{73}\.", // Redis is unreachable or refuses the command
    ];
    let phrases: Vec<Regex> = phrases.iter().map(|text| Regex::new(&format!("(?i){text}")).unwrap()).collect();
    // "There is no such task", "if there is none".
    let idiomatic = Regex::new(r"(?i)\bthere (is|are) (no|none)\b").unwrap();
    let mut faults = Vec::new();
    for (path, text) in files(&[".rs", ".lua", ".md", ".toml", ".sh", "Makefile"]) {
        for (n, line) in text.lines().enumerate() {
            let rest = idiomatic.replace_all(line, "");
            if phrases.iter().any(|phrase| phrase.is_match(&rest)) {
                faults.push(format!("{path}:{}: {}", n + 1, line.trim()));
            }
        }
    }
    none(&faults);
}
