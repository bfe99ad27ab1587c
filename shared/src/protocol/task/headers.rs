//! The headers of a call: those that the task sets itself, and the idempotency key.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{InvalidTask, MAX_HEADERS, check_length};
use crate::protocol::credentials::is_harmless;
use crate::shown::redact::header_name;

/// Headers that belong to the connection, not to the task (RFC 9110 section 7.6.1): set by a task, they could smuggle a request.
const CONNECTION_HEADERS: [HeaderName; 10] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
];

pub(super) fn headers(raw: Option<&BTreeMap<String, String>>) -> Result<HeaderMap, InvalidTask> {
    let count = raw.map_or(0, BTreeMap::len);
    if count > MAX_HEADERS {
        return Err(InvalidTask::TooMany { field: "headers", count, limit: MAX_HEADERS });
    }
    let mut headers = HeaderMap::with_capacity(count);
    for (name, value) in raw.into_iter().flatten() {
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| InvalidTask::HeaderName(header_name(name)))?;
        if CONNECTION_HEADERS.contains(&parsed) {
            return Err(InvalidTask::ConnectionHeader(name.clone()));
        }
        let mut value =
            HeaderValue::from_bytes(value.as_bytes()).map_err(|_| InvalidTask::HeaderValue(name.clone()))?;
        // Then no log of the HTTP client has it, whatever its level.
        value.set_sensitive(!is_harmless(parsed.as_str()));
        headers.append(parsed, value);
    }
    Ok(headers)
}

/// The header is bare, as Stripe and most APIs take it; the IETF draft's quoted form is a setting of the upstream.
pub(super) fn idempotency_key(key: String, headers: &mut HeaderMap) -> Result<String, InvalidTask> {
    check_length("idempotency_key", &key, 255)?;
    let value = HeaderValue::from_str(&key).map_err(|_| InvalidTask::IdempotencyKey)?;
    headers.insert(HeaderName::from_static("idempotency-key"), value);
    Ok(key)
}
