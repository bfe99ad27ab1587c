//! The peers that `make bench-peers` runs are those that `docs/performance.md` names, in the versions that are pinned, and the page and its
//! chart show what the run found.

use std::process::Command;

use serde_json::Value;

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

/// A whole number with commas between thousands.
fn grouped(figure: &Value) -> String {
    let digits = figure.as_f64().map(|figure| format!("{figure:.0}")).unwrap_or_default();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

#[test]
fn the_page_and_the_chart_show_what_the_run_found() {
    let page = std::fs::read_to_string(root().join("docs/performance.md")).unwrap();
    let chart = std::fs::read_to_string(root().join("docs/images/peers.svg")).unwrap();
    let results: Value =
        serde_json::from_slice(&std::fs::read(root().join("benches/peers/results.json")).unwrap()).unwrap();
    let day = &results["started"].as_str().unwrap()[..10];
    assert!(page.contains(&format!("Five rounds on {day}")) && chart.contains(day), "{day}");
    let rows = results["table"].as_array().unwrap();
    assert!(rows.len() > 20, "{} rows", rows.len());
    for row in rows {
        let [rate, lowest, highest] = ["rate", "lowest", "highest"].map(|figure| grouped(&row[figure]));
        let share = row["of_redial"].as_f64().unwrap() * 100.0;
        let (peer, at_once) = (row["peer"].as_str().unwrap(), &row["at_once"]);
        let shown = format!("| {peer} | {at_once} | {rate} ({lowest} to {highest}) | {share:.0} % |");
        assert!(page.contains(&shown), "docs/performance.md lacks {shown}");
        assert!(chart.contains(&format!(">{rate}<")), "docs/images/peers.svg lacks {peer} at {at_once}");
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
