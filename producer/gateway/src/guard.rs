//! Which requests are let in.
//!
//! A gateway without tokens listens on loopback only. But a web page in a browser on this machine reaches that too: directly, or under a
//! name of its own that it makes resolve to 127.0.0.1 (DNS rebinding). A browser tells both: `Origin` names the page, and `Host` the name.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, StatusCode, Uri};
use redial_core::served_hosts::ServedHosts;
use url::Url;

use crate::config::AccessRules;
use crate::gateway::Gateway;
use crate::problem::Problem;
use crate::route_pattern::RoutePattern;
use crate::tokens::Caller;
use crate::traces::RequestTrace;
use crate::{cors, dashboard};

/// Lets a request in, or refuses it; and counts it.
pub(crate) async fn admit(State(gateway): State<Arc<Gateway>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = RoutePattern::of(&request);
    let trace =
        route.is_traced().then(|| RequestTrace::begin(&gateway.traces, request.method(), request.headers())).flatten();
    if let Some(trace) = &trace {
        request.extensions_mut().insert(trace.context());
    }
    let access = gateway.access();
    let origin = cors::allowed_origin(&access, &request);
    let mut response = match caller_of(&access, &request, origin.is_some()) {
        _ if origin.is_some() && cors::is_preflight(&request) => cors::preflight(&request),
        Ok(caller) => match gateway.requests.try_acquire() {
            Ok(_permit) => {
                request.extensions_mut().insert(caller);
                next.run(request).await
            }
            Err(_) => Problem::too_many("requests are being served", gateway.config.max_connections()).into_response(),
        },
        Err(problem) => problem.into_response(),
    };
    if let Some(origin) = origin {
        cors::allow(&mut response, origin);
    }
    if let Some(trace) = trace {
        trace.end(&gateway.traces, &route, response.status(), response.headers());
    }
    gateway.metrics.count(route, response.status().as_u16(), started.elapsed());
    response
}

/// Whether a request with these headers can only come from a program on this machine, and not from a page of another origin, unless that is
/// allowed.
///
/// # Errors
/// It may not.
pub(crate) fn check_local(uri: &Uri, headers: &HeaderMap, may_be_foreign: bool) -> Result<(), Problem> {
    let is_local = |host: &str| Url::parse(&format!("http://{host}/")).is_ok_and(|url| cors::is_loopback(&url));
    if let Some(host) = foreign_host(uri, headers, is_local) {
        let detail =
            format!("this gateway has no tokens, so it serves only localhost, 127.0.0.1 and [::1], and not {host:?}");
        return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "foreign_host", detail));
    }
    if may_be_foreign || headers.get_all(ORIGIN).iter().all(cors::is_local_origin) {
        return Ok(());
    }
    let detail =
        "this gateway has no tokens, so it serves web pages of other origins only if [gateway] origins names them";
    Err(Problem::new(StatusCode::FORBIDDEN, "foreign_origin", detail))
}

/// Whether a gateway with tokens is served under the name by which a request reached it. A page under another name has no token; this keeps
/// it from trying some, and from learning what is here.
fn check_host(hosts: &ServedHosts, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(host) = foreign_host(uri, headers, |host| hosts.serves(host)) else { return Ok(()) };
    let detail = format!("this gateway is not served as {host:?}: if that is its name, add it to [gateway] hosts");
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "foreign_host", detail))
}

/// The first name by which a request reached the gateway that is not its own: `:authority` in HTTP/2, each `Host` in HTTP/1.1. Of several, no
/// part of a server may believe one and another part another one. A request without any has an empty name.
fn foreign_host<'a>(uri: &'a Uri, headers: &'a HeaderMap, is_own: impl Fn(&str) -> bool) -> Option<&'a str> {
    let hosts: Vec<&str> = match uri.authority() {
        Some(authority) => vec![authority.as_str()],
        None => headers.get_all(HOST).iter().map(|value| value.to_str().unwrap_or_default()).collect(),
    };
    if hosts.is_empty() { Some("") } else { hosts.into_iter().find(|host| !is_own(host)) }
}

fn caller_of(access: &AccessRules, request: &Request, is_allowed_origin: bool) -> Result<Caller, Problem> {
    let path = request.uri().path();
    // Checks of health come by any name, and learn nothing.
    if matches!(path, "/healthz" | "/readyz") {
        return Ok(Caller::anyone());
    }
    if access.is_open() {
        check_local(request.uri(), request.headers(), is_allowed_origin)?;
        return Ok(Caller::anyone());
    }
    check_host(&access.hosts, request.uri(), request.headers())?;
    if path == "/openapi.json" || dashboard::is_part(path) {
        return Ok(Caller::anyone());
    }
    Caller::identify(&access.tokens, request.headers())
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
