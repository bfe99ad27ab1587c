//! The secrets that sign callbacks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// How a secret begins, according to Standard Webhooks.
const PREFIX: &str = "whsec_";

/// The secrets to sign with. While one is being replaced there are two, and receivers may know either.
#[derive(Clone, Default)]
pub struct WebhookSecrets(Vec<Vec<u8>>);

/// A secret that cannot be used. The message does not contain it.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSecret {
    /// It has another form.
    #[error(
        "webhook_secret is not in the form of Standard Webhooks: use whsec_ followed by base64, for example from: echo whsec_$(openssl rand -base64 32)"
    )]
    Form,
    /// It is too short to protect, or too long.
    #[error("webhook_secret has {0} bytes: use 24 to 64")]
    Length(usize),
}

impl std::fmt::Debug for WebhookSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WebhookSecrets({})", self.0.len())
    }
}

impl WebhookSecrets {
    /// Reads secrets as the specification writes them, separated by spaces.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn parse(secrets: &str) -> Result<Self, InvalidSecret> {
        let read = |secret: &str| {
            let bytes = secret.strip_prefix(PREFIX).and_then(|text| BASE64.decode(text).ok());
            let bytes = bytes.ok_or(InvalidSecret::Form)?;
            if (24..=64).contains(&bytes.len()) { Ok(bytes) } else { Err(InvalidSecret::Length(bytes.len())) }
        };
        secrets.split_whitespace().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// The secrets' bytes.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unusable_secret_is_refused_and_not_quoted() {
        for bad in ["geheim", "whsec_geheim!", "whsec_Z2VoZWlt"] {
            let refused = WebhookSecrets::parse(bad).map(|_| ()).map_err(|error| error.to_string());
            assert!(
                refused.as_ref().is_err_and(|why| why.contains("webhook_secret") && !why.contains("geheim")),
                "{refused:?}"
            );
        }
    }
}
