//! Requests that wait to be sent: those that meet on the way share one command.

use std::collections::HashMap;

use parking_lot::Mutex;
use redial_core::consumer::MAX_BATCH;

/// Requests that wait to be sent, by what they are about. A key exists as long as a task sends its requests.
#[derive(Debug)]
pub struct PendingRequests<T>(Mutex<HashMap<String, Vec<T>>>);

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
        if let Some(all) = pending.get_mut(key) {
            all.push(request);
            return false;
        }
        pending.insert(key.to_owned(), vec![request]);
        true
    }

    /// The next requests of a key, as many as one command takes. `None`: there are none, and whoever pushes the next one has to send it.
    pub fn next_batch(&self, key: &str) -> Option<Vec<T>> {
        self.next_batch_within(key, usize::MAX, |_| 0)
    }

    /// The same, with as many bytes as one command takes: at least one request.
    pub fn next_batch_within(&self, key: &str, max_bytes: usize, bytes: impl Fn(&T) -> usize) -> Option<Vec<T>> {
        let mut pending = self.0.lock();
        let all = pending.get_mut(key).filter(|all| !all.is_empty());
        let Some(all) = all else {
            pending.remove(key);
            return None;
        };
        let mut total = 0;
        let fitting = all.iter().take(MAX_BATCH).take_while(|request| {
            total += bytes(request);
            total <= max_bytes
        });
        let size = fitting.count().max(1);
        Some(all.drain(..size).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_as_many_requests_and_bytes_as_one_command_takes() {
        let pending = PendingRequests::default();
        let next = |max_bytes| pending.next_batch_within("k", max_bytes, |size: &usize| *size);
        assert!(pending.push("k", 7), "the first has to send");
        assert!([3, 3, 3, 20, 1].into_iter().all(|size| !pending.push("k", size)));
        assert_eq!(next(6), Some(vec![7]), "one that is larger goes alone");
        assert_eq!(next(6), Some(vec![3, 3]));
        assert_eq!(next(23), Some(vec![3, 20]));
        assert_eq!(next(6), Some(vec![1]));
        assert_eq!(next(6), None);
        assert!(pending.push("k", 1), "the next has to send");
        assert!((1..=MAX_BATCH).all(|_| !pending.push("k", 1)));
        assert_eq!(pending.next_batch("k").map(|batch| batch.len()), Some(MAX_BATCH));
    }
}
