//! The access tokens that a worker holds: one for each client of an authorization server, fetched once for all calls, renewed ahead of its
//! end, and at once when an upstream refuses it.
//!
//! Each worker fetches its own. To share one, it would have to lie in Redis, where everyone who may push tasks might read it; and an
//! authorization server can issue a token an hour to each worker.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use parking_lot::Mutex;
use reqwest::Client;
use tokio::sync::watch;

use super::oauth::{IssuedToken, OAuthClient, TokenError};

/// How long a task waits for a token before it gives its slot to another one.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long to wait after a failure: the first, doubling up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Two tokens are fetched at least this far apart, whatever the upstream says about the first.
const MIN_INTERVAL: Duration = Duration::from_secs(5);
/// A token of which the server does not say how long it is valid is renewed after this.
const ASSUMED_LIFETIME: Duration = Duration::from_secs(3600);
/// Which part of its lifetime a token is used for before it is renewed, at least and at most: workers that started together drift apart.
const RENEWED_AFTER: std::ops::Range<f64> = 0.7..0.85;
/// Which part of its lifetime it is used for at most: a call takes time to arrive.
const USED_FOR: f64 = 0.95;
/// How many clients are remembered. There are as many as settings in force, and as before a reload.
const MAX_SOURCES: usize = 1_000;

/// A token on its way to an upstream.
#[derive(Debug, Clone)]
pub struct AccessToken {
    issued: Arc<HeldToken>,
    source: Arc<TokenSource>,
}

/// There is no token now.
#[derive(Debug)]
pub struct NoToken {
    /// When it makes sense to ask again.
    pub retry_in: Duration,
    /// Whether the token endpoint fails.
    pub is_failing: bool,
}

/// The tokens of all clients.
#[derive(Debug, Default)]
pub struct AccessTokens {
    sources: Mutex<HashMap<u64, Arc<TokenSource>>>,
}

/// The token of one client.
#[derive(Debug)]
pub struct TokenSource {
    client: OAuthClient,
    state: Mutex<SourceState>,
}

#[derive(Debug)]
struct SourceState {
    held: Option<Arc<HeldToken>>,
    /// Ends when the fetch that is running does.
    running: Option<watch::Receiver<()>>,
    failures: u32,
    not_before: Instant,
}

#[derive(Debug)]
struct HeldToken {
    /// Sensitive: it is not shown.
    authorization: HeaderValue,
    renew_at: Instant,
    ends_at: Instant,
}

impl AccessTokens {
    /// The access token of a client. Fetches one over `http` if none is held.
    ///
    /// # Errors
    /// No token is held, and none arrived within a few seconds.
    pub async fn get(
        &self,
        client: &OAuthClient,
        http: impl FnOnce() -> Result<Client, String>,
    ) -> Result<AccessToken, NoToken> {
        let source = {
            let mut sources = self.sources.lock();
            if sources.len() >= MAX_SOURCES {
                sources.clear();
            }
            let new = || Arc::new(TokenSource::new(client.clone()));
            sources.entry(client.id()).or_insert_with(new).clone()
        };
        source.get(http).await
    }
}

impl AccessToken {
    /// The header to send.
    pub fn authorization(&self) -> &HeaderValue {
        &self.issued.authorization
    }

    /// The upstream has refused it: it is not used again, and the next call gets another one.
    pub fn refused(&self) {
        let mut state = self.source.state.lock();
        // Of many calls that are refused at the same time, the first one has seen to it.
        if state.held.as_ref().is_some_and(|held| Arc::ptr_eq(held, &self.issued)) {
            state.held = None;
        }
    }
}

impl NoToken {
    fn until(state: &SourceState, now: Instant) -> Self {
        // A fetch that is still running may end at any time.
        let retry_in = state.not_before.saturating_duration_since(now).max(FIRST_WAIT);
        Self { retry_in, is_failing: state.failures > 0 || state.running.is_some() }
    }
}

impl TokenSource {
    fn new(client: OAuthClient) -> Self {
        let state = SourceState { held: None, running: None, failures: 0, not_before: Instant::now() };
        Self { client, state: Mutex::new(state) }
    }

    async fn get(self: Arc<Self>, http: impl FnOnce() -> Result<Client, String>) -> Result<AccessToken, NoToken> {
        let mut running = {
            let now = Instant::now();
            let mut state = self.state.lock();
            let held = state.held.clone().filter(|held| now < held.ends_at);
            let is_due = held.as_ref().is_none_or(|held| held.renew_at <= now);
            if is_due && state.running.is_none() && state.not_before <= now {
                self.clone().start(&mut state, http);
            }
            if let Some(issued) = held {
                drop(state);
                return Ok(AccessToken { issued, source: self });
            }
            match &state.running {
                Some(running) => running.clone(),
                None => return Err(NoToken::until(&state, now)),
            }
        };
        // An error is the end as well.
        let _ = tokio::time::timeout(PATIENCE, running.changed()).await;
        let state = self.state.lock();
        let now = Instant::now();
        match state.held.clone().filter(|held| now < held.ends_at) {
            Some(issued) => {
                drop(state);
                Ok(AccessToken { issued, source: self })
            }
            None => Err(NoToken::until(&state, now)),
        }
    }

    /// Starts a fetch of its own, so that the tasks that wait for it may come and go.
    fn start(self: Arc<Self>, state: &mut SourceState, http: impl FnOnce() -> Result<Client, String>) {
        let (ended, running) = watch::channel(());
        state.running = Some(running);
        let http = http();
        tokio::spawn(async move {
            let fetched = match http {
                Ok(http) => self.client.fetch(&http).await,
                Err(why) => {
                    let host = self.client.token_url.host_str().unwrap_or_default().to_owned();
                    Err(TokenError::Unreachable { host, why })
                }
            };
            self.end(fetched);
            drop(ended);
        });
    }

    fn end(&self, fetched: Result<IssuedToken, TokenError>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.running = None;
        match fetched {
            Ok(token) => {
                state.failures = 0;
                state.not_before = now + MIN_INTERVAL;
                let lifetime = token.lifetime.unwrap_or(ASSUMED_LIFETIME);
                let renew_at = now + lifetime.mul_f64(rand::random_range(RENEWED_AFTER));
                let ends_at = now + lifetime.mul_f64(USED_FOR);
                let client_id = &self.client.client_id;
                tracing::info!(client_id, lifetime_s = lifetime.as_secs(), "fetched an access token");
                state.held = Some(Arc::new(HeldToken { authorization: token.authorization, renew_at, ends_at }));
            }
            Err(error) => {
                let doubled = FIRST_WAIT.saturating_mul(1 << state.failures.min(6)).min(LONGEST_WAIT);
                let wait = doubled.mul_f64(rand::random_range(0.8..1.2));
                state.failures = state.failures.saturating_add(1);
                state.not_before = now + wait;
                let wait_ms = wait.as_millis();
                tracing::warn!(client_id = self.client.client_id, %error, wait_ms, "no access token: its tasks wait, which uses no attempt");
            }
        }
    }
}
