//! How every comparison is measured: in alternating rounds, of which the median counts.

/// Tasks or calls in flight at a time, in the worker and in the bare loop alike.
pub const CONCURRENCY: usize = 256;
/// Rounds of each variant of a comparison.
pub const ROUNDS: usize = 3;

/// The middle value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
