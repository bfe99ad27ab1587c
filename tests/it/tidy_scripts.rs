//! The Lua scripts as a reader meets them: a header, names for all that a script takes, a typed call with the same names, a test.

use std::path::Path;

use redial_core::script::{self, Script};

use super::tidy::{files, none, root};

/// The scripts that can be called: path below `shared/lua/` without the ending, and source.
fn scripts() -> Vec<(String, String)> {
    let below = |(path, source): (String, String)| {
        let path = path.strip_prefix("shared/lua/")?.strip_suffix(".lua")?.to_owned();
        (!path.starts_with("lib/")).then_some((path, source))
    };
    files(&[".lua"]).into_iter().filter_map(below).collect()
}

/// Files that this project keeps in Lua, but for what plays with the pure functions in tests.
fn lua_files() -> impl Iterator<Item = (String, String)> {
    files(&[".lua"]).into_iter().filter(|(path, _)| !path.starts_with("tests/it/scripts/pure/"))
}

fn header(source: &str) -> Vec<&str> {
    source.lines().take_while(|line| line.starts_with("--")).collect()
}

/// The source without its header and comments.
fn body(source: &str) -> String {
    source.lines().map(|line| line.split("--").next().unwrap_or_default().to_owned() + "\n").collect()
}

#[test]
fn every_script_says_what_it_takes_returns_and_guarantees() {
    let mut faults = Vec::new();
    for (path, source) in lua_files() {
        let name = Path::new(&path).file_stem().unwrap().to_str().unwrap();
        let header = header(&source);
        let is_lib = path.contains("/lib/");
        let title = format!("-- {}{name}.lua: ", if is_lib { "lib/" } else { "" });
        if !header.first().is_some_and(|line| line.starts_with(&title)) {
            faults.push(format!("{path} does not begin with `{title}...`"));
        }
        for part in ["KEYS", "ARGV", "Returns", "Guarantees:"] {
            let says = |line: &&str| line.starts_with(&format!("-- {part} "));
            if !is_lib && !header.iter().any(says) {
                faults.push(format!("the header of {path} has no `{part}`"));
            }
        }
    }
    none(&faults);
}

#[test]
fn every_script_is_called_and_has_its_test() {
    let all = script::all();
    let found = scripts();
    let mut faults = Vec::new();
    for (path, _) in lua_files() {
        if !path.starts_with("shared/lua/") {
            faults.push(format!("{path} is not in shared/lua/"));
        }
    }
    for (path, _) in &found {
        let name = path.rsplit('/').next().unwrap();
        if !all.iter().any(|script| script.path == path) {
            faults.push(format!("{path}.lua has no typed call in shared/src/script/"));
        }
        if !root().join(format!("tests/it/scripts/{name}.rs")).exists() {
            faults.push(format!("{path}.lua has no tests/it/scripts/{name}.rs"));
        }
    }
    let missing = all.iter().filter(|script| !found.iter().any(|(path, _)| path == script.path));
    faults.extend(missing.map(|script| format!("{} has no file", script.path)));
    none(&faults);
}

#[test]
fn every_script_names_its_keys_and_arguments_as_its_typed_call_does() {
    let mut faults = Vec::new();
    for (path, source) in scripts() {
        if let Some(script) = script::all().into_iter().find(|script| script.path == path) {
            faults.extend(naming_faults(script, &source));
        }
    }
    none(&faults);
}

fn naming_faults(script: &Script, source: &str) -> Vec<String> {
    let Script { path, keys, args, rest, .. } = script;
    let body = body(source);
    let mut lines = body.lines().skip_while(|line| line.is_empty());
    let mut first_lines = String::new();
    // Long ones go over two lines.
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        first_lines += line.trim_end();
        first_lines.push(if line.ends_with(')') { '\n' } else { ' ' });
    }
    let mut faults = Vec::new();
    let mut expected = Vec::new();
    for (names, array, has_more) in [(keys, "KEYS", body.contains("#KEYS")), (args, "ARGV", body.contains("#ARGV"))] {
        if names.is_empty() {
            continue;
        }
        let bound = format!("local {} = unpack({array}", names.join(", "));
        let exact = [format!("{bound})"), format!("{bound}, 1, {})", names.len())];
        let line = first_lines.lines().find(|line| line.contains(array)).unwrap_or_default();
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        if !exact.contains(&line) || (has_more && line == exact[0]) {
            faults.push(format!(
                "{path}.lua begins with `{line}`; its typed call has `{}`",
                exact[usize::from(has_more)]
            ));
        }
        for name in *names {
            if !header(source).iter().any(|line| line.contains(name)) {
                faults.push(format!("the header of {path}.lua does not mention `{name}`"));
            }
        }
        expected.push(array);
    }
    for array in ["KEYS", "ARGV"] {
        let indexed_by_number = |index: &str| index.chars().next().is_some_and(|first| first.is_ascii_digit());
        if body.split(&format!("{array}[")).skip(1).any(indexed_by_number) {
            faults.push(format!("{path}.lua indexes {array} by number: name it in the first lines"));
        }
        if !expected.contains(&array) && first_lines.contains(array) {
            faults.push(format!("{path}.lua names {array} in its first lines; its typed call has none"));
        }
    }
    if !rest.is_empty() && !body.contains(&format!("local {} = unpack(ARGV, ", rest.join(", "))) {
        faults.push(format!("{path}.lua does not read `{}` as its typed call sends them", rest.join(", ")));
    }
    faults
}

#[test]
fn a_name_that_differs_from_the_typed_call_is_a_fault() {
    let (path, source) = scripts().into_iter().find(|(path, _)| path == "limit/acquire").unwrap();
    let script = script::all().into_iter().find(|script| script.path == path).unwrap();
    assert_eq!(naming_faults(script, &source), Vec::<String>::new());
    for (right, wrong) in [
        ("local limit_key, slots, waiting = unpack(KEYS)", "local limit_key, waiting, slots = unpack(KEYS)"),
        ("stated_at_ms = unpack(ARGV, 1, 7)", "stated_at = unpack(ARGV, 1, 7)"),
        ("unpack(ARGV, 1, 7)", "unpack(ARGV)"),
        ("local cost, token, has_priority, delay_us,", "local token, cost, has_priority, delay_us,"),
        ("allow_hash_when_out_of_memory(limit_key)", "allow_hash_when_out_of_memory(KEYS[1])"),
    ] {
        assert!(source.contains(right), "{right}");
        assert!(!naming_faults(script, &source.replacen(right, wrong, 1)).is_empty(), "{wrong}");
    }
}
