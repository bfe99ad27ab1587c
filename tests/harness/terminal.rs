//! A program on a terminal of its own, which tests type into and whose screen they read.

use std::num::NonZeroU16;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pty_process::{Command, OwnedWritePty, Size};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::time::timeout;
use vt100::Parser;

use crate::wait::within;

/// A terminal and the program that runs on it. Dropping it kills the program.
#[allow(missing_debug_implementations, reason = "a parser of a terminal does not implement it")]
pub struct Terminal {
    child: Child,
    keys: OwnedWritePty,
    parser: Arc<Mutex<Parser>>,
}

impl Terminal {
    /// Starts a program on a terminal of this size, with these variables as its environment.
    pub fn start(program: &Path, args: &[&str], variables: &[(&str, &str)], (rows, columns): (u16, u16)) -> Self {
        let (pty, child_side) = pty_process::open().expect("a terminal can be opened");
        pty.resize(Size::new(rows, columns)).expect("a terminal has a size");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let command = Command::new(program).args(args).env_clear().env("PATH", path).env("TERM", "xterm-256color");
        let command = command.envs(variables.iter().copied()).kill_on_drop(true);
        let child = command.spawn(child_side).expect("an existing program can be started");
        let (mut output, keys) = pty.into_split();
        let size = |size| NonZeroU16::new(size).expect("a terminal has at least one cell");
        let parser = Arc::new(Mutex::new(Parser::new(size(rows), size(columns), 0)));
        let shown = parser.clone();
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            // It fails once the program has ended.
            while let Ok(count @ 1..) = output.read(&mut bytes).await {
                shown.lock().expect("no test panics while it looks").process(&bytes[..count]);
            }
        });
        Self { child, keys, parser }
    }

    /// Types these bytes.
    pub async fn type_keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.expect("a terminal takes what is typed");
    }

    /// What is on the screen.
    pub fn text(&self) -> String {
        self.parser().screen().contents()
    }

    /// Whether the program uses the whole screen, and not the lines below its prompt.
    pub fn is_full_screen(&self) -> bool {
        self.parser().screen().alternate_screen()
    }

    /// Whether the cursor can be seen.
    pub fn has_cursor(&self) -> bool {
        !self.parser().screen().hide_cursor()
    }

    /// Whether anything on the screen has a colour.
    pub fn has_colours(&self) -> bool {
        let parser = self.parser();
        let (rows, columns) = parser.screen().size();
        let cells = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
        let is_coloured = |(row, column)| {
            let cell = parser.screen().cell(row, column);
            cell.is_some_and(|cell| cell.fgcolor() != vt100::Color::Default || cell.bgcolor() != vt100::Color::Default)
        };
        cells.into_iter().any(is_coloured)
    }

    /// Waits until all of these texts are on the screen; panics at the timeout, with what is there.
    pub async fn shows(&self, texts: &[&str], timeout: Duration) -> String {
        let shown = || async { Some(self.text()).filter(|shown| texts.iter().all(|text| shown.contains(text))) };
        let found = within(timeout, shown).await;
        found.unwrap_or_else(|| panic!("{texts:?} is not shown after {timeout:?}, but:\n{}", self.text()))
    }

    /// Waits until the program has ended; panics at the timeout.
    pub async fn wait_exit(&mut self, patience: Duration) -> ExitStatus {
        let ended = timeout(patience, self.child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("still running after {patience:?}:\n{}", self.text()));
        ended.expect("a child can be waited for")
    }

    fn parser(&self) -> MutexGuard<'_, Parser> {
        self.parser.lock().expect("no test panics while it looks")
    }
}
