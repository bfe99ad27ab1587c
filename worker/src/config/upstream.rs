//! The `[[upstream]]` blocks: what the configuration says about the services that are called. The headers that a worker adds
//! stay with it, so their secrets never enter Redis.

use anyhow::{Context as _, ensure};
use http::{HeaderMap, HeaderName, HeaderValue};
use redial_core::Task;
use serde::Deserialize;
use std::collections::BTreeMap;
use url::Url;

/// All `[[upstream]]` blocks.
#[derive(Debug, Clone, Default)]
pub struct Upstreams(Vec<Upstream>);

#[derive(Debug, Clone)]
struct Upstream {
    /// What its URLs begin with.
    url: Url,
    headers: HeaderMap,
    /// The names of the limits that apply to its calls.
    limits: Vec<String>,
    /// Whether its calls have a breaker and a retry budget.
    breaker: bool,
}

/// A block as block.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawUpstream {
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    limits: Vec<String>,
    #[serde(default = "enabled")]
    breaker: bool,
}

fn enabled() -> bool {
    true
}

impl Upstreams {
    /// Checks the blocks and reads their secrets from files and from the environment, as `var` gives it.
    ///
    /// # Errors
    /// A block has an invalid value, or a secret of it cannot be read.
    pub fn new(blocks: Vec<RawUpstream>, var: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let check = |block: RawUpstream| {
            let url = block.url.clone();
            Upstream::new(block, &var).with_context(|| format!("[[upstream]] {url:?}"))
        };
        let mut upstreams: Vec<Upstream> = blocks.into_iter().map(check).collect::<Result<_, _>>()?;
        // The longest first: of two that match, it is the more specific one.
        upstreams.sort_by_key(|upstream| std::cmp::Reverse(upstream.url.as_str().len()));
        Ok(Self(upstreams))
    }

    /// The names of the limits that apply to a task's call because of its URL.
    pub fn limits_for(&self, task: &Task) -> &[String] {
        self.find(task).map_or(&[], |upstream| &upstream.limits)
    }

    /// Whether a task's call has a breaker and a retry budget.
    pub fn has_breaker(&self, task: &Task) -> bool {
        self.find(task).is_none_or(|upstream| upstream.breaker)
    }

    /// The names of all limits that the blocks mention.
    pub fn limits_named(&self) -> impl Iterator<Item = &String> {
        self.0.iter().flat_map(|upstream| &upstream.limits)
    }

    fn find(&self, task: &Task) -> Option<&Upstream> {
        self.0.iter().find(|upstream| upstream.matches(&task.url))
    }

    /// The headers to add to a task's own, which take precedence.
    pub fn headers_for(&self, task: &Task) -> HeaderMap {
        let Some(upstream) = self.find(task) else {
            return HeaderMap::new();
        };
        let mut headers = upstream.headers.clone();
        for name in task.headers.keys() {
            headers.remove(name);
        }
        headers
    }
}

impl Upstream {
    fn new(block: RawUpstream, var: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
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
        Ok(Self { url, headers, limits: block.limits, breaker: block.breaker })
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
        });
        Upstreams::new(blocks.collect(), |name| (name == "KEY").then(|| "geheim".to_owned()))
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
}
