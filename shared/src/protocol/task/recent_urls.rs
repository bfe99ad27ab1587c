//! The URLs of tasks. Most tasks call the same few, as those of AI APIs do, so each thread keeps the ones that it parsed last.

use std::cell::RefCell;

use url::{ParseError, Url};

/// How many URLs a thread keeps, and how long they are at most.
const KEPT: usize = 16;
const MAX_KEPT_BYTES: usize = 256;

thread_local! {
    static RECENT: RefCell<RecentUrls> = RefCell::default();
}

/// URLs that were parsed lately, each as it was written. Each has one place where it can be, so that a look takes no longer than one comparison.
#[derive(Default)]
struct RecentUrls([Option<(Box<str>, Url)>; KEPT]);

impl RecentUrls {
    fn place(text: &str) -> usize {
        let end = text.as_bytes().last_chunk().copied().map_or(0, u32::from_le_bytes);
        // The end is where URLs of one API differ. Fibonacci hashing spreads it over the places.
        (end.wrapping_mul(0x9E37_79B9) >> 16) as usize % KEPT
    }

    fn find(&self, text: &str) -> Option<Url> {
        let kept = self.0[Self::place(text)].as_ref();
        kept.filter(|(written, _)| **written == *text).map(|(_, url)| url.clone())
    }

    fn keep(&mut self, text: &str, url: &Url) {
        self.0[Self::place(text)] = Some((text.into(), url.clone()));
    }
}

/// Parses a URL.
///
/// # Errors
/// It is not an absolute URL.
pub(super) fn parse(text: &str) -> Result<Url, ParseError> {
    if text.len() > MAX_KEPT_BYTES {
        return Url::parse(text);
    }
    if let Some(url) = RECENT.with_borrow(|recent| recent.find(text)) {
        return Ok(url);
    }
    let url = Url::parse(text)?;
    RECENT.with_borrow_mut(|recent| recent.keep(text, &url));
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_url_is_the_one_that_was_written() {
        // Many more than there are places, some with the same end and so the same place, each of them twice.
        let written = (0..200).map(|n| format!("https://H{}.example:443/a b/{n}?q={}#f", n % 7, n % 5));
        for text in written.flat_map(|text| [text.clone(), text]) {
            assert_eq!(parse(&text), Url::parse(&text));
        }
        // What is wrong stays wrong, whatever was parsed before.
        for text in ["https://", "/relative", ""] {
            assert!(parse(text).is_err() && parse(text).is_err(), "{text}");
        }
    }
}
