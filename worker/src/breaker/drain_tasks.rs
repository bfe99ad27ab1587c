//! Which wait lists this worker drains.

use std::collections::HashSet;

use parking_lot::Mutex;
use redial_core::QueueName;

/// The wait lists that this worker drains, by queue and upstream.
#[derive(Debug, Default)]
pub struct DrainTasks(Mutex<HashSet<(QueueName, String)>>);

impl DrainTasks {
    /// Adds a wait list. `false`: it is being drained already.
    pub fn start(&self, list: &(QueueName, String)) -> bool {
        self.0.lock().insert(list.clone())
    }

    /// Removes a wait list that is no longer drained.
    pub fn end(&self, list: &(QueueName, String)) {
        self.0.lock().remove(list);
    }
}
