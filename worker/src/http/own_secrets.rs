//! Takes the worker's own secrets out of what an upstream answers.
//!
//! An upstream that echoes a request, as many do in their errors, would otherwise put the operator's credentials into Redis, where whoever
//! may read results finds them. Found is what stands verbatim, or as JSON, URLs and HTTP's basic authentication write it; an upstream that
//! means to tell a secret can write it in other ways, and it can tell anyone anyway.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderValue, header};
use memchr::memmem::Finder;
use redial_core::shown::redact::REDACTED;
use url::form_urlencoded;

/// A shorter secret is not looked for: it would be found by chance.
const MIN_BYTES: usize = 8;

/// The secrets that the calls of one upstream are made with, as they may stand in its answers.
#[derive(Clone, Default)]
pub struct OwnSecrets {
    /// None of them contains another one.
    finders: Arc<[Finder<'static>]>,
}

impl std::fmt::Debug for OwnSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secrets are left out.
        f.debug_struct("OwnSecrets").field("count", &self.finders.len()).finish()
    }
}

impl OwnSecrets {
    /// Looks for these secrets.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut forms: Vec<Vec<u8>> = secrets
            .into_iter()
            .flat_map(forms)
            .filter(|form| form.len() >= MIN_BYTES)
            .map(String::into_bytes)
            .collect();
        forms.sort_by_key(Vec::len);
        let mut shortest: Vec<Finder<'static>> = Vec::new();
        for form in forms {
            // What contains another one is destroyed with it. Then the matches in a part of a body are those in the whole.
            if !shortest.iter().any(|finder| finder.find(&form).is_some()) {
                shortest.push(Finder::new(&form).into_owned());
            }
        }
        Self { finders: shortest.into() }
    }

    /// Looks for the credential in an `Authorization` as well.
    #[must_use]
    pub fn with_authorization(&self, authorization: &HeaderValue) -> Self {
        let known = self.finders.iter().map(|finder| String::from_utf8_lossy(finder.needle()).into_owned());
        Self::new(known.chain(authorization.to_str().map(in_header).unwrap_or_default()))
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.finders.is_empty()
    }

    /// A body without the secrets. Binary ones are no exception.
    pub fn clean_body(&self, headers: &mut HeaderMap, body: Vec<u8>) -> Vec<u8> {
        match self.clean(&body) {
            Cow::Borrowed(_) => body,
            Cow::Owned(cleaned) => {
                headers.remove(header::CONTENT_LENGTH);
                cleaned
            }
        }
    }

    /// Takes the secrets out of the values of headers.
    pub fn clean_headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            if let Cow::Owned(cleaned) = self.clean(value.as_bytes()) {
                // What is left of a valid value is valid.
                *value = HeaderValue::from_bytes(&cleaned).unwrap_or(HeaderValue::from_static(REDACTED));
            }
        }
    }

    /// A text without the secrets.
    pub fn clean_text(&self, text: String) -> String {
        match self.clean(text.as_bytes()) {
            Cow::Borrowed(_) => text,
            Cow::Owned(cleaned) => String::from_utf8_lossy(&cleaned).into_owned(),
        }
    }

    fn clean<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let matches = self.matches(bytes);
        if matches.is_empty() {
            return bytes.into();
        }
        let mut cleaned = Vec::with_capacity(bytes.len());
        let end = push_cleaned(&mut cleaned, bytes, &matches);
        cleaned.extend_from_slice(bytes.get(end..).unwrap_or_default());
        cleaned.into()
    }

    /// Where the secrets stand: from and to, in order, none inside another.
    fn matches(&self, bytes: &[u8]) -> Vec<(usize, usize)> {
        let of = |finder: &Finder<'_>| {
            let length = finder.needle().len();
            finder.find_iter(bytes).map(|at| (at, at + length)).collect::<Vec<_>>()
        };
        let mut matches: Vec<_> = self.finders.iter().flat_map(of).collect();
        matches.sort_unstable();
        let mut end = 0;
        matches.retain(|(from, to)| {
            let is_free = *from >= end;
            end = if is_free { *to } else { end };
            is_free
        });
        matches
    }

    /// How many bytes at the end may be the beginning of a secret.
    fn begun(&self, bytes: &[u8]) -> usize {
        let begun = |finder: &Finder<'_>| {
            let needle = finder.needle();
            let longest = bytes.len().min(needle.len() - 1);
            (1..=longest).rev().find(|length| bytes.ends_with(needle.get(..*length).unwrap_or_default()))
        };
        self.finders.iter().filter_map(begun).max().unwrap_or_default()
    }
}

