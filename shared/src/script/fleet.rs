//! What a fleet shows of itself.

use super::typed_calls;

typed_calls! {
    /// Announces a worker. Returns how many others were dropped from the list.
    Announce = "fleet/announce" + ["clock"] -> u64 {
        keys: announced;
        args: entry: &'a str, lease_ms: u64, keep_ms: u64;
    }
}
