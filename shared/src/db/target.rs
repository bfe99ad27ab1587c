//! Where Redis is: the parsed `REDIS_URL`.

use std::fmt;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, TlsCertificates};

use super::options::{AddressOptions, take_options};
use crate::Error;

/// Where Redis is.
#[derive(Debug, Clone)]
pub enum Target {
    /// One node: `redis://`, `rediss://` (TLS), `unix://`.
    Node(Box<ConnectionInfo>),
    /// Some nodes of a Cluster: `redis-cluster://host:port,host:port`, `rediss-cluster://`.
    Cluster(Vec<ConnectionInfo>),
    /// Some Sentinels and the name of the master: `redis-sentinel://host:port,host:port/name`, `rediss-sentinel://`.
    /// User and password are for the master; options after a `?` are for the Sentinels, which are asked over TLS as well unless those say
    /// otherwise.
    Sentinel {
        /// The Sentinels, each with TLS and login as they want it.
        sentinels: Vec<ConnectionInfo>,
        /// The name under which they know the master.
        master: String,
        /// User, password, database and TLS for the connection to the master.
        login: Box<ConnectionInfo>,
        /// Certificates for that connection.
        certificates: Option<TlsCertificates>,
    },
}

impl Target {
    /// Parses an address.
    ///
    /// # Errors
    /// The address is invalid ([`Error::Url`]). The message never contains the password.
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let (url, options) = take_options(url)?;
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(Error::Url("the scheme is missing".into()));
        };
        let (base, kind) = scheme.split_once('-').unwrap_or((scheme, ""));
        let certificates = options.certificates.as_ref();
        if kind != "sentinel" && options.is_for_sentinels() {
            return Err(Error::Url(
                "the options sentinel_tls, sentinel_user and sentinel_password need redis-sentinel://".into(),
            ));
        }
        match kind {
            "" => Ok(Self::Node(Box::new(node(&url, certificates)?))),
            "cluster" => Ok(Self::Cluster(nodes(base, rest, certificates)?)),
            "sentinel" => {
                let (rest, query) =
                    rest.split_once('?').map_or((rest, String::new()), |(rest, query)| (rest, format!("?{query}")));
                let (hosts, master) = rest
                    .rsplit_once('/')
                    .filter(|(_, name)| !name.is_empty())
                    .ok_or_else(|| Error::Url("the name of the master is missing at the end".into()))?;
                let (login, hosts) = split_login(hosts);
                let first = hosts.split(',').next().unwrap_or_default();
                let is_tls = options.sentinel_tls.unwrap_or(base == "rediss");
                let of_sentinels = options.certificates.as_ref().filter(|_| is_tls);
                let sentinels = nodes(if is_tls { "rediss" } else { "redis" }, hosts, of_sentinels)?.into_iter();
                Ok(Self::Sentinel {
                    sentinels: sentinels.map(|sentinel| options.log_in(sentinel)).collect(),
                    master: master.to_owned(),
                    login: Box::new(node(&format!("{base}://{login}{first}{query}"), certificates)?),
                    certificates: options.certificates,
                })
            }
            other => Err(Error::Url(format!("unknown kind {other:?}"))),
        }
    }
}

impl AddressOptions {
    fn is_for_sentinels(&self) -> bool {
        self.sentinel_tls.is_some() || self.sentinel_user.is_some() || self.sentinel_password.is_some()
    }

    /// Adds the login for Sentinels.
    fn log_in(&self, sentinel: ConnectionInfo) -> ConnectionInfo {
        let mut settings = sentinel.redis_settings().clone();
        if let Some(user) = &self.sentinel_user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.sentinel_password {
            settings = settings.set_password(password);
        }
        sentinel.set_redis_settings(settings)
    }
}

fn split_login(hosts: &str) -> (&str, &str) {
    match hosts.rfind('@') {
        Some(at) => hosts.split_at(at + 1),
        None => ("", hosts),
    }
}

fn nodes(scheme: &str, rest: &str, certificates: Option<&TlsCertificates>) -> Result<Vec<ConnectionInfo>, Error> {
    let (rest, query) = rest.split_once('?').map_or((rest, String::new()), |(rest, query)| (rest, format!("?{query}")));
    let (login, hosts) = split_login(rest.trim_end_matches('/'));
    hosts.split(',').map(|host| node(&format!("{scheme}://{login}{host}{query}"), certificates)).collect()
}

fn node(url: &str, certificates: Option<&TlsCertificates>) -> Result<ConnectionInfo, Error> {
    let info = url.into_connection_info().map_err(|error| {
        let what = error.to_string();
        // The parser may quote the address, and the address may contain a password.
        let safe = if what.contains('@') { "it cannot be parsed".to_owned() } else { what };
        Error::Url(safe)
    })?;
    let info = info.set_tcp_settings(tcp());
    let Some(certificates) = certificates else { return Ok(info) };
    if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        return Err(Error::Url("certificates need TLS: use rediss:// (rediss-cluster://, rediss-sentinel://)".into()));
    }
    let client = Client::build_with_tls(info, certificates.clone());
    let client = client.map_err(|error| Error::Url(format!("a certificate or key cannot be used: {error}")))?;
    Ok(client.get_connection_info().clone())
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
            ("rediss-sentinel://h:1/main?sentinel_password=geheim", "master main of sentinels h:1"),
            ("redis-cluster://h:1,i:2?protocol=resp3", "cluster h:1,i:2"),
        ] {
            assert_eq!(Target::parse(url)?.to_string(), shown);
        }
        Ok(())
    }

    #[test]
    fn an_invalid_address_is_refused_without_revealing_its_password() {
        for url in [
            "localhost:6379",
            "http://x",
            "redis-foo://h:1",
            "redis-sentinel://h:1",
            "redis://:geheim@:x",
            "redis://h?sentinel_password=geheim",
            "redis-sentinel://h/m?sentinel_pasword=geheim",
        ] {
            let error = Target::parse(url).map(|target| target.to_string());
            assert!(error.is_err(), "{url}: {error:?}");
            assert!(!format!("{error:?}").contains("geheim"), "{error:?}");
        }
    }
}
