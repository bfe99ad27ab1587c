//! Who may use a gateway, and for what: the `[[token]]` blocks. The settings have hashes of tokens, so that they contain no secret.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, StatusCode};
use redial_core::{QueueName, TaskId};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::problem::Problem;

/// The headers in which SDKs send the key that they have: those of OpenAI and most others, Anthropic, Azure, Google.
pub(crate) const KEY_HEADERS: [HeaderName; 4] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// What a token allows. Each level includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Access {
    /// To read states and results.
    Read,
    /// To make calls and cancel them.
    #[default]
    Call,
    /// To also choose where results go (`reply_to`), and to change what the fleet does: pause queues, replay and drop dead letters, set
    /// limits, remove schedules.
    Operate,
}

impl Access {
    /// Its name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Call => "call",
            Self::Operate => "operate",
        }
    }
}

/// A `[[token]]` block as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenFields {
    name: String,
    hash: String,
    tenant: Option<String>,
    #[serde(default)]
    queues: Vec<String>,
    #[serde(default)]
    upstreams: Vec<String>,
    #[serde(default)]
    limits: Vec<String>,
    #[serde(default)]
    access: Access,
}

/// A `[[token]]` block.
#[derive(Debug, Clone)]
pub(crate) struct GatewayToken {
    /// Its name in settings and logs.
    pub name: String,
    /// SHA-256 of the token.
    hash: [u8; 32],
    /// Whose tasks it is for: their ids begin with it. Without one, all.
    tenant: Option<String>,
    /// The queues that it is for; none named: all.
    queues: Vec<QueueName>,
    /// The upstreams that it is for; none named: all, and any URL.
    pub upstreams: Vec<String>,
    /// The limits that all of its calls are under.
    limits: Vec<String>,
    access: Access,
}

/// The variable of the environment that has a token.
pub(crate) const TOKEN_VARIABLE: &str = "REDIAL_GATEWAY_TOKEN";
/// Fewer characters could be guessed.
const MIN_TOKEN: usize = 16;

/// A token that the environment has, such as that of a container, and not the settings. It opens everything.
#[derive(Debug, Clone)]
pub struct EnvironmentToken {
    hash: [u8; 32],
}

impl EnvironmentToken {
    /// The token in the environment, if there is one.
    ///
    /// # Errors
    /// It is too short.
    pub fn read() -> Result<Option<Self>, String> {
        let token = std::env::var(TOKEN_VARIABLE).unwrap_or_default();
        match token.len() {
            0 => Ok(None),
            MIN_TOKEN.. => Ok(Some(Self { hash: Sha256::digest(token).into() })),
            _ => Err(format!(
                "{TOKEN_VARIABLE} has fewer than {MIN_TOKEN} characters, which could be guessed: openssl rand -hex 32 makes one"
            )),
        }
    }
}

impl From<EnvironmentToken> for GatewayToken {
    fn from(EnvironmentToken { hash }: EnvironmentToken) -> Self {
        let (queues, upstreams, limits) = (Vec::new(), Vec::new(), Vec::new());
        let name = TOKEN_VARIABLE.to_owned();
        Self { name, hash, tenant: None, queues, upstreams, limits, access: Access::Operate }
    }
}

/// Whoever sent a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Option<Arc<GatewayToken>>);

