//! The settings, from the file that workers read too. What only workers need in it is not looked at here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use redial_core::QueueName;
use redial_core::protocol::credentials;
use redial_core::protocol::id::is_upstream_name;
use redial_core::served_hosts::ServedHosts;
use redial_core::shown::redact;
use redial_traces::collector::TraceSettings;
use serde::Deserialize;
use serde::de::IgnoredAny;
use url::Url;

use crate::tls::GatewayCertificate;
use crate::tokens::{EnvironmentToken, GatewayToken, TOKEN_VARIABLE, TokenFields};

/// The file that is read if none is named and if it exists.
const DEFAULT_FILE: &str = "redial.toml";
/// The longest time that a request may be set to wait: a day.
const MAX_WAIT_MS: u64 = 24 * 3600 * 1000;

/// How many connections there may be besides those that wait.
const MORE_CONNECTIONS: usize = 1_000;

/// The settings of a gateway, validated.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Where it listens. Default: port 8080 of 127.0.0.1.
    pub listen: SocketAddr,
    /// Where Redis is, if the file says so.
    pub redis_url: Option<String>,
    /// The prefix of every key in Redis, if the file says so.
    pub prefix: Option<String>,
    /// The queue of those who name none.
    pub queue: QueueName,
    pub(crate) max_waiting: usize,
    pub(crate) max_wait: Duration,
    /// With it, connections are encrypted.
    pub(crate) certificate: Option<GatewayCertificate>,
    pub(crate) access: AccessRules,
    pub(crate) traces: TraceSettings,
}

/// Who may use the gateway, and for which upstreams: the settings that may change while it runs.
#[derive(Debug, Clone)]
pub(crate) struct AccessRules {
    /// The origins of web pages that may use it.
    pub origins: Vec<String>,
    /// The names under which it is served, if it has tokens.
    pub hosts: ServedHosts,
    pub tokens: Vec<GatewayToken>,
    pub upstreams: Vec<UpstreamTarget>,
}

/// What the command line and the environment say, which takes precedence over the file.
#[derive(Debug, Clone, Default)]
pub struct GatewayArgs {
    /// Where to listen.
    pub listen: Option<SocketAddr>,
    /// The file of the certificate.
    pub tls_certificate_file: Option<PathBuf>,
    /// The file of its key.
    pub tls_key_file: Option<PathBuf>,
    /// The queue of those who name none.
    pub queue: Option<QueueName>,
    /// A token that opens everything, besides those of the file.
    pub token: Option<EnvironmentToken>,
}

/// An `[[upstream]]` block, as far as the gateway is concerned.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamTarget {
    /// Its name in the gateway's paths, if it has one.
    pub name: Option<String>,
    /// What its URLs begin with.
    pub url: Url,
    /// Whether workers add credentials to its calls. Then the caller's are not needed, and do not enter Redis.
    pub has_credentials: bool,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// The file cannot be read.
    #[error("{}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// It is not TOML, or a setting has the wrong type.
    #[error("{}: {}", path.display(), redact::settings_message(&cause.to_string()))]
    NotToml {
        /// The file.
        path: PathBuf,
        /// What the parser found.
        cause: Box<toml::de::Error>,
    },
    /// A setting has a value that it cannot have.
    #[error("{0}")]
    Value(String),
}

/// The file as written.
#[derive(Debug, Default, Deserialize)]
struct RawSettings {
    #[serde(default)]
    redis_url: String,
    prefix: Option<String>,
    #[serde(default)]
    gateway: RawGateway,
    #[serde(default)]
    token: Vec<TokenFields>,
    #[serde(skip)]
    environment_token: Option<EnvironmentToken>,
    #[serde(default)]
    upstream: Vec<RawTarget>,
    #[serde(default)]
    traces: RawTraces,
}

/// The `[traces]` table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTraces {
    endpoint: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGateway {
    listen: Option<String>,
    queue: Option<String>,
    max_waiting: Option<usize>,
    max_wait_ms: Option<u64>,
    #[serde(default)]
    origins: Vec<String>,
    #[serde(default)]
    hosts: Vec<String>,
    tls_certificate_file: Option<PathBuf>,
    tls_key_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct RawTarget {
    url: String,
    name: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    oauth: Option<IgnoredAny>,
    aws: Option<IgnoredAny>,
}

impl GatewayConfig {
    /// Reads the settings from `file`, or else from `redial.toml` in the current directory if it exists.
    ///
    /// # Errors
    /// The file cannot be read, or a setting is invalid: for example an address that others can reach, without tokens.
    pub fn load(file: Option<&Path>, args: GatewayArgs) -> Result<Self, InvalidConfig> {
        let mut raw = match file {
            Some(path) => read(path)?,
            None if Path::new(DEFAULT_FILE).exists() => read(Path::new(DEFAULT_FILE))?,
            None => RawSettings::default(),
        };
        raw.gateway.tls_certificate_file = args.tls_certificate_file.or(raw.gateway.tls_certificate_file);
        raw.gateway.tls_key_file = args.tls_key_file.or(raw.gateway.tls_key_file);
        raw.environment_token = args.token;
        let mut config = raw.check(args.listen).map_err(InvalidConfig::Value)?;
        config.queue = args.queue.unwrap_or(config.queue);
        Ok(config)
    }

    /// How many connections there may be at a time, and how many requests.
    pub(crate) fn max_connections(&self) -> usize {
        self.max_waiting + MORE_CONNECTIONS
    }

    /// The settings in which this differs from those of a running gateway, and which that cannot change.
    pub(crate) fn differences(&self, running: &Self) -> Vec<&'static str> {
        let settings = [
            ("listen", self.listen == running.listen),
            ("redis_url", self.redis_url == running.redis_url),
            ("prefix", self.prefix == running.prefix),
            ("queue", self.queue == running.queue),
            ("max_waiting", self.max_waiting == running.max_waiting),
            ("max_wait_ms", self.max_wait == running.max_wait),
            ("tls_certificate_file, tls_key_file", self.certificate == running.certificate),
            ("[traces]", self.traces == running.traces),
        ];
        settings.iter().filter(|(_, is_same)| !is_same).map(|(name, _)| *name).collect()
    }
}

