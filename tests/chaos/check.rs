//! The checker: every promise against the upstream's record and what is in Redis.

mod answers;
mod calls;
mod remains;
mod waits;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use redial_tests::Request;
use serde_json::Value;

use crate::QUEUES;
use crate::kinds::Purpose;
use crate::load::Pushed;
use crate::probes::Probe;
use crate::schedules::Ticks;
use crate::world::World;

/// How long the tasks that are left may take once the faults are over.
const SETTLE: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<String>,
    /// How many tasks ended how.
    pub(crate) answers: BTreeMap<String, usize>,
    /// Acknowledged pushes that a failover lost.
    pub(crate) lost: usize,
    /// Promises that a failover broke, since it lost what they rest on.
    pub(crate) broken_by_loss: Vec<String>,
    /// How long probes waited, in ms, in ascending order: those that no fault concerned, and all.
    pub(crate) beside: Vec<u64>,
    pub(crate) waits: Vec<u64>,
}

impl Verdict {
    /// Adds what was seen, unless this is so.
    fn expect(&mut self, is_so: bool, seen: impl FnOnce() -> String) {
        if !is_so {
            self.violations.push(seen());
        }
    }
}

/// All that is known of a run once the load is over.
pub(crate) struct Evidence<'a> {
    pub(crate) world: &'a World,
    pub(crate) tasks: &'a [Pushed],
    pub(crate) probes: &'a [Probe],
    pub(crate) ticks: &'a Ticks,
    /// The results by id.
    results: HashMap<String, Value>,
    calls: Vec<Request>,
}

impl<'a> Evidence<'a> {
    /// Waits for the results that are left.
    pub(crate) async fn gather(world: &'a World, tasks: &'a [Pushed], probes: &'a [Probe], ticks: &'a Ticks) -> Self {
        let mut evidence = Self { world, tasks, probes, ticks, results: HashMap::new(), calls: Vec::new() };
        let deadline = Instant::now() + SETTLE;
        loop {
            evidence.results = evidence.read_results().await;
            let is_all = evidence.missing().is_empty();
            if is_all || Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        evidence.calls = world.upstreams.calls();
        evidence
    }

    async fn read_results(&self) -> HashMap<String, Value> {
        let mut found = HashMap::new();
        for name in QUEUES {
            let of_queue = self.tasks.iter().filter(|task| task.queue == name && task.has_result());
            let ids: Vec<String> =
                of_queue.flat_map(|task| std::iter::once(task.id.clone()).chain(task.follow_up())).collect();
            for (id, result) in ids.iter().zip(self.world.queue(name).results(&ids).await) {
                found.extend(result.map(|result| (id.clone(), result)));
            }
        }
        found
    }

    /// The ids of the results that must exist and do not, each with its task. A chain goes on only after a good result.
    fn missing(&self) -> Vec<(String, &'a Pushed)> {
        let must_end = self.tasks.iter().filter(|task| task.must_end() && task.has_result());
        let ids = must_end.flat_map(|task| {
            let is_followed = self.results.get(&task.id).is_some_and(|result| follows(task, result));
            let follow_up = task.follow_up().filter(|_| is_followed);
            std::iter::once(task.id.clone()).chain(follow_up).map(move |id| (id, task))
        });
        ids.filter(|(id, _)| !self.results.contains_key(id)).collect()
    }

    /// The results of the tasks of these kinds.
    fn of(&self, purposes: &[Purpose]) -> impl Iterator<Item = (&'a Pushed, &Value)> {
        let chosen: Vec<&Pushed> = self.tasks.iter().filter(|task| purposes.contains(&task.purpose)).collect();
        chosen.into_iter().filter_map(|task| Some((task, self.results.get(&task.id)?)))
    }
}

/// Whether a task with this result is followed by another.
fn follows(task: &Pushed, result: &Value) -> bool {
    task.purpose != Purpose::Chained || result["status"] == "ok"
}

/// Checks everything, while the workers still run.
pub(crate) async fn run(evidence: &Evidence<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    answers::check(evidence, &mut verdict);
    calls::check(evidence, &mut verdict);
    waits::check(evidence, &mut verdict);
    remains::check(evidence, &mut verdict).await;
    for (id, now) in evidence.read_results().await {
        let before = evidence.results.get(&id);
        verdict.expect(before.is_none_or(|before| *before == now), || {
            format!("the result of {id} changed: it was {}, and is {now}", before.unwrap_or_default())
        });
    }
    verdict
}

/// Checks what the workers have left behind, once all of them have ended.
pub(crate) async fn check_ended(world: &World, verdict: &mut Verdict) {
    remains::check_keys(world, verdict).await;
}
