//! What is printed: results to standard output, diagnostics to standard error.

use std::io::{self, IsTerminal as _, Write as _};

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
            Self::Json => line(&json().to_string()),
        }
    }

    /// A note for people, on standard error; programs do not get it.
    pub fn note(self, text: impl FnOnce() -> String) {
        if self == Self::Text {
            complain(&text());
        }
    }
}

/// Prints a line. If the reader has gone away (`| head`), the program ends quietly.
pub fn line(text: &str) -> io::Result<()> {
    bytes(text.as_bytes())
}

/// Prints bytes unchanged, and a newline.
pub fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.write_all(b"\n")) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other,
    }
}

/// Prints bytes as they are, at once.
pub fn piece(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other,
    }
}

/// A text that tasks or upstreams chose, safe to show: control characters, which a terminal would obey, are escaped.
pub fn escaped(text: &str) -> String {
    // Besides the control characters, those that reorder a line, and line separators.
    let is_safe = |c: char| !c.is_control() && !matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if is_safe(c) { c.to_string() } else { c.escape_unicode().to_string() }).collect()
}

/// Prints a diagnostic to standard error.
pub fn complain(text: &str) {
    // If this fails, there is nowhere left to report it.
    let _ = writeln!(io::stderr().lock(), "redial: {text}");
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
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if is_set("NO_COLOR") || is_dumb || !io::stdout().is_terminal() {
        return text.to_owned();
    }
    let colour = match tint {
        Tint::Good => 32,
        Tint::Bad => 31,
    };
    format!("\x1b[{colour}m{text}\x1b[0m")
}
