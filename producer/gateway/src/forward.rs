//! How a request for an upstream becomes a task.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use redial_core::protocol::credentials;
use redial_traces::context::TRACEPARENT;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::Url;

use crate::config::{AccessRules, UpstreamTarget};
use crate::problem::Problem;
use crate::submission::{Sender, Submission, find};
use crate::tokens::{Caller, KEY_HEADERS};
use crate::traces::RequestContext;

/// Headers of one connection (RFC 9110 section 7.6.1), and those that the worker sets itself.
pub(crate) const CONNECTION_HEADERS: [HeaderName; 14] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    header::HOST,
    header::CONTENT_LENGTH,
    // The worker undoes codings.
    header::CONTENT_ENCODING,
    header::ACCEPT_ENCODING,
];

/// The headers by which a request says how it wants to be called.
const OPTIONS: [&str; 12] = [
    "redial-async",
    "redial-cache-key",
    "redial-cache-ttl-ms",
    "redial-idempotency-key",
    "redial-limit",
    "redial-on-break",
    "redial-on-disconnect",
    "redial-queue",
    "redial-stream",
    "redial-tenant",
    "redial-timeout-ms",
    "redial-ttl-ms",
];

/// A request for an upstream, without its body.
#[derive(Debug)]
pub(crate) struct ForwardedRequest<'a> {
    parts: &'a Parts,
    url: Url,
    headers: BTreeMap<String, String>,
}

/// The task that it becomes.
#[derive(Debug, Serialize)]
struct ForwardedTask<'a> {
    url: &'a str,
    method: &'a str,
    headers: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_break: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    limit: Vec<&'a str>,
}

impl<'a> ForwardedRequest<'a> {
    /// Reads which upstream a request is for, and with which headers.
    ///
    /// # Errors
    /// There is no such upstream, the caller may not use it, or a header is invalid.
    pub fn read(parts: &'a Parts, access: &AccessRules, caller: &Caller) -> Result<Self, Problem> {
        let (target, url) = target(parts, &access.upstreams, caller)?;
        if let Some(unknown) = parts.headers.keys().map(HeaderName::as_str).find(|name| is_unknown(name)) {
            return Err(Problem::invalid(format!("the header {unknown} is unknown: there are {}", OPTIONS.join(", "))));
        }
        for (name, values) in [
            ("redial-async", ["true", "false"]),
            ("redial-on-break", ["fail", "restart"]),
            ("redial-on-disconnect", ["continue", "cancel"]),
            ("redial-stream", ["true", "false"]),
        ] {
            if option(&parts.headers, name).is_some_and(|value| !values.contains(&value)) {
                return Err(Problem::invalid(format!("the header {name} is neither {} nor {}", values[0], values[1])));
            }
        }
        // The gateway's token is not the upstream's, and the worker has the upstream's key if the settings say so.
        let drops_keys = caller.has_token();
        let drops_secrets = target.has_credentials;
        // The task carries the context of the gateway's own span on.
        let drops_context = parts.extensions.get::<RequestContext>().is_some();
        let is_own = |name: &HeaderName| {
            (drops_keys && KEY_HEADERS.contains(name))
                || (drops_context && name == TRACEPARENT)
                || (drops_secrets && (KEY_HEADERS.contains(name) || credentials::is_secret(name.as_str())))
        };
        let headers = headers(&parts.headers, is_own)?;
        Ok(Self { parts, url, headers })
    }

    /// The queue that it names.
    pub fn queue(&self) -> Option<&str> {
        self.option("redial-queue")
    }

    /// Whether it wants an id at once, in place of the answer.
    pub fn is_async(&self) -> bool {
        self.option("redial-async") == Some("true")
    }

    /// Whether its task is cancelled when the caller goes away.
    pub fn cancels_on_disconnect(&self) -> bool {
        self.option("redial-on-disconnect") == Some("cancel")
    }