impl TokenFields {
    pub fn check(self) -> Result<GatewayToken, String> {
        let at = format!("[[token]] {:?}", self.name);
        let hash = self.hash.strip_prefix("sha256:").and_then(from_hex);
        let hash = hash.ok_or_else(|| {
            format!("{at}: hash is not \"sha256:\" and 64 hex digits: printf %s \"$TOKEN\" | sha256sum prints them")
        })?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let is_name = |name: &String| (1..=64).contains(&name.len()) && name.chars().all(is_plain);
        if let Some(tenant) = self.tenant.as_ref().filter(|tenant| !is_name(tenant)) {
            return Err(format!("{at}: tenant is {tenant:?}: use 1 to 64 letters, digits, dashes and underscores"));
        }
        let queue = |name: &String| QueueName::new(name).map_err(|error| format!("{at}: queues: {error}"));
        Ok(GatewayToken {
            hash,
            tenant: self.tenant,
            queues: self.queues.iter().map(queue).collect::<Result<_, _>>()?,
            upstreams: self.upstreams,
            limits: self.limits,
            access: self.access,
            name: self.name,
        })
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

impl Caller {
    /// Whoever reaches a gateway without tokens.
    pub fn anyone() -> Self {
        Self(None)
    }

    /// The caller whose token the headers have.
    ///
    /// # Errors
    /// They have none, or one that is not in the settings.
    pub fn identify(tokens: &[GatewayToken], headers: &HeaderMap) -> Result<Self, Problem> {
        let mut given = KEY_HEADERS.into_iter().filter_map(|name| headers.get(name));
        let given = given.next().map(|value| {
            let value = value.as_bytes();
            let bearer = value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
            Sha256::digest(if bearer { value[7..].trim_ascii() } else { value })
        });
        let unauthorized = |detail: &str| {
            let challenge = http::HeaderValue::from_static("Bearer");
            Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
                .with_header(http::header::WWW_AUTHENTICATE, challenge)
        };
        let given =
            given.ok_or_else(|| unauthorized("this gateway wants a token: send Authorization: Bearer <token>"))?;
        // All tokens are compared, and all of their bytes, so that the time it takes says nothing.
        let mut found = None;
        for token in tokens {
            let differs = token.hash.iter().zip(given.iter()).fold(0, |differs, (one, other)| differs | (one ^ other));
            if std::hint::black_box(differs) == 0 {
                found = Some(token);
            }
        }
        let found = found.ok_or_else(|| unauthorized("this gateway does not know the token that was sent"))?;
        Ok(Self(Some(Arc::new(found.clone()))))
    }

    /// The name of its token.
    pub fn name(&self) -> &str {
        self.0.as_ref().map_or("", |token| &token.name)
    }

    /// On whose behalf all of its calls are made.
    pub fn tenant(&self) -> Option<&str> {
        self.0.as_ref()?.tenant.as_deref()
    }

    /// Who shares idempotency keys with it: those with the same tenant, or else the same token.
    pub fn account(&self) -> &str {
        self.tenant().unwrap_or(self.name())
    }

    /// Whether its calls must not lead to others that nobody checks.
    pub fn is_confined(&self) -> bool {
        self.0.as_ref().is_some_and(|token| token.tenant.is_some() || !token.upstreams.is_empty())
    }

    /// Whether it has the gateway's own token in the headers for keys.
    pub fn has_token(&self) -> bool {
        self.0.is_some()
    }

    /// The limits that all of its calls are under.
    pub fn limits(&self) -> &[String] {
        self.0.as_ref().map_or(&[], |token| &token.limits)
    }

    /// The upstreams that its calls may go to; `None`: anywhere.
    pub fn upstreams(&self) -> Option<&[String]> {
        self.0.as_ref().map(|token| token.upstreams.as_slice()).filter(|names| !names.is_empty())
    }

    /// Checks that it may do what this access allows.
    ///
    /// # Errors
    /// It may not.
    pub fn require(&self, access: Access) -> Result<(), Problem> {
        match &self.0 {
            Some(token) if token.access < access => {
                let detail =
                    format!("the token {:?} does not allow this: it has access = {:?}", token.name, token.access);
                Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail.to_lowercase()))
            }
            _ => Ok(()),
        }
    }

