//! Signs callbacks according to the Standard Webhooks specification
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//!
//! `webhook-signature` is `v1,` and the base64 of the HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`. The secret stays
//! with the worker, so a signature always covers a result that a worker wrote, never one that a producer made up.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use redial_core::{TaskId, UnixMs};
use sha2::{Digest as _, Sha256};

use crate::config::WebhookSecrets;

/// The headers of a callback that is sent now and carries the result of `id`.
pub fn headers(secrets: &WebhookSecrets, id: &TaskId, body: &[u8], finished_at: UnixMs, now: UnixMs) -> HeaderMap {
    let message = message_id(id, finished_at);
    let seconds = now.0 / 1000;
    let signatures: Vec<String> = secrets.iter().map(|secret| sign(secret, &message, seconds, body)).collect();
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, value: &str| {
        // Always valid: digits, letters and base64.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put("webhook-id", &message);
    put("webhook-timestamp", &seconds.to_string());
    if !signatures.is_empty() {
        put("webhook-signature", &signatures.join(" "));
    }
    headers
}

/// Identifies a message: the same for every attempt, different for another result of the same task. It contains no full stop,
/// since a signature separates id, time and body by one.
fn message_id(id: &TaskId, finished_at: UnixMs) -> String {
    let digest = Sha256::digest(format!("{id} {finished_at}"));
    digest.iter().take(12).fold("msg_".to_owned(), |message, byte| format!("{message}{byte:02x}"))
}

fn sign(secret: &[u8], message: &str, seconds: u64, body: &[u8]) -> String {
    // HMAC accepts keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(format!("{message}.{seconds}.").as_bytes());
    mac.update(body);
    format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_specification() -> anyhow::Result<()> {
        // From the verification guide of Svix, who wrote the specification.
        let secrets = WebhookSecrets::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
        let secret = secrets.iter().next().unwrap_or_default();
        let signature = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        Ok(())
    }

    #[test]
    fn a_message_has_one_id_and_a_signature_for_each_secret() -> anyhow::Result<()> {
        let id = TaskId::new("a.b").map_err(anyhow::Error::msg)?;
        let two = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
        let signed = |secrets, finished, now| {
            WebhookSecrets::parse(secrets).map(|secrets| headers(&secrets, &id, b"{}", UnixMs(finished), UnixMs(now)))
        };
        let (first, later) = (signed(two, 5, 1_999)?, signed(two, 5, 9_000)?);
        assert_eq!(first["webhook-timestamp"], "1");
        assert_eq!(first["webhook-signature"].to_str()?.split(' ').count(), 2);
        assert_eq!(first["webhook-id"], later["webhook-id"]);
        assert!(!first["webhook-id"].to_str()?.contains('.'));
        assert_ne!(first["webhook-id"], signed(two, 6, 1_999)?["webhook-id"]);
        assert_eq!(signed("", 5, 0)?.get("webhook-signature"), None);
        Ok(())
    }
}