impl AccessRules {
    /// Whether the gateway serves whoever reaches it, which only programs on this machine can.
    pub fn is_open(&self) -> bool {
        self.tokens.is_empty()
    }
}

fn read(path: &Path) -> Result<RawSettings, InvalidConfig> {
    let unreadable = |cause| InvalidConfig::Unreadable { path: path.to_owned(), cause };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    toml::from_str(&text).map_err(|cause| InvalidConfig::NotToml { path: path.to_owned(), cause: Box::new(cause) })
}

impl RawSettings {
    fn check(self, listen: Option<SocketAddr>) -> Result<GatewayConfig, String> {
        let listen = match (listen, &self.gateway.listen) {
            (Some(listen), _) => listen,
            (None, Some(text)) => text
                .parse()
                .map_err(|_| format!("[gateway] listen is {text:?}: use address:port, such as 127.0.0.1:8080"))?,
            (None, None) => SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
        };
        let tokens = self.token.into_iter().map(TokenFields::check);
        let tokens = tokens.chain(self.environment_token.map(|token| Ok(token.into())));
        let tokens: Vec<GatewayToken> = tokens.collect::<Result<_, _>>()?;
        if !listen.ip().is_loopback() && tokens.is_empty() {
            return Err(format!(
                "listen is {listen}, which others can reach, and there is no [[token]]: whoever reaches it could make calls with \
                 your credentials. Add a [[token]] to the settings, set {TOKEN_VARIABLE}, or listen on 127.0.0.1; \
                 docs/gateway.md shows all of them"
            ));
        }
        let max_wait_ms = self.gateway.max_wait_ms.unwrap_or(3_600_000);
        if !(1000..=MAX_WAIT_MS).contains(&max_wait_ms) {
            return Err(format!("[gateway] max_wait_ms is {max_wait_ms}: use 1000 to {MAX_WAIT_MS}"));
        }
        let max_waiting = self.gateway.max_waiting.unwrap_or(20_000);
        if !(1..=1_000_000).contains(&max_waiting) {
            return Err(format!("[gateway] max_waiting is {max_waiting}: use 1 to 1000000"));
        }
        for origin in &self.gateway.origins {
            let parsed = Url::parse(origin).ok().map(|url| url.origin().ascii_serialization());
            if parsed.as_ref() != Some(origin) {
                return Err(format!("[gateway] origins: {origin:?} is not an origin, such as https://app.example.com"));
            }
        }
        let certificate = self.gateway.certificate()?;
        let hosts = self.gateway.hosts(!tokens.is_empty())?;
        let upstreams = targets(self.upstream)?;
        for (token, name) in tokens.iter().flat_map(|token| token.upstreams.iter().map(move |name| (&token.name, name)))
        {
            if !upstreams.iter().any(|target| target.name.as_ref() == Some(name)) {
                return Err(format!("[[token]] {token:?}: no [[upstream]] has the name {name:?}"));
            }
        }
        let queue = self.gateway.queue.as_deref().unwrap_or("default");
        Ok(GatewayConfig {
            listen,
            redis_url: Some(self.redis_url).filter(|url| !url.is_empty()),
            prefix: self.prefix,
            queue: QueueName::new(queue).map_err(|error| format!("[gateway] queue: {error}"))?,
            max_waiting,
            max_wait: Duration::from_millis(max_wait_ms),
            certificate,
            access: AccessRules { origins: self.gateway.origins, hosts, tokens, upstreams },
            traces: TraceSettings { endpoint: Some(self.traces.endpoint).filter(|endpoint| !endpoint.is_empty()) },
        })
    }
}