    /// Checks that it may do what this access allows with the tasks of all tenants.
    ///
    /// # Errors
    /// It may not.
    pub fn require_all_tasks(&self, access: Access) -> Result<(), Problem> {
        self.require(access)?;
        if self.owns_all() {
            return Ok(());
        }
        let detail = format!("the token {:?} is for the tasks of one tenant: this is about those of all", self.name());
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail))
    }

    /// Checks that it may do what this access allows with what all queues share.
    ///
    /// # Errors
    /// It may not.
    pub fn require_fleet(&self, access: Access) -> Result<(), Problem> {
        self.require_all_tasks(access)?;
        if self.0.as_ref().is_none_or(|token| token.queues.is_empty() && token.upstreams.is_empty()) {
            return Ok(());
        }
        let detail = format!("the token {:?} is for some queues or upstreams: this is about all of them", self.name());
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail))
    }

    /// What it may do.
    pub fn access(&self) -> Access {
        self.0.as_ref().map_or(Access::Operate, |token| token.access)
    }

    /// Whether it may know of a queue.
    pub fn sees(&self, queue: &QueueName) -> bool {
        self.0.as_ref().is_none_or(|token| token.queues.is_empty() || token.queues.contains(queue))
    }

    /// The queue that it names, or else the first one of its token, or else the default.
    ///
    /// # Errors
    /// The name is invalid, or its token is not for that queue.
    pub fn queue(&self, named: Option<&str>, default: &QueueName) -> Result<QueueName, Problem> {
        let own = self.0.as_ref().map(|token| token.queues.as_slice()).filter(|queues| !queues.is_empty());
        let Some(named) = named else {
            let is_own = own.is_none_or(|own| own.contains(default));
            return Ok(own.filter(|_| !is_own).and_then(|own| own.first()).unwrap_or(default).clone());
        };
        let queue = QueueName::new(named)
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "invalid_queue", error.to_string()))?;
        match own {
            Some(own) if !own.contains(&queue) => {
                let detail = format!("the token {:?} is not for the queue {queue}", self.name());
                Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail))
            }
            _ => Ok(queue),
        }
    }

    /// What the ids of its tasks begin with.
    pub fn id_prefix(&self) -> String {
        self.tenant().map(|tenant| format!("{tenant}.")).unwrap_or_default()
    }

    /// Whether all tasks of its queues are its own.
    pub fn owns_all(&self) -> bool {
        self.id_prefix().is_empty()
    }

    /// Whether a task is its own.
    pub fn owns(&self, id: &TaskId) -> bool {
        id.as_str().starts_with(&self.id_prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(more: &str) -> Result<GatewayToken, String> {
        // printf %s s3cret | sha256sum
        let hash = "1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0";
        let fields: TokenFields = toml::from_str(&format!("name = \"ci\"\nhash = \"sha256:{hash}\"\n{more}"))
            .map_err(|error| error.to_string())?;
        fields.check()
    }

    #[test]
    fn a_caller_is_known_by_the_token_in_any_of_the_headers_for_keys() -> Result<(), String> {
        let tokens = [token("access = \"read\"\nlimits = [\"l\"]")?];
        let identify = |name: &'static str, value: &'static str| {
            let headers =
                HeaderMap::from_iter([(HeaderName::from_static(name), http::HeaderValue::from_static(value))]);
            Caller::identify(&tokens, &headers)
        };
        for (name, value) in
            [("authorization", "Bearer s3cret"), ("authorization", "bearer  s3cret"), ("x-api-key", "s3cret")]
        {
            let caller = identify(name, value).map_err(|_| format!("{name}: {value}"))?;
            assert_eq!((caller.name(), caller.limits()), ("ci", ["l".to_owned()].as_slice()));
            assert!(caller.require(Access::Read).is_ok() && caller.require(Access::Call).is_err());
        }
        for (name, value) in [("authorization", "Bearer s3cre"), ("authorization", "Bearer "), ("accept", "s3cret")] {
            assert!(identify(name, value).is_err(), "{name}: {value}");
        }
        Ok(())
    }

    #[test]
    fn a_token_is_for_its_own_queues_and_tasks() -> Result<(), Box<dyn std::error::Error>> {
        let default = QueueName::new("default")?;
        let caller = Caller(Some(Arc::new(token("queues = [\"a\", \"b\"]\ntenant = \"acme\"")?)));
        assert_eq!(caller.queue(None, &default).ok(), Some(QueueName::new("a")?));
        assert_eq!(caller.queue(Some("b"), &default).ok(), Some(QueueName::new("b")?));
        assert!(caller.queue(Some("default"), &default).is_err());
        assert!(
            Caller::anyone().queue(Some("b"), &default).is_ok() && Caller::anyone().queue(Some("{"), &default).is_err()
        );
        assert!(caller.owns(&TaskId::new("acme.1")?));
        assert!(!caller.owns(&TaskId::new("acme2.1")?) && !caller.owns(&TaskId::new("1")?));
        Ok(())
    }
}
