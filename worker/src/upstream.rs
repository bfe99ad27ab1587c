//! What the configuration says of the services that are called: the headers that a worker adds, whose secrets so never enter
//! Redis.

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
    /// The names of the limits that its calls are under.
    limits: Vec<String>,
    /// Whether they are under a breaker and a retry budget.
    breaker: bool,
}

/// A block as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    limits: Vec<String>,
    #[serde(default = "yes")]
    breaker: bool,
}

fn yes() -> bool {
    true
}

impl Upstreams {
    /// Checks the blocks and fetches their secrets, from the environment as `var` knows it and from files.
    ///
    /// # Errors
    /// What is wrong with which block.
    pub fn new(written: Vec<Written>, var: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let check = |block: Written| {
            let url = block.url.clone();
            Upstream::new(block, &var).with_context(|| format!("[[upstream]] {url:?}"))
        };
        let mut upstreams: Vec<Upstream> = written.into_iter().map(check).collect::<Result<_, _>>()?;
        // The longest first: of two that match, it says more.
        upstreams.sort_by_key(|upstream| std::cmp::Reverse(upstream.url.as_str().len()));
        Ok(Self(upstreams))
    }

    /// The names of the limits that a task's call is under for where it goes.
    pub fn limits_for(&self, task: &Task) -> &[String] {
        self.of(task).map_or(&[], |upstream| &upstream.limits)
    }

    /// Whether a task's call is under a breaker and a retry budget.
    pub fn has_breaker(&self, task: &Task) -> bool {
        self.of(task).is_none_or(|upstream| upstream.breaker)
    }

    /// The names of all limits in the blocks.
    pub fn limits_named(&self) -> impl Iterator<Item = &String> {
        self.0.iter().flat_map(|upstream| &upstream.limits)
    }

    fn of(&self, task: &Task) -> Option<&Upstream> {
        self.0.iter().find(|upstream| upstream.has(&task.url))
    }

    /// The headers to add to a task's own, which go first.
    pub fn headers_for(&self, task: &Task) -> HeaderMap {
        let Some(upstream) = self.of(task) else {
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
    fn new(written: Written, var: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let url =
            Url::parse(&written.url).context("its url can't be read: use one as in \"https://api.example.com/\"")?;
        ensure!(matches!(url.scheme(), "http" | "https"), "its url is neither http nor https");
        ensure!(
            url.query().is_none() && url.fragment().is_none(),
            "its url has a query or fragment: give the beginning only"
        );
        let mut headers = HeaderMap::new();
        for (name, text) in written.headers {
            let value = fill_in(&text, &var).with_context(|| format!("header {name:?}"))?;
            let name =
                HeaderName::from_bytes(name.as_bytes()).with_context(|| format!("{name:?} is no header name"))?;
            // The value itself is not said: it is a secret.
            let mut value = HeaderValue::from_str(&value)
                .ok()
                .with_context(|| format!("header {name}: its value holds what no header may"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self { url, headers, limits: written.limits, breaker: written.breaker })
    }

    /// Whether a URL is below this one: the same origin, and the same beginning of the path, whole segments only.
    fn has(&self, url: &Url) -> bool {
        let base = self.url.path().trim_end_matches('/');
        let below = url.path().strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.url.origin() == url.origin() && below
    }
}

/// Puts in what `${NAME}` in the environment and `${file:/path}` hold.
fn fill_in(text: &str, var: impl Fn(&str) -> Option<String>) -> anyhow::Result<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').with_context(|| format!("{text:?} has a ${{ without its }}"))?;
        filled.push_str(before);
        if let Some(path) = name.strip_prefix("file:") {
            let secret = std::fs::read_to_string(path).with_context(|| format!("the file {path} can't be read"))?;
            filled.push_str(secret.trim_end_matches(['\r', '\n']));
        } else {
            let secret = var(name).with_context(|| format!("the environment variable {name} is not set"))?;
            filled.push_str(&secret);
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstreams(blocks: &[(&str, &str, &str)]) -> anyhow::Result<Upstreams> {
        let written = blocks.iter().map(|(url, name, value)| Written {
            url: (*url).to_owned(),
            headers: BTreeMap::from([((*name).to_owned(), (*value).to_owned())]),
            limits: vec![],
            breaker: true,
        });
        Upstreams::new(written.collect(), |name| (name == "KEY").then(|| "geheim".to_owned()))
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
    fn the_longest_block_adds_its_headers_unless_the_task_has_its_own() -> anyhow::Result<()> {
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
    fn what_is_wrong_with_a_block_is_said_without_its_secret() {
        for (block, says) in [
            (("api.example.com", "A", "b"), "can't be read"),
            (("ftp://h/", "A", "b"), "neither http nor https"),
            (("https://h/?q", "A", "b"), "query"),
            (("https://h/", "A b", "c"), "no header name"),
            (("https://h/", "A", "${KEY"), "without its }"),
            (("https://h/", "A", "${NO_SUCH}"), "NO_SUCH is not set"),
            (("https://h/", "A", "${file:/no/such}"), "/no/such can't be read"),
            (("https://h/", "A", "${KEY}\n"), "holds what no header may"),
        ] {
            let error = upstreams(&[block]).map(|_| ()).map_err(|error| format!("{error:#}"));
            let told = error.as_ref().is_err_and(|error| error.contains(says) && !error.contains("geheim"));
            assert!(told, "{block:?}: {error:?}");
        }
    }
}
