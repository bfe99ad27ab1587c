//! Rust sources as tokens: what the checks on modules and names read. Comments are gone, and tests inside a file too.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{files, is_test};

/// A module's path within its crate: `["queue", "batch"]`, and nothing for the root.
pub(super) type ModulePath = Vec<String>;

/// The folder of each crate's sources, and the file names that are its roots.
pub(super) const CRATES: [(&str, &[&str]); 11] = [
    ("shared/src", &["lib"]),
    ("shared/traces/src", &["lib"]),
    ("worker/src", &["lib", "main"]),
    ("producer/src", &["lib"]),
    ("producer/cli/src", &["lib", "main"]),
    ("producer/gateway/src", &["lib"]),
    ("tests/harness", &["lib"]),
    ("tests/it", &["main"]),
    ("tests/fuzz/src", &["lib"]),
    ("benches/src", &["main"]),
    ("examples/src", &["demo", "calls"]),
];

/// The modules of the crate in this folder, test modules left out. A module is a file.
pub(super) fn modules(folder: &str, roots: &[&str]) -> BTreeMap<ModulePath, Vec<String>> {
    let mut modules: BTreeMap<ModulePath, Vec<String>> = BTreeMap::new();
    for (file, source) in files(&[".rs"]) {
        let Some(inner) = file.strip_prefix(folder).and_then(|inner| inner.strip_prefix('/')) else { continue };
        if is_test(inner) {
            continue;
        }
        let mut path: ModulePath = inner.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if path.last().is_some_and(|last| last == "mod") || (path.len() == 1 && roots.contains(&path[0].as_str())) {
            path.pop();
        }
        modules.entry(path).or_default().extend(tokens(&file, &source));
    }
    assert!(modules.contains_key(&Vec::new()), "{folder} has no root among {roots:?}");
    modules
}

/// The tokens of a file in one flat list; literals, comments and `#[cfg(test)]` modules are left out.
pub(super) fn tokens(file: &str, source: &str) -> Vec<String> {
    let stream: TokenStream = source.parse().unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut flat = Vec::new();
    flatten(stream, &mut flat);
    flat
}

fn flatten(stream: TokenStream, flat: &mut Vec<String>) {
    let mut skips_next_block = false;
    for tree in stream {
        match tree {
            TokenTree::Group(group) => {
                let text = group.stream().to_string();
                if group.delimiter() == Delimiter::Bracket && text.replace(' ', "") == "cfg(test)" {
                    skips_next_block = true;
                    continue;
                }
                if group.delimiter() == Delimiter::Brace && skips_next_block {
                    skips_next_block = false;
                    continue;
                }
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                flat.push(open.to_owned());
                flatten(group.stream(), flat);
                flat.push(close.to_owned());
            }
            TokenTree::Punct(punct) => {
                if punct.as_char() == ';' {
                    // `#[cfg(test)] mod tests;`
                    skips_next_block = false;
                }
                flat.push(punct.as_char().to_string());
            }
            TokenTree::Ident(ident) => flat.push(ident.to_string()),
            TokenTree::Literal(_) => {}
        }
    }
}
