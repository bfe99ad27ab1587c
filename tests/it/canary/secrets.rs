//! The places in which a secret stands, and where else it may be found.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use redial_tests::Certificates;

/// Where a secret is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    /// The logs of workers and gateways, and what commands complain about.
    Log,
    /// `/metrics`, `/healthz`, `/readyz`, and what the gateway answers.
    Page,
    /// The producer's bytes in Redis, as long as a task or its dead letter is kept.
    TaskInRedis,
    /// All else in Redis: results, replies, memos, streams, events, limits.
    Redis,
    /// What commands print.
    Command,
    /// The files that `redial batch` leaves.
    File,
}

/// Nobody gets to see it.
const NOWHERE: &[Spot] = &[];
/// It is a part of a task, which is in Redis as it was pushed.
const IN_TASKS: &[Spot] = &[Spot::TaskInRedis];

/// Each place with where its secret may be found: what `docs/security.md` says.
pub(super) const PLACES: &[(&str, &[Spot])] = &[
    ("header from the environment", NOWHERE),
    ("header from a file", NOWHERE),
    ("login in the settings", NOWHERE),
    ("password of a proxy", NOWHERE),
    ("client secret of OAuth", NOWHERE),
    ("access token", NOWHERE),
    ("secret key of AWS", NOWHERE),
    ("webhook secret", NOWHERE),
    ("key of a client certificate", NOWHERE),
    ("password of Redis", NOWHERE),
    ("token of the gateway", NOWHERE),
    ("wrong token of the gateway", NOWHERE),
    ("cookie of an upstream", NOWHERE),
    ("secret in broken settings", NOWHERE),
    ("Authorization of a task", IN_TASKS),
    ("odd header of a task", IN_TASKS),
    ("cookie of a task", IN_TASKS),
    ("key in the URL of a task", IN_TASKS),
    ("signature in the URL of a task", IN_TASKS),
    ("userinfo in the URL of a task", IN_TASKS),
    ("token in the URL of a callback", IN_TASKS),
    ("header in a chain", IN_TASKS),
    ("header in a task that does not parse", IN_TASKS),
    ("header of a batch", IN_TASKS),
    ("line of a batch that is invalid", NOWHERE),
    ("header through the gateway", IN_TASKS),
    ("key in a URL through the gateway", IN_TASKS),
];

/// A canary for each place.
#[derive(Clone)]
pub(super) struct Secrets {
    canaries: Arc<Vec<(&'static str, String)>>,
    certificates: Arc<Certificates>,
    certificate: Arc<String>,
}

impl Secrets {
    pub(super) fn random() -> Self {
        let authority = Certificates::new();
        let files = authority.issue("canary");
        let certificate =
            [files.certificate(), files.key()].map(|path| std::fs::read_to_string(path).unwrap()).concat();
        let key = certificate.split("PRIVATE KEY-----\n").nth(1).and_then(|pem| pem.lines().next()).unwrap().to_owned();
        let canary = |place: &&'static str| match *place {
            "key of a client certificate" => key.clone(),
            // Without characters that one place or the other would have to encode: the search looks for encodings of the whole.
            _ => format!("cnry{:032x}", rand::random::<u128>()),
        };
        let canaries = PLACES.iter().map(|(place, _)| (*place, canary(place))).collect();
        Self { canaries: Arc::new(canaries), certificates: Arc::new(authority), certificate: Arc::new(certificate) }
    }

    pub(super) fn of(&self, place: &str) -> &str {
        let found = self.canaries.iter().find(|(name, _)| *name == place);
        &found.unwrap_or_else(|| panic!("{place:?} is not a place")).1
    }

    pub(super) fn all(&self) -> &[(&'static str, String)] {
        &self.canaries
    }

    /// `Basic`, with this password.
    pub(super) fn basic(&self, place: &str) -> String {
        format!("Basic {}", BASE64.encode(format!("fleet:{}", self.of(place))))
    }

    pub(super) fn webhook(&self) -> String {
        format!("whsec_{}", BASE64.encode(self.of("webhook secret")))
    }

    /// The authority that signed the client certificate.
    pub(super) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The certificate and its key in one file.
    pub(super) fn client_certificate(&self) -> &str {
        &self.certificate
    }
}
