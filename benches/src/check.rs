//! Whether Redial has become slower: the instructions that a task costs, and the commands, compared with those of `benches/baseline.json`.
//!
//! Time says little on a machine that does other things as well; instructions are the same on every run, within a few percent.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::counted::{self, Arrival, Counted, CountedFleet, CountingUpstream, difference};
use crate::observed::Recording;

/// The first argument that makes this program compare.
pub const ARGUMENT: &str = "check";
/// The argument that makes what was measured the baseline.
const UPDATE: &str = "--update";
/// How much worse a figure may be than the baseline.
const TOLERANCE: f64 = 0.10;
/// How much more a task may cost of which statistics, events and some traces are recorded, than one of which nothing is: the budget of 3 %,
/// and one by which the counts of two runs differ.
const RECORDING_BUDGET: f64 = 0.04;
/// How often what is worse is measured at most: a busy machine makes batches smaller now and then, but a change makes all of them dearer.
const MAX_MEASUREMENTS: usize = 3;

/// Figures by name; of each, less is better.
type Figures = BTreeMap<String, f64>;

/// Measures, prints the table, and fails if a figure is worse than the baseline allows.
pub async fn run(args: &[String]) -> anyhow::Result<()> {
    let updates = match args {
        [] => false,
        [only] if only == UPDATE => true,
        _ => anyhow::bail!("usage: bench {ARGUMENT} [{UPDATE}]"),
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.json");
    let mut now = measure().await?;
    if updates {
        fs::write(&file, serde_json::to_string_pretty(&now)? + "\n")?;
        println!("the baseline is what was measured now: {}", file.display());
    }
    let text = fs::read_to_string(&file).with_context(|| format!("{}: `{UPDATE}` writes it", file.display()))?;
    let baseline: Figures = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
    let mut worse = compare(&baseline, &now)?;
    for _ in 1..MAX_MEASUREMENTS {
        if worse.is_empty() {
            break;
        }
        println!("\nmeasured again, the best of each:\n");
        for (name, figure) in measure().await? {
            now.entry(name).and_modify(|best| *best = best.min(figure));
        }
        worse = compare(&baseline, &now)?;
    }
    anyhow::ensure!(
        worse.is_empty(),
        "worse than the baseline by more than {:.0} %, or than a budget: {}. If this is the price of something, make it the new baseline with {UPDATE} and say why in the commit",
        TOLERANCE * 100.0,
        worse.join("; ")
    );
    Ok(())
}

/// Prints both; returns what is worse.
fn compare(baseline: &Figures, now: &Figures) -> anyhow::Result<Vec<String>> {
    let same = baseline.keys().eq(now.keys());
    anyhow::ensure!(same, "the baseline has other figures than those that were measured: replace it with {UPDATE}");
    println!("| what | baseline | now | change |\n| --- | --- | --- | --- |");
    let mut worse = dear_recordings(now);
    for ((name, before), now) in baseline.iter().zip(now.values()) {
        let change = now / before - 1.0;
        println!("| {name} | {before:.1} | {now:.1} | {:+.1} % |", change * 100.0);
        if change > TOLERANCE {
            worse.push(name.clone());
        }
    }
    Ok(worse)
}

/// What recording costs; returns what is above its budget.
fn dear_recordings(now: &Figures) -> Vec<String> {
    let cost = |recording| {
        let of = |recording| now.get(&recording_figure(recording));
        Some(of(recording)? / of(Recording::Nothing)? - 1.0)
    };
    let mut dear = Vec::new();
    for (recording, is_bounded) in
        [(Recording::Default, true), (Recording::SomeTraces, true), (Recording::AllTraces, false)]
    {
        let (Some(cost), name) = (cost(recording), recording.name()) else { continue };
        println!("{name}, a task costs {:.1} % more instructions than with nothing recorded", cost * 100.0);
        if is_bounded && cost > RECORDING_BUDGET {
            dear.push(format!("{name}: above {:.0} %", RECORDING_BUDGET * 100.0));
        }
    }
    println!();
    dear
}

fn recording_figure(recording: Recording) -> String {
    format!("256 at a time, {}: instructions of worker and Redis a task", recording.name())
}

async fn measure() -> anyhow::Result<Figures> {
    let upstream = CountingUpstream::start().await;
    let mut figures = Figures::new();
    let bare = counted::bare_client(&upstream).await?;
    figures.insert("bare client, 256 at a time: instructions a call".to_owned(), bare);
    for arrival in [Arrival::Together(256), Arrival::Together(64), Arrival::OneAtATime] {
        let mut add = |what: &str, costs: [u64; 2]| {
            figures.insert(format!("{}: {what}", arrival.name()), difference(arrival.tasks(), costs));
        };
        let fleet = CountedFleet { label: "", arrival, counted: Counted::Both, settings: &[] };
        let [short, long] = fleet.costs(&upstream).await?;
        add("instructions of the worker a task", [short.worker, long.worker]);
        add("commands of Redis a task", [short.commands, long.commands]);
        let [short, long] = match arrival {
            Arrival::Together(_) => CountedFleet { counted: Counted::Redis, ..fleet }.costs(&upstream).await?,
            Arrival::OneAtATime => [short, long],
        };
        add("instructions of Redis a task", [short.redis, long.redis]);
    }
    for (recording, instructions) in Recording::count_instructions(&upstream).await? {
        figures.insert(recording_figure(recording), instructions);
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(all: &[(&str, f64)]) -> Figures {
        all.iter().map(|(name, figure)| ((*name).to_owned(), *figure)).collect()
    }

    #[test]
    fn what_is_a_tenth_above_the_baseline_is_worse() -> anyhow::Result<()> {
        let baseline = figures(&[("better", 100.0), ("same", 100.0), ("worse", 100.0)]);
        let now = figures(&[("better", 50.0), ("same", 109.0), ("worse", 111.0)]);
        assert_eq!(compare(&baseline, &now)?, ["worse"]);
        Ok(())
    }

    #[test]
    fn recording_has_a_budget_of_its_own() {
        let figures = |default| {
            let [nothing, usual] = [Recording::Nothing, Recording::Default].map(recording_figure);
            Figures::from([(nothing, 100.0), (usual, default)])
        };
        assert_eq!(dear_recordings(&figures(103.9)), Vec::<String>::new());
        assert_eq!(dear_recordings(&figures(104.1)).len(), 1);
    }

    #[test]
    fn a_baseline_of_other_figures_is_refused() {
        assert!(compare(&figures(&[("one", 1.0)]), &figures(&[("another", 1.0)])).is_err());
    }
}
