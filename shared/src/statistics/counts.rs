//! What is counted of the tasks of a queue.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::histogram::LatencyHistogram;

/// How many upstreams a worker tells apart for each queue.
pub const MAX_UPSTREAMS: usize = 50;
/// How many statuses it tells apart for each upstream.
pub const MAX_STATUSES: usize = 32;
/// The name under which all further upstreams, or failures, are counted.
pub const OTHERS: &str = "(others)";

/// Counts by name.
pub type NamedCounts = BTreeMap<String, u64>;

/// What happened to the tasks of a queue within some time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Statistics {
    /// Tasks that ended with a good answer, by where it came from: `call`, `cache`, `shared`, `idempotency`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub completed: NamedCounts,
    /// Tasks that ended without one, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub dead: NamedCounts,
    /// How often tasks began to wait, by cause: `time`, `limit`, `upstream`, `answer`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub waits: NamedCounts,
    /// The attempts, by upstream: `host:port`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub upstreams: BTreeMap<String, UpstreamStatistics>,
}

/// What happened to the attempts at one upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamStatistics {
    /// Attempts that brought a good answer.
    pub good: u64,
    /// Failed attempts that were followed by another one.
    pub retries: u64,
    /// Attempts that brought a response, by its status.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub statuses: BTreeMap<u16, u64>,
    /// Attempts that brought none, or one with a status beyond the first [`MAX_STATUSES`], by what went wrong.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: NamedCounts,
    /// How long attempts took.
    pub latency: LatencyHistogram,
}

impl Statistics {
    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what happened elsewhere or at another time.
    pub fn add(&mut self, other: &Self) {
        let pairs =
            [(&mut self.completed, &other.completed), (&mut self.dead, &other.dead), (&mut self.waits, &other.waits)];
        for (counts, more) in pairs {
            add_counts(counts, more);
        }
        for (upstream, more) in &other.upstreams {
            self.upstreams.entry(upstream.clone()).or_default().add(more);
        }
    }

    /// The upstream with this name; that of all further ones, if there are many already.
    pub fn upstream(&mut self, name: &str) -> &mut UpstreamStatistics {
        // The entry for the others comes on top.
        let is_full = self.upstreams.len() >= MAX_UPSTREAMS && !self.upstreams.contains_key(name);
        entry(&mut self.upstreams, if is_full { OTHERS } else { name })
    }
}

impl UpstreamStatistics {
    /// All attempts.
    pub fn attempts(&self) -> u64 {
        self.statuses.values().chain(self.failures.values()).sum()
    }

    /// The attempts that the upstream refused because there were too many.
    pub fn rate_limited(&self) -> u64 {
        self.statuses.get(&429).copied().unwrap_or(0)
    }

    /// Counts an attempt: with the status of its response, or what went wrong.
    pub fn attempt(&mut self, status: Option<u16>, failure: &str, is_good: bool, took_ms: u64) {
        self.good += u64::from(is_good);
        self.latency.record(took_ms);
        let is_listed = |status: &u16| self.statuses.len() < MAX_STATUSES || self.statuses.contains_key(status);
        match status.filter(is_listed) {
            Some(status) => *self.statuses.entry(status).or_default() += 1,
            None => count(&mut self.failures, if status.is_some() { OTHERS } else { failure }),
        }
    }

    fn add(&mut self, other: &Self) {
        self.good += other.good;
        self.retries += other.retries;
        for (status, more) in &other.statuses {
            *self.statuses.entry(*status).or_default() += more;
        }
        add_counts(&mut self.failures, &other.failures);
        self.latency.add(&other.latency);
    }
}

/// Adds one to a count. It allocates only for a name that is new.
pub fn count(counts: &mut NamedCounts, name: &str) {
    *entry(counts, name) += 1;
}

fn add_counts(counts: &mut NamedCounts, more: &NamedCounts) {
    for (name, more) in more {
        *entry(counts, name) += more;
    }
}

fn entry<'a, V: Default>(map: &'a mut BTreeMap<String, V>, name: &str) -> &'a mut V {
    if !map.contains_key(name) {
        map.insert(name.to_owned(), V::default());
    }
    #[expect(clippy::expect_used, reason = "it was inserted just now if it was not there")]
    map.get_mut(name).expect("it is there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_statuses_and_what_they_sum_to_are_bounded() {
        let mut statistics = Statistics::default();
        for n in 0..10_000_u64 {
            let status = u16::try_from(100 + n % 500).ok();
            statistics.upstream(&format!("host{n}:443")).attempt(status, "", false, n);
            statistics.upstream("host0:443").attempt(status, "", false, n);
        }
        assert_eq!(statistics.upstreams.len(), MAX_UPSTREAMS + 1);
        let (first, others) = (&statistics.upstreams["host0:443"], &statistics.upstreams[OTHERS]);
        assert_eq!((first.attempts(), first.statuses.len()), (10_001, MAX_STATUSES));
        assert_eq!(others.attempts(), 10_000 - u64::try_from(MAX_UPSTREAMS).unwrap_or(0));
        let json = serde_json::to_string(&statistics).unwrap_or_default();
        assert!(json.len() < 100_000, "{}", json.len());
    }

    #[test]
    fn what_two_workers_counted_adds_up() -> Result<(), serde_json::Error> {
        let mut one = Statistics::default();
        count(&mut one.completed, "call");
        one.upstream("a:80").attempt(Some(200), "", true, 5);
        let mut other = Statistics::default();
        count(&mut other.completed, "call");
        count(&mut other.dead, "rejected");
        other.upstream("a:80").attempt(None, "timeout", false, 900);
        other.upstream("a:80").retries += 1;
        let read: Statistics = serde_json::from_str(&serde_json::to_string(&other)?)?;
        assert_eq!(read, other);
        one.add(&read);
        let upstream = &one.upstreams["a:80"];
        assert_eq!((one.completed["call"], one.dead["rejected"]), (2, 1));
        assert_eq!((upstream.attempts(), upstream.good, upstream.retries), (2, 1, 1));
        assert!(!one.is_empty() && Statistics::default().is_empty());
        Ok(())
    }
}
