//! When the machine itself stood still: a virtual machine whose host is busy may run nothing for half a second. A test that
//! tells soon from late takes that off, or it would blame the worker.

use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

/// How often to look at the clock.
const TICK: Duration = Duration::from_millis(5);
/// A tick that took longer was no tick.
const STALL_MS: u64 = 25;

/// From when to when, in Unix ms.
static SEEN: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

/// Takes note from now on, for as long as this process runs.
pub fn watch() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        std::thread::spawn(|| {
            let mut last = now_ms();
            loop {
                std::thread::sleep(TICK);
                let now = now_ms();
                if now.saturating_sub(last) > STALL_MS {
                    SEEN.lock().unwrap_or_else(PoisonError::into_inner).push((last, now));
                }
                last = now;
            }
        });
    });
}

/// For how many ms between these moments the machine stood still, as far as one thread can tell.
pub fn between(from_ms: u64, to_ms: u64) -> u64 {
    let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let overlap = |(from, to): &(u64, u64)| (*to).min(to_ms).saturating_sub((*from).max(from_ms));
    seen.iter().map(overlap).sum()
}

/// Unix time in ms, by the clock that upstream and workers have too.
pub fn now_ms() -> u64 {
    redial_core::UnixMs::local_now().0
}
