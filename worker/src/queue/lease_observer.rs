//! When the lease of another worker has ended: when this worker has seen it unrenewed for its whole length, by its own monotonic clock.
//! No wall clock decides: neither a step of Redis's clock nor a pause of Redis or of this worker ends a lease. Pure: times are arguments.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redial_core::consumer::LeaseRenewal;
use redial_core::{UnixMs, WorkerId};

/// A lease that claims to be longer counts as no longer than the observer's own: the clock of Redis was set back meanwhile.
const MAX_STATED: Duration = Duration::from_secs(600);
/// By how much the clock of Redis and this machine's may drift apart between two observations before it counts as a step.
const MAX_DRIFT_MS: u64 = 200;

/// Observes the leases at one queue.
#[derive(Debug)]
pub struct LeaseObserver {
    worker: WorkerId,
    /// How long this worker's own lease is; those of others may be longer.
    lease: Duration,
    seen: HashMap<WorkerId, SeenLease>,
    last: Option<LeaseObservation>,
}

/// A lease since its renewal was first seen.
#[derive(Debug)]
struct SeenLease {
    renewal: LeaseRenewal,
    since: Instant,
    length: Duration,
}

/// When an observation was made: after the command was sent, before its reply was received.
#[derive(Debug, Clone, Copy)]
pub struct LeaseObservation {
    pub sent: Instant,
    pub received: Instant,
    /// Redis TIME then.
    pub now: UnixMs,
}

impl LeaseObserver {
    /// An observer that has seen nothing yet.
    pub fn new(worker: WorkerId, lease: Duration) -> Self {
        Self { worker, lease, seen: HashMap::new(), last: None }
    }

    /// Takes note of the leases that are in force. Returns those that have ended, and when the next one will unless it is renewed.
    pub fn observe(
        &mut self,
        at: LeaseObservation,
        leases: &[(WorkerId, LeaseRenewal)],
    ) -> (Vec<(WorkerId, LeaseRenewal)>, Option<Instant>) {
        // After a gap nobody knows whether the others could renew their leases in it.
        let is_dense = self.last.is_some_and(|last| at.received.duration_since(last.sent) <= self.lease / 2);
        let was_stepped = self.last.is_some_and(|last| was_stepped(last, at));
        self.last = Some(at);
        let mut before = std::mem::take(&mut self.seen);
        let (mut ended, mut next_end) = (Vec::new(), None);
        for (worker, renewal) in leases.iter().filter(|(worker, _)| *worker != self.worker) {
            let known = before.remove(worker);
            let seen = match known {
                Some(known) if is_dense && known.renewal == *renewal => known,
                known => {
                    let remembered = known.map(|known| known.length);
                    let length = if was_stepped { None } else { self.stated_length(at.now, renewal) };
                    let length = length.max(remembered).unwrap_or(self.lease);
                    SeenLease { renewal: renewal.clone(), since: at.received, length }
                }
            };
            if at.sent.saturating_duration_since(seen.since) >= seen.length {
                ended.push((worker.clone(), renewal.clone()));
            }
            let end = seen.since + seen.length;
            next_end = Some(next_end.map_or(end, |next: Instant| next.min(end)));
            self.seen.insert(worker.clone(), seen);
        }
        (ended, next_end.filter(|end| *end > at.sent))
    }

    /// How long a lease is at least, as its renewal says: another worker may have been given a longer one.
    fn stated_length(&self, now: UnixMs, renewal: &LeaseRenewal) -> Option<Duration> {
        let stated = Duration::from_millis(renewal.stated_end().since(now));
        (stated <= MAX_STATED).then(|| stated.max(self.lease))
    }
}

