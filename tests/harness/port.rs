//! TCP ports on loopback, each reserved for one user.
//!
//! Binding port 0, reading the number and closing is not enough here: a Redis that a test kills must come back on the same port,
//! and until then the kernel may give that port to any outgoing connection. So ports come from below the kernel's ephemeral
//! range, and each is reserved by a file lock, which other test processes respect and which ends with the process that holds it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Below the range from which Linux takes ports for outgoing connections (it begins at 32768).
const FIRST: u16 = 10_000;
const LAST: u16 = 32_000;
/// The distance from the port of a Redis Cluster node to its bus port.
const BUS_OFFSET: u16 = 10_000;
const MAX_TRIES: usize = 1_000;

/// A free port, reserved until it is dropped.
///
/// Until its owner listens on it, connections to it are refused.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _locks: Vec<File>,
}

impl Port {
    /// Reserves a free port.
    pub fn claim() -> Self {
        Self::first_free(LAST, |number| Some(vec![lock(number)?]))
    }

    /// Reserves a port whose cluster bus port (10,000 above it) is free as well.
    pub fn claim_with_bus() -> Self {
        Self::first_free(LAST - BUS_OFFSET, |number| Some(vec![lock(number)?, lock(number + BUS_OFFSET)?]))
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    fn first_free(last: u16, locks: impl Fn(u16) -> Option<Vec<File>>) -> Self {
        for _ in 0..MAX_TRIES {
            let number = rand::random_range(FIRST..last);
            if let Some(locks) = locks(number) {
                return Self { number, _locks: locks };
            }
        }
        panic!("no free port between {FIRST} and {last} in {MAX_TRIES} tries");
    }
}

/// Locks a port's file unless another test holds it or something listens on the port.
fn lock(number: u16) -> Option<File> {
    let file = File::options()
        .create(true)
        .append(true)
        .open(folder().join(number.to_string()))
        .expect("a port's lock file can be opened");
    file.try_lock().ok()?;
    TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
    Some(file)
}

/// One folder per user, because lock files of another user cannot be opened.
fn folder() -> PathBuf {
    let user = fs::metadata("/proc/self").expect("/proc is mounted").uid();
    let folder = std::env::temp_dir().join(format!("redial-test-ports-{user}"));
    fs::create_dir_all(&folder).expect("the temp folder is writable");
    folder
}