/// Cleans a body while it arrives. What it gives, put together, is what [`OwnSecrets::clean_body`] gives.
#[derive(Debug)]
pub struct ArrivingBody<'a> {
    secrets: &'a OwnSecrets,
    /// How many bytes of the body are dealt with.
    taken: usize,
}

impl<'a> ArrivingBody<'a> {
    /// Nothing has arrived.
    pub fn new(secrets: &'a OwnSecrets) -> Self {
        Self { secrets, taken: 0 }
    }

    /// The number of bytes of the body that need not be given again.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// The next bytes without secrets. `bytes` is what has arrived and is not [`taken`](Self::taken). The beginning of what may be a secret
    /// is held back until the rest of it arrives.
    pub fn next<'b>(&mut self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        if self.secrets.is_empty() {
            self.taken += bytes.len();
            return bytes.into();
        }
        let matches = self.secrets.matches(bytes);
        let mut cleaned = Vec::new();
        let end = push_cleaned(&mut cleaned, bytes, &matches);
        let rest = bytes.get(end..).unwrap_or_default();
        let ready = rest.get(..rest.len() - self.secrets.begun(rest)).unwrap_or_default();
        self.taken += end + ready.len();
        if matches.is_empty() {
            return ready.into();
        }
        cleaned.extend_from_slice(ready);
        cleaned.into()
    }
}

/// Copies up to the end of the last match, and returns where that is.
fn push_cleaned(cleaned: &mut Vec<u8>, bytes: &[u8], matches: &[(usize, usize)]) -> usize {
    let mut done = 0;
    for (from, to) in matches {
        cleaned.extend_from_slice(bytes.get(done..*from).unwrap_or_default());
        cleaned.extend_from_slice(REDACTED.as_bytes());
        done = *to;
    }
    done
}

/// The secrets in the value of a header: what follows the name of a scheme, the parts of it, and the login of HTTP's basic authentication.
pub fn in_header(value: &str) -> Vec<String> {
    let is_scheme = |word: &str| !word.contains(['=', ';', ',', '"']);
    let (scheme, rest) = value.split_once(' ').filter(|(word, _)| is_scheme(word)).unwrap_or(("", value));
    if scheme.eq_ignore_ascii_case("AWS4-HMAC-SHA256") {
        return rest.split_once("Signature=").map(|(_, signature)| signature.to_owned()).into_iter().collect();
    }
    let mut secrets = vec![rest.trim().to_owned()];
    if scheme.eq_ignore_ascii_case("basic")
        && let Some(login) = BASE64.decode(rest.trim()).ok().and_then(|login| String::from_utf8(login).ok())
    {
        secrets.extend(login.split_once(':').map(|(_, password)| password.to_owned()));
        secrets.push(login);
    }
    let parts = rest.split([' ', ',', ';', '"', '\'']).filter(|part| part.len() < rest.len());
    for part in parts {
        let value = part.split_once('=').map_or("", |(_, value)| value.trim_matches('='));
        secrets.push(if value.is_empty() { part } else { value }.to_owned());
    }
    secrets
}

/// Whether the value of a header names a scheme of authentication (IANA's HTTP Authentication Scheme Registry, and what is common besides).
pub fn has_scheme(value: &str) -> bool {
    let schemes = ["basic", "bearer", "digest", "hawk", "oauth", "dpop", "token", "apikey", "key"];
    value.split_once(' ').is_some_and(|(scheme, _)| schemes.contains(&scheme.to_ascii_lowercase().as_str()))
}

/// A login and its password, as HTTP's basic authentication sends them.
pub fn in_login(user: &str, password: &str) -> [String; 2] {
    [password.to_owned(), BASE64.encode(format!("{user}:{password}"))]
}

