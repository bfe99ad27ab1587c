//! Deliveries of results, signed after the Standard Webhooks specification
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//!
//! `webhook-signature` is `v1,` and the base64 of the HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`. The secret stays
//! with the worker, so that what is signed is always a result that a worker wrote, never what a producer made up.

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use redial_core::{TaskId, UnixMs};
use sha2::{Digest as _, Sha256};

/// What a secret begins with, by the specification.
const PREFIX: &str = "whsec_";

/// The secrets to sign with, none or more: while one is replaced, receivers know either.
#[derive(Clone, Default)]
pub struct Signer(Vec<Vec<u8>>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({} secrets)", self.0.len())
    }
}

impl Signer {
    /// Reads secrets as the specification writes them, with spaces between.
    ///
    /// # Errors
    /// What is wrong with one, without saying it.
    pub fn new(secrets: &str) -> anyhow::Result<Self> {
        let read = |secret: &str| {
            let bytes = secret.strip_prefix(PREFIX).and_then(|text| BASE64.decode(text).ok());
            let bytes = bytes.context("webhook_secret is no secret of Standard Webhooks: use whsec_ and base64, as of: echo whsec_$(openssl rand -base64 32)")?;
            ensure!((24..=64).contains(&bytes.len()), "webhook_secret has {} bytes: use 24 to 64", bytes.len());
            Ok(bytes)
        };
        Ok(Self(secrets.split_whitespace().map(read).collect::<anyhow::Result<_>>()?))
    }

    /// The headers of a delivery of the result of `of` that is sent now.
    pub fn headers(&self, of: &TaskId, body: &[u8], finished_at: UnixMs, now: UnixMs) -> HeaderMap {
        let id = message_id(of, finished_at);
        let seconds = now.0 / 1000;
        let signatures: Vec<String> = self.0.iter().map(|secret| sign(secret, &id, seconds, body)).collect();
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: &str| {
            // Digits, letters and base64.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        put("webhook-id", &id);
        put("webhook-timestamp", &seconds.to_string());
        if !signatures.is_empty() {
            put("webhook-signature", &signatures.join(" "));
        }
        headers
    }
}

/// The name of a message: the same at each attempt, another one for another result of the same task, and without a full stop,
/// by which a signature tells id, time and body apart.
fn message_id(of: &TaskId, finished_at: UnixMs) -> String {
    let digest = Sha256::digest(format!("{of} {finished_at}"));
    digest.iter().take(12).fold("msg_".to_owned(), |id, byte| format!("{id}{byte:02x}"))
}

fn sign(secret: &[u8], id: &str, seconds: u64, body: &[u8]) -> String {
    // A key of any length will do.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(format!("{id}.{seconds}.").as_bytes());
    mac.update(body);
    format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_specification() -> anyhow::Result<()> {
        // The example in the verification guide of Svix, who wrote the specification.
        let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
        let signature = sign(&signer.0[0], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        Ok(())
    }

    #[test]
    fn a_message_has_one_id_and_a_signature_for_each_secret() -> anyhow::Result<()> {
        let of = TaskId::new("a.b").map_err(anyhow::Error::msg)?;
        let two = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
        let headers = |secrets, finished, now| {
            Signer::new(secrets).map(|signer| signer.headers(&of, b"{}", UnixMs(finished), UnixMs(now)))
        };
        let (first, later) = (headers(two, 5, 1_999)?, headers(two, 5, 9_000)?);
        assert_eq!(first["webhook-timestamp"], "1");
        assert_eq!(first["webhook-signature"].to_str()?.split(' ').count(), 2);
        assert_eq!(first["webhook-id"], later["webhook-id"]);
        assert!(!first["webhook-id"].to_str()?.contains('.'));
        assert_ne!(first["webhook-id"], headers(two, 6, 1_999)?["webhook-id"]);
        assert_eq!(headers("", 5, 0)?.get("webhook-signature"), None);
        Ok(())
    }

    #[test]
    fn a_secret_that_is_none_is_refused_and_not_said() {
        for bad in ["geheim", "whsec_geheim!", "whsec_Z2VoZWlt"] {
            let refused = Signer::new(bad).map(|_| ()).map_err(|error| format!("{error:#}"));
            assert!(
                refused.as_ref().is_err_and(|why| why.contains("webhook_secret") && !why.contains("geheim")),
                "{refused:?}"
            );
        }
    }
}
