//! What the documentation says about the tree is true: tests, modules, paths and words that it names exist.

use std::collections::BTreeSet;
use std::path::Path;

use super::names::public_types;
use super::source::{CRATES, modules};
use super::{files, none, root};

/// Last words of type names that mean what they mean in any program, and need no entry in the glossary.
const PLAIN_WORDS: [&str; 3] = [
    // Things.
    "args client config connection count endpoint error event filter folder format guard handle health id info input label line listener \
     manager metric name occurrence output page permit phase program refusal request rotation secret server share signal state \
     status target template timeout tint wakeup",
    // What does a job of the worker, after that job.
    "completer fetcher settler sweeper",
    // What something is, as in the name of an error.
    "forbidden ready resent stored unavailable unhealthy",
];

/// The text of one page.
fn page(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The cells of each table row of a page, headings and rulers left out.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let is_ruler = |line: &str| line.starts_with("| ---");
    let lines: Vec<&str> = page.lines().collect();
    let is_row = |n: usize| {
        let is_heading = lines.get(n + 1).is_some_and(|next| is_ruler(next));
        lines[n].starts_with('|') && !is_ruler(lines[n]) && !is_heading
    };
    let cells = |n: usize| lines[n].trim_matches('|').split(" | ").map(str::trim).collect();
    (0..lines.len()).filter(|n| is_row(*n)).map(cells).collect()
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A promise without its test is a wish.
#[test]
fn every_test_named_in_the_guarantees_and_on_the_security_page_exists() {
    let text = page("docs/guarantees.md") + &page("docs/security.md");
    let named: Vec<String> = rows(&text)
        .iter()
        .filter_map(|row| row.last())
        .flat_map(|cell| quoted(cell))
        .map(|name| format!("fn {name}("))
        .collect();
    assert!(named.len() > 20, "{named:?}");
    let tests: String = files(&[".rs"]).into_iter().map(|(_, source)| source).collect();
    let missing: Vec<String> = named.into_iter().filter(|name| !tests.contains(name)).collect();
    none(&missing);
}

/// The module map at the head of a crate's root file lists its modules, all of them and no others.
#[test]
fn the_module_map_of_each_crate_is_complete_and_true() {
    let mut faults = Vec::new();
    for (folder, roots) in CRATES.into_iter().filter(|(_, roots)| ["lib", "main"].contains(&roots[0])) {
        let file = format!("{folder}/{}.rs", roots[0]);
        let source = page(&file);
        let map: String = source.lines().filter_map(|line| line.strip_prefix("//!")).collect();
        let known = modules(folder, roots);
        let is_module = |path: &str| known.contains_key(&path.split("::").map(str::to_owned).collect::<Vec<_>>());
        for module in known.keys().filter(|path| path.len() == 1 && !roots.contains(&path[0].as_str())) {
            if !map.contains(&format!("`{}`", module[0])) {
                faults.push(format!("{file}: the map at its head lacks `{}`", module[0]));
            }
        }
        for link in map.split("[`").skip(1).filter_map(|link| link.split("`]").next()) {
            // Types are linked too.
            if link.starts_with(char::is_lowercase) && !is_module(link) {
                faults.push(format!("{file}: the map at its head names `{link}`, which is not a module"));
            }
        }
    }
    none(&faults);
}

/// Within a row, a path may be relative to the path before it or to one of its folders: "`shared/src/queue.rs`, `consumer.rs`".
#[test]
fn every_path_in_the_tables_of_the_architecture_page_exists() {
    let text = page("docs/architecture.md");
    let mut faults = Vec::new();
    let mut checked = 0;
    for row in rows(&text) {
        let mut before = root();
        for path in row.into_iter().flat_map(quoted).filter(|text| is_path(text)) {
            checked += 1;
            let found = before.ancestors().map(|folder| folder.join(path)).find(|found| found.exists());
            match found.filter(|found| found.starts_with(root())) {
                Some(found) => before = found,
                None => faults.push(format!("docs/architecture.md names {path}, which does not exist")),
            }
        }
    }
    assert!(checked > 20, "only {checked} paths found: has the page changed its form?");
    none(&faults);
}

fn is_path(text: &str) -> bool {
    let is_source = Path::new(text).extension().is_some_and(|end| end == "rs" || end == "lua");
    !text.contains([' ', '<', '{', ':', '*']) && (text.contains('/') || is_source)
}

/// A word that a public type is named after is plain English or explained, so that every coinage is deliberate.
#[test]
fn the_glossary_has_the_noun_of_every_public_type() {
    let text = page("docs/glossary.md");
    let types = public_types();
    let (mut words, mut listed) = (BTreeSet::new(), BTreeSet::new());
    for row in rows(&text) {
        let [term, _, code] = row[..] else { panic!("docs/glossary.md: a row without three cells: {row:?}") };
        words.extend(term.split_whitespace().map(|word| singular(&word.to_lowercase())));
        listed.extend(quoted(code).filter(|name| name.starts_with(char::is_uppercase)));
    }
    words.extend(PLAIN_WORDS.iter().flat_map(|list| list.split_whitespace()).map(str::to_owned));
    let mut faults = Vec::new();
    for (name, declared) in &types {
        let noun = singular(&head_noun(name));
        let is_known = listed.contains(name.as_str()) || words.contains(&noun);
        if !is_known && declared.iter().any(|file| needs_entry(file)) {
            faults.push(format!("{name} ({}): \"{noun}\" is not in docs/glossary.md", declared.join(", ")));
        }
    }
    let unknown = listed.iter().filter(|name| !types.contains_key(**name));
    faults.extend(unknown.map(|name| format!("docs/glossary.md names the type {name}, which does not exist")));
    none(&faults);
}

/// Whether the types of a file ship. The arguments of a command have its name.
fn needs_entry(file: &str) -> bool {
    let ships = ["shared/", "worker/", "producer/"].iter().any(|folder| file.starts_with(folder));
    ships && !file.starts_with("producer/cli/src/commands/")
}

/// The last word of a name in camel case.
fn head_noun(name: &str) -> String {
    let start = name.rfind(char::is_uppercase).unwrap_or(0);
    name[start..].to_lowercase()
}

fn singular(word: &str) -> String {
    match word {
        // Not plurals.
        "args" | "status" => word.to_owned(),
        _ => match word.strip_suffix("ies") {
            Some(stem) => format!("{stem}y"),
            None => word.strip_suffix('s').unwrap_or(word).to_owned(),
        },
    }
}
