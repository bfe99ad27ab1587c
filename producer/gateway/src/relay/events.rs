//! Server-sent events, cut where one ends and the next one begins (WHATWG HTML, section 9.2.6: behind an empty line).

/// An event that is larger is passed on in parts.
const MAX_EVENT: usize = 256 << 10;

/// The bytes of events that have not ended.
#[derive(Debug, Default)]
pub(super) struct EventLines {
    rest: Vec<u8>,
}

impl EventLines {
    /// Takes the next bytes. Returns those of whole events.
    pub fn add(&mut self, bytes: &[u8]) -> Vec<u8> {
        let known = self.rest.len().saturating_sub(3);
        self.rest.extend_from_slice(bytes);
        if self.rest.len() > MAX_EVENT {
            return self.take_rest();
        }
        let end = last_empty_line(&self.rest[known..]).map_or(0, |end| known + end);
        let open = self.rest.split_off(end);
        std::mem::replace(&mut self.rest, open)
    }

    /// The bytes of the event that has not ended.
    pub fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }

    /// Forgets the event that has not ended.
    pub fn forget(&mut self) {
        self.rest.clear();
    }
}

/// The position behind the last empty line. Lines end with LF, CRLF or CR.
fn last_empty_line(bytes: &[u8]) -> Option<usize> {
    let ends: [&[u8]; 3] = [b"\n\n", b"\r\n\r\n", b"\r\r"];
    let last = |end: &[u8]| bytes.windows(end.len()).rposition(|window| window == end).map(|at| at + end.len());
    ends.into_iter().filter_map(last).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_events_are_passed_on_however_they_are_cut() {
        for events in ["data: a\n\ndata: bc\n\n", "data: a\r\n\r\ndata: b\r\n\r\n", "id: 1\rdata: a\r\rdata: b\r\r"] {
            for size in 1..events.len() {
                let (mut lines, mut passed) = (EventLines::default(), Vec::new());
                for piece in events.as_bytes().chunks(size) {
                    let whole = lines.add(piece);
                    assert!(whole.is_empty() || last_empty_line(&whole) == Some(whole.len()), "{whole:?}");
                    passed.extend(whole);
                }
                assert_eq!((passed.as_slice(), lines.take_rest().len()), (events.as_bytes(), 0), "{size}");
            }
        }
    }

    #[test]
    fn what_is_open_is_kept_until_it_ends_is_forgotten_or_grows_too_large() {
        let mut lines = EventLines::default();
        assert_eq!(lines.add(b"data: a\n\ndata: b"), b"data: a\n\n");
        assert_eq!(lines.take_rest(), b"data: b");
        assert_eq!(lines.add(b"data: c"), b"");
        lines.forget();
        assert_eq!(lines.add(b"data: d\n\n"), b"data: d\n\n");
        assert_eq!(lines.add(&vec![b'x'; MAX_EVENT + 1]).len(), MAX_EVENT + 1);
    }
}
