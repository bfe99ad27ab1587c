//! The dashboard: a page that shows the fleet and lets operators act. It is static, and holds no data: its scripts ask `/v1/` with the
//! token that whoever looks at it types in.
//!
//! Nothing of it comes from elsewhere, and its policy (Content Security Policy, level 3) lets a browser run and load nothing else, so that a
//! text that a task or an upstream chose cannot become a script.

use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::problem::Problem;

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);
/// Other pages get no handle on this one, and may not embed its files.
const ISOLATION: [(HeaderName, HeaderValue); 2] = [
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// The files of the page, by name, with their type.
const FILES: [(&str, &str, &str); 9] = [
    ("style.css", "text/css", include_str!("dashboard/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("dashboard/icon.svg")),
    ("app.js", "text/javascript", include_str!("dashboard/app.js")),
    ("api.js", "text/javascript", include_str!("dashboard/api.js")),
    ("dom.js", "text/javascript", include_str!("dashboard/dom.js")),
    ("overview.js", "text/javascript", include_str!("dashboard/overview.js")),
    ("queue.js", "text/javascript", include_str!("dashboard/queue.js")),
    ("task.js", "text/javascript", include_str!("dashboard/task.js")),
    ("dead.js", "text/javascript", include_str!("dashboard/dead.js")),
];

/// Whether a path is of the page, which everyone may read.
pub(crate) fn is_part(path: &str) -> bool {
    path == "/" || path.starts_with("/dashboard/")
}

/// `GET /`
pub(crate) async fn page() -> Response {
    respond("text/html", include_str!("dashboard/index.html"))
}

/// `GET /dashboard/{file}`
pub(crate) async fn file(Path(name): Path<String>) -> Response {
    let found = FILES.iter().find(|(file, _, _)| *file == name);
    found.map_or_else(
        || {
            let detail = format!("the dashboard has no file {name:?}");
            Problem::new(StatusCode::NOT_FOUND, "unknown_path", detail).into_response()
        },
        |(_, kind, text)| respond(kind, text),
    )
}

fn respond(kind: &str, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    // All types are ASCII.
    headers.extend(HeaderValue::from_str(&format!("{kind}; charset=utf-8")).ok().map(|value| (CONTENT_TYPE, value)));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.extend(ISOLATION);
    response
}