    /// Whether the answer is passed on while it arrives: as the caller says, or as the request itself does, by the type that it accepts or
    /// by `"stream": true` in its body, as AI APIs have it.
    pub fn streams(&self, body: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Streaming {
            stream: bool,
        }
        match self.option("redial-stream") {
            Some(said) => said == "true",
            None => {
                self.option("accept").is_some_and(|types| types.to_ascii_lowercase().contains("text/event-stream"))
                    || self.is_json() && serde_json::from_slice::<Streaming>(body).is_ok_and(|body| body.stream)
            }
        }
    }

    /// The task, with this body, whose answer is passed on while it arrives or not.
    ///
    /// # Errors
    /// The task would be invalid, or the caller may not send it.
    pub fn submission(&self, body: &[u8], streams: bool, sender: Sender<'_>) -> Result<Submission, Problem> {
        let text = std::str::from_utf8(body).ok().filter(|text| !text.is_empty());
        let json = text.filter(|_| self.is_json()).and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        // Byte for byte, so without white space around it; and no deeper than a task may nest.
        let json = json.filter(|json| json.get().len() == body.len() && json.get().matches(['[', '{']).count() < 100);
        let limits = self.option("redial-limit").unwrap_or_default();
        let task = ForwardedTask {
            url: self.url.as_str(),
            method: self.parts.method.as_str(),
            headers: &self.headers,
            body: json.or(None),
            body_text: text.filter(|_| json.is_none()),
            body_base64: (text.is_none() && !body.is_empty()).then(|| BASE64.encode(body)),
            timeout_ms: self.number("redial-timeout-ms")?,
            ttl_ms: self.number("redial-ttl-ms")?,
            cache_ttl_ms: self.number("redial-cache-ttl-ms")?,
            cache_key: self.option("redial-cache-key"),
            tenant: self.option("redial-tenant"),
            stream: streams,
            on_break: self.option("redial-on-break").filter(|_| streams),
            limit: limits.split(',').map(str::trim).filter(|name| !name.is_empty()).collect(),
        };
        let key = self.option("redial-idempotency-key").or_else(|| self.option("idempotency-key"));
        // It cannot fail: the keys are strings, and every value is plain data or valid JSON.
        sender.submission(&serde_json::to_string(&task).unwrap_or_default(), key)
    }

    fn option(&self, name: &str) -> Option<&str> {
        option(&self.parts.headers, name)
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.option(name) else { return Ok(None) };
        let number = text.parse().map_err(|_| {
            Problem::invalid(format!("the header {name} is {text:?}: use a number of milliseconds, such as 60000"))
        })?;
        Ok(Some(number))
    }

    fn is_json(&self) -> bool {
        let essence = self.option("content-type").and_then(|value| value.split(';').next());
        essence.is_some_and(|essence| {
            let essence = essence.trim().to_ascii_lowercase();
            essence == "application/json" || essence.ends_with("+json")
        })
    }
}

fn option<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn is_unknown(name: &str) -> bool {
    name.starts_with("redial-") && !OPTIONS.contains(&name)
}

/// The block that a request is for, and the URL that it stands for.
fn target<'a>(
    parts: &Parts,
    targets: &'a [UpstreamTarget],
    caller: &Caller,
) -> Result<(&'a UpstreamTarget, Url), Problem> {
    let rest = parts.uri.path().strip_prefix("/u/").unwrap_or_default();
    let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
    if caller.upstreams().is_some_and(|allowed| !allowed.iter().any(|allowed| allowed == name)) {
        let detail = format!("the token {:?} is not for the upstream {name:?}", caller.name());
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
    }
    let named = targets.iter().find(|target| target.name.as_deref() == Some(name)).ok_or_else(|| {
        let detail = format!("no [[upstream]] in the gateway's settings has the name {name:?}");
        Problem::new(StatusCode::NOT_FOUND, "unknown_upstream", detail)
    })?;
    let mut text = format!("{}/{path}", named.url.as_str().trim_end_matches('/'));
    if let Some(query) = parts.uri.query() {
        text = format!("{text}?{query}");
    }
    let url = Url::parse(&text).map_err(|error| Problem::invalid(format!("the path does not make a URL: {error}")))?;
    // A path with dots must not lead out of the block, to where other credentials hold.
    match find(targets, &url) {
        Some(found) if std::ptr::eq(found, named) => Ok((named, url)),
        _ => {
            let detail = format!("{url} is not below {}, or another [[upstream]] has it", named.url);
            Err(Problem::new(StatusCode::NOT_FOUND, "outside_upstream", detail))
        }
    }
}

