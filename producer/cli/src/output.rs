//! What is printed: results to standard output, diagnostics to standard error.

use std::io::{self, IsTerminal as _, Write as _};

use redial_core::shown::escape::{self, EscapeForm};
use serde_json::Value;

/// The format of what a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON object per line, for programs.
    Json,
}

impl Output {
    /// Prints a line in this format.
    pub fn print(self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) -> io::Result<()> {
        match self {
            Self::Text => line(&text()),
            Self::Json => json_line(&json().to_string()),
        }
    }

    /// Prints lines, or one line of JSON.
    pub fn print_lines(self, text: impl FnOnce() -> Vec<String>, json: impl FnOnce() -> Value) -> io::Result<()> {
        match self {
            Self::Text => text().iter().try_for_each(|text| line(text)),
            Self::Json => json_line(&json().to_string()),
        }
    }

    /// A note for people, on standard error; programs do not get it.
    pub fn note(self, text: impl FnOnce() -> String) {
        if self == Self::Text {
            complain(&text());
        }
    }
}

/// Prints a line. Whatever it contains, it stays one line and controls no terminal. If the reader has gone away (`| head`), the program
/// ends quietly.
pub fn line(text: &str) -> io::Result<()> {
    let shown =
        if has_colour() { escape::escaped_but_colours(text, EscapeForm::Text).into() } else { escape::escaped(text) };
    write_out(&[shown.as_bytes(), b"\n"])
}

/// Prints JSON on one line, with the same meaning and without control characters.
pub fn json_line(json: &str) -> io::Result<()> {
    write_out(&[escape::escaped_json(json).as_bytes(), b"\n"])
}

/// Prints JSON over several lines.
pub fn pretty_json(json: &Value) -> io::Result<()> {
    // The line breaks of JSON are not part of its values.
    format!("{json:#}").lines().try_for_each(json_line)
}

/// Begins at the top of an empty screen, on a terminal that can do that.
pub fn begin_screen() -> io::Result<()> {
    if io::stdout().is_terminal() && !is_dumb() { write_out(&[b"\x1b[H\x1b[J"]) } else { Ok(()) }
}

/// Prints bytes unchanged, and a newline. For a terminal, control characters in them are escaped.
pub fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut printer = BodyPrinter::new();
    printer.print(bytes)?;
    printer.end()?;
    write_out(&[b"\n"])
}

/// Prints bytes as they arrive. They are unchanged, but for a terminal, where control characters other than tabs and line feeds are
/// escaped.
#[derive(Debug)]
pub struct BodyPrinter {
    is_terminal: bool,
    /// The beginning of a character, of which the rest has not arrived.
    begun: Vec<u8>,
}

impl BodyPrinter {
    pub fn new() -> Self {
        Self { is_terminal: io::stdout().is_terminal(), begun: Vec::new() }
    }

    /// Prints the next bytes at once.
    pub fn print(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.is_terminal {
            return write_out(&[bytes]);
        }
        let shown = self.shown(bytes);
        write_out(&[shown.as_bytes()])
    }

    /// Prints what is left of a character that is incomplete.
    pub fn end(&mut self) -> io::Result<()> {
        let begun = std::mem::take(&mut self.begun);
        write_out(&[String::from_utf8_lossy(&begun).as_bytes()])
    }

    fn shown(&mut self, bytes: &[u8]) -> String {
        let bytes = [std::mem::take(&mut self.begun).as_slice(), bytes].concat();
        let mut shown = String::new();
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            for part in chunk.valid().split_inclusive(['\n', '\t']) {
                let text = part.strip_suffix(['\n', '\t']).unwrap_or(part);
                shown.push_str(&escape::escaped(text));
                shown.push_str(part.get(text.len()..).unwrap_or_default());
            }
            let invalid = chunk.invalid();
            // A character has at most four bytes, so three may be the beginning of one.
            if chunks.peek().is_none() && invalid.len() < 4 && invalid.first().is_some_and(|byte| *byte >= 0xc2) {
                self.begun = invalid.to_vec();
            } else if !invalid.is_empty() {
                shown.push(char::REPLACEMENT_CHARACTER);
            }
        }
        shown
    }
}

fn write_out(parts: &[&[u8]]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match parts.iter().try_for_each(|part| out.write_all(part)).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other,
    }
}

/// A text that tasks or upstreams chose, as a part of a line: control characters in it, colours among them, are escaped.
pub fn escaped(text: &str) -> String {
    escape::escaped(text).into_owned()
}

/// Prints a diagnostic to standard error.
pub fn complain(text: &str) {
    // If this fails, there is nowhere left to report it.
    let _ = writeln!(io::stderr().lock(), "redial: {}", escape::escaped(text));
}

/// A time for people to read, in UTC.
pub fn utc(ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
    humantime::format_rfc3339_seconds(at).to_string()
}

/// The same with milliseconds.
pub fn utc_ms(ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
    humantime::format_rfc3339_millis(at).to_string()
}

/// What a colour means.
#[derive(Debug, Clone, Copy)]
pub enum Tint {
    Good,
    Bad,
}

/// The text in colour if standard output is a terminal and `NO_COLOR` is not set.
pub fn paint(text: &str, tint: Tint) -> String {
    if !has_colour() {
        return text.to_owned();
    }
    let colour = match tint {
        Tint::Good => 32,
        Tint::Bad => 31,
    };
    format!("\x1b[{colour}m{text}\x1b[0m")
}

/// Whether standard output is a terminal that shows colours, and `NO_COLOR` is not set.
pub fn has_colour() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !(is_set("NO_COLOR") || is_dumb()) && io::stdout().is_terminal()
}

/// Whether the terminal, if there is one, can do no more than print lines.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term == "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_on_a_terminal_keeps_its_lines_and_its_characters() {
        let mut printer = BodyPrinter { is_terminal: true, begun: Vec::new() };
        let body = "Grüße\t世界\n\u{1b}[2J\u{9b}x\r\n".as_bytes();
        let pieces: String = body.chunks(1).map(|piece| printer.shown(piece)).collect();
        assert_eq!(pieces, "Grüße\t世界\n\\u{1b}[2J\\u{9b}x\\u{d}\n");
        assert_eq!(printer.shown(b"a\xffb\xe4\xb8"), "a\u{fffd}b");
        assert_eq!(printer.shown(b"x"), "\u{fffd}x");
    }
}
