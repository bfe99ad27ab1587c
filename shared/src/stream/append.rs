//! Appending to the stream of a task, as a worker does while a call runs.

use std::time::Duration;

use crate::consumer::Consumer;
use crate::protocol::id::Token;
use crate::script::millis;
use crate::script::stream::AppendToStream;
use crate::{Error, Queue, TaskId};

pub use crate::script::stream::{Appended, StreamPart};

/// Where the next part of an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamCursor {
    epoch: Option<u64>,
    number: u64,
}

impl StreamCursor {
    /// Where a delivery begins. Its first part is a [`StreamPart::Head`].
    pub const BEGIN: Self = Self { epoch: None, number: 1 };

    /// Behind these parts, which were appended here.
    #[must_use]
    pub fn after(self, epoch: u64, parts: usize) -> Self {
        Self { epoch: Some(epoch), number: self.number + parts as u64 }
    }
}

/// What an earlier delivery of a task left in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamRemains {
    /// Nothing, or nothing that counts: readers know already that they have to forget it.
    Nothing,
    /// A part of an answer.
    Part,
}

/// A part of an answer on its way to a stream.
#[derive(Debug, Clone, Copy)]
pub struct StreamAppend<'a> {
    /// The fence: the token of the delivery, or the serial of a parked task.
    pub token: &'a Token,
    /// The task's id.
    pub id: &'a TaskId,
    /// How long the stream is kept after this.
    pub ttl: Duration,
    /// Where the parts go.
    pub at: StreamCursor,
    /// The parts. Sent again, they are the same.
    pub parts: &'a [StreamPart<'a>],
}

impl Consumer {
    /// Appends a part of the answer of a task that this worker holds.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command. It may have been appended: send it again, with the same parts.
    pub async fn append_to_stream(&self, append: &StreamAppend<'_>) -> Result<Appended, Error> {
        self.queue().append(self.active_key(), append).await
    }
}

impl Queue {
    /// The same for a task that is scheduled or parked.
    ///
    /// # Errors
    /// As [`Consumer::append_to_stream`].
    pub async fn append_to_stored_stream(&self, append: &StreamAppend<'_>) -> Result<Appended, Error> {
        self.append(&self.keys.stored, append).await
    }

    async fn append(&self, held: &str, append: &StreamAppend<'_>) -> Result<Appended, Error> {
        let StreamAppend { token, id, ttl, at, parts } = *append;
        let call = AppendToStream {
            held,
            stream: &self.keys.stream(id),
            token: token.as_str(),
            ttl_ms: millis(ttl).max(1),
            epoch: at.epoch,
            number: at.number,
            parts,
        };
        self.db.call(&call).await
    }

    /// What an earlier delivery of a task left in its stream.
    ///
    /// # Errors
    /// Redis is unreachable or refuses the command.
    pub async fn stream_remains(&self, id: &TaskId) -> Result<StreamRemains, Error> {
        for part in self.parts_from_home(id).await? {
            if part.stream_remains_here(id).await? == StreamRemains::Part {
                return Ok(StreamRemains::Part);
            }
        }
        Ok(StreamRemains::Nothing)
    }

    async fn stream_remains_here(&self, id: &TaskId) -> Result<StreamRemains, Error> {
        type Found = Vec<(String, Vec<Vec<u8>>)>;
        let mut last = redis::cmd("XREVRANGE");
        last.arg(self.keys.stream(id)).arg("+").arg("-").arg("COUNT").arg(1);
        let last: Found = self.db.run(async |connection| last.query_async(connection).await).await?;
        let kind = last.first().and_then(|(_, fields)| fields.get(1)).map(Vec::as_slice);
        Ok(match kind {
            Some(b"head" | b"data") => StreamRemains::Part,
            _ => StreamRemains::Nothing,
        })
    }
}