/// How a secret is written: as it is, in a string of JSON, with the slashes escaped as some libraries do, and in a URL.
fn forms(secret: String) -> Vec<String> {
    let json = serde_json::Value::from(secret.as_str()).to_string();
    let json = json.trim_matches('"').to_owned();
    let slashes = json.replace('/', "\\/");
    let url = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    vec![secret, json, slashes, url]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(list: &[&str]) -> OwnSecrets {
        OwnSecrets::new(list.iter().map(|text| (*text).to_owned()))
    }

    fn cleaned(secrets: &OwnSecrets, text: &str) -> String {
        secrets.clean_text(text.to_owned())
    }

    #[test]
    fn a_secret_is_found_in_each_way_that_it_is_usually_written() {
        let all = secrets(&["sk-s3cret/key+1", "geheim"]);
        for written in ["sk-s3cret/key+1", "sk-s3cret\\/key+1", "sk-s3cret%2Fkey%2B1"] {
            assert_eq!(cleaned(&all, &format!("a {written}{written} b")), "a [redacted][redacted] b");
        }
        assert_eq!(cleaned(&all, "geheim sk-s3cret"), "geheim sk-s3cret", "one is too short, one incomplete");
        let quoted = secrets(&["pass\"word\\1"]);
        assert_eq!(cleaned(&quoted, r#"{"p":"pass\"word\\1"}"#), r#"{"p":"[redacted]"}"#);
        assert!(secrets(&["short", ""]).is_empty());
    }

    #[test]
    fn the_secrets_of_headers_are_what_follows_the_scheme() {
        for (header, echoed) in [
            ("Bearer sk-s3cret-key", "sk-s3cret-key"),
            ("sk-s3cret-key", "sk-s3cret-key"),
            ("Basic dXNlcjpwYXNzd29yZDE=", "dXNlcjpwYXNzd29yZDE="),
            ("Basic dXNlcjpwYXNzd29yZDE=", "password1"),
            ("Token token=\"sk-s3cret-key\"", "sk-s3cret-key"),
            ("a=session-cookie; b=another-cookie", "another-cookie"),
            ("AWS4-HMAC-SHA256 Credential=AKID/x, Signature=0123456789abcdef", "0123456789abcdef"),
        ] {
            let all = OwnSecrets::new(in_header(header));
            assert_eq!(cleaned(&all, &format!("<{echoed}>")), "<[redacted]>", "{header}");
            assert_eq!(
                cleaned(&all, "Bearer Basic AWS4-HMAC-SHA256 application/json"),
                "Bearer Basic AWS4-HMAC-SHA256 application/json"
            );
        }
        let [password, basic] = in_login("user", "password1");
        assert_eq!((password.as_str(), basic.as_str()), ("password1", "dXNlcjpwYXNzd29yZDE="));
    }

    #[test]
    fn headers_and_binary_bodies_are_cleaned_and_a_length_that_is_wrong_then_is_dropped() {
        let all = secrets(&["sk-s3cret-key"]);
        let mut headers = HeaderMap::from_iter([
            (header::CONTENT_LENGTH, HeaderValue::from_static("15")),
            (header::WWW_AUTHENTICATE, HeaderValue::from_static("wrong key sk-s3cret-key")),
        ]);
        all.clean_headers(&mut headers);
        assert_eq!(headers[header::WWW_AUTHENTICATE], "wrong key [redacted]");
        assert_eq!(all.clean_body(&mut headers, b"\xff\x00harmless".to_vec()), b"\xff\x00harmless");
        assert!(headers.contains_key(header::CONTENT_LENGTH));
        assert_eq!(all.clean_body(&mut headers, b"\xffsk-s3cret-key\x00".to_vec()), b"\xff[redacted]\x00");
        assert!(!headers.contains_key(header::CONTENT_LENGTH));
    }

    #[test]
    fn a_secret_is_found_wherever_a_stream_is_cut() {
        let all = secrets(&["sk-s3cret-key", "key-other-one", "aaaaaaaab"]);
        for body in [
            "data: sk-s3cret-key\n\ndata: sk-s3cret\n\nkey-other-one",
            "sk-s3cret-key-other-one aaaaaaaaaaaaaaaab sk-s3cret-",
            "sk-s3sk-s3cret-keyaaaaaaaab",
            "",
        ] {
            let whole = cleaned(&all, body);
            for step in 1..=body.len().max(1) {
                let (mut arriving, mut given) = (ArrivingBody::new(&all), Vec::new());
                let ends = (step..body.len()).step_by(step).chain([body.len()]);
                for end in ends {
                    let new = body.as_bytes().get(arriving.taken()..end).unwrap_or_default();
                    given.extend_from_slice(&arriving.next(new));
                    assert!(whole.as_bytes().starts_with(&given), "{body:?} by {step}");
                }
                given
                    .extend_from_slice(all.clean(body.as_bytes().get(arriving.taken()..).unwrap_or_default()).as_ref());
                assert_eq!(String::from_utf8_lossy(&given), whole, "{body:?} by {step}");
            }
        }
        let mut arriving = ArrivingBody::new(&all);
        assert_eq!(arriving.next(b"data: x\n\n").as_ref(), b"data: x\n\n", "nothing is held back without need");
    }
}
