//! What is known about the APIs of vendors, from `presets.toml`: which header states a wait and in which unit, which statuses and error
//! codes are final. It is data, so that a vendor is a block, and an `[[upstream]]` block has the same words.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use config::Value;
use http::HeaderName;
use redial_core::protocol::task::{Condition, RawCondition};
use serde::Deserialize;
use serde_json_path::JsonPath;

/// The built-in presets.
const BUILT_IN: &str = include_str!("presets.toml");
/// The block that every other one extends.
const GENERIC: &str = "generic";

/// How one upstream says when to call again, and what must not be called again.
#[derive(Debug, Clone, Default)]
pub struct Preset {
    /// The name of the vendor, as in `presets.toml`; empty for the generic preset.
    pub vendor: String,
    /// Statuses that are retried besides those that always are.
    pub retry_statuses: Vec<u16>,
    /// Statuses from 500 on that are final here.
    pub final_statuses: Vec<u16>,
    /// Headers that say `true` or `false` to a retry.
    pub should_retry_headers: Vec<HeaderName>,
    /// Headers that state a wait; the first one that does counts.
    pub wait_headers: Vec<WaitHeader>,
    /// Headers that state what remains of a rate limit.
    pub limit_headers: Vec<LimitHeaders>,
    /// Whether a remaining number of 0 says nothing.
    pub ignore_zero_remaining: bool,
    /// Where the body of an error states a wait.
    pub wait_paths: Vec<JsonPath>,
    /// Where the body of an error has a message for people.
    pub message_paths: Vec<JsonPath>,
    /// What precedes a wait in such a message, in lower case.
    pub wait_phrases: Vec<String>,
    /// Where the body of an error has its code.
    pub code_paths: Vec<JsonPath>,
    /// Error codes that no retry helps against.
    pub final_codes: Vec<String>,
    /// What a good response is, if it is not every 2xx.
    pub ok_when: Option<Condition>,
    /// After which responses to try again, besides those that always are.
    pub retry_when: Option<Condition>,
    /// Where the data of a server-sent event has an error.
    pub event_error_paths: Vec<JsonPath>,
    /// The header that also carries the idempotency key, besides `Idempotency-Key`.
    pub idempotency_header: Option<HeaderName>,
}

/// A header that states a wait.
#[derive(Debug, Clone)]
pub struct WaitHeader {
    /// Its name.
    pub name: HeaderName,
    /// What a bare number in it means.
    pub unit: TimeUnit,
}

/// The headers of one rate limit.
#[derive(Debug, Clone)]
pub struct LimitHeaders {
    /// The header with what remains.
    pub remaining: HeaderName,
    /// The header with its reset.
    pub reset: HeaderName,
    /// What a bare number in `reset` means.
    pub unit: TimeUnit,
    /// What the limit counts.
    pub counts: CountedUnit,
}

/// What a bare number means that says when to call again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// Seconds, or a Unix time in seconds or milliseconds if it is too large for a wait.
    #[default]
    Auto,
    /// Seconds from now.
    S,
    /// Milliseconds from now.
    Ms,
    /// A Unix time in seconds.
    EpochS,
    /// A Unix time in milliseconds.
    EpochMs,
}

/// What a rate limit of an upstream counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountedUnit {
    /// Calls.
    #[default]
    Requests,
    /// Tokens of a language model.
    Tokens,
}

/// The words of a preset, as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawPreset {
    retry_statuses: Vec<u16>,
    final_statuses: Vec<u16>,
    should_retry_headers: Vec<String>,
    wait_headers: Vec<RawWaitHeader>,
    limit_headers: Vec<RawLimitHeaders>,
    ignore_zero_remaining: Option<bool>,
    wait_paths: Vec<String>,
    message_paths: Vec<String>,
    wait_phrases: Vec<String>,
    code_paths: Vec<String>,
    final_codes: Vec<String>,
    ok_when: Option<RawPresetCondition>,
    retry_when: Option<RawPresetCondition>,
    event_error_paths: Vec<String>,
    idempotency_header: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPresetCondition {
    status: Option<Vec<u16>>,
    path: Option<String>,
}

