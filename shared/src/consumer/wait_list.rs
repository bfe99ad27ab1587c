//! Wait lists: what parked tasks wait for.

pub use crate::script::task::Selection;

/// A list of parked tasks that wait for the same thing. Each queue has its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WaitList {
    /// What they wait for.
    pub reason: WaitReason,
    /// The name of what they wait for: a memo's hash, an upstream, a limit, or the beginning of an upstream's URLs.
    pub name: String,
}

/// What the tasks of a list wait for, which decides how a worker checks on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitReason {
    /// The answer of the task that leads a memo.
    Memo,
    /// An upstream that is down to come back.
    Breaker,
    /// Their turn under a limit.
    Limit,
    /// One of the calls in flight to their upstream to end: it has as many as it may.
    InFlight,
}

impl WaitReason {
    const ALL: [Self; 4] = [Self::Memo, Self::Breaker, Self::Limit, Self::InFlight];

    /// Its name in keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memo => "memo",
            Self::Breaker => "breaker",
            Self::Limit => "limit",
            Self::InFlight => "in_flight",
        }
    }
}

impl WaitList {
    /// The list of this reason (`memo`, `breaker` or `limit`) and name.
    pub fn named(reason: &str, name: &str) -> Option<Self> {
        let reason = WaitReason::ALL.into_iter().find(|known| known.as_str() == reason)?;
        Some(Self { reason, name: name.to_owned() })
    }

    /// The tasks that wait for the leader of the memo `hash`.
    pub fn memo(hash: &str) -> Self {
        Self { reason: WaitReason::Memo, name: hash.to_owned() }
    }

    /// The tasks that wait for an upstream (`host:port`) to come back.
    pub fn breaker(upstream: &str) -> Self {
        Self { reason: WaitReason::Breaker, name: upstream.to_owned() }
    }

    /// The tasks that wait for the limit `name`.
    pub fn limit(name: &str) -> Self {
        Self { reason: WaitReason::Limit, name: name.to_owned() }
    }

    /// The tasks that wait until fewer calls are in flight to the upstream whose URLs begin like this.
    pub fn in_flight(upstream: &str) -> Self {
        Self { reason: WaitReason::InFlight, name: upstream.to_owned() }
    }

    /// Its form in `watch`: `<reason> <name>`, with the name's spaces escaped.
    pub(crate) fn to_words(&self) -> String {
        format!("{} {}", self.reason.as_str(), self.name.replace('%', "%25").replace(' ', "%20"))
    }

    /// The list that has these words.
    pub(crate) fn parse(words: &str) -> Option<Self> {
        let mut words = words.split(' ');
        let word = words.next()?;
        let reason = WaitReason::ALL.into_iter().find(|reason| reason.as_str() == word)?;
        let name = words.next()?.replace("%20", " ").replace("%25", "%");
        Some(Self { reason, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_list_is_parsed_as_it_was_written_whatever_its_name() {
        for name in ["ab", "a b", "a%20b", "%", "api.example.com:443", "[::1]:80", "%2520 %25"] {
            let list = WaitList::memo(name);
            let words = list.to_words();
            assert_eq!(WaitList::parse(&words), Some(list));
        }
        for bad in ["", "memo", "other ab"] {
            assert_eq!(WaitList::parse(bad), None, "{bad:?}");
        }
    }
}
