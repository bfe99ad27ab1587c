//! How long to wait before the next attempt. Pure: the random number is an argument.
//!
//! Exponential backoff with jitter, after "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).

use std::time::Duration;

use redial_core::protocol::task::{Jitter, Retry};

/// The wait after failure number `failures` (from 1). `previous` is the wait before that failure, `random` lies in 0..1.
///
/// For `base_ms` 500 and `cap_ms` 60000 the backoff before jitter is 500, 1000, 2000, 4000, ... 60000, 60000 ms.
pub fn backoff(retry: &Retry, failures: u32, previous: Duration, random: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(63);
    let full = retry.base.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(retry.cap);
    match retry.jitter {
        Jitter::None => full,
        Jitter::Full => full.mul_f64(random),
        Jitter::Equal => full / 2 + (full / 2).mul_f64(random),
        Jitter::Decorrelated => {
            let spread = (previous.max(retry.base) * 3).saturating_sub(retry.base);
            (retry.base + spread.mul_f64(random)).min(retry.cap)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn retry(jitter: Jitter) -> Retry {
        let ms = Duration::from_millis;
        Retry { max_attempts: 5, base: ms(500), cap: ms(60_000), jitter, on: vec![] }
    }

    fn sequence(jitter: Jitter, random: f64) -> Vec<u128> {
        let mut previous = Duration::ZERO;
        (1..=9)
            .map(|n| {
                previous = backoff(&retry(jitter), n, previous, random);
                previous.as_millis()
            })
            .collect()
    }

    #[test]
    fn each_jitter_has_its_sequence() {
        assert_eq!(sequence(Jitter::None, 0.9), [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(sequence(Jitter::Full, 0.5), [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(sequence(Jitter::Equal, 0.0), [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(
            sequence(Jitter::Decorrelated, 1.0),
            [1500, 4500, 13_500, 40_500, 60_000, 60_000, 60_000, 60_000, 60_000]
        );
        assert_eq!(sequence(Jitter::Decorrelated, 0.0), [500; 9]);
    }

    proptest! {
        #[test]
        fn no_wait_exceeds_the_cap(
            base in 0_u64..100_000, cap in 0_u64..100_000, failures in 0_u32..2_000,
            previous in 0_u64..10_000_000, random in 0.0..1.0_f64, kind in 0..4_usize,
        ) {
            let jitter = [Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::None][kind];
            let ms = Duration::from_millis;
            let retry = Retry { max_attempts: 5, base: ms(base), cap: ms(cap), jitter, on: vec![] };
            prop_assert!(backoff(&retry, failures, ms(previous), random) <= ms(cap));
        }
    }
}
