//! What is printed: results to standard output, complaints to standard error.

use std::io::{self, IsTerminal as _, Write as _};

/// Prints a line. A reader that went away (`| head`) ends the program quietly.
pub fn line(text: &str) -> io::Result<()> {
    bytes(text.as_bytes())
}

/// Prints bytes as they are, and a newline.
pub fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.write_all(b"\n")) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other,
    }
}

/// Says what went wrong.
pub fn complain(text: &str) {
    // There is nowhere left to say that this failed.
    let _ = writeln!(io::stderr().lock(), "redial: {text}");
}

/// A time as people read it, in UTC.
pub fn utc(ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
    humantime::format_rfc3339_seconds(at).to_string()
}

/// What a colour says.
#[derive(Debug, Clone, Copy)]
pub enum Tint {
    Good,
    Bad,
}

/// The text in colour, where standard output is a terminal and nobody has asked for none (`NO_COLOR`).
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
