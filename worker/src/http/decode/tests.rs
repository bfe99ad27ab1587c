//! Bodies in every coding, cut anywhere.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 100_000;

/// Decodes a body that arrives in pieces of this size.
fn decoded(coding: &str, body: &[u8], piece: usize) -> Result<Vec<u8>, Failure> {
    let mut headers = HeaderMap::new();
    for value in coding.split('|') {
        headers.append(header::CONTENT_ENCODING, HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static("")));
    }
    let mut decoder = BodyDecoder::of(&mut headers, LIMIT);
    for piece in body.chunks(piece) {
        decoder.push(piece)?;
    }
    decoder.finish()
}

fn gzip(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text)?;
    encoder.finish()
}

fn zlib(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text)?;
    encoder.finish()
}

fn raw(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text)?;
    encoder.finish()
}

fn zstd(text: &[u8]) -> io::Result<Vec<u8>> {
    zstd::stream::encode_all(text, 1)
}

/// `hello\n`, as `brotli` compresses it.
const BROTLI: &[u8] = &[0x8b, 0x02, 0x80, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x0a, 0x03];

#[test]
fn every_coding_is_decoded_however_it_is_named_and_cut() -> anyhow::Result<()> {
    let text = b"hello, hello, hello\n".repeat(50);
    let two_members = [gzip(b"hello, ")?, gzip(b"world")?].concat();
    for (coding, body, expected) in [
        ("gzip", gzip(&text)?, &text[..]),
        ("x-gzip", gzip(&text)?, &text),
        ("GZip", gzip(&text)?, &text),
        (" gzip ,", gzip(&text)?, &text),
        ("identity", b"hi".to_vec(), b"hi"),
        ("gzip", two_members.clone(), b"hello, world"),
        ("gzip", [two_members, vec![0; 512]].concat(), b"hello, world"),
        ("gzip", [gzip(b"a")?, b"trailing".to_vec()].concat(), b"a"),
        ("gzip", [gzip(b"")?, gzip(b"a")?].concat(), b"a"),
        ("gzip", Vec::new(), b""),
        ("deflate", zlib(&text)?, &text),
        ("Deflate", raw(&text)?, &text),
        ("deflate", [zlib(&text)?, b"x".to_vec()].concat(), &text),
        ("deflate", Vec::new(), b""),
        ("br", BROTLI.to_vec(), b"hello\n"),
        ("br", [BROTLI, b"x"].concat(), b"hello\n"),
        ("zstd", zstd(&text)?, &text),
        ("zstd", [zstd(b"a")?, zstd(b"b")?].concat(), b"ab"),
        ("deflate, gzip", gzip(&zlib(&text)?)?, &text),
        ("zstd|gzip", gzip(&zstd(&text)?)?, &text),
        ("compress", b"as it is".to_vec(), b"as it is"),
        ("gzip, compress", b"as it is".to_vec(), b"as it is"),
        ("gzip, gzip, gzip, gzip", b"as it is".to_vec(), b"as it is"),
    ] {
        for piece in [1, 7, 1 << 20] {
            let found = decoded(coding, &body, piece).map(|found| String::from_utf8_lossy(&found).into_owned());
            assert_eq!(found.as_deref(), Ok(&*String::from_utf8_lossy(expected)), "{coding} in pieces of {piece}");
        }
    }
    Ok(())
}

