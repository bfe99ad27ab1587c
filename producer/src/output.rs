//! What is printed: results to standard output, complaints to standard error.

use std::io::{self, Write as _};

/// Prints a line. A reader that went away (`| head`) ends the program quietly.
pub fn line(text: &str) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
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
