//! Translates the errors of the HTTP client into the reasons that Redial tells apart.

use std::error::Error;
use std::io;

use super::connection::descriptors::is_shortage;
use super::connection::guard::Forbidden;
use super::connection::names::LookupError;
use super::types::Failure;

impl Failure {
    /// Finds the cause in the chain of reqwest's errors. Never quotes the URL, which may hold secrets.
    pub(super) fn from_reqwest(error: &reqwest::Error) -> Self {
        let causes = || std::iter::successors(error.source(), |cause: &&(dyn Error + 'static)| (*cause).source());
        let root = || causes().last().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        if let Some(forbidden) = causes().find_map(|cause| cause.downcast_ref::<Forbidden>()) {
            return Self::ForbiddenTarget(forbidden.to_string());
        }
        if let Some(shortage) = causes().find_map(local_shortage) {
            return Self::LocalShortage(shortage);
        }
        if let Some(h2) = causes().find_map(|cause| cause.downcast_ref::<h2::Error>()).filter(|h2| h2.is_remote()) {
            // On a stream, GOAWAY is only reported if the stream's number is above the last one that the server has processed.
            if h2.is_go_away() || h2.reason() == Some(h2::Reason::REFUSED_STREAM) {
                return Self::NotProcessed(h2.to_string());
            }
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

/// What this machine lacks, if that is the cause.
fn local_shortage(cause: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error @ (LookupError::TooMany(_) | LookupError::Shortage(_))) = cause.downcast_ref() {
        return Some(error.to_string());
    }
    let error = cause.downcast_ref::<io::Error>()?;
    is_shortage(error).then(|| error.to_string())
}

/// Whether a rustls error is nested in I/O errors, which `source()` does not reveal.
fn io_holds_tls(cause: &(dyn Error + 'static)) -> bool {
    let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner.is_some_and(|inner| inner.is::<rustls::Error>() || io_holds_tls(inner))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_shortage_of_this_machine_is_told_from_a_failure_of_the_upstream() {
        for errno in [libc::EMFILE, libc::ENFILE, libc::EADDRNOTAVAIL, libc::ENOMEM, libc::ENOBUFS] {
            assert!(local_shortage(&io::Error::from_raw_os_error(errno)).is_some(), "{errno}");
        }
        for errno in [libc::ECONNREFUSED, libc::ETIMEDOUT, libc::ECONNRESET, libc::EHOSTUNREACH, libc::ENETUNREACH] {
            assert!(local_shortage(&io::Error::from_raw_os_error(errno)).is_none(), "{errno}");
        }
        assert!(local_shortage(&io::Error::other("another")).is_none());
        assert!(local_shortage(&LookupError::TooMany(256)).is_some());
        assert!(local_shortage(&LookupError::Shortage(Arc::new(io::Error::from_raw_os_error(libc::EMFILE)))).is_some());
        assert!(local_shortage(&LookupError::Failed("no such name".into())).is_none());
    }

    #[test]
    fn a_tls_error_is_found_however_deeply_it_is_nested() {
        let tls = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::DecryptError);
        let deeper = io::Error::other(tls);
        assert!(io_holds_tls(&deeper));
        assert!(!io_holds_tls(&io::Error::other("another")));
        assert!(!io_holds_tls(&io::Error::from(io::ErrorKind::ConnectionRefused)));
    }
}
