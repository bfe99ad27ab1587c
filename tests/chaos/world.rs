//! What the load, the faults and the checker share.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use redial_tests::TestQueue;

use crate::timeline::Timeline;
use crate::topology::Topology;
use crate::upstream::Upstreams;

/// The servers, and what was done to them.
pub(crate) struct World {
    pub(crate) topology: Topology,
    pub(crate) upstreams: Upstreams,
    pub(crate) timeline: Timeline,
    queues: Mutex<HashMap<(String, &'static str), Arc<TestQueue>>>,
}

impl World {
    pub(crate) fn new(topology: Topology, upstreams: Upstreams) -> Self {
        Self { topology, upstreams, timeline: Timeline::default(), queues: Mutex::default() }
    }

    /// A queue on the server that takes writes now, with a connection of its own that is kept.
    pub(crate) fn queue(&self, name: &'static str) -> Arc<TestQueue> {
        let url = self.topology.primary_url();
        let mut queues = self.queues.lock();
        queues.entry((url.to_owned(), name)).or_insert_with(|| Arc::new(TestQueue::new(url, name))).clone()
    }
}
