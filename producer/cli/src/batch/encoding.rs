//! The encodings of text files: UTF-8, or UTF-16 as Windows programs write it.

use std::io::{self, BufWriter, Read, Write};

use anyhow::{Context as _, bail};

/// The mark at the start of a UTF-8 file that some programs write.
pub const MARK: &str = "\u{feff}";
/// How many bytes are converted at a time.
const PIECE: usize = 1 << 16;

/// UTF-16 in one of its two byte orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Utf16 {
    LittleEndian,
    BigEndian,
}

/// Whether a text is UTF-16, by its first four bytes: the mark, or the zero beside the first ASCII character.
///
/// # Errors
/// It is UTF-32.
pub fn utf16(start: &[u8], name: &str) -> anyhow::Result<Option<Utf16>> {
    let utf32 = match start {
        [0xff, 0xfe, 0, 0] | [0, 0, 0xfe, 0xff] => "UTF-32",
        [0, 0, 0, _] => "UTF-32BE",
        [_, 0, 0, 0] => "UTF-32LE",
        [0xff, 0xfe, ..] | [1..=0xff, 0, ..] => return Ok(Some(Utf16::LittleEndian)),
        [0xfe, 0xff, ..] | [0, 1..=0xff, ..] => return Ok(Some(Utf16::BigEndian)),
        _ => return Ok(None),
    };
    bail!("{name} is {utf32}: convert it to UTF-8, as in `iconv -f {utf32} -t UTF-8 IN > IN.utf8`")
}

impl Utf16 {
    /// Writes a text as UTF-8, without its mark.
    ///
    /// # Errors
    /// It is not UTF-16 after all, or cannot be read or written.
    pub fn convert(self, from: &mut impl Read, to: &mut impl Write) -> anyhow::Result<()> {
        let mut to = BufWriter::new(to);
        let (mut piece, mut held, mut at) = (vec![0; PIECE], 0, 0_u64);
        // A high surrogate whose other half is still to come.
        let mut half: Option<u16> = None;
        loop {
            let count = read_full(from, &mut piece[held..])?;
            let end = held + count;
            let pairs = piece[..end].chunks_exact(2);
            let rest = pairs.remainder().first().copied();
            let units = half.take().into_iter().chain(pairs.map(|pair| match self {
                Self::LittleEndian => u16::from_le_bytes([pair[0], pair[1]]),
                Self::BigEndian => u16::from_be_bytes([pair[0], pair[1]]),
            }));
            let mut units = units.peekable();
            while let Some(unit) = units.next() {
                let is_high = (0xd800..0xdc00).contains(&unit);
                let low = if is_high { units.next_if(|low| (0xdc00..0xe000).contains(low)) } else { None };
                if is_high && low.is_none() && units.peek().is_none() && count > 0 {
                    half = Some(unit);
                    break;
                }
                let character = char::decode_utf16([unit].into_iter().chain(low)).next();
                let character = character.and_then(Result::ok);
                let character = character.with_context(|| format!("it is not valid UTF-16 near byte {at}"))?;
                if !(at == 0 && character == '\u{feff}') {
                    write!(to, "{character}")?;
                }
                at += 2 * (1 + u64::from(low.is_some()));
            }
            if count == 0 {
                if rest.is_some() {
                    bail!("it is not valid UTF-16: it ends with half a character");
                }
                return Ok(to.flush()?);
            }
            held = usize::from(rest.is_some());
            piece[0] = rest.unwrap_or_default();
        }
    }
}

/// Fills the buffer as far as there is anything to read.
fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// The text of a small file, without its mark.
///
/// # Errors
/// It is neither UTF-8 nor UTF-16.
pub fn text(bytes: Vec<u8>, name: &str) -> anyhow::Result<String> {
    let bytes = match utf16(bytes.get(..4).unwrap_or(&bytes), name)? {
        Some(encoding) => {
            let mut converted = Vec::new();
            encoding.convert(&mut bytes.as_slice(), &mut converted).with_context(|| name.to_owned())?;
            converted
        }
        None => bytes,
    };
    let text = String::from_utf8(bytes).with_context(|| format!("{name} is not UTF-8"))?;
    Ok(text.strip_prefix(MARK).map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a few bytes at a time, an odd number.
    struct Dripping<'a>(&'a [u8]);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(self.0.len()).min(3);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn utf16_of_both_orders_is_converted_wherever_it_is_cut() -> anyhow::Result<()> {
        for before in [0, 1, PIECE / 2 - 2, PIECE / 2 - 1, PIECE / 2] {
            let given = format!("{{\"a\":\"{}ü🦀{}\"}}\n", "x".repeat(before), "🦀".repeat(3));
            for mark in ["", MARK] {
                let units: Vec<u16> = format!("{mark}{given}").encode_utf16().collect();
                let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
                let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
                for (bytes, encoding) in [(little, Utf16::LittleEndian), (big, Utf16::BigEndian)] {
                    assert_eq!(utf16(&bytes[..4], "f")?, Some(encoding));
                    let mut converted = Vec::new();
                    encoding.convert(&mut Dripping(&bytes), &mut converted)?;
                    assert_eq!(String::from_utf8(converted)?, given, "{before} {encoding:?}");
                    assert_eq!(text(bytes, "f")?, given);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_no_text_is_refused() -> anyhow::Result<()> {
        assert_eq!(utf16(b"{\"a\"", "f")?, None);
        assert_eq!(utf16(b"", "f")?, None);
        assert_eq!(text([MARK.as_bytes(), b"{}"].concat(), "f")?, "{}");
        for (bytes, says) in [
            (&b"\xff\xfe\0\0"[..], "f is UTF-32: convert it"),
            (b"\0\0\0{\0\0\0}", "f is UTF-32BE"),
            (b"{\0\0\0}\0\0\0", "f is UTF-32LE"),
            (b"{\0}", "half a character"),
            (b"{\0\x3d\xd8", "not valid UTF-16 near byte 2"),
            (b"{\0\x80\xdf}\0", "not valid UTF-16 near byte 2"),
            (b"\xc3(", "f is not UTF-8"),
        ] {
            let refused = text(bytes.to_vec(), "f").map_err(|error| format!("{error:#}"));
            assert!(refused.as_ref().is_err_and(|error| error.contains(says)), "{bytes:?}: {refused:?}");
        }
        Ok(())
    }
}
