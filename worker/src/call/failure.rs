//! Why there is no whole answer.

use std::error::Error;
use std::io;

use crate::guard::Forbidden;

/// Why there is no whole answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// Nothing listens there.
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
    /// No whole answer within the timeout.
    #[error("no answer within timeout_ms")]
    Timeout,
    /// The connection broke after the request was sent.
    #[error("connection reset")]
    Reset,
    /// The connection was closed before the answer.
    #[error("connection closed before the answer")]
    Closed,
    /// The answer broke off.
    #[error("the answer broke off: {0}")]
    Truncated(String),
    /// What came was not HTTP.
    #[error("the answer is not HTTP: {0}")]
    NotHttp(String),
    /// The answer has more bytes than allowed.
    #[error("the answer has more than {0} bytes; max_answer_bytes sets the bound")]
    AnswerTooLarge(usize),
    /// The target may not be called.
    #[error("{0}")]
    ForbiddenTarget(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// Whether it is certain that the request was not sent.
    pub fn before_sending(&self) -> bool {
        match self {
            Self::Refused
            | Self::Dns(_)
            | Self::ConnectTimeout
            | Self::Tls(_)
            | Self::Connect(_)
            | Self::ForbiddenTarget(_) => true,
            Self::Timeout
            | Self::Reset
            | Self::Closed
            | Self::Truncated(_)
            | Self::NotHttp(_)
            | Self::AnswerTooLarge(_)
            | Self::Other(_) => false,
        }
    }

    /// A short name, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Dns(_) => "dns",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls(_) => "tls",
            Self::Connect(_) => "connect",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::Truncated(_) => "truncated",
            Self::NotHttp(_) => "not_http",
            Self::AnswerTooLarge(_) => "answer_too_large",
            Self::ForbiddenTarget(_) => "forbidden_target",
            Self::Other(_) => "other",
        }
    }

    /// Makes out what went wrong from reqwest's error and the errors under it. Never quotes the URL: it may hold secrets.
    pub(super) fn from_reqwest(error: &reqwest::Error) -> Self {
        let causes = || std::iter::successors(error.source(), |cause: &&(dyn Error + 'static)| (*cause).source());
        let root = || causes().last().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        if let Some(forbidden) = causes().find_map(|cause| cause.downcast_ref::<Forbidden>()) {
            return Self::ForbiddenTarget(forbidden.to_string());
        }
        let io = causes().filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind).last();
        if error.is_connect() {
            return match io {
                Some(io::ErrorKind::ConnectionRefused) => Self::Refused,
                Some(io::ErrorKind::TimedOut) => Self::ConnectTimeout,
                _ if error.is_timeout() => Self::ConnectTimeout,
                _ if causes().any(|cause| cause.is::<rustls::Error>() || io_holds_tls(cause)) => Self::Tls(root()),
                _ if causes().any(|cause| cause.to_string().contains("dns error")) => Self::Dns(root()),
                _ => Self::Connect(root()),
            };
        }
        if matches!(
            io,
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted)
        ) {
            return Self::Reset;
        }
        match causes().find_map(|cause| cause.downcast_ref::<hyper::Error>()) {
            Some(hyper) if hyper.is_parse() => Self::NotHttp(root()),
            Some(hyper) if hyper.is_incomplete_message() && !error.is_body() && !error.is_decode() => Self::Closed,
            _ if error.is_timeout() => Self::Timeout,
            _ if error.is_body() || error.is_decode() => Self::Truncated(root()),
            _ => Self::Other(root()),
        }
    }
}

/// rustls's error may sit inside I/O errors, one in the other, where `source()` does not lead.
fn io_holds_tls(cause: &(dyn Error + 'static)) -> bool {
    let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner.is_some_and(|inner| inner.is::<rustls::Error>() || io_holds_tls(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_tls_is_found_however_deep_it_sits() {
        let tls = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::DecryptError);
        let deeper = io::Error::other(tls);
        assert!(io_holds_tls(&deeper));
        assert!(!io_holds_tls(&io::Error::other("another")));
        assert!(!io_holds_tls(&io::Error::from(io::ErrorKind::ConnectionRefused)));
    }
}