impl RawPresetCondition {
    fn check(self, field: &'static str) -> anyhow::Result<Condition> {
        Ok(RawCondition { status: self.status, path: self.path }.check(field)?)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWaitHeader {
    name: String,
    #[serde(default)]
    unit: TimeUnit,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimitHeaders {
    remaining: String,
    reset: String,
    #[serde(default)]
    unit: TimeUnit,
    #[serde(default)]
    counts: CountedUnit,
}

/// A block of `presets.toml`.
#[derive(Debug, Deserialize)]
struct Vendor {
    #[serde(default)]
    hosts: Vec<String>,
    sources: Vec<String>,
    #[serde(flatten)]
    words: BTreeMap<String, Value>,
}

/// All presets.
#[derive(Debug, Clone, Default)]
pub struct Presets {
    generic: Preset,
    by_name: BTreeMap<String, Preset>,
    /// What a host is, or what it begins and ends with, and the name of its preset.
    hosts: Vec<(HostPattern, String)>,
}

/// The hosts of a preset.
#[derive(Debug, Clone)]
enum HostPattern {
    Exact(String),
    Between(String, String),
}

impl Presets {
    /// The presets that Redial brings along.
    ///
    /// # Errors
    /// `presets.toml` is invalid, which a test rules out.
    pub fn built_in() -> anyhow::Result<Self> {
        let file = config::File::from_str(BUILT_IN, config::FileFormat::Toml);
        let mut blocks: BTreeMap<String, Vendor> =
            config::Config::builder().add_source(file).build()?.try_deserialize()?;
        let generic = blocks.remove(GENERIC).context("presets.toml has no [generic]")?;
        let generic = Preset::default().extended(generic.words)?;
        let mut presets = Self { generic, ..Self::default() };
        for (name, block) in blocks {
            ensure!(!block.hosts.is_empty() && !block.sources.is_empty(), "[{name}] lacks hosts or sources");
            let mut preset = presets.generic.clone().extended(block.words).with_context(|| format!("[{name}]"))?;
            preset.vendor.clone_from(&name);
            presets.hosts.extend(block.hosts.iter().map(|host| (HostPattern::new(host), name.clone())));
            presets.by_name.insert(name, preset);
        }
        Ok(presets)
    }

    /// What is known about a host.
    pub fn for_host(&self, host: Option<&str>) -> &Preset {
        let named = host.and_then(|host| self.hosts.iter().find(|(pattern, _)| pattern.matches(host)));
        named.and_then(|(_, name)| self.by_name.get(name)).unwrap_or(&self.generic)
    }

    /// The preset of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn named(&self, name: &str) -> anyhow::Result<&Preset> {
        if name == GENERIC {
            return Ok(&self.generic);
        }
        self.by_name.get(name).with_context(|| {
            let known: Vec<_> = self.by_name.keys().map(String::as_str).collect();
            format!("there is no preset {name:?}: use generic, {}", known.join(", "))
        })
    }
}

impl Preset {
    /// The preset with more words: lists grow, single values are replaced.
    ///
    /// # Errors
    /// A word is unknown, or its value is invalid.
    pub fn extended(mut self, words: BTreeMap<String, Value>) -> anyhow::Result<Self> {
        if words.is_empty() {
            return Ok(self);
        }
        let words = words.into_iter().collect::<config::Map<_, _>>();
        let raw = RawPreset::deserialize(Value::new(None, words))?;
        for status in raw.retry_statuses.iter().chain(&raw.final_statuses) {
            ensure!((300..1000).contains(status), "{status} is not a status that can be retried: use 300 to 999");
        }
        self.retry_statuses.retain(|status| !raw.final_statuses.contains(status));
        self.final_statuses.retain(|status| !raw.retry_statuses.contains(status));
        self.retry_statuses.extend(raw.retry_statuses);
        self.final_statuses.extend(raw.final_statuses);
        for name in raw.should_retry_headers {
            self.should_retry_headers.push(header(&name)?);
        }
        for RawWaitHeader { name, unit } in raw.wait_headers {
            self.wait_headers.push(WaitHeader { name: header(&name)?, unit });
        }
        for RawLimitHeaders { remaining, reset, unit, counts } in raw.limit_headers {
            let (remaining, reset) = (header(&remaining)?, header(&reset)?);
            // Whoever names a header again says what it means.
            self.limit_headers.retain(|known| known.remaining != remaining);
            self.limit_headers.push(LimitHeaders { remaining, reset, unit, counts });
        }
        self.ignore_zero_remaining = raw.ignore_zero_remaining.unwrap_or(self.ignore_zero_remaining);
        self.wait_paths.extend(paths(&raw.wait_paths)?);
        self.message_paths.extend(paths(&raw.message_paths)?);
        self.wait_phrases.extend(raw.wait_phrases.iter().map(|phrase| phrase.to_lowercase()));
        self.code_paths.extend(paths(&raw.code_paths)?);
        self.final_codes.extend(raw.final_codes);
        if let Some(condition) = raw.ok_when {
            self.ok_when = Some(condition.check("ok_when")?);
        }
        if let Some(condition) = raw.retry_when {
            self.retry_when = Some(condition.check("retry_when")?);
        }
        self.event_error_paths.extend(paths(&raw.event_error_paths)?);
        if let Some(name) = raw.idempotency_header {
            self.idempotency_header = Some(header(&name)?);
        }
        Ok(self)
    }
}

impl HostPattern {
    fn new(text: &str) -> Self {
        match text.split_once('*') {
            Some((before, after)) => Self::Between(before.to_owned(), after.to_owned()),
            None => Self::Exact(text.to_owned()),
        }
    }

    /// A host is in lower case: a `Url` sees to it.
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(exact) => host == exact,
            Self::Between(before, after) => {
                host.len() > before.len() + after.len() && host.starts_with(before) && host.ends_with(after)
            }
        }
    }
}

