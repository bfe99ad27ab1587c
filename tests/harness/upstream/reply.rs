//! What the upstream does with a call: answer it, or misbehave in one of many ways.

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
    pub(super) idle: Option<Duration>,
    pub(super) mode: SendMode,
    /// The body in pieces, each with the pause before it.
    pub(super) pieces: Vec<(Duration, Bytes)>,
}

/// How much of the response is sent, and what happens to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendMode {
    /// All of it; the connection stays open.
    Complete,
    /// A `Content-Length` larger than the body; then the connection is closed.
    Truncated,
    /// A chunked body without its final chunk; then the connection is closed.
    ChunksCutOff,
    /// A chunked body, piece by piece.
    Streamed,
    /// The same without its final chunk; then the connection is closed.
    StreamCutOff,
    /// The same; then the connection stays open until the client closes it.
    StreamStalled,
    /// The body alone, as the whole response; then the connection is closed.
    Raw,
    /// Bytes that are not HTTP; then the connection is closed.
    Garbage,
    /// Only a RST.
    Reset,
    /// Only a FIN.
    Close,
    /// Nothing; the connection stays open until the client closes it.
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
            idle: None,
            mode: SendMode::Complete,
            pieces: Vec::new(),
        }
    }

    /// Resets the connection (RST) without a response.
    pub fn reset() -> Self {
        Self::ok().with_mode(SendMode::Reset)
    }

    /// Closes the connection (FIN) without a response.
    pub fn close() -> Self {
        Self::ok().with_mode(SendMode::Close)
    }

    /// Sends nothing and keeps the connection open until the client closes it.
    pub fn hang() -> Self {
        Self::ok().with_mode(SendMode::Hang)
    }

    /// These bytes as the whole response, its status line and headers included; then closes the connection.
    pub fn raw(response: impl Into<Bytes>) -> Self {
        Self::ok().body(response).with_mode(SendMode::Raw)
    }

    /// A response that is not HTTP.
    pub fn garbage() -> Self {
        Self::ok().with_mode(SendMode::Garbage)
    }

    /// 200 with a `Content-Length` larger than this body; then closes the connection.
    pub fn truncated(body: impl Into<Bytes>) -> Self {
        Self::ok().body(body).with_mode(SendMode::Truncated)
    }

    /// 200 with this body as one chunk; closes the connection where the next chunk should begin.
    pub fn chunks_cut_off(body: impl Into<Bytes>) -> Self {
        Self::ok().body(body).with_mode(SendMode::ChunksCutOff)
    }

    /// 200 with a chunked body, piece by piece, each after a pause. The upstream notices if the client disconnects meanwhile.
    pub fn streamed<B: Into<Bytes>>(pieces: impl IntoIterator<Item = (Duration, B)>) -> Self {
        let pieces = pieces.into_iter().map(|(pause, piece)| (pause, piece.into())).collect();
        Self { pieces, ..Self::ok().with_mode(SendMode::Streamed) }
    }

    /// Closes the connection behind the last piece, without the end of the body.
    #[must_use]
    pub fn cut_off(self) -> Self {
        self.with_mode(SendMode::StreamCutOff)
    }

    /// Sends nothing behind the last piece, and keeps the connection open.
    #[must_use]
    pub fn stalled(self) -> Self {
        self.with_mode(SendMode::StreamStalled)
    }

    /// Adds a header. `Content-Length` and other framing headers are added automatically.
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

    /// Sets a JSON body and its `Content-Type`.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Delays the whole reply. The upstream notices if the client disconnects meanwhile.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sends the head at once and delays the body.
    #[must_use]
    pub fn body_after(mut self, delay: Duration) -> Self {
        self.body_delay = delay;
        self
    }

    /// Closes the connection, which the reply does not announce, if the next call has not begun this long after it.
    #[must_use]
    pub fn then_close_after(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    fn with_mode(mut self, mode: SendMode) -> Self {
        self.mode = mode;
        self
    }
}
