//! Credentials that are made for a call: access tokens and signatures. Those that are simply sent are headers of an `[[upstream]]` block.

pub mod oauth;
pub mod sigv4;
pub mod tokens;

use http::HeaderValue;
use url::form_urlencoded;

/// What stands in the identity of calls for credentials that change, made of what does not.
fn identity(parts: &[&str]) -> HeaderValue {
    let encoded: Vec<String> =
        parts.iter().map(|part| form_urlencoded::byte_serialize(part.as_bytes()).collect()).collect();
    // Never invalid: only letters, digits and a few signs are left.
    HeaderValue::from_str(&encoded.join(" ")).unwrap_or(HeaderValue::from_static("credentials"))
}
