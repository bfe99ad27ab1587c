//! The content codings of responses (RFC 9110 section 8.4.1), decoded while the response arrives and bounded after it.

mod stage;
#[cfg(test)]
mod tests;

use std::io;

use http::{HeaderMap, header};

use super::types::Failure;
use stage::{OverLimit, Stage};

/// What a request accepts that does not say itself. `br` is decoded too, but compresses slowly, so it is for tasks to ask for.
pub const ACCEPTED: &str = "gzip, zstd";
/// What a request accepts whose response is passed on as it arrives: a server that compresses holds bytes back.
pub const IDENTITY: &str = "identity";
/// The most codings of one response, one inside another.
const MAX_CODINGS: usize = 3;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// A body as it arrives.
pub struct BodyDecoder {
    /// Undoes the coding that was applied last.
    outer: Stage,
    /// The codings inside of it, in the order in which they were applied.
    inner: Vec<Coding>,
    is_coded: bool,
    limit: usize,
}

impl BodyDecoder {
    /// The decoder for a response with these headers, of at most `limit` bytes. A coding that it knows is taken off the headers, and so is
    /// the length, which is that of the coded body.
    pub fn of(headers: &mut HeaderMap, limit: usize) -> Self {
        let mut codings = codings(headers);
        if !codings.is_empty() {
            headers.remove(header::CONTENT_ENCODING);
            headers.remove(header::CONTENT_LENGTH);
        }
        let outer = codings.pop();
        Self { outer: Stage::new(outer, limit), inner: codings, is_coded: outer.is_some(), limit }
    }

    /// Takes the next bytes of the response.
    ///
    /// # Errors
    /// They cannot be decoded, or are too many.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.outer.push(bytes).map_err(|error| failure(&error))
    }

    /// How many bytes there are once this many more have arrived. `None`: it has to be decoded, so that it may grow by much more.
    pub fn bytes_after(&self, more: usize) -> Option<usize> {
        (!self.is_coded).then(|| self.outer.len() + more)
    }

    /// Makes room for a body of this length, which nothing promises.
    pub fn expect(&mut self, length: Option<u64>) {
        let length = length.and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
        self.outer.reserve(length.min(self.limit));
    }

    /// How much memory the body occupies.
    pub fn capacity(&self) -> usize {
        self.outer.capacity()
    }

    /// What is decoded so far, without the first `from` bytes. If there are several codings, one inside another, nothing is before the
    /// end.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn decoded(&mut self, from: usize) -> Result<&[u8], Failure> {
        if !self.inner.is_empty() {
            return Ok(&[]);
        }
        let decoded = self.outer.decoded().map_err(|error| failure(&error))?;
        Ok(decoded.get(from..).unwrap_or_default())
    }

    /// The whole body.
    ///
    /// # Errors
    /// It is incomplete, cannot be decoded, or is too large.
    pub fn finish(self) -> Result<Vec<u8>, Failure> {
        let mut body = self.outer.finish().map_err(|error| failure(&error))?;
        for coding in self.inner.into_iter().rev() {
            let mut stage = Stage::new(Some(coding), self.limit);
            let decoded = stage.push(&body).and_then(|()| stage.finish());
            body = decoded.map_err(|error| failure(&error))?;
        }
        Ok(body)
    }
}

/// The codings of a response in the order in which they were applied; none if there is one that nobody registered, or too many.
fn codings(headers: &HeaderMap) -> Vec<Coding> {
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let mut codings = Vec::new();
    for name in names {
        codings.push(match name.to_ascii_lowercase().as_slice() {
            b"" | b"identity" => continue,
            b"gzip" | b"x-gzip" => Coding::Gzip,
            b"deflate" => Coding::Deflate,
            b"br" => Coding::Brotli,
            b"zstd" => Coding::Zstd,
            _ => return Vec::new(),
        });
    }
    if codings.len() > MAX_CODINGS { Vec::new() } else { codings }
}

fn failure(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<OverLimit>()) {
        Some(OverLimit(limit)) => Failure::ResponseTooLarge(*limit),
        None => Failure::NotDecodable(error.to_string()),
    }
}
