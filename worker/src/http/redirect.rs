//! Redirects: which request a response asks for instead (RFC 9110 section 15.4), and what of the first one it may carry.

use http::{HeaderMap, HeaderName, Method, header};
use redial_core::Task;
use redial_core::protocol::credentials;
use redial_core::protocol::task::MAX_URL_BYTES;
use url::Url;

use super::types::{Redirection, Response};

/// Headers that describe a body, which a request without one does not have.
const OF_BODY: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
    HeaderName::from_static("content-digest"),
];

/// One request of an attempt: that of the task, or one that a redirect asked for.
#[derive(Debug, Clone)]
pub struct Hop {
    pub method: Method,
    pub url: Url,
    /// The task's headers, as far as they may go there.
    pub headers: HeaderMap,
    pub sends_body: bool,
    pub redirection: Redirection,
}

impl Hop {
    /// The request of a task.
    pub fn first(task: &Task) -> Self {
        Self {
            method: task.method.clone(),
            url: task.url.clone(),
            headers: task.headers.clone(),
            sends_body: true,
            redirection: Redirection::default(),
        }
    }

    /// The request that this response asks for instead; `None` if it is no redirect.
    ///
    /// 307 and 308 repeat the request. 303 asks for another resource by GET; so do 301 and 302 after a POST, as browsers understand them.
    /// Another origin gets no credentials of the task, nor does any later hop.
    ///
    /// # Errors
    /// It is a redirect to nowhere.
    pub(super) fn next(&self, response: &Response) -> Option<Result<Self, String>> {
        if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        let location = response.headers.get(header::LOCATION)?;
        let target = std::str::from_utf8(location.as_bytes()).ok().filter(|text| text.len() <= MAX_URL_BYTES);
        let target = target.and_then(|text| self.url.join(text).ok());
        let Some(mut url) = target.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) else {
            return Some(Err("its Location is not an http or https URL".to_owned()));
        };
        if url.fragment().is_none() {
            url.set_fragment(self.url.fragment());
        }
        let mut next = Self { url, ..self.clone() };
        next.redirection.followed += 1;
        let is_safe = matches!(self.method, Method::GET | Method::HEAD);
        if (response.status == 303 && !is_safe) || (response.status <= 302 && self.method == Method::POST) {
            next.method = Method::GET;
            next.sends_body = false;
            next.redirection.has_acted = true;
            for name in OF_BODY {
                next.headers.remove(name);
            }
        }
        if next.url.origin() != self.url.origin() {
            next.redirection.left_origin = true;
            let secrets = next.headers.keys().filter(|name| credentials::is_identity(name.as_str()));
            let secrets: Vec<HeaderName> = secrets.cloned().collect();
            for name in secrets {
                next.headers.remove(name);
            }
        }
        Some(Ok(next))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn after(task: &str, status: u16, location: &str) -> anyhow::Result<Option<Result<Hop, String>>> {
        let task = Task::parse(task.as_bytes(), 10_000)?;
        let headers = HeaderMap::from_iter([(header::LOCATION, HeaderValue::from_str(location)?)]);
        let response = Response { status, headers, body: vec![], redirection: Redirection::default() };
        Ok(Hop::first(&task).next(&response))
    }

    const POST: &str = r#"{"url":"https://a.example/x/y?q=1","body":{"n":1},"idempotency_key":"k",
        "headers":{"Authorization":"Bearer t","X-Api-Key":"k","Cookie":"c=1","Accept":"text/html"}}"#;

    #[test]
    fn the_status_decides_about_method_and_body() -> anyhow::Result<()> {
        for (method, status, expected, sends_body, has_acted) in [
            ("POST", 301, "GET", false, true),
            ("POST", 302, "GET", false, true),
            ("POST", 303, "GET", false, true),
            ("POST", 307, "POST", true, false),
            ("POST", 308, "POST", true, false),
            ("PUT", 301, "PUT", true, false),
            ("PUT", 302, "PUT", true, false),
            ("PUT", 303, "GET", false, true),
            ("DELETE", 303, "GET", false, true),
            ("GET", 301, "GET", true, false),
            ("GET", 303, "GET", true, false),
            ("HEAD", 303, "HEAD", true, false),
        ] {
            let task = format!(r#"{{"url":"https://a.example/","method":"{method}","body_text":"x"}}"#);
            let Some(Ok(hop)) = after(&task, status, "/z")? else { anyhow::bail!("{method} {status}") };
            assert_eq!((hop.method.as_str(), hop.sends_body), (expected, sends_body), "{method} {status}");
            assert_eq!(hop.redirection.has_acted, has_acted, "{method} {status}");
            assert_eq!(hop.headers.contains_key(header::CONTENT_TYPE), sends_body, "{method} {status}");
        }
        for status in [200, 300, 304, 305, 306, 404] {
            assert!(after(POST, status, "/z")?.is_none(), "{status}");
        }
        Ok(())
    }

    #[test]
    fn credentials_stay_with_their_origin() -> anyhow::Result<()> {
        for (location, url, keeps) in [
            ("/z", "https://a.example/z", true),
            ("z?p", "https://a.example/x/z?p", true),
            ("https://a.example:443/z", "https://a.example/z", true),
            ("//b.example/z", "https://b.example/z", false),
            ("http://a.example/z", "http://a.example/z", false),
            ("https://a.example:444/z", "https://a.example:444/z", false),
            ("https://a.example.evil.org/", "https://a.example.evil.org/", false),
        ] {
            let Some(Ok(hop)) = after(POST, 307, location)? else { anyhow::bail!("{location}") };
            assert_eq!(hop.url.as_str(), url);
            for name in ["authorization", "x-api-key", "cookie"] {
                assert_eq!(hop.headers.contains_key(name), keeps, "{location}: {name}");
            }
            assert!(hop.headers.contains_key("accept") && hop.headers.contains_key("idempotency-key"), "{location}");
        }
        Ok(())
    }

    #[test]
    fn a_redirect_to_nowhere_is_not_followed() -> anyhow::Result<()> {
        for location in
            ["file:///etc/passwd", "ftp://a.example/", "https://", "data:text/plain,x", "javascript:x", "http://["]
        {
            assert!(matches!(after(POST, 302, location)?, Some(Err(_))), "{location}");
        }
        let long = format!("/{}", "x".repeat(MAX_URL_BYTES));
        assert!(matches!(after(POST, 302, &long)?, Some(Err(_))));
        Ok(())
    }
}
