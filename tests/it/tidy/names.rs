//! One name, one meaning: the types of the workspace.

use std::collections::BTreeMap;

use super::none;
use super::source::{CRATES, tokens};
use super::{files, is_test};

/// Each crate has one error type, and by custom all of them have this name.
const MAY_REPEAT: [&str; 1] = ["Error"];

/// The public types that ship or that tests share, each with the files that declare it.
pub(super) fn public_types() -> BTreeMap<String, Vec<String>> {
    let mut declared: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, source) in files(&[".rs"]) {
        let is_shared = |(folder, _): &(&str, _)| *folder != "tests/it" && file.starts_with(&format!("{folder}/"));
        if !CRATES.iter().any(is_shared) || (is_test(&file) && !file.starts_with("tests/harness/")) {
            continue;
        }
        let tokens = tokens(&file, &source);
        for (at, window) in tokens.windows(3).enumerate() {
            let [visibility, kind, name] = window else { continue };
            let is_type = matches!(kind.as_str(), "struct" | "enum" | "trait" | "type" | "union");
            // `pub(crate)` and its like end in a parenthesis.
            let is_public = visibility == "pub" || (visibility == ")" && at > 2 && tokens[at - 3 + 1] == "(");
            // A macro declares `$name`.
            if is_type && is_public && name != "$" {
                declared.entry(name.clone()).or_default().push(file.clone());
            }
        }
    }
    declared
}

#[test]
fn no_public_type_name_is_declared_twice() {
    let mut faults = Vec::new();
    for (name, places) in public_types() {
        if places.len() > 1 && !MAY_REPEAT.contains(&name.as_str()) {
            faults.push(format!("{name} is declared in {}", places.join(", ")));
        }
    }
    none(&faults);
}