/// Whether the clock of Redis was set between two observations.
fn was_stepped(last: LeaseObservation, at: LeaseObservation) -> bool {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let shortest = at.sent.saturating_duration_since(last.received);
    let longest = at.received.saturating_duration_since(last.sent);
    let elapsed = at.now.since(last.now);
    at.now < last.now && last.now.since(at.now) > MAX_DRIFT_MS
        || elapsed + MAX_DRIFT_MS < millis(shortest)
        || elapsed > millis(longest) + MAX_DRIFT_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(8);

    /// A fleet of two, seen by the first; times are in ms.
    struct Scene {
        observer: LeaseObserver,
        began: Instant,
        /// How far the clock of Redis was set.
        step: i64,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                observer: LeaseObserver::new(WorkerId::from_redis("me".into()), LEASE),
                began: Instant::now(),
                step: 0,
            }
        }

        fn redis_time(&self, at_ms: u64) -> u64 {
            (1_000_000_000 + at_ms).saturating_add_signed(self.step)
        }

        /// What Redis has if a lease was renewed at a time.
        fn renewed(&self, at_ms: u64, lease_ms: u64) -> String {
            (self.redis_time(at_ms) + lease_ms).to_string()
        }

        /// Whether the other's lease has ended, with this renewal.
        fn ended(&mut self, at_ms: u64, renewal: &str) -> bool {
            let at = self.began + Duration::from_millis(at_ms);
            let at = LeaseObservation {
                sent: at,
                received: at + Duration::from_millis(1),
                now: UnixMs(self.redis_time(at_ms)),
            };
            let lease = |worker: &str, renewal: &str| {
                (WorkerId::from_redis(worker.into()), LeaseRenewal::from_redis(renewal.into()))
            };
            let (ended, _) = self.observer.observe(at, &[lease("me", "1"), lease("other", renewal)]);
            assert!(ended.iter().all(|(worker, _)| worker.as_str() == "other"));
            !ended.is_empty()
        }
    }

    #[test]
    fn a_lease_ends_when_it_was_seen_unrenewed_for_its_length() {
        let mut scene = Scene::new();
        let last = scene.renewed(0, 8_000);
        let ended: Vec<bool> = (0..=5).map(|beat| scene.ended(1_000 + beat * 2_000, &last)).collect();
        assert_eq!(ended, [false, false, false, false, false, true]);
    }

    #[test]
    fn a_renewal_begins_the_lease_anew() {
        let mut scene = Scene::new();
        for beat in 0..20 {
            let renewal = scene.renewed(beat / 3 * 6_000, 8_000);
            assert!(!scene.ended(beat * 2_000, &renewal), "beat {beat}");
        }
    }

    #[test]
    fn steps_of_the_clock_neither_end_a_lease_nor_prolong_it() {
        for step in [9_000, -800, -3_600_000, 3_600_000] {
            let mut scene = Scene::new();
            let renewal = scene.renewed(0, 8_000);
            assert!(!scene.ended(0, &renewal));
            scene.step = step;
            assert!(!scene.ended(2_000, &renewal), "{step}");
            let last = scene.renewed(3_000, 8_000);
            let ended: Vec<bool> = (0..=4).map(|beat| scene.ended(4_000 + beat * 2_010, &last)).collect();
            assert_eq!(ended, [false, false, false, false, true], "{step}");
        }
        // Renewed before the step and seen only afterwards.
        let mut scene = Scene::new();
        let first = scene.renewed(0, 8_000);
        assert!(!scene.ended(1_000, &first));
        let last = scene.renewed(2_000, 8_000);
        scene.step = -300_000;
        let ended: Vec<bool> = (0..=4).map(|beat| scene.ended(3_000 + beat * 2_010, &last)).collect();
        assert_eq!(ended, [false, false, false, false, true]);
    }

    #[test]
    fn a_gap_in_which_nobody_was_heard_of_does_not_count() {
        let mut scene = Scene::new();
        let renewal = scene.renewed(0, 8_000);
        assert!(!scene.ended(0, &renewal));
        assert!(!scene.ended(60_000, &renewal), "this worker or Redis stood still");
        let ended: Vec<bool> = (1..=4).map(|beat| scene.ended(60_000 + beat * 2_010, &renewal)).collect();
        assert_eq!(ended, [false, false, false, true]);
    }

    #[test]
    fn a_longer_lease_of_another_worker_is_respected() {
        let mut scene = Scene::new();
        let renewal = scene.renewed(0, 60_000);
        let ends = (0..40).find(|beat| scene.ended(beat * 2_000, &renewal));
        assert_eq!(ends, Some(31));
        // Nobody has a lease of two hours: the clock was set back before this worker was started.
        let mut scene = Scene::new();
        let renewal = scene.renewed(0, 7_200_000);
        let ends = (0..40).find(|beat| scene.ended(beat * 2_000, &renewal));
        assert_eq!(ends, Some(5));
    }
}
