//! What an operator should know about the Redis that a worker uses, said once at the start.

use redial_core::Db;

/// The oldest Redis that has every command that the scripts use.
const OLDEST_REDIS: Version = Version(6, 2, 0);
/// The releases of Redis that are free of CVE-2025-49844, in which a script can take over the server, one for each line that was mended
/// (<https://redis.io/blog/security-advisory-cve-2025-49844/>). A line that is not here was not mended, or came later.
const MENDED_REDIS: [Version; 5] =
    [Version(6, 2, 20), Version(7, 2, 11), Version(7, 4, 6), Version(8, 0, 4), Version(8, 2, 2)];
/// The same for Valkey (<https://github.com/valkey-io/valkey/security/advisories>).
const MENDED_VALKEY: [Version; 3] = [Version(7, 2, 11), Version(8, 0, 6), Version(8, 1, 4)];

/// Asks every node that takes writes, and logs what endangers the promises of the documentation. A user without the right to ask is not
/// told anything.
pub async fn report(db: Db) {
    match db.server_info().await {
        Ok(nodes) => {
            for (node, info) in nodes {
                for warning in warnings(&info) {
                    tracing::warn!(redis = node, "{warning}");
                }
                // Not a warning, since distributions mend a version without changing its number.
                if let Some(flaw) = known_flaw(&info) {
                    tracing::info!(redis = node, "{flaw}");
                }
            }
        }
        Err(error) => tracing::debug!(%error, "could not ask Redis for its version and settings"),
    }
}

/// A version of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32, u32);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|number| number.parse().ok());
        Some(Self(numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
    }

    /// Whether this version is of the same line as one in which a flaw was mended and not older, or of a later line than all of them.
    fn is_mended(self, mended: &[Self]) -> bool {
        let of_line = mended.iter().find(|release| (release.0, release.1) == (self.0, self.1));
        of_line.map_or_else(|| mended.iter().all(|release| self > *release), |release| self >= *release)
    }
}

/// What is dangerous about a server, from the text of its `INFO`.
fn warnings(info: &str) -> Vec<String> {
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.trim_end().split_once(':').filter(|(field, _)| *field == name))
            .map(|(_, value)| value)
    };
    let mut warnings = Vec::new();
    if let Some(policy) = field("maxmemory_policy").filter(|policy| *policy != "noeviction") {
        warnings.push(format!(
            "Redis may evict keys (maxmemory-policy is {policy}): memos, limits and results can vanish, and a call that must be made only once \
             can be made twice; set maxmemory-policy to noeviction"
        ));
    }
    if field("aof_enabled") == Some("0") {
        warnings.push(
            "Redis keeps no append-only file: a crash of Redis loses every task since its last snapshot; set appendonly to yes".to_owned(),
        );
    }
    if field("role") == Some("slave") {
        warnings.push(
            "this Redis is a replica and refuses writes: no task is claimed; set REDIS_URL to the master, or to \
             redis-sentinel://host:26379/name"
                .to_owned(),
        );
    }
    let is_old = |version: &&str| Version::parse(version).is_some_and(|version| version < OLDEST_REDIS);
    if let Some(version) = field("redis_version").filter(is_old) {
        warnings.push(format!("Redis {version} is too old: use 6.2 or later, or Valkey"));
    }
    warnings
}

/// The flaw that the version of a server has by its number, from the text of its `INFO`.
fn known_flaw(info: &str) -> Option<String> {
    let (server, version, mended) = match field(info, "valkey_version") {
        Some(version) => ("Valkey", version, &MENDED_VALKEY[..]),
        None => ("Redis", field(info, "redis_version")?, &MENDED_REDIS[..]),
    };
    (!Version::parse(version)?.is_mended(mended)).then(|| {
        format!(
            "{server} {version} has the flaw CVE-2025-49844, by which anyone who may run scripts can take over the server, unless your \
             distribution has mended it: upgrade it, or let no one but workers and operators run EVAL and EVALSHA"
        )
    })
}

/// The value of a line of `INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let fields = info.lines().filter_map(|line| line.trim_end().split_once(':'));
    fields.filter(|(field, _)| *field == name).map(|(_, value)| value).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `INFO` of a server that differs from a good one in these lines.
    fn info(lines: &str) -> String {
        let good = "role:master\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\nredis_version:8.2.2\r\n";
        // The first line of a name counts.
        format!("# Server\r\n{lines}\r\n{good}")
    }

    fn said(lines: &str) -> Vec<String> {
        warnings(&info(lines))
    }

    #[test]
    fn each_danger_is_told_and_a_good_server_is_not_mentioned() {
        assert_eq!(said(""), Vec::<String>::new());
        for (lines, expected) in [
            ("maxmemory_policy:allkeys-lru", "maxmemory-policy is allkeys-lru"),
            ("aof_enabled:0", "no append-only file"),
            ("role:slave", "is a replica"),
        ] {
            let said = said(lines);
            assert!(said.len() == 1 && said[0].contains(expected), "{lines}: {said:?}");
        }
        assert_eq!(warnings(""), Vec::<String>::new(), "a proxy that answers something else");
    }

    #[test]
    fn old_and_flawed_versions_are_told_from_good_ones() {
        let is_flawed = |version: &str| known_flaw(&info(version)).is_some();
        for version in ["6.2.19", "7.0.15", "7.2.10", "7.4.5", "8.0.3", "8.2.1"] {
            assert!(is_flawed(&format!("redis_version:{version}")), "{version}");
        }
        for version in
            ["6.2.20", "6.2.21", "7.2.11", "7.4.6", "7.4.7", "8.0.4", "8.2.2", "8.4.0", "9.0.0", "255.255.255"]
        {
            assert!(!is_flawed(&format!("redis_version:{version}")), "{version}");
        }
        for (version, expected) in [
            ("7.2.10", true),
            ("8.0.5", true),
            ("8.1.3", true),
            ("7.2.11", false),
            ("8.0.6", false),
            ("8.1.4", false),
            ("9.0.0", false),
        ] {
            assert_eq!(
                is_flawed(&format!("redis_version:7.2.4\r\nvalkey_version:{version}")),
                expected,
                "Valkey {version}"
            );
        }
        let is_old =
            |version: &str| said(&format!("redis_version:{version}")).iter().any(|warning| warning.contains("too old"));
        assert!(is_old("6.0.16") && is_old("5.0.14") && !is_old("6.2.20"));
    }
}
