//! The `[[upstream]]` blocks: what the configuration says about the services that are called. The headers that a worker adds
//! stay with it, so their secrets never enter Redis.

use anyhow::{Context as _, ensure};
use http::{HeaderMap, HeaderName, HeaderValue};
use redial_core::Task;
use redial_core::protocol::task::TaskDefaults;
use serde::Deserialize;
use std::collections::BTreeMap;
use url::Url;

use super::retry::RetryConfig;
use crate::http::presets::{Preset, Presets};

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
    headers: HeaderMap,
    /// The names of the limits that apply to its calls.
    limits: Vec<String>,
    /// Whether its calls have a breaker and a retry budget.
    breaker: bool,
    /// What is known about its API.
    preset: Preset,
    /// For its tasks.
    defaults: TaskDefaults,
}

/// A block as written.
#[derive(Debug, Deserialize)]
pub struct RawUpstream {
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    limits: Vec<String>,
    #[serde(default = "enabled")]
    breaker: bool,
    timeout_ms: Option<u64>,
    redirects: Option<u32>,
    #[serde(default)]
    retry: RetryConfig,
    /// The name of the preset to use, instead of the one that the host has.
    preset: Option<String>,
    /// The words of a preset, which refuses those that it does not know.
    #[serde(flatten)]
    words: BTreeMap<String, config::Value>,
}

fn enabled() -> bool {
    true
}

