//! Undoes one coding of a body, piece by piece.

use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use flate2::write::{DeflateDecoder, GzDecoder, ZlibDecoder};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation as _};

use super::Coding;

/// How many bytes are decoded at a time.
const PIECE: usize = 16 << 10;
/// The largest window of zstd, as a power of two: 8 MiB, which RFC 9659 has every decoder support.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Undoes one coding.
pub(super) struct Stage {
    decoder: Decoder,
    progress: Progress,
}

/// How far a body is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nothing has arrived.
    Empty,
    /// More may come.
    Within,
    /// The end has been reached. Whatever follows is ignored, as browsers do.
    Done,
}

enum Decoder {
    None(Sink),
    Gzip(Box<GzDecoder<Sink>>),
    /// Of `deflate`, until its first two bytes tell which of its forms it has.
    Undecided(Vec<u8>, Sink),
    /// `deflate` as RFC 9110 defines it.
    Zlib(Box<ZlibDecoder<Sink>>),
    /// `deflate` as some servers send it, without the header of zlib. Browsers accept both.
    Raw(Box<DeflateDecoder<Sink>>),
    Brotli(Box<DecompressorWriter<Sink>>),
    Zstd {
        decoder: ZstdDecoder<'static>,
        within_frame: bool,
        sink: Sink,
    },
}

/// What is decoded so far.
#[derive(Debug, Default)]
struct Sink {
    bytes: Vec<u8>,
    limit: usize,
}

/// The body has more bytes than allowed.
#[derive(Debug, thiserror::Error)]
#[error("more than {0} bytes")]
pub(super) struct OverLimit(pub(super) usize);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(io::Error::other(OverLimit(self.limit)));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stage {
    pub(super) fn new(coding: Option<Coding>, limit: usize) -> Self {
        let sink = Sink { bytes: Vec::new(), limit };
        let decoder = match coding {
            None => Decoder::None(sink),
            Some(Coding::Gzip) => Decoder::Gzip(Box::new(GzDecoder::new(sink))),
            Some(Coding::Deflate) => Decoder::Undecided(Vec::new(), sink),
            Some(Coding::Brotli) => Decoder::Brotli(Box::new(DecompressorWriter::new(sink, PIECE))),
            Some(Coding::Zstd) => match zstd_decoder() {
                Ok(decoder) => Decoder::Zstd { decoder, within_frame: false, sink },
                // Only for want of memory; then the body stays as it is.
                Err(_) => Decoder::None(sink),
            },
        };
        Self { decoder, progress: Progress::Empty }
    }

    pub(super) fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() && self.progress != Progress::Done {
            match self.decoder.write(bytes)? {
                0 if self.decoder.begin_member(bytes)? => {}
                0 => self.progress = Progress::Done,
                taken => {
                    self.progress = Progress::Within;
                    bytes = bytes.get(taken..).unwrap_or_default();
                }
            }
        }
        Ok(())
    }

    /// What is decoded so far.
    pub(super) fn decoded(&mut self) -> io::Result<&[u8]> {
        if self.progress == Progress::Within {
            self.decoder.flush()?;
        }
        Ok(&self.decoder.sink().bytes)
    }

    pub(super) fn len(&self) -> usize {
        self.decoder.sink().bytes.len()
    }

    /// Makes room for a body that is not coded and has this length.
    pub(super) fn reserve(&mut self, length: usize) {
        if let Decoder::None(sink) = &mut self.decoder {
            sink.bytes.reserve_exact(length.saturating_sub(sink.bytes.len()));
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.decoder.sink().bytes.capacity()
    }

    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        if self.progress == Progress::Within {
            self.decoder.close()?;
        }
        self.decoder.into_bytes()
    }
}

