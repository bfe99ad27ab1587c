//! A TCP port of one's own on loopback.
//!
//! "Bind port 0, look, close" is not enough here: a Redis that a test kills must come back on the
//! port it had, and in between the kernel may hand that port to any outgoing connection. So ports
//! come from below the kernel's ephemeral range, and each is held by a lock on a file, which other
//! test processes respect and which ends with the process that holds it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Ports that Linux does not give to outgoing connections (they begin at 32768).
const FIRST: u16 = 10_000;
const LAST: u16 = 32_000;
/// Where Redis Cluster puts the bus of a node, counted from its port.
const BUS_OFFSET: u16 = 10_000;
const TRIES: usize = 1_000;

/// A free port, kept from every other user of this harness until it is dropped.
///
/// Nobody listens on it yet: until someone does, a connection to it is refused.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _locks: Vec<File>,
}

impl Port {
    /// Takes a free port.
    pub fn claim() -> Self {
        Self::first_free(LAST, |number| Some(vec![lock(number)?]))
    }

    /// Takes a port whose cluster bus (10,000 above it) is free as well.
    pub fn claim_with_bus() -> Self {
        Self::first_free(LAST - BUS_OFFSET, |number| Some(vec![lock(number)?, lock(number + BUS_OFFSET)?]))
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    fn first_free(last: u16, locks: impl Fn(u16) -> Option<Vec<File>>) -> Self {
        for _ in 0..TRIES {
            let number = rand::random_range(FIRST..last);
            if let Some(locks) = locks(number) {
                return Self { number, _locks: locks };
            }
        }
        panic!("no free port between {FIRST} and {last} in {TRIES} tries");
    }
}

/// Locks a port's file if no other test has it and nobody listens there.
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

/// One folder a user, as another user's lock files could not be opened.
fn folder() -> PathBuf {
    let user = fs::metadata("/proc/self").expect("/proc is mounted").uid();
    let folder = std::env::temp_dir().join(format!("redial-test-ports-{user}"));
    fs::create_dir_all(&folder).expect("the temp folder is writable");
    folder
}
