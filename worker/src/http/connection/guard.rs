//! The target guard: which addresses a call may reach.
//!
//! Whoever can push a task can make this machine send requests. So calls reach only public unicast addresses, unless the
//! configuration allows more. The check applies to the address that is connected to, after DNS, so that a name cannot be rebound
//! between check and use. Address literals bypass the resolver and are checked separately.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use redial_core::container;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::names::Names;
use super::networks::{embedded_v4, is_public, isatap_v4};

/// Which addresses may be called.
#[derive(Debug, Clone)]
pub struct Guard {
    allowed: Arc<[IpNet]>,
    names: Names,
}

/// A target that must not be called.
#[derive(Debug, thiserror::Error)]
#[error("{} not a public address; {}", target(host, *address), advice_about(*address))]
pub struct Forbidden {
    host: String,
    address: IpAddr,
}

/// The beginning of the message. A host that is an address itself is not named twice.
fn target(host: &str, address: IpAddr) -> String {
    let is_literal = host.trim_matches(['[', ']']) == address.to_string();
    if is_literal { format!("{address} is") } else { format!("{host} is at {address}, which is") }
}

/// How the operator allows it.
fn advice_about(address: IpAddr) -> &'static str {
    if !container::is_inside() {
        "REDIAL_ALLOW_PRIVATE can allow its network"
    } else if address.is_loopback() {
        "in a container, that is the container itself: call a program on the host as host.docker.internal and one in another container \
         by the name of its service, and allow their network by REDIAL_ALLOW_PRIVATE in the worker's environment"
    } else {
        "REDIAL_ALLOW_PRIVATE in the environment of the worker's container (.env of docker compose, env of the Deployment) can allow its \
         network"
    }
}

impl Guard {
    /// Allows public addresses and, in addition, these networks.
    pub fn new(allowed: &[IpNet], names: Names) -> Self {
        Self { allowed: allowed.into(), names }
    }

    /// Checks a URL whose host is an address. The URL parser has already normalized its spelling (`0x7f.1`, `2130706433`).
    ///
    /// # Errors
    /// The address is not allowed. A host name passes: [`Resolve`] checks the addresses that it resolves to.
    pub fn check_literal(&self, url: &Url) -> Result<(), Forbidden> {
        let address = match url.host() {
            Some(Host::Ipv4(v4)) => IpAddr::V4(v4),
            Some(Host::Ipv6(v6)) => IpAddr::V6(v6),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if self.allows(address) {
            return Ok(());
        }
        Err(Forbidden { host: url.host_str().unwrap_or_default().to_owned(), address })
    }

    /// The same names, and no bounds on their addresses: for what the operator chose, and no task.
    pub fn without_bounds(&self) -> Self {
        let everything = ["0.0.0.0/0", "::/0"].map(|net| net.parse().ok());
        Self { allowed: everything.into_iter().flatten().collect(), names: self.names.clone() }
    }

    fn allows(&self, address: IpAddr) -> bool {
        let address = embedded_v4(address).map_or(address, IpAddr::V4);
        let is_allowed = |address: IpAddr| is_public(address) || self.allowed.iter().any(|net| net.contains(&address));
        is_allowed(address) && isatap_v4(address).is_none_or(|inner| is_allowed(inner.into()))
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let host = name.as_str();
            let found = guard.names.addresses(host).await?;
            let (allowed, forbidden): (Vec<IpAddr>, Vec<_>) = found.iter().partition(|found| guard.allows(**found));
            match forbidden.first() {
                Some(address) if allowed.is_empty() => {
                    Err(Forbidden { host: host.to_owned(), address: *address }.into())
                }
                _ => Ok(Box::new(allowed.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::connection::name_servers::NameServers;

    fn guard(allowed: &[IpNet]) -> Guard {
        Guard::new(allowed, Names::new(&NameServers::Library, 1_000))
    }

    fn checked(url: &str, allowed: &[&str]) -> bool {
        let nets: Vec<IpNet> = allowed.iter().filter_map(|net| net.parse().ok()).collect();
        Url::parse(url).is_ok_and(|url| guard(&nets).check_literal(&url).is_ok())
    }

    #[test]
    fn no_spelling_of_a_private_address_passes() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[2001::1]",
            "[fe80::1]",
            "[fc00::1]",
            "[fd00:ec2::254]",
            "[ff02::1]",
            "[2001:db8::1]",
            "[::127.0.0.1]",
            "[2606:4700::5efe:10.0.0.1]",
            "[2606:4700::200:5efe:127.0.0.1]",
            "[::ffff:0:127.0.0.1]",
            "[64:ff9b:1::7f00:1]",
            "[3fff::1]",
            "[5f00::1]",
        ] {
            assert!(!checked(&format!("http://{host}/"), &[]), "{host}");
        }
    }

    #[test]
    fn public_addresses_and_names_pass() {
        for host in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "223.255.255.1",
            "[2606:4700::1111]",
            "[2a00:1450::1]",
            "[2606:4700::5efe:1.1.1.1]",
            "example.com",
        ] {
            assert!(checked(&format!("http://{host}/"), &[]), "{host}");
        }
    }

    #[test]
    fn an_allowed_network_passes_in_every_spelling() {
        let allowed = ["127.0.0.0/8", "fd00::/8"];
        for host in ["127.0.0.1", "0x7f.1", "[::ffff:127.0.0.1]", "[fd00::5]"] {
            assert!(checked(&format!("http://{host}/"), &allowed), "{host}");
        }
        assert!(!checked("http://10.0.0.1/", &allowed));
        assert!(!checked("http://[::1]/", &allowed));
    }

    #[test]
    fn the_message_names_an_address_once_and_a_name_with_its_address() {
        for (host, address, says) in [
            ("127.0.0.1", "127.0.0.1", "127.0.0.1 is not a public address; "),
            ("[::1]", "::1", "::1 is not a public address; "),
            ("intranet", "10.0.0.1", "intranet is at 10.0.0.1, which is not a public address; "),
        ] {
            let forbidden = address.parse().map(|address| Forbidden { host: host.to_owned(), address });
            assert!(forbidden.is_ok_and(|forbidden| forbidden.to_string().starts_with(says)), "{host}");
        }
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_private_address_is_refused() -> Result<(), Box<dyn std::error::Error>> {
        let refused = guard(&[]).resolve("localhost".parse()?).await;
        assert!(refused.is_err_and(|error| error.is::<Forbidden>()));
        let allowed = guard(&["127.0.0.0/8".parse()?, "::1/128".parse()?]).resolve("localhost".parse()?).await;
        assert!(allowed.is_ok());
        Ok(())
    }
}
