//! Stalls of the machine itself: a virtual machine on a busy host may run nothing for half a second. A test that measures time
//! subtracts these stalls, or it would blame the worker for them.

use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

/// How often the clock is read.
const TICK: Duration = Duration::from_millis(5);
/// A longer tick counts as a stall.
const STALL_MS: u64 = 25;

/// Start and end of each stall, in Unix ms.
static STALLS: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

/// Records stalls from now on, for as long as this process runs.
pub fn watch() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        std::thread::spawn(|| {
            let mut last = now_ms();
            loop {
                std::thread::sleep(TICK);
                let now = now_ms();
                if now.saturating_sub(last) > STALL_MS {
                    STALLS.lock().unwrap_or_else(PoisonError::into_inner).push((last, now));
                }
                last = now;
            }
        });
    });
}

/// How many ms of this interval the machine stood still, as far as one thread can tell.
pub fn between(from_ms: u64, to_ms: u64) -> u64 {
    let stalls = STALLS.lock().unwrap_or_else(PoisonError::into_inner);
    let overlap = |(from, to): &(u64, u64)| (*to).min(to_ms).saturating_sub((*from).max(from_ms));
    stalls.iter().map(overlap).sum()
}

/// Unix time in ms, by the clock that the upstream and the workers use too.
pub fn now_ms() -> u64 {
    redial_core::UnixMs::local_now().0
}
