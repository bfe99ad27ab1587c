//! The settings. The environment overrides the file, which overrides the defaults in `config.default.toml`; that file explains each
//! setting.

mod limit;
mod lists;
mod pattern;
pub mod reload;
mod retry;
mod rules;
mod secrets;
mod tenant;
mod upstream;
mod webhook;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use ipnet::IpNet;
use redial_core::QueueName;
use redial_core::breaker::BreakerConfig;
use redial_core::db::embedded;
use redial_core::event::log::EventRetention;
use redial_core::served_hosts::ServedHosts;
use redial_core::shown::redact;
use redial_traces::collector::TraceSettings;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::http::connection::name_servers::NameServers;
use crate::observe::events::EventConfig;
pub use limit::LimitConfig;
use lists::{list, queues};
use reload::{RawReloadable, ReadSettings, ReloadableHandles, Reloader, SettingsSource};

pub use reload::Reloadable;
use rules::TaskMaxima;
pub use rules::TaskRules;
pub use secrets::SecretReader;
pub use tenant::Tenants;
pub use upstream::Upstreams;
pub use webhook::WebhookSecrets;

/// The defaults, each with an explanation.
pub const DEFAULTS: &str = include_str!("../../config.default.toml");

/// Where the metrics are served by default.
pub const DEFAULT_METRICS_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// The settings, validated.
#[derive(Debug, Clone)]
pub struct Config {
    pub redis_url: Option<String>,
    pub queues: Vec<(QueueName, u32)>,
    pub concurrency: usize,
    pub metrics_addr: Option<SocketAddr>,
    pub metrics_hosts: ServedHosts,
    pub allow_private: Vec<IpNet>,
    pub name_servers: NameServers,
    pub drain: Duration,
    pub lease: Duration,
    pub max_task_bytes: usize,
    pub max_answer_bytes: usize,
    pub max_answers_bytes: usize,
    pub max_stated_wait: Duration,
    pub max_free_waits: u32,
    pub cache_max_bytes: usize,
    pub idempotency_hold: Duration,
    pub breaker: BreakerConfig,
    pub upstreams: Reloadable<Upstreams>,
    pub tenants: Reloadable<Tenants>,
    pub webhook_secrets: Reloadable<WebhookSecrets>,
    pub limits: LimitConfig,
    pub rules: TaskRules,
    pub events: EventConfig,
    pub traces: TraceSettings,
    /// Whether what tasks do is counted for those who watch.
    pub statistics: bool,
    pub prefix: String,
    pub log: String,
    pub log_format: LogFormat,
    pub embedded_port: u16,
    pub embedded_password: bool,
    pub state_dir: PathBuf,
    /// Where all of this was read from.
    pub source: SettingsSource,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The `[traces]` table.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawTraces {
    endpoint: String,
}

/// The settings as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    redis_url: String,
    queues: String,
    concurrency: usize,
    metrics_addr: String,
    metrics_hosts: String,
    allow_private: String,
    name_servers: String,
    drain_ms: u64,
    lease_ms: u64,
    max_task_bytes: usize,
    max_answer_bytes: usize,
    max_answers_bytes: usize,
    max_timeout_ms: u64,
    max_attempts: u32,
    max_delay_ms: u64,
    max_result_ttl_ms: u64,
    max_stated_wait_ms: u64,
    max_free_waits: u32,
    cache_max_bytes: usize,
    idempotency_hold_ms: u64,
    breaker_calls: u32,
    breaker_failing_percent: f64,
    breaker_probe_ms: u64,
    retry_budget_percent: f64,
    retry_budget_per_s: f64,
    webhook_secret: String,
    events_per_s: u32,
    events_keep_ms: u64,
    events_max_bytes: usize,
    statistics: bool,
    #[serde(default)]
    retry: retry::RetryConfig,
    #[serde(default)]
    upstream: Vec<upstream::RawUpstream>,
    #[serde(default)]
    limit: Vec<limit::RawLimit>,
    #[serde(default)]
    traces: RawTraces,
    reply_lists: String,
    #[serde(default)]
    tenant: Vec<tenant::RawTenant>,
    /// The gateway's own settings, which are in the same file.
    #[serde(default, rename = "gateway")]
    _gateway: IgnoredAny,
    #[serde(default, rename = "token")]
    _token: IgnoredAny,
    prefix: String,
    log: String,
    log_format: LogFormat,
    embedded_port: u16,
    embedded_password: bool,
    state_dir: String,
}