fn header(name: &str) -> anyhow::Result<HeaderName> {
    HeaderName::from_bytes(name.as_bytes()).with_context(|| format!("{name:?} is not a valid header name"))
}

fn paths(texts: &[String]) -> anyhow::Result<Vec<JsonPath>> {
    let parse = |text: &String| JsonPath::parse(text).with_context(|| format!("{text:?} is not a JSONPath (RFC 9535)"));
    texts.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> anyhow::Result<BTreeMap<String, Value>> {
        let file = config::File::from_str(text, config::FileFormat::Toml);
        Ok(config::Config::builder().add_source(file).build()?.try_deserialize()?)
    }

    #[test]
    fn a_host_has_the_preset_of_its_vendor_and_any_other_host_the_generic_one() -> anyhow::Result<()> {
        let presets = Presets::built_in()?;
        for (host, name) in [
            ("api.openai.com", "openai"),
            ("eu.api.openai.com", "openai"),
            ("my.openai.azure.com", "azure_openai"),
            ("bedrock-runtime.eu-west-1.amazonaws.com", "bedrock"),
            ("us-central1-aiplatform.googleapis.com", "gemini"),
            ("api.openai.com.evil.org", GENERIC),
            ("evilapi.openai.com", GENERIC),
            (".openai.azure.com", GENERIC),
            ("openai.azure.com.example.com", GENERIC),
            ("127.0.0.1", GENERIC),
        ] {
            assert!(std::ptr::eq(presets.for_host(Some(host)), presets.named(name)?), "{host}: {name}");
        }
        assert!(std::ptr::eq(presets.for_host(None), &raw const presets.generic));
        Ok(())
    }

    #[test]
    fn every_block_states_its_sources() -> anyhow::Result<()> {
        let file = config::File::from_str(BUILT_IN, config::FileFormat::Toml);
        let blocks: BTreeMap<String, Vendor> = config::Config::builder().add_source(file).build()?.try_deserialize()?;
        assert!(blocks.len() >= 12, "{}", blocks.len());
        for (name, block) in blocks {
            assert!(!block.sources.is_empty(), "{name}");
            assert!(block.sources.iter().all(|source| source.starts_with("https://")), "{name}: {:?}", block.sources);
        }
        Ok(())
    }

    #[test]
    fn an_extension_adds_to_lists_and_replaces_what_it_names_again() -> anyhow::Result<()> {
        let presets = Presets::built_in()?;
        let stripe = presets.named("stripe")?.clone();
        let limits = stripe.limit_headers.len();
        let mine = stripe.extended(words(
            "retry_statuses = [423]\nfinal_statuses = [409, 507]\nidempotency_header = \"X-Key\"\n\
             limit_headers = [{ remaining = \"x-ratelimit-remaining\", reset = \"x-ratelimit-reset\", unit = \"ms\" }]",
        )?)?;
        assert_eq!((&mine.retry_statuses[..], &mine.final_statuses[..]), (&[423][..], &[409, 507][..]));
        assert_eq!(mine.idempotency_header, Some(HeaderName::from_static("x-key")));
        assert_eq!(mine.limit_headers.len(), limits);
        assert_eq!(mine.limit_headers.last().map(|headers| headers.unit), Some(TimeUnit::Ms));
        Ok(())
    }

    #[test]
    fn an_invalid_word_is_named() -> anyhow::Result<()> {
        for (text, says) in [
            ("retry_status = [409]", "retry_status"),
            ("retry_statuses = [200]", "200 is not a status"),
            ("final_statuses = [1000]", "1000 is not a status"),
            ("wait_headers = [{ name = \"a b\" }]", "not a valid header name"),
            ("wait_headers = [{ name = \"a\", unit = \"weeks\" }]", "weeks"),
            ("wait_paths = [\"error\"]", "not a JSONPath"),
            ("ok_when = { path = \"error\" }", "`ok_when` has the path"),
            ("retry_when = { }", "neither `status` nor `path`"),
            ("retry_when = { pathh = \"$.a\" }", "pathh"),
            ("idempotency_header = \"\"", "not a valid header name"),
        ] {
            let error = Preset::default().extended(words(text)?).map(|_| ()).map_err(|error| format!("{error:#}"));
            assert!(error.as_ref().is_err_and(|error| error.contains(says)), "{text}: {error:?}");
        }
        let unknown = Presets::built_in()?.named("opnai").map(|_| ()).map_err(|error| error.to_string());
        assert!(unknown.is_err_and(|error| error.contains("stripe")));
        Ok(())
    }
}
