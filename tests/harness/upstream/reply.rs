//! What the upstream does with a call: answer it, or break off in one of many ways.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

type Text = Cow<'static, str>;

/// An answer, or a misbehaviour.
///
/// ```
/// # use std::time::Duration;
/// # use redial_tests::Reply;
/// Reply::status(429).header("retry-after", "1").after(Duration::from_millis(20));
/// ```
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(Text, Text)>,
    pub(super) body: Bytes,
    pub(super) delay: Duration,
    pub(super) body_delay: Duration,
    pub(super) mode: SendMode,
}

/// How much of the answer is sent, and what becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendMode {
    /// All of it, and the connection is kept.
    Complete,
    /// A `Content-Length` that is larger than the body, then a close.
    Truncated,
    /// A chunked body without its last chunk, then a close.
    ChunksCutOff,
    /// Bytes that are not HTTP, then a close.
    Garbage,
    /// Nothing but a RST.
    Reset,
    /// Nothing but a FIN.
    Close,
    /// Nothing, for as long as the client waits.
    Hang,
}

impl Reply {
    /// 200 without a body.
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// A status without a body.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            delay: Duration::ZERO,
            body_delay: Duration::ZERO,
            mode: SendMode::Complete,
        }
    }

    /// The connection is reset (RST) before any answer.
    pub fn reset() -> Self {
        Self::ok().with_mode(SendMode::Reset)
    }

    /// The connection is closed (FIN) before any answer.
    pub fn close() -> Self {
        Self::ok().with_mode(SendMode::Close)
    }

    /// No answer, and the connection stays open until the client closes it.
    pub fn hang() -> Self {
        Self::ok().with_mode(SendMode::Hang)
    }

    /// An answer that is not HTTP.
    pub fn garbage() -> Self {
        Self::ok().with_mode(SendMode::Garbage)
    }

    /// 200 with a `Content-Length` larger than this body, then a close.
    pub fn truncated(body: impl Into<Bytes>) -> Self {
        Self::ok().body(body).with_mode(SendMode::Truncated)
    }

    /// 200 with this body as a chunk, and a close where the next chunk should begin.
    pub fn chunks_cut_off(body: impl Into<Bytes>) -> Self {
        Self::ok().body(body).with_mode(SendMode::ChunksCutOff)
    }

    /// Adds a header. `Content-Length` and the like are added by themselves.
    #[must_use]
    pub fn header(mut self, name: impl Into<Text>, value: impl Into<Text>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body, and a `Content-Type` of JSON.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Does so only after a while. A client that leaves meanwhile is noticed.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sends the head at once, and the body only after a while.
    #[must_use]
    pub fn body_after(mut self, delay: Duration) -> Self {
        self.body_delay = delay;
        self
    }

    fn with_mode(mut self, mode: SendMode) -> Self {
        self.mode = mode;
        self
    }
}
