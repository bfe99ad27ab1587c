//! The `[[upstream]]` blocks: what the configuration says about the services that are called. The headers that a worker adds
//! stay with it, so their secrets never enter Redis.

mod authorization;
mod connection;

use anyhow::{Context as _, ensure};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use redial_core::Task;
use redial_core::protocol::credentials;
use redial_core::protocol::id::is_upstream_name;
use redial_core::protocol::task::TaskDefaults;
use redial_core::shown::redact;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use url::{Position, Url};

use super::pattern::NamePattern;
use super::retry::RetryConfig;
use super::secrets::SecretReader;
use crate::http::connection::transport::Transport;
use crate::http::credentials::oauth::OAuthClient;
use crate::http::credentials::sigv4::AwsSigner;
use crate::http::own_secrets::{OwnSecrets, has_scheme, in_header};
use crate::http::presets::{Preset, Presets};
use authorization::{RawAws, RawOAuth};
use connection::RawConnection;

/// All `[[upstream]]` blocks, and what is known about the upstreams that have none.
#[derive(Debug, Clone)]
pub struct Upstreams {
    blocks: Vec<Upstream>,
    presets: Presets,
    /// For the tasks of upstreams without a block.
    defaults: TaskDefaults,
}

#[derive(Debug, Clone)]
struct Upstream {
    /// What its URLs begin with.
    url: Url,
    /// The same without a user and password, which is its name where others can read it.
    name: String,
    /// The most calls that a worker may have in flight to it.
    max_in_flight: Option<usize>,
    headers: HeaderMap,
    /// Whose credentials these are, if the block says so.
    account: Option<HeaderValue>,
    /// What issues its access tokens.
    oauth: Option<OAuthClient>,
    /// What signs its calls.
    aws: Option<AwsSigner>,
    /// The names of the limits that apply to its calls.
    limits: Vec<String>,
    /// The names of limits that its responses may adjust when a task names them. `*` at the end stands for anything.
    adjusts: Vec<NamePattern>,
    /// Whether its calls have a breaker and a retry budget.
    breaker: bool,
    /// What is known about its API.
    preset: Preset,
    /// For its tasks.
    defaults: TaskDefaults,
    /// How it is connected to; `None`: like those without a block.
    transport: Option<Arc<Transport>>,
    /// What its answers must not contain: the secrets of all blocks of its origin, which redirects can reach.
    secrets: OwnSecrets,
}

/// A block as written.
#[derive(Clone, Deserialize)]
pub struct RawUpstream {
    url: String,
    /// What the gateway calls it in its own paths.
    name: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    account: Option<String>,
    oauth: Option<RawOAuth>,
    aws: Option<RawAws>,
    #[serde(default)]
    limits: Vec<String>,
    #[serde(default)]
    adjusts: Vec<NamePattern>,
    #[serde(default = "enabled")]
    breaker: bool,
    max_in_flight: Option<usize>,
    timeout_ms: Option<u64>,
    redirects: Option<u32>,
    #[serde(default)]
    retry: RetryConfig,
    /// The name of the preset to use, instead of the one that the host has.
    preset: Option<String>,
    #[serde(flatten)]
    connection: RawConnection,
    /// The words of a preset, which refuses those that it does not know.
    #[serde(flatten)]
    words: BTreeMap<String, config::Value>,
}

/// The name under which an account is part of a task's identity. It is never sent.
const ACCOUNT: HeaderName = HeaderName::from_static("redial-account");

fn account_value(name: &str) -> anyhow::Result<HeaderValue> {
    ensure!(!name.is_empty(), "account is empty: give it a name, or leave it out");
    HeaderValue::from_str(name).context("account contains characters other than printable ASCII")
}

/// The names are part of the gateway's paths, and each stands for one block.
fn check_names(blocks: &[RawUpstream]) -> anyhow::Result<()> {
    let mut names = BTreeSet::new();
    for (name, url) in blocks.iter().filter_map(|block| Some((block.name.as_ref()?, &block.url))) {
        ensure!(
            is_upstream_name(name),
            "[[upstream]] {url:?}: its name is {name:?}: use 1 to 64 letters, digits, dots, dashes and underscores"
        );
        ensure!(names.insert(name), "[[upstream]] {url:?}: its name {name:?} is that of another block");
    }
    Ok(())
}