impl Config {
    /// Reads the settings from `file`, or else from `redial.toml` in the current directory if it exists, and from the environment,
    /// as `var` gives it.
    ///
    /// # Errors
    /// The file cannot be read, or a setting is unknown or invalid.
    pub fn load(file: Option<&Path>, var: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let (all, raw) = read(file, &var)?;
        let source = SettingsSource { path: file.map(Path::to_owned), all, raw: raw.reloadable() };
        raw.check(source, &var)
    }

    /// What reloads the settings that can change while a worker runs with these.
    pub fn reloader(&self) -> Reloader {
        let load = |file: Option<&Path>| Self::load(file, |name| std::env::var(name).ok()).map(|config| config.source);
        let Self { source, limits, queues, upstreams, tenants, webhook_secrets, .. } = self.clone();
        let handles = ReloadableHandles { upstreams, tenants, webhook_secrets };
        Reloader::new(load, source, limits, queues, handles)
    }
}

/// Reads the settings, all of them as values and as what they should be.
fn read(
    file: Option<&Path>,
    var: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<(BTreeMap<String, config::Value>, RawConfig)> {
    use config::{File, FileFormat};
    let mut settings = config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
    settings = match file {
        Some(path) => settings.add_source(File::from(path).format(FileFormat::Toml)),
        None => settings.add_source(File::new("redial.toml", FileFormat::Toml).required(false)),
    };
    for name in names()? {
        let variable = variable(&name);
        if let Some(value) = var(&variable) {
            settings =
                settings.set_override(&name, value).with_context(|| format!("the environment variable {variable}"))?;
        }
    }
    let parse = |settings: config::Config| Ok((settings.clone().try_deserialize()?, settings.try_deserialize()?));
    let read = settings.build().and_then(parse).map_err(|error| anyhow!(redact::settings_message(&error.to_string())));
    read.context("settings can't be read; `redial-worker --print-config` shows all of them")
}

/// The environment variable of a setting.
fn variable(name: &str) -> String {
    match name {
        "redis_url" => "REDIS_URL".into(),
        "log" => "RUST_LOG".into(),
        name => format!("REDIAL_{}", name.to_ascii_uppercase()),
    }
}

fn names() -> anyhow::Result<Vec<String>> {
    let defaults =
        config::Config::builder().add_source(config::File::from_str(DEFAULTS, config::FileFormat::Toml)).build()?;
    Ok(defaults.try_deserialize::<BTreeMap<String, config::Value>>()?.into_keys().collect())
}

/// Variables that look like settings but are not, most likely because they are misspelled.
///
/// # Errors
/// The built-in defaults cannot be parsed, which a test rules out.
pub fn unknown_variables(given: impl Iterator<Item = String>) -> anyhow::Result<Vec<String>> {
    let known: Vec<String> = names()?.iter().map(|name| variable(name)).collect();
    Ok(given
        .filter(|name| {
            name.starts_with("REDIAL_")
                // Names the file, so it is not in it.
                && name != "REDIAL_CONFIG"
                && !name.starts_with("REDIAL_DEBUG_")
                // `redial serve` reads them.
                && !name.starts_with("REDIAL_GATEWAY_")
                && !known.contains(name)
        })
        .collect())
}

impl RawConfig {
    fn check(self, source: SettingsSource, var: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Config> {
        ensure!(self.concurrency >= 1, "concurrency is 0, so nothing could run: use at least 1");
        ensure!(
            self.lease_ms >= 1000,
            "lease_ms is {}: use at least 1000, since a worker under load may miss a heartbeat",
            self.lease_ms
        );
        ensure!(
            self.idempotency_hold_ms >= 1000,
            "idempotency_hold_ms is {}: use at least 1000, since a key that is not kept protects from nothing",
            self.idempotency_hold_ms
        );
        ensure!(
            !self.prefix.is_empty() && !self.prefix.contains(['{', '}']),
            "prefix is {:?}: use at least one character and no braces",
            self.prefix
        );
        ensure!(
            self.max_answers_bytes >= self.max_answer_bytes,
            "max_answers_bytes is {}: use at least max_answer_bytes, {}, since one answer may need as much",
            self.max_answers_bytes,
            self.max_answer_bytes
        );
        let metrics_addr = match self.metrics_addr.as_str() {
            "" => None,
            addr => Some(
                addr.parse()
                    .with_context(|| format!("metrics_addr is {addr:?}: use address:port, such as 127.0.0.1:9464"))?,
            ),
        };
        let allow_private = list(&self.allow_private)
            .map(|net| {
                net.parse::<IpNet>()
                    .or_else(|_| net.parse::<IpAddr>().map(IpNet::from))
                    .with_context(|| format!("allow_private holds {net:?}: use networks, such as 10.0.0.0/8"))
            })
            .collect::<Result<_, _>>()?;
        let breaker = self.breaker()?;
        ensure!(
            self.events_keep_ms >= 1000,
            "events_keep_ms is {}: use at least 1000; to record no events, set events_per_s = 0",
            self.events_keep_ms
        );
        let events = EventConfig {
            per_second: self.events_per_s,
            retention: EventRetention {
                time: Duration::from_millis(self.events_keep_ms),
                max_bytes: self.events_max_bytes,
            },
        };
        let limits = LimitConfig::new(self.limit)?;
        let queues = queues(&self.queues)?;
        let ReadSettings { upstreams, tenants, webhook_secrets, .. } = source.raw.read(&limits, &queues, var)?;
        let tenants = Reloadable::new(tenants);
        let rules = {
            let maxima = TaskMaxima {
                timeout_ms: self.max_timeout_ms,
                attempts: self.max_attempts,
                delay_ms: self.max_delay_ms,
                result_ttl_ms: self.max_result_ttl_ms,
            };
            TaskRules::new(list(&self.reply_lists), tenants.clone(), maxima)?
        };
        Ok(Config {
            redis_url: Some(self.redis_url).filter(|url| !url.is_empty()),
            queues,
            concurrency: self.concurrency,
            metrics_addr,
            metrics_hosts: ServedHosts::new(list(&self.metrics_hosts)),
            allow_private,
            name_servers: NameServers::parse(&self.name_servers)?,
            drain: Duration::from_millis(self.drain_ms),
            lease: Duration::from_millis(self.lease_ms),
            max_task_bytes: self.max_task_bytes,
            max_answer_bytes: self.max_answer_bytes,
            max_answers_bytes: self.max_answers_bytes,
            max_stated_wait: Duration::from_millis(self.max_stated_wait_ms),
            max_free_waits: self.max_free_waits,
            cache_max_bytes: self.cache_max_bytes,
            idempotency_hold: Duration::from_millis(self.idempotency_hold_ms),
            breaker,
            upstreams: Reloadable::new(upstreams),
            tenants,
            webhook_secrets: Reloadable::new(webhook_secrets),
            limits,
            rules,
            events,
            traces: TraceSettings { endpoint: Some(self.traces.endpoint).filter(|endpoint| !endpoint.is_empty()) },
            statistics: self.statistics,
            prefix: self.prefix,
            log: self.log,
            log_format: self.log_format,
            embedded_port: self.embedded_port,
            embedded_password: self.embedded_password,
            state_dir: state_dir(&self.state_dir)?,
            source,
        })
    }
}

impl RawConfig {
    /// What may change while the worker runs.
    fn reloadable(&self) -> RawReloadable {
        let Self { upstream, retry, tenant, webhook_secret, .. } = self;
        RawReloadable {
            upstream: upstream.clone(),
            retry: retry.clone(),
            tenant: tenant.clone(),
            webhook_secret: webhook_secret.clone(),
        }
    }

    fn breaker(&self) -> anyhow::Result<BreakerConfig> {
        ensure!(
            self.breaker_failing_percent > 0.0 && self.breaker_failing_percent <= 100.0,
            "breaker_failing_percent is {}: use more than 0 and at most 100; to turn breakers off, set breaker_calls = 0",
            self.breaker_failing_percent
        );
        ensure!(self.breaker_probe_ms >= 100, "breaker_probe_ms is {}: use at least 100", self.breaker_probe_ms);
        for (name, value) in
            [("retry_budget_percent", self.retry_budget_percent), ("retry_budget_per_s", self.retry_budget_per_s)]
        {
            ensure!(
                (0.0..=1e6).contains(&value),
                "{name} is {value}: use 0 to 1000000; 0 for both turns the retry budget off"
            );
        }
        Ok(BreakerConfig {
            min_calls: self.breaker_calls,
            failure_ratio: self.breaker_failing_percent / 100.0,
            probe_interval: Duration::from_millis(self.breaker_probe_ms),
            retry_ratio: self.retry_budget_percent / 100.0,
            retries_per_second: self.retry_budget_per_s,
        })
    }
}

/// Where state that should survive restarts belongs, according to the XDG Base Directory Specification.
fn state_dir(given: &str) -> anyhow::Result<PathBuf> {
    if !given.is_empty() {
        return Ok(given.into());
    }
    embedded::default_state_dir().context("state_dir is not set, and there is no home directory for its default")
}

#[cfg(test)]
mod tests;
