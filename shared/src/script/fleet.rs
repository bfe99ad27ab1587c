//! What a fleet shows of itself.

use super::typed_calls;

typed_calls! {
    /// Announces a worker. Returns whether it was not listed.
    Announce = "fleet/announce" + ["clock"] -> bool {
        keys: announced;
        args: entry: &'a str, lease_ms: u64, keep_ms: u64;
    }

    /// Spreads a queue over at least this many partitions. Returns how many it has then.
    GrowPartitions = "fleet/grow_partitions" + [] -> u32 {
        keys: partitions;
        args: queue: &'a str, count: u32;
    }
}
