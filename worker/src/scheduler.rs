//! Fires the schedules of one queue when their time comes. Every worker looks; a script lets one of them through.

use std::sync::Arc;
use std::time::Duration;

use redial_core::schedule::Schedules;

use crate::persist::{answered, failed};
use crate::worker::{Lane, Worker};

/// The longest time between two looks: a schedule that is put down meanwhile may be due at once.
const LOOK: Duration = Duration::from_secs(1);
/// Workers look up to so long after a time, each at a moment of its own, so that most find it fired.
const SPREAD_MS: u64 = 20;

/// Runs until the worker stops claiming.
pub async fn run(worker: Arc<Worker>, lane: Arc<Lane>) {
    let schedules = Schedules::new(lane.consumer.queue().clone());
    let mut complained = false;
    loop {
        let wait = match schedules.fire_due().await {
            Ok(round) => {
                answered(&lane);
                for fired in &round.fired {
                    worker.metrics.fired(&lane.name);
                    tracing::info!(queue = %lane.name, schedule = fired.name, task = %fired.id, late_ms = fired.late_ms, "schedule fired");
                }
                for (schedule, error) in &round.unreadable {
                    if !complained {
                        tracing::error!(queue = %lane.name, schedule, error, "a schedule can't be read and does not fire: put it down anew");
                    }
                }
                complained = !round.unreadable.is_empty();
                round.next_in.unwrap_or(LOOK).min(LOOK)
            }
            Err(error) => {
                failed(&worker, &lane, "schedules", &error);
                LOOK
            }
        };
        let spread = Duration::from_millis(rand::random_range(1..=SPREAD_MS));
        tokio::select! {
            () = tokio::time::sleep(wait + spread) => {}
            () = worker.stop.cancelled() => return,
        }
    }
}
