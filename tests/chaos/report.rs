//! What a run prints.

use std::collections::BTreeMap;
use std::process::ExitCode;

use crate::check::Verdict;
use crate::world::World;

/// How many violations of a kind are printed: those that differ in numbers alone are of one kind.
const MAX_PRINTED: usize = 4;
/// A fault that lasts longer than this is worth a line, since it excuses much.
const LONG_MS: u64 = 10_000;

/// Prints the verdict; a violation fails the run.
pub(crate) fn print(verdict: &Verdict, world: &World, tasks: usize, seed: u64) -> ExitCode {
    let mut faults: BTreeMap<String, usize> = BTreeMap::new();
    for episode in world.timeline.episodes() {
        *faults.entry(format!("{:?}", episode.fault)).or_default() += 1;
    }
    eprintln!("faults: {}", list(&faults));
    eprintln!("answers: {}", list(&verdict.answers));
    eprintln!("a plain task waited, beside any fault: {}; in all: {}", spread(&verdict.beside), spread(&verdict.waits));
    for episode in world.timeline.episodes() {
        let took = episode.to_ms.saturating_sub(episode.from_ms);
        if took > LONG_MS {
            eprintln!("{:?} of {:?} from {} on took {took} ms", episode.fault, episode.queues, episode.from_ms);
        }
    }
    for broken in &verdict.broken_by_loss {
        eprintln!("broken by the failover: {broken}");
    }
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for violation in &verdict.violations {
        let count = kinds.entry(violation.split(|c: char| c.is_ascii_digit()).collect()).or_default();
        *count += 1;
        if *count <= MAX_PRINTED {
            eprintln!("VIOLATION: {violation}");
        }
    }
    for (kind, count) in kinds.iter().filter(|(_, count)| **count > MAX_PRINTED) {
        eprintln!("and {} more like it: {kind}", count - MAX_PRINTED);
    }
    let (faults, violations) = (faults.values().sum::<usize>(), verdict.violations.len());
    let lost = verdict.lost;
    eprintln!("{tasks} tasks, {faults} faults, {violations} violations, {lost} acknowledged writes lost; seed {seed}");
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn list(counts: &BTreeMap<String, usize>) -> String {
    counts.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
}

fn spread(sorted_ms: &[u64]) -> String {
    let at = |percent: usize| sorted_ms.get((sorted_ms.len() * percent / 100).min(sorted_ms.len().saturating_sub(1)));
    match (at(50), at(99), sorted_ms.last()) {
        (Some(p50), Some(p99), Some(max)) => format!("p50 {p50} ms, p99 {p99} ms, max {max} ms of {}", sorted_ms.len()),
        _ => "none".to_owned(),
    }
}
