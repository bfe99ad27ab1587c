//! The file descriptors of this process: calls leave some for Redis and for the endpoints.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// How many descriptors calls leave for everything else: the connections to Redis, the endpoints, files, name lookups.
const RESERVE: usize = 64;
/// The largest share of the descriptors that is left for everything else, if there are few.
const MAX_RESERVED_SHARE: usize = 3;

/// Raises this process's soft limit of descriptors to its hard limit. Returns the limit that is in force; `None` if it is not known.
pub fn raise_limit() -> Option<u64> {
    rlimit::increase_nofile_limit(u64::MAX).ok()
}

/// Whether an error means that this machine lacks descriptors, ports or memory.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOMEM | libc::ENOBUFS)
    )
}

/// Bounds how many descriptors calls use.
///
/// It knows how many were open when it last counted. From then on each call may have opened one. Only when that could be too many it
/// counts again, so that it costs nothing where there are plenty.
#[derive(Debug)]
pub struct Descriptors {
    /// How many may be open for a call to open another one.
    most: usize,
    /// How many calls may still start before it counts again.
    left: AtomicUsize,
    counting: Mutex<()>,
}

impl Descriptors {
    /// For a process that may have this many, of which `reserved` are for connections to Redis; `None` if there is no bound.
    pub fn new(limit: Option<u64>, reserved: usize) -> Self {
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let reserve = (RESERVE + reserved).min(limit / MAX_RESERVED_SHARE);
        Self { most: limit - reserve, left: AtomicUsize::new(0), counting: Mutex::default() }
    }

    /// How many calls can be in flight at a time, if all descriptors that are not reserved are free.
    pub fn for_calls(&self) -> usize {
        self.most
    }

    /// Whether another call may open a connection. `free_some` closes idle connections; it is called if there are too many descriptors
    /// open.
    pub fn may_open(&self, free_some: impl FnOnce()) -> bool {
        if self.take_one() {
            return true;
        }
        let _counting = self.counting.lock();
        // Another call may have counted meanwhile.
        self.take_one() || self.count() || {
            free_some();
            self.count()
        }
    }

    fn take_one(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// Counts what is open. Returns whether one more call may start.
    fn count(&self) -> bool {
        // Where they cannot be counted there is nothing to compare with the limit.
        let left = open_descriptors().map_or(usize::MAX, |open| self.most.saturating_sub(open));
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }
}

/// How many descriptors this process has open; `None` if the system does not tell.
fn open_descriptors() -> Option<usize> {
    match std::fs::read_dir("/dev/fd") {
        Ok(entries) => Some(entries.count()),
        // Not even one for counting is left.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => Some(usize::MAX),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn calls_leave_some_descriptors_and_close_idle_ones_first() -> Result<(), Box<dyn std::error::Error>> {
        let open = open_descriptors().ok_or("this system does not tell")?;
        // Other tests of this process may open a few meanwhile.
        let spare = 60;
        let limit = u64::try_from((open + spare) * 3 / 2)?;
        let descriptors = Descriptors::new(Some(limit), 0);
        assert!((1..usize::try_from(limit)?).contains(&descriptors.for_calls()));
        let mut files = Vec::new();
        for n in 0.. {
            assert!(n <= usize::try_from(limit)?, "more calls than descriptors");
            if !descriptors.may_open(|| ()) {
                break;
            }
            files.push(File::open("/dev/null")?);
        }
        assert!(!files.is_empty());
        assert!(open_descriptors().ok_or("this system does not tell")? <= usize::try_from(limit)?);
        assert!(descriptors.may_open(|| files.clear()), "idle ones were closed");
        Ok(())
    }

    #[test]
    fn without_a_limit_nothing_is_bounded() {
        let descriptors = Descriptors::new(None, 10);
        assert!((0..1_000).all(|_| descriptors.may_open(|| panic!("there are enough"))));
        let few = Descriptors::new(Some(30), 1_000);
        assert_eq!(few.for_calls(), 20, "at most a third is reserved");
    }
}
