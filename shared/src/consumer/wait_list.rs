//! What a task can wait for in a list: its reason and its name.

use crate::queue::entry::EntryHeader;

/// A list of tasks that wait, in Redis, each in its own queue, for one thing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WaitList {
    /// What they wait for.
    pub reason: WaitReason,
    /// Its name.
    pub name: String,
}

/// Selection tasks of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// So many of the next ones.
    Next(usize),
    /// The last one.
    Last,
}

impl Selection {
    /// None of them.
    pub const NONE: Self = Self::Next(0);
    /// The word for the last one in scripts.
    pub(crate) const LAST: &'static str = "last";
}

impl std::fmt::Display for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Next(most) => most.fmt(f),
            Self::Last => f.write_str(Self::LAST),
        }
    }
}

/// What a list waits for: by it a worker knows how to look after the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitReason {
    /// The answer of the task that leads a memo.
    Memo,
    /// An upstream that is down to come back.
    Breaker,
}

impl WaitReason {
    const ALL: [Self; 2] = [Self::Memo, Self::Breaker];

    /// The word for it in keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memo => "memo",
            Self::Breaker => "breaker",
        }
    }
}

impl WaitList {
    /// Behind the one that leads the memo `hash`.
    pub fn memo(hash: &str) -> Self {
        Self { reason: WaitReason::Memo, name: hash.to_owned() }
    }

    /// For an upstream (`host:port`) to come back.
    pub fn breaker(upstream: &str) -> Self {
        Self { reason: WaitReason::Breaker, name: upstream.to_owned() }
    }

    /// A task's place in it; `None` for the order in which they come. Where an upstream is down the oldest are first, so that
    /// those whose call failed stand before those that were never called.
    pub(crate) fn position(&self, header: &EntryHeader) -> Option<u64> {
        match self.reason {
            WaitReason::Memo => None,
            WaitReason::Breaker => Some(header.first_seen.0),
        }
    }

    /// As it stands in `watch`: `<reason> <name>`, the name without spaces.
    pub(crate) fn to_words(&self) -> String {
        format!("{} {}", self.reason.as_str(), self.name.replace('%', "%25").replace(' ', "%20"))
    }

    /// The list and what follows it, if anything does.
    pub(crate) fn parse(words: &str) -> Option<(Self, Option<&str>)> {
        let mut words = words.split(' ');
        let word = words.next()?;
        let reason = WaitReason::ALL.into_iter().find(|reason| reason.as_str() == word)?;
        let name = words.next()?.replace("%20", " ").replace("%25", "%");
        Some((Self { reason, name }, words.next()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_as_it_went_whatever_its_name() {
        for name in ["ab", "a b", "a%20b", "%", "api.example.com:443", "[::1]:80", "%2520 %25"] {
            let list = WaitList::memo(name);
            let words = list.to_words();
            assert_eq!(WaitList::parse(&words), Some((list.clone(), None)));
            assert_eq!(WaitList::parse(&format!("{words} s:1:1")), Some((list, Some("s:1:1"))));
        }
        for bad in ["", "memo", "other ab"] {
            assert_eq!(WaitList::parse(bad), None, "{bad:?}");
        }
    }
}
