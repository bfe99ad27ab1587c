//! One schedule for each queue, which fires every two seconds.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use redial_core::schedule::{Schedules, When};
use redial_core::{QueueName, UnixMs};
use serde_json::json;

use crate::QUEUES;
use crate::world::World;

const NAME: &str = "chaos";
const CRON: &str = "*/2 * * * * *";

/// The first time of the schedule of each queue.
pub(crate) struct Ticks {
    first: BTreeMap<&'static str, UnixMs>,
}

/// The list that the results of a queue's firings go to.
fn list(queue: &str) -> String {
    format!("answers:{{{queue}}}:ticks")
}

fn schedules(world: &World, queue: &str) -> Schedules {
    Schedules::new(world.topology.db().queue(QueueName::new(queue).expect("the queues have valid names")))
}

fn when() -> When {
    When::new(CRON, None).expect("a valid expression")
}

impl Ticks {
    pub(crate) fn none() -> Self {
        Self { first: BTreeMap::new() }
    }

    /// Adds them.
    pub(crate) async fn start(world: &World) -> Self {
        let mut first = BTreeMap::new();
        for queue in QUEUES {
            let task = json!({"url": world.upstreams.good("/tick"), "reply_to": list(queue)}).to_string();
            // Replicas that have just started may not count yet.
            let added = redial_tests::eventually(Duration::from_secs(30), || async {
                schedules(world, queue).add(NAME, &when(), &task).await.ok()
            });
            first.insert(queue, added.await);
        }
        Self { first }
    }

    /// Removes them, and returns the ids of the firings that there must have been, by queue. Another may have been fired just before
    /// the removal.
    pub(crate) async fn stop(&self, world: &World) -> Result<BTreeMap<&'static str, Vec<String>>, redial_core::Error> {
        let mut due = BTreeMap::new();
        for (queue, first) in &self.first {
            let schedules = schedules(world, queue);
            let schedule = schedules.list().await?.into_iter().find(|found| found.name == NAME);
            let next = schedule.and_then(|found| found.next).unwrap_or(*first);
            schedules.remove(NAME).await?;
            let times = std::iter::successors(Some(*first), |at| when().after(*at));
            due.insert(*queue, times.take_while(|at| *at < next).map(id).collect());
        }
        Ok(due)
    }

    /// Which firings have how many results, by queue.
    pub(crate) async fn results(world: &World, queue: &'static str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for reply in world.queue(queue).list(&list(queue)).await {
            *counts.entry(reply["id"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        counts
    }
}

fn id(at: UnixMs) -> String {
    format!("{NAME}@{}", humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(at.0)))
}
