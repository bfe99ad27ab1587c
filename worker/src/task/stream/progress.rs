//! What is in the stream of a task of one delivery.

use redial_core::stream::append::StreamCursor;

/// What a delivery has appended to the stream of its task.
#[derive(Debug)]
pub struct StreamProgress {
    /// Where the next part goes.
    pub cursor: StreamCursor,
    /// Bytes of the body that are certainly in it.
    pub bytes: usize,
    /// Further bytes of which it is not known: Redis did not answer. They have to be sent again as they were.
    pub unsure: usize,
    /// Something may be in it.
    pub has_begun: bool,
    /// Why it lacks a part of the answer.
    pub error: Option<String>,
}

impl Default for StreamProgress {
    fn default() -> Self {
        Self { cursor: StreamCursor::BEGIN, bytes: 0, unsure: 0, has_begun: false, error: None }
    }
}

impl StreamProgress {
    /// Nothing more can be appended.
    pub fn fail(&mut self, why: String) {
        self.error = Some(why);
        self.has_begun &= self.cursor != StreamCursor::BEGIN;
    }
}
