//! The peers that `make bench-peers` runs are those that `docs/performance.md` names, in the versions that are pinned.

use std::process::Command;

use crate::tidy::root;

/// Name and version of each peer; no version for one that cannot be installed.
fn peers() -> Vec<(String, Option<String>)> {
    let script = root().join("benches/peers/peers.py");
    let output = Command::new("python3").arg("-B").arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let split = |line: &str| match line.split_once(' ') {
        Some((name, version)) => (name.to_owned(), Some(version.to_owned())),
        None => (line.to_owned(), None),
    };
    lines.lines().map(split).collect()
}

#[test]
fn the_page_on_performance_names_every_peer_with_its_version() {
    let page = std::fs::read_to_string(root().join("docs/performance.md")).unwrap();
    let (_, section) = page.split_once("## Beside other job queues").unwrap();
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).collect();
    for (name, version) in peers() {
        let named = match version {
            Some(version) => rows.iter().any(|row| row.starts_with(&format!("| {name} {version} |"))),
            None => section.contains(&format!("{name} is not measured")),
        };
        assert!(named, "docs/performance.md does not name {name} as benches/peers/peers.py has it");
    }
}

#[test]
fn every_peer_is_pinned_to_the_version_that_is_named() {
    let folder = root().join("benches/peers");
    let pinned = std::fs::read_to_string(folder.join("node/package.json")).unwrap();
    let crates = std::fs::read_to_string(folder.join("rust/Cargo.toml")).unwrap();
    for (name, version) in peers() {
        let Some(version) = version else { continue };
        let requirements = folder.join(format!("python/{name}.txt"));
        let found = match std::fs::read_to_string(requirements) {
            Ok(lines) => lines.lines().any(|line| line == format!("{name}=={version}")),
            // Debian's package has the version of the Debian release.
            Err(_) if name == "sidekiq" => true,
            Err(_) if crates.contains(&format!("\n{name} = \"={version}\"\n")) => true,
            Err(_) => pinned.contains(&format!("\"{}\": \"{version}\"", name.to_lowercase())),
        };
        assert!(found, "{name} is not pinned to {version}");
    }
}
