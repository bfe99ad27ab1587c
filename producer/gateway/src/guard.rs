//! Which requests are let in.
//!
//! A gateway without tokens listens on loopback only. But a web page in a browser on this machine reaches that too: directly, or under a
//! name of its own that it makes resolve to 127.0.0.1 (DNS rebinding). A browser tells both: `Origin` names the page, and `Host` the name.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, StatusCode, Uri};
use url::Url;

use crate::cors;
use crate::gateway::Gateway;
use crate::problem::Problem;
use crate::tokens::Caller;

/// Lets a request in, or refuses it; and counts it.
pub(crate) async fn admit(State(gateway): State<Arc<Gateway>>, mut request: Request, next: Next) -> Response {
    let route = route_of(request.uri().path());
    let origin = cors::allowed_origin(&gateway.config, &request);
    let mut response = match caller_of(&gateway, &request, origin.is_some()) {
        _ if origin.is_some() && cors::is_preflight(&request) => cors::preflight(&request),
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    if let Some(origin) = origin {
        cors::allow(&mut response, origin);
    }
    gateway.metrics.count(route, response.status().as_u16());
    response
}

/// Whether a request with these headers can only come from a program on this machine, and not from a page of another origin, unless that is
/// allowed.
///
/// # Errors
/// It may not.
pub(crate) fn check_local(uri: &Uri, headers: &HeaderMap, may_be_foreign: bool) -> Result<(), Problem> {
    // Of several, no part of a server may believe one and another part another one.
    let hosts: Vec<&str> = match uri.authority() {
        Some(authority) => vec![authority.as_str()],
        None => headers.get_all(HOST).iter().map(|value| value.to_str().unwrap_or_default()).collect(),
    };
    let is_local = |host: &str| Url::parse(&format!("http://{host}/")).is_ok_and(|url| cors::is_loopback(&url));
    let foreign = hosts.iter().find(|host| !is_local(host));
    if hosts.is_empty() || foreign.is_some() {
        let detail = format!(
            "this gateway has no tokens, so it serves only localhost, 127.0.0.1 and [::1], and not {:?}",
            foreign.copied().unwrap_or_default()
        );
        return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "foreign_host", detail));
    }
    if may_be_foreign || headers.get_all(ORIGIN).iter().all(cors::is_local_origin) {
        return Ok(());
    }
    let detail =
        "this gateway has no tokens, so it serves web pages of other origins only if [gateway] origins names them";
    Err(Problem::new(StatusCode::FORBIDDEN, "foreign_origin", detail))
}

fn caller_of(gateway: &Gateway, request: &Request, is_allowed_origin: bool) -> Result<Caller, Problem> {
    let is_public = matches!(request.uri().path(), "/healthz" | "/readyz" | "/openapi.json");
    if gateway.config.is_open() {
        if request.uri().path() != "/healthz" && request.uri().path() != "/readyz" {
            check_local(request.uri(), request.headers(), is_allowed_origin)?;
        }
        return Ok(Caller::anyone());
    }
    if is_public {
        return Ok(Caller::anyone());
    }
    Caller::identify(&gateway.config.tokens, request.headers())
}

/// The route of a path, for the metrics.
fn route_of(path: &str) -> &'static str {
    match path.split('/').nth(1) {
        Some("u") => "/u",
        Some("v1") => "/v1/tasks",
        Some("healthz") => "/healthz",
        Some("readyz") => "/readyz",
        Some("metrics") => "/metrics",
        Some("openapi.json") => "/openapi.json",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(host: &'static str, origin: Option<&'static str>) -> Result<(), Problem> {
        let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
        headers.extend(origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin))));
        check_local(&Uri::from_static("/v1/tasks"), &headers, false)
    }

    #[test]
    fn without_tokens_only_loopback_names_are_served() {
        for host in ["localhost", "localhost:8080", "LOCALHOST:1", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080"] {
            assert!(check(host, None).is_ok(), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8080", "10.0.0.1", "", "127.0.0.1.evil.example", "a@b"] {
            assert!(check(host, None).is_err(), "{host}");
        }
        for origin in ["http://localhost:3000", "https://127.0.0.1"] {
            assert!(check("localhost", Some(origin)).is_ok(), "{origin}");
        }
        for origin in ["https://evil.example", "null", "http://localhost.evil.example", "file:///"] {
            assert!(check("localhost", Some(origin)).is_err(), "{origin}");
        }
    }
}
