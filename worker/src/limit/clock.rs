//! A limit's own clock, as a worker estimates it from the limit's replies, and how far away the limit is.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use redial_core::limit::GrantWindow;

/// Times of this machine are counted from here. The first sample was sent before.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
/// An estimate this old is replaced: clocks drift apart.
const MAX_AGE: Duration = Duration::from_secs(10);
/// For how long at least it is remembered that calls were late.
const SLACK_AGE: Duration = Duration::from_secs(10);
/// Two estimates that differ by more than this beyond their own uncertainty mean that the clock was set.
const STEP_US: f64 = 1_000.0;
/// Redis counts as near below this round trip: then a grant can be used at once.
const NEAR_RTT: Duration = Duration::from_millis(4);
/// How much a grant may lie ahead beyond what its way takes. It bounds how often a busy limit is asked.
pub const LEAST_WINDOW: Duration = Duration::from_millis(60);
/// A slower limit is asked for about this many calls at a time, but for no moment beyond this.
const CALLS_AT_A_TIME: f64 = 3.2;
const MAX_WINDOW: Duration = Duration::from_secs(1);
/// The longest way that is reckoned with.
const MAX_LEAD: Duration = Duration::from_secs(1);

/// What one reply says about a limit's clock.
#[derive(Debug, Clone, Copy)]
struct ClockSample {
    /// The limit's time at [`EPOCH`], in us.
    offset_us: f64,
    /// The round trip of the reply, which bounds the error.
    rtt_us: f64,
    read_at: Instant,
}

/// How much longer than expected it took, lately, until calls were ready: what comes between a grant and its call.
#[derive(Debug, Clone, Copy)]
struct Slack {
    latest_us: f64,
    before_us: f64,
    since: Instant,
}

impl Slack {
    fn us(&self) -> f64 {
        self.latest_us.max(self.before_us)
    }
}

/// An estimate of a limit's clock.
#[derive(Debug, Clone, Copy)]
pub struct LimitClock {
    /// The reply with the shortest way, until it is too old; then the best one since.
    best: ClockSample,
    successor: Option<ClockSample>,
    /// A usual round trip.
    rtt_us: f64,
    slack: Slack,
}

impl LimitClock {
    /// The estimate of a reply that states the time `now_us`.
    pub fn new(sent: Instant, received: Instant, now_us: f64) -> Self {
        let rtt_us = us(received - sent);
        let offset_us = now_us - (since_epoch(sent) + rtt_us / 2.0);
        Self {
            best: ClockSample { offset_us, rtt_us, read_at: received },
            successor: None,
            rtt_us,
            slack: Slack { latest_us: 0.0, before_us: 0.0, since: received },
        }
    }

    /// Takes another reply into account. The one with the shortest way counts, unless the clock was set.
    pub fn update(&mut self, other: &Self) {
        let sample = other.best;
        let uncertainty = f64::midpoint(self.best.rtt_us, sample.rtt_us) + STEP_US;
        if sample.rtt_us <= self.best.rtt_us || (sample.offset_us - self.best.offset_us).abs() > uncertainty {
            (self.best, self.successor) = (sample, None);
        } else {
            let successor = self.successor.get_or_insert(sample);
            if sample.rtt_us < successor.rtt_us {
                *successor = sample;
            }
            if sample.read_at.saturating_duration_since(self.best.read_at) > MAX_AGE {
                (self.best, self.successor) = (*successor, None);
            }
        }
        self.rtt_us += (other.rtt_us - self.rtt_us) / 4.0;
    }

    /// When a moment of the limit's clock is here.
    pub fn local(&self, at_us: f64) -> Instant {
        let since_epoch = at_us - self.best.offset_us;
        let distance = Duration::try_from_secs_f64(since_epoch.abs() / 1e6).unwrap_or_default();
        let local = if since_epoch < 0.0 { EPOCH.checked_sub(distance) } else { EPOCH.checked_add(distance) };
        local.unwrap_or(*EPOCH)
    }

    /// A usual round trip.
    pub fn rtt(&self) -> Duration {
        Duration::from_secs_f64(self.rtt_us.max(0.0) / 1e6)
    }

