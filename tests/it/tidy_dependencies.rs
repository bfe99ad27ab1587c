//! Which crate may depend on which. The rules are the `wrappers` of `deny.toml`; here they are enforced on the crates of the workspace, so
//! that a machine without `cargo deny` notices too.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// `deny.toml`.
fn rules() -> Value {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    toml::from_str(&text).unwrap()
}

/// The crates of the workspace with their direct dependencies of every kind.
fn workspace() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--format-version", "1", "--no-deps"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// One line for each dependency that the rules forbid.
fn violations(rules: &Value, workspace: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for package in list(&workspace["packages"]) {
        for dependency in list(&package["dependencies"]) {
            let rule = list(&rules["bans"]["deny"]).find(|rule| rule["crate"] == dependency["name"]);
            if rule.is_some_and(|rule| !list(&rule["wrappers"]).any(|wrapper| *wrapper == package["name"])) {
                found.push(format!("{} depends on {}", package["name"], dependency["name"]));
            }
        }
    }
    found
}

#[test]
fn each_crate_depends_only_on_what_deny_toml_allows() {
    let found = violations(&rules(), &workspace());
    assert!(found.is_empty(), "deny.toml forbids this:\n{}", found.join("\n"));
}

#[test]
fn a_dependency_that_deny_toml_forbids_is_found() {
    let package = |name, dependency| json!({"name": name, "dependencies": [{"name": dependency, "kind": "dev"}]});
    let packages = [package("redial-worker", "redis"), package("redial-core", "redis"), package("redial", "serde")];
    let found = violations(&rules(), &json!({"packages": packages}));
    assert_eq!(found, [r#""redial-worker" depends on "redis""#]);
}

/// A rule with a misspelt name would forbid nothing.
#[test]
fn every_rule_of_deny_toml_is_about_a_crate_of_the_workspace_or_one_that_it_uses() {
    let (rules, workspace) = (rules(), workspace());
    let packages: Vec<&Value> = list(&workspace["packages"]).collect();
    let used = packages.iter().flat_map(|package| list(&package["dependencies"]));
    let known: Vec<&Value> = packages.iter().copied().chain(used).map(|crate_| &crate_["name"]).collect();
    let mut named = list(&rules["bans"]["deny"]).map(|rule| &rule["crate"]).peekable();
    assert!(named.peek().is_some(), "deny.toml has no rules");
    let unknown: Vec<&Value> = named.filter(|name| !known.contains(name)).collect();
    assert!(unknown.is_empty(), "deny.toml has rules about {unknown:?}, which nothing uses");
}
