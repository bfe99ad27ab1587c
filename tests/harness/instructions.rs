//! Programs under Callgrind, which counts the instructions that they execute: a measure that no other work on the machine changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Counts the instructions of one program, from its start to its end.
#[derive(Debug, Clone)]
pub struct InstructionCounter {
    profile: PathBuf,
}

impl InstructionCounter {
    /// A counter that writes what it counted to this file, for `callgrind_annotate`.
    pub fn new(profile: impl Into<PathBuf>) -> Self {
        Self { profile: profile.into() }
    }

    /// The same command under Callgrind, with its own environment and no other.
    pub fn count(&self, command: &Command) -> Command {
        let mut counted = Command::new("valgrind");
        // Fair, so that the threads of a program take turns in the same way each time.
        counted
            .args(["--quiet", "--tool=callgrind", "--fair-sched=yes"])
            .arg(format!("--callgrind-out-file={}", self.profile.display()))
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        counted
    }

    /// The instructions that were counted. `None` until the program has ended by itself.
    pub fn total(&self) -> Option<u64> {
        let profile = fs::read_to_string(&self.profile).ok()?;
        profile.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
    }

    /// Where the profile is.
    pub fn profile(&self) -> &Path {
        &self.profile
    }
}
