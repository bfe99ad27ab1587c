//! Waiting for the answers, with something to look at meanwhile.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use redial_tests::{TestQueue, Upstream};
use serde_json::Value;
use tokio::time::sleep;

const LOOK_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(1);
const STYLE: &str = "{bar:40.green} {pos} of {len} answered, {msg}, {elapsed}";

/// Collects the results of all ids, or as many as there are at the timeout.
pub(crate) async fn collect(
    queue: &TestQueue,
    upstream: &Upstream,
    ids: &[String],
    timeout: Duration,
) -> HashMap<String, Value> {
    let started = Instant::now();
    let mut shown = Shown::new(ids.len());
    shown.update(0, upstream);
    let mut results = HashMap::new();
    while results.len() < ids.len() && started.elapsed() < timeout {
        let missing: Vec<&String> = ids.iter().filter(|id| !results.contains_key(*id)).collect();
        let found = queue.results(&missing).await;
        let found = missing.iter().zip(found);
        let found: Vec<_> = found.filter_map(|(id, result)| Some(((*id).clone(), result?))).collect();
        results.extend(found);
        shown.update(results.len(), upstream);
        sleep(LOOK_EVERY).await;
    }
    shown.finish();
    results
}

/// A bar on a terminal, a line a second elsewhere.
enum Shown {
    Bar(ProgressBar),
    Lines { total: usize, next: Instant },
}

impl Shown {
    fn new(total: usize) -> Self {
        let style = ProgressStyle::with_template(STYLE);
        match style {
            Ok(style) if std::io::stdout().is_terminal() => {
                let target = ProgressDrawTarget::stdout();
                let length = u64::try_from(total).ok();
                Self::Bar(ProgressBar::with_draw_target(length, target).with_style(style))
            }
            _ => Self::Lines { total, next: Instant::now() },
        }
    }

    fn update(&mut self, answered: usize, upstream: &Upstream) {
        let message = format!("{} calls made, {} under way", upstream.count(), upstream.in_flight());
        match self {
            Self::Bar(bar) => {
                bar.set_position(u64::try_from(answered).unwrap_or_default());
                bar.set_message(message);
            }
            Self::Lines { total, next } => {
                if answered == *total || Instant::now() >= *next {
                    println!("  {answered} of {total} answered, {message}");
                    *next = Instant::now() + LINE_EVERY;
                }
            }
        }
    }

    fn finish(&self) {
        if let Self::Bar(bar) = self {
            // The last state stays on the screen.
            let (position, length) = (bar.position(), bar.length().unwrap_or_default());
            let last = format!("  {position} of {length} answered, {}", bar.message());
            bar.finish_and_clear();
            println!("{last}");
        }
    }
}
