//! Which web pages may read what the gateway answers (CORS: the Fetch standard, section 3.2): those of the origins that the settings name, and
//! without tokens those of this machine.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderValue, Method, StatusCode};
use url::{Host, Url};

use crate::config::AccessRules;

/// The headers of responses that pages may read besides those that they always may.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("location, redial-attempts, redial-id, redial-source, retry-after, x-should-retry");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
/// How long a browser may remember the answer to its question, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The origin of the page that sends a request, if it may read the answer.
pub(crate) fn allowed_origin(access: &AccessRules, request: &Request) -> Option<HeaderValue> {
    let mut origins = request.headers().get_all(ORIGIN).iter();
    // No browser sends several.
    let origin = origins.next().filter(|_| origins.next().is_none())?;
    let is_named = access.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
    (is_named || (access.is_open() && is_local_origin(origin))).then(|| origin.clone())
}

/// Whether a browser asks if a page may send a request. It sends no token along.
pub(crate) fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to that question: it may, with the headers that it asks for.
pub(crate) fn preflight(request: &Request) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    if let Some(asked) = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    response
}

/// Lets the page at this origin read a response.
pub(crate) fn allow(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(VARY, HeaderValue::from_static("origin"));
}

/// Whether a page with this origin is served from this machine.
pub(crate) fn is_local_origin(origin: &HeaderValue) -> bool {
    origin.to_str().is_ok_and(|origin| Url::parse(origin).is_ok_and(|url| is_loopback(&url)))
}

/// Whether a URL is of this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let is_web = matches!(url.scheme(), "http" | "https") && url.username().is_empty();
    is_web
        && match url.host() {
            Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            Some(Host::Ipv4(address)) => Ipv4Addr::is_loopback(&address),
            Some(Host::Ipv6(address)) => Ipv6Addr::is_loopback(&address),
            None => false,
        }
}