fn without_login(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

fn enabled() -> bool {
    true
}

impl Upstreams {
    /// Checks the blocks and reads their secrets. `defaults` hold where a block does not set others.
    ///
    /// # Errors
    /// A block has an invalid value, or a secret of it cannot be read.
    pub fn new(blocks: &[RawUpstream], defaults: TaskDefaults, secrets: &SecretReader<'_>) -> anyhow::Result<Self> {
        check_names(blocks)?;
        let presets = Presets::built_in().context("the built-in presets")?;
        let check = |block: &RawUpstream| {
            let context = || format!("[[upstream]] {:?}", redact::url(&block.url));
            let own = block.own_secrets(secrets).with_context(context)?;
            Ok((Upstream::new(block.clone(), &presets, &defaults, secrets).with_context(context)?, own))
        };
        let checked: Vec<(Upstream, Vec<String>)> = blocks.iter().map(check).collect::<anyhow::Result<_>>()?;
        let origins: Vec<_> = checked.iter().map(|(block, own)| (block.url.origin(), own.clone())).collect();
        let with_secrets = |(mut block, _): (Upstream, Vec<String>)| {
            let same = origins.iter().filter(|(origin, _)| *origin == block.url.origin());
            block.secrets = OwnSecrets::new(same.flat_map(|(_, own)| own.iter().cloned()));
            block
        };
        let mut blocks: Vec<Upstream> = checked.into_iter().map(with_secrets).collect();
        // The longest first: of two that match, it is the more specific one.
        blocks.sort_by_key(|upstream| std::cmp::Reverse(upstream.url.as_str().len()));
        Ok(Self { blocks, presets, defaults })
    }

    /// The names of the limits that apply to a task's call because of its URL.
    pub fn limits_for(&self, task: &Task) -> &[String] {
        self.limits_at(&task.url)
    }

    /// The names of the limits that apply to calls of a URL.
    pub fn limits_at(&self, url: &Url) -> &[String] {
        self.find(url).map_or(&[], |upstream| &upstream.limits)
    }

    /// Whether the responses to a task's call may adjust a limit that operators define.
    pub fn may_adjust(&self, task: &Task, limit: &str) -> bool {
        self.find(&task.url).is_some_and(|upstream| {
            upstream.limits.iter().any(|name| name == limit)
                || upstream.adjusts.iter().any(|pattern| pattern.matches(limit))
        })
    }

    /// Whether a task's call has a breaker and a retry budget.
    pub fn has_breaker(&self, task: &Task) -> bool {
        self.find(&task.url).is_none_or(|upstream| upstream.breaker)
    }

    /// What the upstream at a URL is called among those to which calls are in flight, and the most that its block allows: the beginning
    /// of its URLs, which is that of its block, or else the origin.
    pub fn in_flight_at<'a>(&'a self, url: &'a Url) -> (Cow<'a, str>, Option<usize>) {
        match self.find(url) {
            Some(upstream) => (Cow::Borrowed(&upstream.name), upstream.max_in_flight),
            None if url.username().is_empty() && url.password().is_none() => {
                (Cow::Borrowed(&url[..Position::BeforePath]), None)
            }
            None => (Cow::Owned(url.origin().ascii_serialization()), None),
        }
    }

    /// The most calls in flight that the block of this name allows.
    pub fn max_in_flight_of(&self, name: &str) -> Option<usize> {
        self.blocks.iter().find(|upstream| upstream.name == name)?.max_in_flight
    }

    /// What is known about the API at a URL.
    pub fn preset_for(&self, url: &Url) -> &Preset {
        self.find(url).map_or_else(|| self.presets.for_host(url.host_str()), |upstream| &upstream.preset)
    }

    /// What holds for a task with that URL that does not say otherwise.
    pub fn defaults_for(&self, url: &Url) -> &TaskDefaults {
        self.find(url).map_or(&self.defaults, |upstream| &upstream.defaults)
    }

    /// What issues the access token that a task's call needs, unless it brings an `Authorization` of its own.
    pub fn oauth_for(&self, task: &Task) -> Option<&OAuthClient> {
        self.oauth_at(&task.url, &task.headers)
    }

    /// The same for a call of a URL with the headers `own`.
    pub fn oauth_at(&self, url: &Url, own: &HeaderMap) -> Option<&OAuthClient> {
        let client = self.find(url)?.oauth.as_ref()?;
        (!own.contains_key(AUTHORIZATION)).then_some(client)
    }

    /// What signs a task's call, unless it brings an `Authorization` of its own.
    pub fn aws_for(&self, task: &Task) -> Option<&AwsSigner> {
        self.aws_at(&task.url, &task.headers)
    }

    /// The same for a call of a URL with the headers `own`.
    pub fn aws_at(&self, url: &Url, own: &HeaderMap) -> Option<&AwsSigner> {
        let signer = self.find(url)?.aws.as_ref()?;
        (!own.contains_key(AUTHORIZATION)).then_some(signer)
    }

    /// The secrets of the worker that an answer from a URL must not contain. Those that are made for a single call are not among them.
    pub fn secrets_at(&self, url: &Url) -> OwnSecrets {
        self.find(url).map(|upstream| upstream.secrets.clone()).unwrap_or_default()
    }

    /// Whether two URLs belong to the same block.
    pub fn share_block(&self, one: &Url, other: &Url) -> bool {
        self.find(one).zip(self.find(other)).is_some_and(|(one, other)| std::ptr::eq(one, other))
    }

    /// How the upstream at a URL is connected to, if its block says so.
    pub fn transport_for(&self, url: &Url) -> Option<&Arc<Transport>> {
        self.find(url)?.transport.as_ref()
    }

    /// Adds a task's idempotency key under the name that its upstream has for it.
    pub fn add_idempotency_header(&self, task: &Task, headers: &mut HeaderMap) {
        self.add_idempotency_header_at(&task.url, task, headers);
    }

    /// The same for a URL to which its call is redirected.
    pub fn add_idempotency_header_at(&self, url: &Url, task: &Task, headers: &mut HeaderMap) {
        let Some(key) = task.idempotency_key.as_ref().and_then(|_| task.headers.get("idempotency-key")) else {
            return;
        };
        if let Some(name) = &self.preset_for(url).idempotency_header {
            headers.insert(name, key.clone());
        }
    }

    /// The names of all limits that the blocks mention.
    pub fn limits_named(&self) -> impl Iterator<Item = &String> {
        self.blocks.iter().flat_map(|upstream| &upstream.limits)
    }

    fn find(&self, url: &Url) -> Option<&Upstream> {
        self.blocks.iter().find(|upstream| upstream.matches(url))
    }

    /// On whose behalf a task is called, as far as the worker's credentials decide it: the headers that are added to its call, or in place of
    /// them the name of the account, which stays the same when its secrets change.
    pub fn identity_for(&self, task: &Task) -> HeaderMap {
        let Some(account) = self.find(&task.url).and_then(|upstream| upstream.account.as_ref()) else {
            let mut headers = self.headers_for(task);
            if let Some(client) = self.oauth_for(task) {
                headers.insert(ACCOUNT, client.identity());
            } else if let Some(signer) = self.aws_for(task) {
                headers.insert(ACCOUNT, signer.identity());
            }
            return headers;
        };
        // A task's own headers, some of which may replace those of the account, are part of its identity as well.
        HeaderMap::from_iter([(ACCOUNT, account.clone())])
    }

    /// The headers to add to a task's own, which take precedence.
    pub fn headers_for(&self, task: &Task) -> HeaderMap {
        self.headers_at(&task.url, &task.headers)
    }

    /// The headers to add to `own` in a call of a URL.
    pub fn headers_at(&self, url: &Url, own: &HeaderMap) -> HeaderMap {
        let Some(upstream) = self.find(url) else {
            return HeaderMap::new();
        };
        let mut headers = upstream.headers.clone();
        for name in own.keys() {
            headers.remove(name);
        }
        headers
    }
}

