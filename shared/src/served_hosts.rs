//! Under which names a server answers: a worker its metrics, the gateway everything.
//!
//! A web page can make a name of its own resolve to any address (DNS rebinding), and then the browser of someone who can reach the server
//! lets it read what the server answers. `Host` tells, because the page cannot change it: it is the page's own name.

use std::net::{IpAddr, Ipv6Addr};

/// Endings of names that nobody can register: those of RFC 6761 and RFC 6762, of RFC 8375, and ICANN's for private use, as well as what
/// Kubernetes appends to the names of services.
const PRIVATE_SUFFIXES: [&str; 6] = [".localhost", ".local", ".internal", ".home.arpa", ".test", ".svc"];

/// The names under which a server answers.
#[derive(Debug, Clone, Default)]
pub struct ServedHosts {
    /// Those of the settings, in lower case.
    names: Vec<String>,
}

impl ServedHosts {
    /// Serves these names as well.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { names: names.into_iter().map(normalized).collect() }
    }

    /// Whether a request with this `Host` is served: it names an address, a name that only a private network can have, or one of the
    /// settings.
    pub fn serves(&self, host: &str) -> bool {
        if let Some((literal, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            return literal.parse::<Ipv6Addr>().is_ok();
        }
        let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
        let name = normalized(name);
        let is_address = name.parse::<IpAddr>().is_ok();
        // A name of one label is of this machine, of a container or of the search domain.
        let is_label =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        let is_private = || PRIVATE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
        is_address || is_label || is_private() || self.names.contains(&name)
    }
}

fn normalized(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_private_names_and_configured_ones_are_served() {
        let hosts = ServedHosts::new(["Metrics.Example.com"]);
        for host in [
            "127.0.0.1:9464",
            "10.1.2.3",
            "[::1]:9464",
            "[fd00::1]",
            "localhost:9464",
            "LOCALHOST.",
            "redial-worker:9464",
            "worker_1",
            "worker.jobs.svc:9464",
            "worker.jobs.svc.cluster.local",
            "host.docker.internal:9464",
            "metrics.example.com:443",
            "METRICS.example.com.",
        ] {
            assert!(hosts.serves(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9464",
            "metrics.example.com.evil.example",
            "127.0.0.1.evil.example",
            "",
            ":80",
            "a@b.c",
            "[evil]",
        ] {
            assert!(!hosts.serves(host), "{host}");
        }
        assert!(!ServedHosts::default().serves("metrics.example.com"));
    }
}