#[test]
fn what_ends_early_or_is_something_else_is_not_decodable() -> anyhow::Result<()> {
    let text = b"hello, hello, hello\n".repeat(50);
    for (coding, body) in [
        ("gzip", gzip(&text)?),
        ("deflate", zlib(&text)?),
        ("deflate", raw(&text)?),
        ("br", BROTLI.to_vec()),
        ("zstd", zstd(&text)?),
        ("zstd, gzip", gzip(&zstd(&text)?)?),
    ] {
        for cut in 1..body.len() {
            let found = decoded(coding, &body[..cut], 5);
            assert!(matches!(found, Err(Failure::NotDecodable(_))), "{coding} of {cut} bytes: {found:?}");
        }
    }
    for coding in ["gzip", "deflate", "br"] {
        let found = decoded(coding, b"<html>not at all</html>", 100);
        assert!(matches!(found, Err(Failure::NotDecodable(_))), "{coding}: {found:?}");
    }
    let mut wrong = gzip(&text)?;
    let last = wrong.len() - 6;
    wrong[last] ^= 1;
    assert!(matches!(decoded("gzip", &wrong, 5), Err(Failure::NotDecodable(_))), "a wrong checksum");
    Ok(())
}

#[test]
fn a_body_is_bounded_after_every_coding() -> anyhow::Result<()> {
    let bomb = vec![0; LIMIT + 1];
    let wide = gzip(&vec![0; 5_000_000])?;
    for (coding, body) in [
        ("identity", bomb.clone()),
        ("gzip", gzip(&bomb)?),
        ("gzip", [gzip(&bomb[1..])?, gzip(b"a")?].concat()),
        ("deflate", zlib(&bomb)?),
        ("deflate", raw(&bomb)?),
        ("zstd", zstd(&bomb)?),
        ("gzip, gzip", gzip(&wide)?),
    ] {
        let found = decoded(coding, &body, 1 << 20).map(|body| body.len());
        assert_eq!(found, Err(Failure::ResponseTooLarge(LIMIT)), "{coding}");
    }
    assert_eq!(decoded("gzip", &gzip(&bomb[1..])?, 1 << 20).map(|body| body.len()), Ok(LIMIT));
    Ok(())
}

#[test]
fn the_headers_of_a_decoded_body_describe_it() {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("GZIP"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("20"));
    BodyDecoder::of(&mut headers, LIMIT);
    assert!(headers.is_empty());
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("compress"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("20"));
    BodyDecoder::of(&mut headers, LIMIT);
    assert_eq!(headers.len(), 2);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_exceed_its_bound(
        body in proptest::collection::vec(any::<u8>(), 0..300),
        good in 0..5_usize,
        coding in proptest::sample::select(vec!["gzip", "deflate", "br", "zstd", "br, deflate", "zstd, gzip"]),
    ) {
        let start = [Vec::new(), gzip(b"hello").unwrap_or_default(), zlib(b"hello").unwrap_or_default(),
            zstd(b"hello").unwrap_or_default(), BROTLI.to_vec()];
        let body = [start[good].clone(), body].concat();
        if let Ok(found) = decoded(coding, &body, 9) {
            prop_assert!(found.len() <= LIMIT);
        }
    }
}

#[test]
fn what_a_server_has_flushed_can_be_read_before_the_end() -> anyhow::Result<()> {
    let (first, second) = (b"data: 1\n\n".repeat(3), b"data: 2\n\n".repeat(3));
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&first)?;
    encoder.flush()?;
    let cut = encoder.get_ref().len();
    encoder.write_all(&second)?;
    let gzipped = encoder.finish()?;
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1)?;
    encoder.write_all(&first)?;
    encoder.flush()?;
    let zstd_cut = encoder.get_ref().len();
    encoder.write_all(&second)?;
    let zstandard = encoder.finish()?;
    let plain = [first.clone(), second.clone()].concat();
    for (coding, body, cut) in [("gzip", gzipped, cut), ("zstd", zstandard, zstd_cut), ("", plain, first.len())] {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_str(coding)?);
        let mut decoder = BodyDecoder::of(&mut headers, LIMIT);
        decoder.push(&body[..cut])?;
        assert_eq!(decoder.decoded(0)?, first, "{coding}");
        decoder.push(&body[cut..])?;
        assert_eq!(decoder.decoded(first.len())?, second, "{coding}");
        assert_eq!(decoder.finish()?, [first.clone(), second.clone()].concat(), "{coding}");
    }
    Ok(())
}