impl RawGateway {
    fn certificate(&self) -> Result<Option<GatewayCertificate>, String> {
        match (&self.tls_certificate_file, &self.tls_key_file) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                Ok(Some(GatewayCertificate { certificate: certificate.clone(), key: key.clone() }))
            }
            (Some(_), None) => {
                Err("[gateway] tls_certificate_file needs tls_key_file; both may name the same file".into())
            }
            (None, Some(_)) => {
                Err("[gateway] tls_key_file needs tls_certificate_file; both may name the same file".into())
            }
        }
    }

    fn hosts(&self, has_tokens: bool) -> Result<ServedHosts, String> {
        if !self.hosts.is_empty() && !has_tokens {
            return Err(
                "[gateway] hosts is for a gateway with tokens: without a [[token]] it serves this machine only, \
                        as localhost, 127.0.0.1 and [::1]"
                    .into(),
            );
        }
        if let Some(host) = self.hosts.iter().find(|host| !is_host(host)) {
            return Err(format!(
                "[gateway] hosts: {host:?} is not the name of a host, such as redial.example.com, without scheme and port"
            ));
        }
        Ok(ServedHosts::new(self.hosts.iter().map(String::as_str)))
    }
}

fn is_host(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// The blocks, the longest URL first: of two that match, it is the more specific one, as for workers.
fn targets(blocks: Vec<RawTarget>) -> Result<Vec<UpstreamTarget>, String> {
    let mut names = BTreeSet::new();
    let mut targets = Vec::new();
    for block in blocks {
        let url = Url::parse(&block.url)
            .map_err(|error| format!("[[upstream]] {:?}: url: {error}", redact::url(&block.url)))?;
        if let Some(name) = &block.name {
            if !is_upstream_name(name) {
                return Err(format!(
                    "[[upstream]] {:?}: its name is {name:?}: use 1 to 64 letters, digits, dots, dashes and underscores",
                    redact::url(&block.url)
                ));
            }
            if !names.insert(name.clone()) {
                return Err(format!(
                    "[[upstream]] {:?}: its name {name:?} is that of another block",
                    redact::url(&block.url)
                ));
            }
        }
        let has_credentials = block.oauth.is_some()
            || block.aws.is_some()
            || block.headers.keys().any(|name| credentials::is_identity(name));
        targets.push(UpstreamTarget { name: block.name, url, has_credentials });
    }
    targets.sort_by_key(|target| std::cmp::Reverse(target.url.as_str().len()));
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, listen: Option<&str>) -> Result<GatewayConfig, String> {
        let raw: RawSettings = toml::from_str(text).map_err(|error| error.to_string())?;
        raw.check(listen.and_then(|listen| listen.parse().ok()))
    }

    #[test]
    fn the_settings_of_workers_are_left_alone_and_the_longest_url_comes_first() -> Result<(), String> {
        let text = r#"
            redis_url = "redis://r"
            concurrency = 9
            [gateway]
            queue = "front"
            [[upstream]]
            url = "https://api.example.com/"
            name = "api"
            headers = { X-Api-Key = "${KEY}" }
            limits = ["l"]
            [[upstream]]
            url = "https://api.example.com/v2/"
        "#;
        let config = check(text, None)?;
        assert_eq!((config.redis_url.as_deref(), config.queue.as_str()), (Some("redis://r"), "front"));
        let targets: Vec<_> = config.access.upstreams.iter().map(|t| (t.name.as_deref(), t.has_credentials)).collect();
        assert_eq!(targets, [(None, false), (Some("api"), true)]);
        Ok(())
    }

    #[test]
    fn an_invalid_setting_is_named_with_what_to_do() {
        let hash = "0".repeat(64);
        let token = format!("[[token]]\nname = \"ci\"\nhash = \"sha256:{hash}\"\n");
        for (text, listen, says) in [
            ("", Some("0.0.0.0:80"), "there is no [[token]]"),
            ("[gateway]\nlisten = \"8080\"", None, "use address:port"),
            ("[gateway]\nlisen = \"8080\"", None, "unknown field `lisen`"),
            ("[gateway]\nmax_waiting = 0", None, "max_waiting is 0"),
            ("[gateway]\nmax_wait_ms = 5", None, "max_wait_ms is 5"),
            ("[gateway]\ntls_key_file = \"key.pem\"", None, "needs tls_certificate_file"),
            ("[gateway]\ntls_certificate_file = \"cert.pem\"", None, "needs tls_key_file"),
            ("[gateway]\nhosts = [\"a.example\"]", None, "hosts is for a gateway with tokens"),
            (&format!("[gateway]\nhosts = [\"https://a.example\"]\n{token}"), None, "is not the name of a host"),
            ("[gateway]\nqueue = \"a{b\"", None, "[gateway] queue"),
            ("[[upstream]]\nurl = \"https://h/\"\nname = \"a/b\"", None, "its name is \"a/b\""),
            ("[[token]]\nname = \"ci\"\nhash = \"secret\"", None, "sha256sum"),
            (&format!("{token}upstreams = [\"x\"]"), None, "no [[upstream]] has the name \"x\""),
            (&format!("{token}tenant = \"a.b\""), None, "tenant is \"a.b\""),
            (&format!("{token}acces = \"read\""), None, "unknown field `acces`"),
        ] {
            let error = check(text, listen).map(|_| ());
            assert!(error.as_ref().is_err_and(|error| error.contains(says)), "{text}: {error:?}");
        }
        assert!(check(&token, Some("0.0.0.0:80")).is_ok());
    }
}
