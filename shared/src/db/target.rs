//! Where Redis is: the parsed `REDIS_URL`.

use std::fmt;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{ConnectionInfo, IntoConnectionInfo as _};

use crate::Error;

/// Where Redis is.
#[derive(Debug, Clone)]
pub enum Target {
    /// One node: `redis://`, `rediss://` (TLS), `unix://`.
    Node(Box<ConnectionInfo>),
    /// Some nodes of a Cluster: `redis-cluster://host:port,host:port`, `rediss-cluster://`.
    Cluster(Vec<ConnectionInfo>),
    /// Some Sentinels and the name of the master: `redis-sentinel://host:port,host:port/name`, `rediss-sentinel://`.
    /// User and password are for the master.
    Sentinel {
        /// The Sentinels.
        sentinels: Vec<ConnectionInfo>,
        /// The name under which they know the master.
        master: String,
        /// User, password, database and TLS for the connection to the master.
        login: Box<ConnectionInfo>,
    },
}

impl Target {
    /// Parses an address.
    ///
    /// # Errors
    /// The address is invalid ([`Error::Url`]). The message never contains the password.
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(Error::Url("the scheme is missing".into()));
        };
        let (base, kind) = scheme.split_once('-').unwrap_or((scheme, ""));
        match kind {
            "" => Ok(Self::Node(Box::new(node(url)?))),
            "cluster" => Ok(Self::Cluster(nodes(base, rest)?)),
            "sentinel" => {
                let (hosts, master) = rest
                    .rsplit_once('/')
                    .filter(|(_, name)| !name.is_empty())
                    .ok_or_else(|| Error::Url("the name of the master is missing at the end".into()))?;
                let (login, hosts) = split_login(hosts);
                let first = hosts.split(',').next().unwrap_or_default();
                Ok(Self::Sentinel {
                    sentinels: nodes("redis", hosts)?,
                    master: master.to_owned(),
                    login: Box::new(node(&format!("{base}://{login}{first}"))?),
                })
            }
            other => Err(Error::Url(format!("unknown kind {other:?}"))),
        }
    }
}

fn split_login(hosts: &str) -> (&str, &str) {
    match hosts.rfind('@') {
        Some(at) => hosts.split_at(at + 1),
        None => ("", hosts),
    }
}

fn nodes(scheme: &str, rest: &str) -> Result<Vec<ConnectionInfo>, Error> {
    let (login, hosts) = split_login(rest.trim_end_matches('/'));
    hosts.split(',').map(|host| node(&format!("{scheme}://{login}{host}"))).collect()
}

fn node(url: &str) -> Result<ConnectionInfo, Error> {
    let info = url.into_connection_info().map_err(|error| {
        let what = error.to_string();
        // The parser may quote the address, and the address may contain a password.
        let safe = if what.contains('@') { "it cannot be parsed".to_owned() } else { what };
        Error::Url(safe)
    })?;
    Ok(info.set_tcp_settings(tcp()))
}

/// No Nagle delay for small commands, and a dead peer is noticed even while sent bytes are unacknowledged, or while nothing is sent
/// because a command blocks: within 6 s.
pub(super) fn tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(3)).with_interval(Duration::from_secs(1));
    TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive.with_retries(3))
        .set_user_timeout(Duration::from_secs(10))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |nodes: &[ConnectionInfo]| nodes.iter().map(|node| node.addr().to_string()).collect::<Vec<_>>().join(",");
        match self {
            Self::Node(node) => write!(f, "{}", node.addr()),
            Self::Cluster(nodes) => write!(f, "cluster {}", list(nodes)),
            Self::Sentinel { sentinels, master, .. } => {
                write!(f, "master {master} of sentinels {}", list(sentinels))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_address_is_parsed_and_displayed_without_its_password() -> Result<(), Error> {
        for (url, shown) in [
            ("redis://:geheim@h:1/2", "h:1"),
            ("redis-cluster://u:geheim@h:1,i:2", "cluster h:1,i:2"),
            ("redis-sentinel://:geheim@h:1,i:2/main", "master main of sentinels h:1,i:2"),
        ] {
            assert_eq!(Target::parse(url)?.to_string(), shown);
        }
        Ok(())
    }

    #[test]
    fn an_invalid_address_is_refused_without_revealing_its_password() {
        for url in ["localhost:6379", "http://x", "redis-foo://h:1", "redis-sentinel://h:1", "redis://:geheim@:x"] {
            let error = Target::parse(url).map(|target| target.to_string());
            assert!(error.is_err(), "{url}: {error:?}");
            assert!(!format!("{error:?}").contains("geheim"), "{error:?}");
        }
    }
}