impl RawUpstream {
    /// The secrets that its calls are made with. A header is one if its name or its scheme says so, or if its value is not written in the
    /// settings.
    fn own_secrets(&self, secrets: &SecretReader<'_>) -> anyhow::Result<Vec<String>> {
        let mut own = Vec::new();
        for (name, text) in &self.headers {
            let is_secret = credentials::is_secret(name) || text.contains("${") || has_scheme(text);
            if is_secret && !credentials::is_harmless(name) {
                own.extend(in_header(&secrets.fill(text).with_context(|| format!("header {name:?}"))?));
            }
        }
        if let Some(oauth) = &self.oauth {
            own.extend(oauth.own_secrets(secrets).context("oauth")?);
        }
        if let Some(aws) = &self.aws {
            own.extend(aws.own_secrets(secrets).context("aws")?);
        }
        own.extend(self.connection.own_secrets(secrets)?);
        Ok(own)
    }
}

impl Upstream {
    fn new(
        block: RawUpstream,
        presets: &Presets,
        defaults: &TaskDefaults,
        secrets: &SecretReader<'_>,
    ) -> anyhow::Result<Self> {
        let url =
            Url::parse(&block.url).context("its url cannot be parsed: use one such as \"https://api.example.com/\"")?;
        ensure!(matches!(url.scheme(), "http" | "https"), "its url is neither http nor https");
        ensure!(
            url.query().is_none() && url.fragment().is_none(),
            "its url has a query or fragment: give the beginning only"
        );
        let mut headers = HeaderMap::new();
        for (name, text) in block.headers {
            let value = secrets.fill(&text).with_context(|| format!("header {name:?}"))?;
            let name = HeaderName::from_bytes(name.as_bytes())
                .with_context(|| format!("{name:?} is not a valid header name"))?;
            // The value is a secret: the message does not quote it.
            let mut value = HeaderValue::from_str(&value)
                .ok()
                .with_context(|| format!("header {name}: its value contains characters that a header must not have"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let preset = match &block.preset {
            Some(name) => presets.named(name)?,
            None => presets.for_host(url.host_str()),
        };
        let preset = preset.clone().extended(block.words)?;
        let defaults = defaults.with(block.timeout_ms, block.retry.into(), block.redirects)?;
        let transport = block.connection.read(secrets)?.map(Arc::new);
        let account = block.account.as_deref().map(account_value).transpose()?;
        let oauth = block.oauth.as_ref().map(|oauth| oauth.read(secrets)).transpose().context("oauth")?;
        let aws = block.aws.as_ref().map(|aws| aws.read(secrets)).transpose().context("aws")?;
        let authorizations = [oauth.is_some(), aws.is_some(), headers.contains_key(AUTHORIZATION)];
        ensure!(
            authorizations.into_iter().filter(|is_given| *is_given).count() <= 1,
            "it has more than one of oauth, aws, and an Authorization in headers: only one of them can be sent"
        );
        ensure!(block.max_in_flight != Some(0), "its max_in_flight is 0, so nothing could be called: use at least 1");
        Ok(Self {
            name: without_login(&url),
            max_in_flight: block.max_in_flight,
            url,
            headers,
            account,
            oauth,
            aws,
            limits: block.limits,
            adjusts: block.adjusts,
            breaker: block.breaker,
            preset,
            defaults,
            transport,
            secrets: OwnSecrets::default(),
        })
    }

    /// Whether a URL is below this one: the same origin, and a path that begins with the same whole segments.
    fn matches(&self, url: &Url) -> bool {
        let base = self.url.path().trim_end_matches('/');
        let below = url.path().strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.url.origin() == url.origin() && below
    }
}

#[cfg(test)]
mod tests;
