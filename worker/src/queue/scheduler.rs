//! Fires the schedules of one queue when they are due. Every worker looks; a script lets one of them through.

use std::time::Duration;

use redial_core::schedule::Schedules;

use super::queue_worker::QueueWorker;

/// The longest time between two looks: a schedule that is added meanwhile may be due at once.
const MAX_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Workers look up to this long after a schedule is due, each at a random moment, so that most find it fired already.
const SPREAD_MS: u64 = 20;

/// Runs until the worker stops claiming.
pub async fn run(worker: QueueWorker) {
    let schedules = Schedules::new(worker.redis_queue().clone());
    let mut reported_unreadable = false;
    loop {
        // An idle queue has no schedule.
        tokio::select! {
            () = worker.queue.activity.active() => {}
            () = worker.shared.stop.cancelled() => return,
        }
        let wait = match schedules.fire_due().await {
            Ok(round) => {
                worker.queue.retry.succeeded();
                for fired in &round.fired {
                    worker.shared.metrics.fired(worker.name());
                    tracing::info!(queue = worker.name(), schedule = fired.name, task = %fired.id, late_ms = fired.late_ms, "schedule fired");
                }
                for (schedule, error) in round.unreadable.iter().filter(|_| !reported_unreadable) {
                    tracing::error!(
                        queue = worker.name(),
                        schedule,
                        error,
                        "a schedule cannot be read and does not fire: add it again"
                    );
                }
                reported_unreadable = !round.unreadable.is_empty();
                round.next_in.unwrap_or(MAX_LOOK_INTERVAL).min(MAX_LOOK_INTERVAL)
            }
            Err(error) => {
                worker.queue.retry.failed("fire_due", &error);
                MAX_LOOK_INTERVAL
            }
        };
        let spread = Duration::from_millis(rand::random_range(1..=SPREAD_MS));
        tokio::select! {
            () = tokio::time::sleep(wait + spread) => {}
            () = worker.shared.stop.cancelled() => return,
        }
    }
}
