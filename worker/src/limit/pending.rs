//! Requests that wait to be sent: those that meet on the way share one command.

use std::collections::HashMap;

use parking_lot::Mutex;
use redial_core::consumer::MAX_BATCH;

/// Requests that wait to be sent, by what they are about. A key exists as long as a task sends its requests.
#[derive(Debug)]
pub(super) struct PendingRequests<T>(Mutex<HashMap<String, Vec<T>>>);

impl<T> Default for PendingRequests<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> PendingRequests<T> {
    /// Adds a request. `true`: nobody sends those of this key yet, so the caller has to.
    #[must_use]
    pub fn push(&self, key: &str, request: T) -> bool {
        let mut pending = self.0.lock();
        let is_first = !pending.contains_key(key);
        pending.entry(key.to_owned()).or_default().push(request);
        is_first
    }

    /// The next requests of a key, as many as one command takes. `None`: there are none, and whoever pushes the next one has to send it.
    pub fn next_batch(&self, key: &str) -> Option<Vec<T>> {
        let mut pending = self.0.lock();
        let size = pending.get(key).map_or(0, Vec::len).min(MAX_BATCH);
        if size == 0 {
            pending.remove(key);
            return None;
        }
        pending.get_mut(key).map(|all| all.drain(..size).collect())
    }
}
