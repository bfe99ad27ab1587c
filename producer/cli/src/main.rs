//! The program `redial`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    redial_cli::main()
}