impl Decoder {
    /// Decodes some of these bytes, and returns how many; 0 if the end comes before them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(sink) => sink.write(bytes),
            Self::Gzip(decoder) => decoder.write(bytes),
            Self::Zlib(decoder) => decoder.write(bytes),
            Self::Raw(decoder) => decoder.write(bytes),
            Self::Brotli(decoder) => decoder.write(bytes),
            Self::Zstd { decoder, within_frame, sink } => {
                if !*within_frame && !begins_zstd_frame(bytes) {
                    return Ok(0);
                }
                *within_frame = true;
                let mut piece = [0; PIECE];
                let mut taken = 0;
                loop {
                    let step = decoder.run_on_buffers(bytes.get(taken..).unwrap_or_default(), &mut piece)?;
                    taken += step.bytes_read;
                    sink.write_all(piece.get(..step.bytes_written).unwrap_or_default())?;
                    if step.remaining == 0 {
                        *within_frame = false;
                        return Ok(taken);
                    }
                    if step.bytes_written < PIECE {
                        return Ok(taken);
                    }
                }
            }
            Self::Undecided(start, sink) => {
                start.extend_from_slice(bytes);
                if let [first, second, ..] = **start {
                    let (start, sink) = (std::mem::take(start), std::mem::take(sink));
                    *self = if is_zlib(first, second) {
                        Self::Zlib(Box::new(ZlibDecoder::new(sink)))
                    } else {
                        Self::Raw(Box::new(DeflateDecoder::new(sink)))
                    };
                    let mut rest = start.as_slice();
                    while !rest.is_empty() {
                        match self.write(rest)? {
                            0 => break,
                            taken => rest = rest.get(taken..).unwrap_or_default(),
                        }
                    }
                }
                Ok(bytes.len())
            }
        }
    }

    /// Moves what is decoded to the sink.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(_) | Self::Undecided(..) | Self::Zstd { .. } => Ok(()),
            Self::Gzip(decoder) => decoder.flush(),
            Self::Zlib(decoder) => decoder.flush(),
            Self::Raw(decoder) => decoder.flush(),
            Self::Brotli(decoder) => decoder.flush(),
        }
    }

    fn sink(&self) -> &Sink {
        match self {
            Self::None(sink) | Self::Undecided(_, sink) | Self::Zstd { sink, .. } => sink,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zlib(decoder) => decoder.get_ref(),
            Self::Raw(decoder) => decoder.get_ref(),
            Self::Brotli(decoder) => decoder.get_ref(),
        }
    }

    /// Where one member of a gzip file has ended, begins the next one if these bytes are its start (RFC 1952 section 2.2).
    fn begin_member(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let Self::Gzip(decoder) = self else { return Ok(false) };
        decoder.try_finish()?;
        let begins = matches!(bytes, [0x1f] | [0x1f, 0x8b, ..]);
        if begins {
            let sink = std::mem::take(decoder.get_mut());
            **decoder = GzDecoder::new(sink);
        }
        Ok(begins)
    }

    /// Checks that the end has been reached.
    fn close(&mut self) -> io::Result<()> {
        // One more byte is not taken after the end.
        let ended = |taken: io::Result<usize>| match taken {
            Ok(0) => Ok(()),
            Ok(_) => Err(incomplete()),
            Err(error) => Err(at_end(error)),
        };
        match self {
            Self::None(_) | Self::Zstd { within_frame: false, .. } => Ok(()),
            Self::Gzip(decoder) => decoder.try_finish().map_err(at_end),
            Self::Zlib(decoder) => ended(decoder.write(&[0])),
            Self::Raw(decoder) => ended(decoder.write(&[0])),
            Self::Brotli(decoder) => decoder.close().map_err(at_end),
            Self::Undecided(..) | Self::Zstd { .. } => Err(incomplete()),
        }
    }

    fn into_bytes(self) -> io::Result<Vec<u8>> {
        Ok(match self {
            Self::None(sink) | Self::Undecided(_, sink) | Self::Zstd { sink, .. } => sink.bytes,
            Self::Gzip(mut decoder) => std::mem::take(&mut decoder.get_mut().bytes),
            Self::Zlib(mut decoder) => {
                decoder.try_finish()?;
                std::mem::take(&mut decoder.get_mut().bytes)
            }
            Self::Raw(mut decoder) => {
                decoder.try_finish()?;
                std::mem::take(&mut decoder.get_mut().bytes)
            }
            Self::Brotli(mut decoder) => std::mem::take(&mut decoder.get_mut().bytes),
        })
    }
}

/// What a decoder says at the end: it is too large, or else the rest is missing.
fn at_end(error: io::Error) -> io::Error {
    if error.get_ref().is_some_and(|inner| inner.is::<OverLimit>()) { error } else { incomplete() }
}

fn incomplete() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ends before its last byte")
}

/// The header of zlib (RFC 1950 section 2.2): the method, and a check over both bytes.
fn is_zlib(first: u8, second: u8) -> bool {
    first & 0x0f == 8 && (u16::from(first) << 8 | u16::from(second)) % 31 == 0
}

/// The magic numbers of a frame and of one to be skipped (RFC 8878 section 3.1), as far as the first byte tells.
fn begins_zstd_frame(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(0x28 | 0x50..=0x5f))
}

fn zstd_decoder() -> io::Result<ZstdDecoder<'static>> {
    let mut decoder = ZstdDecoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
    Ok(decoder)
}
