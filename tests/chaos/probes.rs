//! Plain tasks, one after the other in each queue, each of which is waited for: they tell how long a queue stands still.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redial_core::QueueName;
use redial_tests::stalls::now_ms;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::QUEUES;
use crate::topology::Kind;
use crate::world::World;

/// Between two probes of a queue.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two looks at a result.
const POLL: Duration = Duration::from_millis(50);
/// How long a push or a look may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// When a probe is given up.
const GIVE_UP: Duration = Duration::from_secs(90);

/// What became of a probe.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) id: String,
    pub(crate) queue: &'static str,
    /// When its push was acknowledged, in Unix ms; `None` if it was not.
    pub(crate) pushed_ms: Option<u64>,
    /// When its result was there; `None` if it never was.
    pub(crate) answered_ms: Option<u64>,
}

/// Pushes probes for this long, and waits for the last of them.
pub(crate) async fn run(world: Arc<World>, span: Duration) -> Vec<Probe> {
    let (end, mut probes, mut nth) = (Instant::now() + span, JoinSet::new(), 0);
    while Instant::now() < end {
        for queue in QUEUES {
            probes.spawn(probe(world.clone(), queue, format!("probe-{nth}")));
        }
        nth += 1;
        sleep(PAUSE).await;
    }
    probes.join_all().await
}

async fn probe(world: Arc<World>, queue: &'static str, id: String) -> Probe {
    let task = json!({"id": id, "url": world.upstreams.good("/probe"), "retry": {"base_ms": 50}}).to_string();
    let mut probe = Probe { id, queue, pushed_ms: None, answered_ms: None };
    // Not over the Cluster client of redis, which sends a push again whose reply was lost.
    let own = world.topology.db().queue(QueueName::new(queue).expect("the queues have valid names"));
    if !matches!(timeout(PATIENCE, own.enqueue(&[&task])).await, Ok(Ok(()))) {
        return probe;
    }
    let pushed = now_ms();
    probe.pushed_ms = Some(pushed);
    let started = Instant::now();
    while probe.answered_ms.is_none() && started.elapsed() < GIVE_UP {
        sleep(POLL).await;
        let queue = world.queue(queue);
        if let Ok(Some(result)) = timeout(PATIENCE, queue.result(&probe.id)).await {
            let seen = now_ms();
            // The look itself may take long. Redis has the true time, unless its clock is set.
            let finished = result["finished_at_ms"].as_u64().filter(|_| world.topology.kind() != Kind::Node);
            probe.answered_ms = finished.map_or(Some(seen), |finished| Some(finished.min(seen).max(pushed)));
        }
    }
    probe
}
