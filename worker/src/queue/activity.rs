//! Whether anything goes on in a queue. A queue that is idle costs a worker next to nothing: it blocks on the list for pushes and asks
//! about all its idle queues at once, while heartbeats, claims and schedules rest.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, watch};

/// The state of one queue, as the parts of a worker tell each other.
#[derive(Debug)]
pub struct QueueActivity {
    state: watch::Sender<ActivityState>,
    /// A paused queue is not idle: somebody has to see that it is resumed.
    is_paused: AtomicBool,
    /// Redis did not answer for a while: the connection that waits for pushes may be dead without anyone's knowledge.
    suspicion: Notify,
}

/// What goes on in a queue.
#[derive(Debug, Clone, Copy)]
struct ActivityState {
    is_idle: bool,
    /// How often something went on: a queue is idle only if nothing went on since it was looked at.
    events: u64,
}

impl QueueActivity {
    /// The activity of a queue that has not been looked at yet, and so may hold anything.
    pub fn new() -> Self {
        Self {
            state: watch::Sender::new(ActivityState { is_idle: false, events: 0 }),
            is_paused: AtomicBool::new(false),
            suspicion: Notify::new(),
        }
    }

    /// Something goes on, or may: the queue is not idle.
    pub fn note(&self) {
        self.state.send_if_modified(|state| {
            state.events += 1;
            std::mem::replace(&mut state.is_idle, false)
        });
    }

    /// How often something went on so far: to be read before one looks at the queue.
    pub fn events(&self) -> u64 {
        self.state.borrow().events
    }

    /// The queue was found to hold nothing: it is idle, unless there were more events meanwhile.
    pub fn rest_since(&self, events: u64) {
        self.state.send_if_modified(|state| {
            let is_new = !state.is_idle && state.events == events && !self.is_paused();
            state.is_idle |= is_new;
            is_new
        });
    }

    /// Whether the queue is idle.
    pub fn is_idle(&self) -> bool {
        self.state.borrow().is_idle
    }

    /// Waits until the queue is not idle.
    pub async fn active(&self) {
        // The sender is this.
        let _ = self.state.subscribe().wait_for(|state| !state.is_idle).await;
    }

    /// Whether the queue was paused at the last claim.
    pub fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    /// Takes over whether a claim found the queue paused. Returns whether that is new.
    pub fn set_paused(&self, paused: bool) -> bool {
        let is_new = self.is_paused.swap(paused, Ordering::Relaxed) != paused;
        if is_new {
            self.note();
        }
        is_new
    }

    /// Redis did not answer for a while, and does again: the connection that waits for pushes has to be replaced.
    pub fn suspect_listener(&self) {
        self.suspicion.notify_one();
    }

    /// Waits until the connection that waits for pushes has to be replaced.
    pub async fn listener_suspected(&self) {
        self.suspicion.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_idle_only_if_nothing_went_on_since_it_was_looked_at() {
        let activity = QueueActivity::new();
        let before = activity.events();
        activity.note();
        activity.rest_since(before);
        assert!(!activity.is_idle(), "something went on meanwhile");
        activity.rest_since(activity.events());
        assert!(activity.is_idle());
        activity.note();
        assert!(!activity.is_idle());
        assert!(activity.set_paused(true) && !activity.set_paused(true));
        activity.rest_since(activity.events());
        assert!(!activity.is_idle(), "somebody has to see that it is resumed");
    }
}