impl Upstreams {
    /// Checks the blocks and reads their secrets from files and from the environment, as `var` gives it. `defaults` hold where a block
    /// does not set others.
    ///
    /// # Errors
    /// A block has an invalid value, or a secret of it cannot be read.
    pub fn new(
        blocks: Vec<RawUpstream>,
        defaults: TaskDefaults,
        var: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let presets = Presets::built_in().context("the built-in presets")?;
        let check = |block: RawUpstream| {
            let url = block.url.clone();
            Upstream::new(block, &presets, &defaults, &var).with_context(|| format!("[[upstream]] {url:?}"))
        };
        let mut blocks: Vec<Upstream> = blocks.into_iter().map(check).collect::<Result<_, _>>()?;
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

    /// Whether a task's call has a breaker and a retry budget.
    pub fn has_breaker(&self, task: &Task) -> bool {
        self.find(&task.url).is_none_or(|upstream| upstream.breaker)
    }

    /// What is known about the API at a URL.
    pub fn preset_for(&self, url: &Url) -> &Preset {
        self.find(url).map_or_else(|| self.presets.for_host(url.host_str()), |upstream| &upstream.preset)
    }

    /// What holds for a task with that URL that does not say otherwise.
    pub fn defaults_for(&self, url: &Url) -> &TaskDefaults {
        self.find(url).map_or(&self.defaults, |upstream| &upstream.defaults)
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

impl Upstream {
    fn new(
        block: RawUpstream,
        presets: &Presets,
        defaults: &TaskDefaults,
        var: impl Fn(&str) -> Option<String>,
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
            let value = substitute(&text, &var).with_context(|| format!("header {name:?}"))?;
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
        Ok(Self { url, headers, limits: block.limits, breaker: block.breaker, preset, defaults })
    }

    /// Whether a URL is below this one: the same origin, and a path that begins with the same whole segments.
    fn matches(&self, url: &Url) -> bool {
        let base = self.url.path().trim_end_matches('/');
        let below = url.path().strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.url.origin() == url.origin() && below
    }
}

/// Replaces `${NAME}` by the environment variable and `${file:/path}` by the file's contents.
fn substitute(text: &str, var: impl Fn(&str) -> Option<String>) -> anyhow::Result<String> {
    let mut text_with_secrets = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').with_context(|| format!("{text:?} has a ${{ without its }}"))?;
        text_with_secrets.push_str(before);
        if let Some(path) = name.strip_prefix("file:") {
            let secret = std::fs::read_to_string(path).with_context(|| format!("cannot read the file {path}"))?;
            text_with_secrets.push_str(secret.trim_end_matches(['\r', '\n']));
        } else {
            let secret = var(name).with_context(|| format!("the environment variable {name} is not set"))?;
            text_with_secrets.push_str(&secret);
        }
        rest = after;
    }
    text_with_secrets.push_str(rest);
    Ok(text_with_secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstreams(blocks: &[(&str, &str, &str)]) -> anyhow::Result<Upstreams> {
        let blocks = blocks.iter().map(|(url, name, value)| RawUpstream {
            url: (*url).to_owned(),
            headers: BTreeMap::from([((*name).to_owned(), (*value).to_owned())]),
            limits: vec![],
            breaker: true,
            timeout_ms: None,
            redirects: None,
            retry: RetryConfig::default(),
            preset: None,
            words: BTreeMap::new(),
        });
        Upstreams::new(blocks.collect(), TaskDefaults::default(), |name| (name == "KEY").then(|| "geheim".to_owned()))
    }

    fn added(upstreams: &Upstreams, url: &str, more: &str) -> anyhow::Result<String> {
        let raw = format!(r#"{{"url":"{url}"{more}}}"#);
        let task = Task::parse(raw.as_bytes(), 1000)?;
        let headers = upstreams.headers_for(&task);
        let lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap_or_default())).collect();
        Ok(lines.join("\n"))
    }

    #[test]
    fn the_longest_matching_block_adds_its_headers_unless_the_task_has_its_own() -> anyhow::Result<()> {
        let both = upstreams(&[
            ("https://api.example.com/", "Authorization", "Bearer ${KEY}"),
            ("https://api.example.com/v2", "Authorization", "Bearer 2"),
        ])?;
        for (url, more, expected) in [
            ("https://api.example.com/v1/x", "", "authorization=Bearer geheim"),
            ("https://API.example.com:443/v2/x?q", "", "authorization=Bearer 2"),
            ("https://api.example.com/v20", "", "authorization=Bearer geheim"),
            ("https://api.example.com/", r#","headers":{"authorization":"own"}"#, ""),
            ("http://api.example.com/", "", ""),
            ("https://api.example.com.evil.org/", "", ""),
            ("https://u@evil.org/https://api.example.com/", "", ""),
        ] {
            assert_eq!(added(&both, url, more)?, expected, "{url}");
        }
        assert!(!format!("{both:?}").contains("geheim"), "a secret in a log");
        Ok(())
    }

    #[test]
    fn an_error_in_a_block_is_described_without_its_secret() {
        for (block, says) in [
            (("api.example.com", "A", "b"), "cannot be parsed"),
            (("ftp://h/", "A", "b"), "neither http nor https"),
            (("https://h/?q", "A", "b"), "query"),
            (("https://h/", "A b", "c"), "not a valid header name"),
            (("https://h/", "A", "${KEY"), "without its }"),
            (("https://h/", "A", "${NO_SUCH}"), "NO_SUCH is not set"),
            (("https://h/", "A", "${file:/no/such}"), "cannot read the file /no/such"),
            (("https://h/", "A", "${KEY}\n"), "must not have"),
        ] {
            let error = upstreams(&[block]).map(|_| ()).map_err(|error| format!("{error:#}"));
            let told = error.as_ref().is_err_and(|error| error.contains(says) && !error.contains("geheim"));
            assert!(told, "{block:?}: {error:?}");
        }
    }

    fn parsed(text: &str) -> anyhow::Result<Upstreams> {
        let file = config::File::from_str(text, config::FileFormat::Toml);
        let raw: BTreeMap<String, Vec<RawUpstream>> =
            config::Config::builder().add_source(file).build()?.try_deserialize()?;
        Upstreams::new(raw.into_values().flatten().collect(), TaskDefaults::default(), |_| None)
    }

    #[test]
    fn a_block_sets_defaults_for_its_tasks_and_their_own_fields_win() -> anyhow::Result<()> {
        let upstreams = parsed(
            "[[upstream]]\nurl = \"https://h/slow\"\ntimeout_ms = 90000\nretry = { max_attempts = 3, on = [423] }",
        )?;
        let task = |more: &str, path: &str| {
            let raw = format!(r#"{{"url":"https://h/{path}"{more}}}"#);
            Task::parse_with(raw.as_bytes(), 1000, |url| upstreams.defaults_for(url))
        };
        let slow = task("", "slow/x")?;
        assert_eq!((slow.timeout.as_secs(), slow.retry.max_attempts, &slow.retry.on[..]), (90, 3, &[423][..]));
        assert_eq!(slow.retry.base, TaskDefaults::default().retry.base);
        let own = task(r#","timeout_ms":7000,"retry":{"max_attempts":2,"on":[]}"#, "slow")?;
        assert_eq!((own.timeout.as_secs(), own.retry.max_attempts, own.retry.on.len()), (7, 2, 0));
        let other = task("", "other")?;
        assert_eq!((other.timeout.as_secs(), other.retry.max_attempts), (30, 8));
        Ok(())
    }

    #[test]
    fn a_block_extends_the_preset_of_its_host_or_the_one_that_it_names() -> anyhow::Result<()> {
        let upstreams = parsed(
            "[[upstream]]\nurl = \"https://api.openai.com/\"\nretry_statuses = [423]\n\
             [[upstream]]\nurl = \"https://pay.example.com/\"\npreset = \"paypal\"",
        )?;
        let statuses = |url: &str| Ok::<_, anyhow::Error>(&upstreams.preset_for(&Url::parse(url)?).retry_statuses[..]);
        assert_eq!(statuses("https://api.openai.com/v1")?, [409, 423]);
        assert_eq!(statuses("https://api.anthropic.com/v1")?, [409]);
        assert!(statuses("https://example.com/")?.is_empty());

        let task = Task::parse(br#"{"url":"https://pay.example.com/","idempotency_key":"k"}"#, 1000)?;
        let mut headers = HeaderMap::new();
        upstreams.add_idempotency_header(&task, &mut headers);
        assert_eq!(headers.get("paypal-request-id").map(HeaderValue::as_bytes), Some(&b"k"[..]));
        Ok(())
    }

    #[test]
    fn an_invalid_setting_of_a_block_is_named() {
        for (line, says) in [
            ("hedaers = {}", "hedaers"),
            ("preset = \"opnai\"", "there is no preset \"opnai\""),
            ("timeout_ms = 0", "timeout_ms"),
            ("redirects = 21", "`redirects` is 21"),
            ("ok_when = { path = \"x\" }", "`ok_when` has the path \"x\""),
            ("retry = { max_attempts = 0 }", "max_attempts"),
            ("retry = { attempts = 3 }", "attempts"),
            ("retry = { on = [200] }", "200"),
            ("final_statuses = [99]", "99 is not a status"),
        ] {
            let error = parsed(&format!("[[upstream]]\nurl = \"https://h/\"\n{line}"));
            let error = error.map(|_| ()).map_err(|error| format!("{error:#}"));
            assert!(error.as_ref().is_err_and(|error| error.contains(says)), "{line}: {error:?}");
        }
    }
}
