//! How long attempts took, in buckets whose width grows with the time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Each power of two is divided into this many buckets, so that a percentile is at most a quarter too high.
const BUCKETS_PER_DOUBLING: u64 = 4;

/// How many attempts took how long, in ms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LatencyHistogram(BTreeMap<u16, u64>);

impl LatencyHistogram {
    /// Counts an attempt.
    pub fn record(&mut self, ms: u64) {
        *self.0.entry(bucket(ms)).or_default() += 1;
    }

    /// Counts all attempts of another histogram.
    pub fn add(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            *self.0.entry(*bucket).or_default() += count;
        }
    }

    /// The time in ms within which this share of the attempts ended, rounded up to the end of its bucket; `None` without attempts.
    pub fn percentile(&self, share: f64) -> Option<u64> {
        let total: u64 = self.0.values().sum();
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let wanted = total as f64 * share;
        let mut seen = 0;
        self.0.iter().find_map(|(bucket, count)| {
            seen += count;
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            let is_enough = seen as f64 >= wanted;
            is_enough.then(|| last_ms(*bucket))
        })
    }
}

/// The bucket of a time. Below 4 ms each has its own.
fn bucket(ms: u64) -> u16 {
    let index = if ms < BUCKETS_PER_DOUBLING {
        ms
    } else {
        let exponent = u64::from(ms.ilog2());
        BUCKETS_PER_DOUBLING * (exponent - 1) + ((ms >> (exponent - 2)) & (BUCKETS_PER_DOUBLING - 1))
    };
    // At most 252.
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// The longest time in a bucket.
fn last_ms(bucket: u16) -> u64 {
    let index = u64::from(bucket);
    if index < BUCKETS_PER_DOUBLING {
        return index;
    }
    let exponent = (index / BUCKETS_PER_DOUBLING + 1).min(62);
    let (first, width) = (1 << exponent, 1 << (exponent - 2));
    first + width * (index % BUCKETS_PER_DOUBLING + 1) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_bucket_that_ends_with_it_or_at_most_a_quarter_later() {
        for ms in (0..10_000).chain([60_000, 3_600_000, u64::from(u32::MAX)]) {
            let end = last_ms(bucket(ms));
            assert!(end >= ms && end - ms <= ms / 4, "{ms} {end}");
            assert!(ms == 0 || bucket(ms) >= bucket(ms - 1), "{ms}");
        }
    }

    #[test]
    fn percentiles_are_those_of_all_that_was_added() {
        let (mut one, mut other) = (LatencyHistogram::default(), LatencyHistogram::default());
        assert_eq!(one.percentile(0.5), None);
        (0..90).for_each(|_| one.record(3));
        (0..10).for_each(|_| other.record(1_000));
        one.add(&other);
        assert_eq!((one.percentile(0.5), one.percentile(0.9)), (Some(3), Some(3)));
        let slow = one.percentile(0.99).unwrap_or_default();
        assert!((1_000..=1_250).contains(&slow), "{slow}");
    }
}
