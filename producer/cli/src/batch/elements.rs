//! The elements of one JSON array that is too long to be held in memory: `[...]`, or `{"requests":[...]}`.

use std::io::BufRead;

use anyhow::{bail, ensure};
use redial_core::protocol::task::MAX_BYTES;

/// Reads the array element by element. Only its structure is checked; the elements are for the caller to parse.
pub struct Elements<R> {
    reader: R,
    /// How many elements were read.
    count: u64,
}

impl<R: BufRead> Elements<R> {
    /// Finds the array. `None` if the text begins with another value, such as the first line of JSONL.
    pub fn find(reader: R) -> anyhow::Result<Option<Self>> {
        let mut elements = Self { reader, count: 0 };
        match elements.next_mark()? {
            Some(b'[') => return Ok(Some(elements)),
            Some(b'{') => {}
            _ => return Ok(None),
        }
        while elements.peek_mark()? == Some(b'"') {
            let mut name = Vec::new();
            elements.value(&mut name, b":")?;
            elements.next_mark()?;
            if name.trim_ascii() == b"\"requests\"" && elements.peek_mark()? == Some(b'[') {
                elements.next_mark()?;
                return Ok(Some(elements));
            }
            elements.value(&mut Vec::new(), b",}")?;
            if elements.next_mark()? != Some(b',') {
                break;
            }
        }
        Ok(None)
    }

    /// The next element with its number, from 1; `None` for the text if it is longer than a task may be.
    pub fn next(&mut self) -> anyhow::Result<Option<(u64, Option<Vec<u8>>)>> {
        if self.peek_mark()? == Some(b']') {
            return Ok(None);
        }
        if self.count > 0 {
            ensure!(self.next_mark()? == Some(b','), "there is no comma after request {}", self.count);
        }
        self.count += 1;
        let mut text = Vec::new();
        self.value(&mut text, b",]")?;
        ensure!(!text.trim_ascii().is_empty(), "request {} is empty", self.count);
        Ok(Some((self.count, (text.len() <= MAX_BYTES).then_some(text))))
    }

    /// Reads the bytes before the first of `ends` that is outside strings and brackets, but keeps no more than a task may have.
    fn value(&mut self, into: &mut Vec<u8>, ends: &[u8]) -> anyhow::Result<()> {
        let (mut depth, mut is_quoted, mut is_escaped) = (0_usize, false, false);
        loop {
            let part = self.reader.fill_buf()?;
            if part.is_empty() {
                bail!("the file ends before its array does, in request {}", self.count);
            }
            let end = part.iter().position(|byte| {
                if depth == 0 && !is_quoted && ends.contains(byte) {
                    return true;
                }
                match byte {
                    _ if is_escaped => is_escaped = false,
                    b'\\' if is_quoted => is_escaped = true,
                    b'"' => is_quoted = !is_quoted,
                    b'[' | b'{' if !is_quoted => depth += 1,
                    b']' | b'}' if !is_quoted => depth = depth.saturating_sub(1),
                    _ => {}
                }
                false
            });
            let count = end.unwrap_or(part.len());
            let room = (MAX_BYTES + 1).saturating_sub(into.len());
            into.extend_from_slice(&part[..count.min(room)]);
            self.reader.consume(count);
            if end.is_some() {
                return Ok(());
            }
        }
    }

    /// The next byte that is not white space, which stays unread.
    fn peek_mark(&mut self) -> anyhow::Result<Option<u8>> {
        loop {
            let part = self.reader.fill_buf()?;
            let spaces = part.len() - part.trim_ascii_start().len();
            if let Some(mark) = part.get(spaces).copied() {
                self.reader.consume(spaces);
                return Ok(Some(mark));
            }
            if part.is_empty() {
                return Ok(None);
            }
            self.reader.consume(spaces);
        }
    }

    fn next_mark(&mut self) -> anyhow::Result<Option<u8>> {
        let mark = self.peek_mark()?;
        if mark.is_some() {
            self.reader.consume(1);
        }
        Ok(mark)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// The elements, read with a buffer so small that every value spans several.
    fn all(text: &str) -> anyhow::Result<Option<Vec<String>>> {
        let Some(mut elements) = Elements::find(BufReader::with_capacity(3, text.as_bytes()))? else { return Ok(None) };
        let mut all = Vec::new();
        while let Some((_, text)) = elements.next()? {
            all.push(text.map_or_else(|| "too long".into(), |text| String::from_utf8_lossy(&text).trim().to_owned()));
        }
        Ok(Some(all))
    }

    #[test]
    fn an_array_is_split_at_its_own_commas_only() -> anyhow::Result<()> {
        let long = format!("[1,\"{}\",2]", "x".repeat(MAX_BYTES));
        for (text, expected) in [
            (
                r#"{"requests":[{"a":[1,2],"b":"],}\""}, {"c":1.10}]}"#,
                vec![r#"{"a":[1,2],"b":"],}\""}"#, r#"{"c":1.10}"#],
            ),
            (" [ 1 ,\n 2 ] ", vec!["1", "2"]),
            (r#"{"x":{"requests":[9]},"requests" : []}"#, vec![]),
            (&long, vec!["1", "too long", "2"]),
        ] {
            assert_eq!(all(text)?, Some(expected.into_iter().map(str::to_owned).collect()));
        }
        for lines in [r#"{"custom_id":"a","params":{}}"#, "", "junk", "{}"] {
            assert_eq!(all(lines)?, None);
        }
        for cut_off in [r#"{"requests":[{"a":1}"#, "[1,", "[1", "[1 2,", "[,1]", "[1,]", "["] {
            assert!(all(cut_off).is_err(), "{cut_off}");
        }
        Ok(())
    }
}
