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