    /// A call was ready this much after its moment: the next ones get more time. After a while without such calls, that is forgotten.
    pub fn note_start(&mut self, late: Duration, now: Instant) {
        let slack = &mut self.slack;
        if now.saturating_duration_since(slack.since) > SLACK_AGE {
            *slack = Slack { latest_us: 0.0, before_us: slack.latest_us, since: now };
        }
        slack.latest_us = slack.latest_us.max(us(late)).min(us(MAX_LEAD));
    }

    /// How far ahead a call can use a grant that it asks for itself.
    pub fn window_for_call(&self) -> GrantWindow {
        let rtt = self.rtt();
        let lead = if rtt < NEAR_RTT { Duration::ZERO } else { rtt.mul_f64(0.6) };
        GrantWindow { lead: lead.min(MAX_LEAD), length: LEAST_WINDOW }
    }

    /// The same for calls that wait in Redis: the grants come here, and then the calls. `per_second` is how many go, if that is known.
    pub fn window_for_drain(&self, per_second: Option<f64>) -> GrantWindow {
        let rtt = self.rtt();
        let lead = rtt.mul_f64(1.6) + Duration::from_micros(500) + Duration::from_secs_f64(self.slack.us() / 1e6);
        // Two round trips lie between two requests.
        let batch = per_second.map_or(Duration::ZERO, |rate| {
            Duration::try_from_secs_f64(CALLS_AT_A_TIME / rate).unwrap_or(MAX_WINDOW).min(MAX_WINDOW)
        });
        GrantWindow { lead: lead.min(MAX_LEAD), length: batch.max(LEAST_WINDOW) + rtt.mul_f64(2.3) }
    }
}

fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn since_epoch(at: Instant) -> f64 {
    us(at.saturating_duration_since(*EPOCH)) - us(EPOCH.saturating_duration_since(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(start: Instant, sent_ms: u64, received_ms: u64, says_ms: f64) -> LimitClock {
        let at = |ms| start + Duration::from_millis(ms);
        LimitClock::new(at(sent_ms), at(received_ms), says_ms * 1e3)
    }

    /// How many ms after `start` the clock shows a time, about.
    fn shown(clock: &LimitClock, start: Instant, at_ms: f64) -> f64 {
        clock.local(at_ms * 1e3).saturating_duration_since(start).as_secs_f64() * 1e3
    }

    #[test]
    fn the_reply_with_the_shortest_way_counts_until_the_clock_is_set() {
        let start = *EPOCH + Duration::from_secs(1);
        let mut clock = reply(start, 0, 100, 50_050.0);
        assert!((shown(&clock, start, 50_500.0) - 500.0).abs() < 0.1);
        // Its answer was held up, and says less.
        clock.update(&reply(start, 200, 600, 50_250.0));
        assert!((shown(&clock, start, 50_500.0) - 500.0).abs() < 0.1);
        clock.update(&reply(start, 700, 710, 50_707.0));
        assert!((shown(&clock, start, 50_500.0) - 498.0).abs() < 0.1, "{}", shown(&clock, start, 50_500.0));
        // Set forward by two seconds.
        clock.update(&reply(start, 800, 900, 52_850.0));
        assert!((shown(&clock, start, 53_000.0) - 1_000.0).abs() < 0.1);
    }

    #[test]
    fn a_sample_that_was_sent_before_times_are_counted_is_as_exact_as_any() {
        let Some(start) = EPOCH.checked_sub(Duration::from_millis(500)) else {
            panic!("this machine has just started")
        };
        let clock = reply(start, 0, 200, 50_100.0);
        assert!((shown(&clock, start, 50_300.0) - 300.0).abs() < 0.1, "{}", shown(&clock, start, 50_300.0));
        assert!((shown(&clock, start, 50_700.0) - 700.0).abs() < 0.1, "{}", shown(&clock, start, 50_700.0));
    }

    #[test]
    fn what_makes_calls_late_is_reckoned_with_and_forgotten() {
        let start = *EPOCH + Duration::from_secs(1);
        let mut clock = reply(start, 0, 20, 1.0);
        let before = clock.window_for_drain(None).lead;
        clock.note_start(Duration::from_millis(300), start);
        assert!(clock.window_for_drain(None).lead >= before + Duration::from_millis(300));
        for n in 1..4 {
            clock.note_start(Duration::ZERO, start + (SLACK_AGE + Duration::from_millis(1)) * n);
        }
        assert!(clock.window_for_drain(None).lead < before + Duration::from_millis(1));
    }
}
