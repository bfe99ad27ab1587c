//! A clock that a test sets: libfaketime reads it from a file, on behalf of a server that is started with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// What the tests ask for when libfaketime is missing.
const MISSING: &str = "libfaketime is missing: run `make faketime` (Debian: apt-get install libfaketime)";

/// The file, which says how far the clock is from that of this machine, or where it stands.
#[derive(Debug)]
pub(crate) struct FakeClock {
    file: PathBuf,
}

impl FakeClock {
    /// A clock that agrees with this machine's.
    pub(crate) fn new(folder: &Path) -> Self {
        let clock = Self { file: folder.join("clock") };
        clock.set(0);
        clock
    }

    /// Sets the clock this far ahead of this machine's, or behind it.
    pub(crate) fn set(&self, ahead_ms: i64) {
        let sign = if ahead_ms < 0 { '-' } else { '+' };
        let (seconds, millis) = (ahead_ms.unsigned_abs() / 1000, ahead_ms.unsigned_abs() % 1000);
        self.write(&format!("{sign}{seconds}.{millis:03}\n"));
    }

    /// Stops the clock at this moment, in Unix us.
    pub(crate) fn stop_at(&self, unix_us: u64) {
        // libfaketime reads the fraction as a float and rounds it down: half a microsecond keeps the whole ones.
        let moment = SystemTime::UNIX_EPOCH + Duration::from_micros(unix_us) + Duration::from_nanos(500);
        self.write(&humantime::format_rfc3339_nanos(moment).to_string());
    }

    /// In one step, so that nobody reads half of it.
    fn write(&self, time: &str) {
        let draft = self.file.with_extension("draft");
        fs::write(&draft, time).expect("the temp folder is writable");
        fs::rename(&draft, &self.file).expect("the temp folder is writable");
    }

    /// Lets a program that has not started yet run by this clock. Durations are not affected.
    pub(crate) fn apply_to(&self, command: &mut Command) {
        // The C library goes before jemalloc, which asks for the time before libfaketime is ready.
        command
            .env("LD_PRELOAD", format!("{}:libc.so.6", library().display()))
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_FMT", "%Y-%m-%dT%T")
            .env("TZ", "UTC")
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}

/// Where Debian, Fedora and an installation from source put it.
fn library() -> PathBuf {
    let mut folders: Vec<PathBuf> = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from).into();
    let below = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders.extend(below.map(|entry| entry.path()));
    let mut found = folders.into_iter().map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    found.find(|file| file.is_file()).expect(MISSING)
}
