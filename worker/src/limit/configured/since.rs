//! Since when this worker has been configured with its limits.

use std::collections::HashMap;

use parking_lot::Mutex;
use redial_core::UnixMs;
use redial_core::limit::definition;
use redial_core::protocol::task::Limit;

/// Since when this worker has been configured with each of its limits.
#[derive(Debug, Default)]
pub struct ConfiguredSince {
    by_name: Mutex<HashMap<String, (String, UnixMs)>>,
}

impl ConfiguredSince {
    /// Since when, by Redis TIME. 0 for a definition that has not been stated yet: then it overrides no other one.
    pub fn since(&self, limit: &Limit) -> UnixMs {
        let by_name = self.by_name.lock();
        let known = by_name.get(&limit.name).filter(|(known, _)| *known == definition(limit));
        known.map_or(UnixMs(0), |(_, since)| *since)
    }

    /// The worker is configured like this from `now` on, unless it was before. Limits that it had before are forgotten.
    pub fn configure<'a>(&self, limits: impl Iterator<Item = &'a Limit>, now: UnixMs) {
        let mut by_name = self.by_name.lock();
        let mut before = std::mem::take(&mut *by_name);
        for limit in limits {
            let text = definition(limit);
            let known = before.remove(&limit.name).filter(|(known, _)| *known == text);
            by_name.insert(limit.name.clone(), known.unwrap_or((text, now)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_definition_counts_from_its_change_on_and_others_from_where_they_did() {
        let configured = ConfiguredSince::default();
        let limit = |name: &str, rate: f64| Limit { rate: Some(rate), ..Limit::named(name) };
        let (a, b) = (limit("a", 1.0), limit("b", 1.0));
        assert_eq!(configured.since(&a), UnixMs(0), "not stated yet");
        configured.configure([&a, &b].into_iter(), UnixMs(10));
        let changed = limit("a", 2.0);
        configured.configure([&changed, &b].into_iter(), UnixMs(20));
        assert_eq!([&a, &changed, &b].map(|limit| configured.since(limit).0), [0, 20, 10]);
        configured.configure([&b].into_iter(), UnixMs(30));
        assert_eq!([&changed, &b].map(|limit| configured.since(limit).0), [0, 10]);
    }
}