/// The headers that the upstream gets. Several with one name become one, as RFC 9110 section 5.3 allows.
fn headers(given: &HeaderMap, is_dropped: impl Fn(&HeaderName) -> bool) -> Result<BTreeMap<String, String>, Problem> {
    let listed = given.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let of_connection: Vec<&str> = listed.flat_map(|value| value.split(',').map(str::trim)).collect();
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in given {
        let is_of_connection = of_connection.iter().any(|listed| name.as_str().eq_ignore_ascii_case(listed));
        let is_redials = name.as_str().starts_with("redial-") || name == "idempotency-key";
        if CONNECTION_HEADERS.contains(name) || is_of_connection || is_redials || is_dropped(name) {
            continue;
        }
        let text = std::str::from_utf8(value.as_bytes())
            .map_err(|_| Problem::invalid(format!("the header {name} is not UTF-8")))?;
        let separator = if name == header::COOKIE { "; " } else { ", " };
        headers
            .entry(name.to_string())
            .and_modify(|all| {
                all.push_str(separator);
                all.push_str(text);
            })
            .or_insert_with(|| text.to_owned());
    }
    Ok(headers)
}

/// Adds the headers of an upstream's answer that are not those of its connection.
pub(crate) fn add_headers(headers: &mut HeaderMap, from: impl IntoIterator<Item = (String, String)>) {
    for (name, value) in from {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else { continue };
        if !CONNECTION_HEADERS.contains(&name) && !name.as_str().starts_with("redial-") {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn block(name: Option<&str>, url: &str, has_credentials: bool) -> Result<UpstreamTarget, url::ParseError> {
        Ok(UpstreamTarget { name: name.map(str::to_owned), url: Url::parse(url)?, has_credentials })
    }

    #[test]
    fn a_path_stays_below_its_upstream() -> Result<(), Box<dyn std::error::Error>> {
        let targets = [
            block(None, "https://h/v1/admin", true)?,
            block(Some("api"), "https://h/v1/", true)?,
            block(Some("bare"), "https://b", false)?,
        ];
        for (path, expected) in [
            ("/u/api/chat?x=1", Some("https://h/v1/chat?x=1")),
            ("/u/api", Some("https://h/v1/")),
            ("/u/api/a%2Fb//c", Some("https://h/v1/a%2Fb//c")),
            ("/u/bare/x", Some("https://b/x")),
            ("/u/api/../other", None),
            ("/u/api/%2e%2e/other", None),
            ("/u/api/admin/keys", None),
            ("/u/other/x", None),
            ("/u//x", None),
        ] {
            let (parts, ()) = Request::get(path).body(())?.into_parts();
            let url = target(&parts, &targets, &Caller::anyone()).ok().map(|(_, url)| url.to_string());
            assert_eq!(url.as_deref(), expected, "{path}");
        }
        Ok(())
    }

    #[test]
    fn headers_of_the_connection_and_of_redial_stay_here() -> Result<(), Box<dyn std::error::Error>> {
        let request = Request::get("/")
            .header("connection", "keep-alive, x-hop")
            .header("x-hop", "1")
            .header("host", "localhost")
            .header("content-length", "2")
            .header("accept-encoding", "gzip")
            .header("redial-queue", "q")
            .header("idempotency-key", "k")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("authorization", "Bearer x")
            .header("openai-beta", "a")
            .header("openai-beta", "b")
            .body(())?;
        let kept =
            headers(request.headers(), |name| name == "authorization").map_err(|problem| format!("{problem:?}"))?;
        let kept: Vec<_> = kept.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(kept, ["cookie: a=1; b=2", "openai-beta: a, b"]);
        Ok(())
    }
}
