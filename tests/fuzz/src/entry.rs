//! What Redial stores of a task: its header line, and the producer's bytes.

use redial_core::UnixMs;
use redial_core::queue::entry::{Entry, EntryHeader, Progress, StartMarker};

use crate::bound::bounded;

/// What can be read is written again as something that is read as the same, and the producer's bytes are never touched.
pub fn run(bytes: &[u8]) {
    let any = EntryHeader {
        serial: "w:1:1".into(),
        first_seen: UnixMs(0),
        crashes: 0,
        started: StartMarker::Absent,
        state: Progress::default(),
    };
    let parse = |bytes: Vec<u8>| bounded("parsing", || Entry::parse(any.parked_token(), bytes));
    let Ok(entry) = parse(bytes.to_vec()) else { return };
    assert!(bytes.ends_with(&entry.raw), "the producer's bytes have changed");
    let line = entry.header.to_line();
    let again = parse([line.as_bytes(), b"\n", &entry.raw].concat()).unwrap();
    assert_eq!((&again.header, &again.raw), (&entry.header, &entry.raw));
    assert_eq!(again.header.to_line(), line);
}
