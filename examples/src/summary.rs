//! What became of the tasks, in numbers.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::tasks::PushTimes;

#[derive(Debug, Default)]
pub(crate) struct Summary {
    tasks: usize,
    answered: usize,
    retried: usize,
    shared: usize,
    dead: usize,
    calls: u64,
    /// Push to answer in ms, sorted.
    times: Vec<u64>,
    wall: Duration,
}

impl Summary {
    pub(crate) fn new(results: &HashMap<String, Value>, pushed: &PushTimes, calls: u64, wall: Duration) -> Self {
        let mut summary = Self { tasks: pushed.len(), calls, wall, ..Self::default() };
        for (id, result) in results {
            match result["status"].as_str() {
                Some("ok") => summary.answered += 1,
                _ => summary.dead += 1,
            }
            if result["source"] == "call" {
                summary.retried += attempts(result).saturating_sub(1);
            } else {
                summary.shared += 1;
            }
            let finished = result["finished_at_ms"].as_u64().unwrap_or_default();
            let pushed = pushed.get(id).copied().unwrap_or_default();
            summary.times.push(finished.saturating_sub(pushed));
        }
        summary.times.sort_unstable();
        summary
    }

    fn percentile(&self, percent: usize) -> u64 {
        let rank = (self.times.len() * percent).div_ceil(100).saturating_sub(1);
        self.times.get(rank).copied().unwrap_or_default()
    }
}

pub(crate) fn attempts(result: &Value) -> usize {
    result["attempts"].as_array().map_or(0, Vec::len)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String, what: &str| writeln!(f, "  {name:<15} {value:>9}   {what}");
        row("tasks", self.tasks.to_string(), "pushed")?;
        row("answered", self.answered.to_string(), "with the answer of the API")?;
        row("retried", self.retried.to_string(), "attempts beyond a task's first")?;
        row("shared", self.shared.to_string(), "answered by another task's call")?;
        row("dead", self.dead.to_string(), "refused for good (400), kept as dead letters")?;
        row("calls", self.calls.to_string(), "made to the API in all")?;
        let (median, slow) = (self.percentile(50), self.percentile(99));
        row("push to answer", format!("{median} ms"), "half of the tasks, at most")?;
        row("", format!("{slow} ms"), "99 of 100 tasks, at most")?;
        row("wall time", format!("{:.1} s", self.wall.as_secs_f64()), "from the first push")
    }
}
