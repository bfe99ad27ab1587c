//! How an attempt ends: with a response, or with the reason why there is none.

use http::HeaderMap;

use super::own_secrets::OwnSecrets;

/// A complete response. Any status is one.
#[derive(Debug, Clone)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers as received.
    pub headers: HeaderMap,
    /// The body, decompressed.
    pub body: Vec<u8>,
    /// What came before it.
    pub redirection: Redirection,
}

impl Response {
    /// The same response without these secrets.
    #[must_use]
    pub fn without(mut self, secrets: &OwnSecrets) -> Self {
        if !secrets.is_empty() {
            secrets.clean_headers(&mut self.headers);
            self.body = secrets.clean_body(&mut self.headers, self.body);
        }
        self
    }
}

/// The redirects on the way to a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirection {
    /// How many were followed.
    pub followed: u32,
    /// Whether one of them was itself an answer to the call, such as a 303 after a POST.
    pub has_acted: bool,
    /// Whether one of them led to another origin, even if a later one led back.
    pub left_origin: bool,
    /// Why the last one was not followed.
    pub refused: Option<String>,
}

/// How an attempt ended.
pub type AttemptResult = Result<Response, Failure>;

/// Why an attempt brought no complete response.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// Nothing listens on the port.
    #[error("connection refused")]
    Refused,
    /// The name has no address.
    #[error("DNS: {0}")]
    Dns(String),
    /// No connection within the connect timeout.
    #[error("no connection within connect_timeout_ms")]
    ConnectTimeout,
    /// The TLS handshake failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// No connection for another reason.
    #[error("no connection: {0}")]
    Connect(String),
    /// No complete response within the timeout.
    #[error("no answer within timeout_ms")]
    Timeout,
    /// The same, but the call shared a connection with another one that had timed out before: that connection may be dead, and the
    /// upstream be well.
    #[error("no answer within timeout_ms, on a connection that may be dead")]
    ConnectionSilent,
    /// The connection broke after the request was sent.
    #[error("connection reset")]
    Reset,
    /// The connection was closed before the response.
    #[error("connection closed before the answer")]
    Closed,
    /// The response ended early.
    #[error("the answer broke off: {0}")]
    Truncated(String),
    /// The response was not HTTP.
    #[error("the answer is not HTTP: {0}")]
    NotHttp(String),
    /// The body of the response is not in the coding that its headers state.
    #[error("the answer cannot be decoded: {0}")]
    NotDecodable(String),
    /// The server certainly did not process the request, which was on an HTTP/2 connection: it refused the stream, or went away before it
    /// (RFC 9113 section 8.7).
    #[error("the server did not process the request: {0}")]
    NotProcessed(String),
    /// The call failed after a redirect.
    #[error("{failure}, after a redirect")]
    Redirected {
        /// How it failed.
        failure: Box<Failure>,
        /// Whether the redirect was itself an answer to the call, such as a 303 after a POST.
        has_acted: bool,
    },
    /// The response has more bytes than allowed.
    #[error("the answer has more than {0} bytes; max_answer_bytes sets the limit")]
    ResponseTooLarge(usize),
    /// The target must not be called.
    #[error("{0}")]
    ForbiddenTarget(String),
    /// This machine lacks descriptors, ports or memory for a connection. It says nothing about the upstream.
    #[error("this worker's machine is short of something: {0}")]
    LocalShortage(String),
    /// The answer could not be read, because others had all of the memory for answers for too long. It says nothing about the upstream.
    #[error(
        "the answer was not read in time: others had the worker's memory for answers, which max_answers_bytes sets"
    )]
    MemorySpent,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// Whether it is certain that the upstream did not act: the request was not sent, or not processed.
    pub fn is_without_effect(&self) -> bool {
        match self {
            Self::Redirected { failure, has_acted } => !has_acted && failure.is_without_effect(),
            Self::NotProcessed(_)
            | Self::Refused
            | Self::Dns(_)
            | Self::ConnectTimeout
            | Self::Tls(_)
            | Self::Connect(_)
            | Self::ForbiddenTarget(_)
            | Self::LocalShortage(_) => true,
            Self::Timeout
            | Self::ConnectionSilent
            | Self::Reset
            | Self::Closed
            | Self::Truncated(_)
            | Self::NotHttp(_)
            | Self::NotDecodable(_)
            | Self::ResponseTooLarge(_)
            | Self::MemorySpent
            | Self::Other(_) => false,
        }
    }

    /// Its value of the metric label `reason`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Dns(_) => "dns",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls(_) => "tls",
            Self::Connect(_) => "connect",
            Self::Timeout | Self::ConnectionSilent => "timeout",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::Truncated(_) => "truncated",
            Self::NotHttp(_) => "not_http",
            Self::NotDecodable(_) => "not_decodable",
            Self::NotProcessed(_) => "not_processed",
            Self::Redirected { failure, .. } => failure.label(),
            Self::ResponseTooLarge(_) => "answer_too_large",
            Self::ForbiddenTarget(_) => "forbidden_target",
            Self::LocalShortage(_) => "local_shortage",
            Self::MemorySpent => "memory_spent",
            Self::Other(_) => "other",
        }
    }
}

/// The size of the body of a response, if there was one.
pub fn bytes(result: &AttemptResult) -> usize {
    result.as_ref().map_or(0, |response| response.body.len())
}

/// The status of a response, if there was one.
pub fn status(result: &AttemptResult) -> Option<u16> {
    result.as_ref().ok().map(|response| response.status)
}

/// How an attempt ended, as a value of the metric label `reason`: `ok`, a status, or the kind of failure.
pub fn label(result: &AttemptResult) -> &'static str {
    match result {
        Err(failure) => failure.label(),
        Ok(response) => match response.status {
            200..300 => "ok",
            408 => "status_408",
            425 => "status_425",
            429 => "status_429",
            500 => "status_500",
            502 => "status_502",
            503 => "status_503",
            504 => "status_504",
            529 => "status_529",
            300..400 => "status_3xx",
            400..500 => "status_4xx",
            _ => "status_5xx",
        },
    }
}
