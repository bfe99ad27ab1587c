//! How the modules of each crate import each other.

use std::collections::{BTreeMap, BTreeSet};

use super::none;
use super::source::{CRATES, ModulePath, modules};

/// A path as written: `crate::queue::Queue`.
type Segments = Vec<String>;

/// One file, as far as imports are concerned.
struct Module {
    /// What it names, in `use` items or in place, re-exports left out.
    mentions: Vec<Segments>,
    /// The names that its `use` items bring in, and where each comes from. Others may import them from here.
    imported: BTreeMap<String, Segments>,
}

type Crate = BTreeMap<ModulePath, Module>;
/// The modules that each module imports.
type Imports = BTreeMap<ModulePath, BTreeSet<ModulePath>>;

#[test]
fn no_crate_has_an_import_cycle() {
    let mut faults = Vec::new();
    for (folder, roots) in CRATES {
        let modules: Crate =
            modules(folder, roots).into_iter().map(|(path, tokens)| (path, Module::parse(&tokens))).collect();
        let imports = imports(&modules);
        for cycle in cycles(&imports) {
            faults.push(format!("{folder}: {} modules import each other:", cycle.len()));
            for module in &cycle {
                let within: Vec<String> = imports[module].intersection(&cycle).map(name).collect();
                faults.push(format!("    {} imports {}", name(module), within.join(", ")));
            }
        }
    }
    none(&faults);
}

/// An item is looked up where it is declared, not where it is re-exported.
fn imports(modules: &Crate) -> Imports {
    let of_one = |(path, module): (&ModulePath, &Module)| {
        let found = module.mentions.iter().filter_map(|mention| resolve(modules, path, mention, 0));
        (path.clone(), found.filter(|found| found != path).collect())
    };
    modules.iter().map(of_one).collect()
}

/// The module of this crate that declares what is named; `None` for another crate's item or a local name.
fn resolve(modules: &Crate, from: &ModulePath, named: &[String], depth: usize) -> Option<ModulePath> {
    let (first, mut rest) = named.split_first()?;
    let mut at = from.clone();
    match first.as_str() {
        "crate" => at.clear(),
        "self" => {}
        "super" => {
            at.pop()?;
            while let Some((next, after)) = rest.split_first()
                && next == "super"
            {
                at.pop()?;
                rest = after;
            }
        }
        child => {
            at.push(child.to_owned());
            modules.get(&at)?;
        }
    }
    while let Some((next, after)) = rest.split_first() {
        let child: ModulePath = at.iter().chain([next]).cloned().collect();
        if !modules.contains_key(&child) {
            break;
        }
        (at, rest) = (child, after);
    }
    let imported = rest.first().and_then(|item| modules.get(&at)?.imported.get(item));
    match imported {
        Some(origin) if depth < 8 => resolve(modules, &at, origin, depth + 1),
        _ => modules.contains_key(&at).then_some(at),
    }
}

/// The groups of modules that reach each other. A module and the parts in its folder may use each other's items, as long as the
/// parts form no cycle without it.
fn cycles(imports: &Imports) -> Vec<BTreeSet<ModulePath>> {
    let mut found = Vec::new();
    for cycle in strongly_connected(imports) {
        let parent = cycle.iter().find(|parent| cycle.iter().all(|part| part.starts_with(parent)));
        match parent.filter(|parent| !parent.is_empty()) {
            Some(parent) => {
                let parts = cycle.iter().filter(|part| *part != parent);
                let among_parts: Imports = parts
                    .map(|part| {
                        let others = imports[part].intersection(&cycle).filter(|other| *other != parent);
                        (part.clone(), others.cloned().collect())
                    })
                    .collect();
                found.extend(cycles(&among_parts));
            }
            None => found.push(cycle),
        }
    }
    found
}

fn strongly_connected(imports: &Imports) -> BTreeSet<BTreeSet<ModulePath>> {
    let reachable = |start: &ModulePath| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(next) = open.pop() {
            open.extend(imports[next].iter().filter(|other| seen.insert((*other).clone())));
        }
        seen
    };
    let reached: BTreeMap<&ModulePath, BTreeSet<ModulePath>> =
        imports.keys().map(|path| (path, reachable(path))).collect();
    let group_of = |path: &ModulePath| -> BTreeSet<ModulePath> {
        let reaches_back = |other: &&ModulePath| reached[other].contains(path);
        reached[path].iter().filter(reaches_back).cloned().collect()
    };
    imports.keys().map(group_of).filter(|group| !group.is_empty()).collect()
}

fn name(path: &ModulePath) -> String {
    if path.is_empty() { "the root".to_owned() } else { path.join("::") }
}

impl Module {
    fn parse(tokens: &[String]) -> Self {
        let mut module = Self { mentions: Vec::new(), imported: BTreeMap::new() };
        let mut at = 0;
        while at < tokens.len() {
            let is_use = tokens[at] == "use";
            let is_reexport = is_use && at > 0 && matches!(tokens[at - 1].as_str(), "pub" | ")");
            let mut found = Vec::new();
            let end =
                if is_use { read_tree(tokens, at + 1, &[], &mut found) } else { read_path(tokens, at, &mut found) };
            for (segments, name) in found {
                if is_use && segments.len() > 1 {
                    module.imported.insert(name, segments.clone());
                }
                if segments.len() > 1 && !is_reexport {
                    module.mentions.push(segments);
                }
            }
            at = end.max(at + 1);
        }
        module
    }
}

/// A path outside `use`, such as `super::next(...)`. Returns where it ends.
fn read_path(tokens: &[String], mut at: usize, found: &mut Vec<(Segments, String)>) -> usize {
    let mut segments = Vec::new();
    while at < tokens.len() && is_ident(&tokens[at]) {
        segments.push(tokens[at].clone());
        at += 1;
        if !is_separator(tokens, at) {
            break;
        }
        at += 2;
    }
    if let Some(last) = segments.last().cloned() {
        found.push((segments, last));
    }
    at
}

/// One tree of a `use` item: a path, perhaps with a name of its own or a group of further trees. Returns where it ends.
fn read_tree(tokens: &[String], mut at: usize, prefix: &[String], found: &mut Vec<(Segments, String)>) -> usize {
    let mut segments = prefix.to_vec();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = read_tree(tokens, at, &segments, found);
                    if tokens.get(at).is_some_and(|token| token == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            // `limit::{self, client}` names the module itself.
            Some("self") if !prefix.is_empty() => at += 1,
            Some(token) if is_ident(token) || token == "*" => {
                segments.push(token.to_owned());
                at += 1;
            }
            _ => return at + 1,
        }
        if is_separator(tokens, at) {
            at += 2;
            continue;
        }
        let mut name = segments.last().cloned().unwrap_or_default();
        if tokens.get(at).is_some_and(|token| token == "as") {
            name = tokens.get(at + 1).cloned().unwrap_or_default();
            at += 2;
        }
        found.push((segments, name));
        return at;
    }
}

fn is_separator(tokens: &[String], at: usize) -> bool {
    matches!(tokens.get(at..at + 2), Some([a, b]) if a == ":" && b == ":")
}

fn is_ident(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}
