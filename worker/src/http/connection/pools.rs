//! The pools of connections, each in a client of reqwest: one that all origins share, and one for each origin whose connections may be dead.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::Client;
use rustls::ClientConfig;
use rustls_platform_verifier::ConfigVerifierExt as _;
use url::Url;

use super::guard::Guard;
use crate::http::types::Failure;

/// How many connect timeouts are in use at a time. One more evicts a client with its idle connections, nothing else.
const MAX_CLIENTS: usize = 8;
/// How long an idle connection is kept: less than the minute after which common load balancers silently drop it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);
/// How often an HTTP/2 connection is tried with a ping (RFC 9113 section 6.7), in use or idle, and how long the answer may take. A server
/// that has gone without a word would otherwise be noticed only when calls time out.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// An origin gets new connections at most this often: a call may also have timed out because it asked for too little time.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(5);
/// How long an origin keeps a pool of its own. By then pings have closed the connection that was suspected, if it is dead.
const RENEWED_FOR: Duration = Duration::from_secs(60);
/// How many headers a response may have, and how many bytes over HTTP/2 (RFC 9113 section 6.5.2); over HTTP/1 the buffer bounds them.
const MAX_RESPONSE_HEADERS: usize = 512;
const MAX_HEADER_LIST_BYTES: u32 = 256 << 10;
/// How many origins may have a pool of their own.
const MAX_RENEWED: usize = 64;
/// How many origins are remembered that have answered.
const MAX_ANSWERED: usize = 10_000;

/// The pools of connections.
#[derive(Debug)]
pub struct Pools {
    guard: Guard,
    idle_per_host: usize,
    tls: ClientConfig,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// One client per connect timeout in use, the latest last: a task chooses the timeout, reqwest sets it per client.
    shared: VecDeque<(Duration, Client)>,
    /// The same, of clients that keep no idle connections.
    without_idle: VecDeque<(Duration, Client)>,
    /// The clients of origins whose earlier connections are suspected to be dead.
    renewed: HashMap<Origin, Renewed>,
    /// The origins that have answered.
    answered: HashMap<Origin, Answered>,
}

/// How an origin answered last.
#[derive(Debug, Clone, Copy)]
struct Answered {
    at: Instant,
    /// Whether many calls share one connection.
    is_http2: bool,
}

/// An origin's own client.
#[derive(Debug)]
struct Renewed {
    since: Instant,
    client: Client,
    /// Whether the origin had answered over the connections that this client replaced.
    others_had_answered: bool,
    /// Whether it has answered since.
    has_answered: bool,
}

/// What a timeout points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutCause {
    /// The upstream may be slow or down.
    Upstream,
    /// The call was on a connection that had answered before, and that another timeout has made suspicious already.
    Connection,
}

/// Scheme, host, port and connect timeout: what the connections of a client that a call may use have in common. As a hash: two origins
/// that collide share the fate of their connections, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Origin(u64);

impl Origin {
    fn of(url: &Url, connect_timeout: Duration) -> Self {
        let mut hasher = DefaultHasher::new();
        (url.scheme(), url.host_str(), url.port_or_known_default(), connect_timeout).hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl Pools {
    /// Pools without connections, each with that many idle ones per host at most.
    ///
    /// # Errors
    /// The system's root certificates cannot be read.
    pub fn new(guard: Guard, idle_per_host: usize) -> Result<Self, Failure> {
        let mut tls = ClientConfig::with_platform_verifier().map_err(|error| {
            Failure::Other(format!(
                "cannot read the system's root certificates; are they installed (Debian: ca-certificates)? {error}"
            ))
        })?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { guard, idle_per_host, tls, state: Mutex::default() })
    }

    /// The client for a call.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn client(&self, url: &Url, connect_timeout: Duration) -> Result<Client, Failure> {
        let mut state = self.state.lock();
        if !state.renewed.is_empty() {
            state.renewed.retain(|_, renewed| renewed.since.elapsed() < RENEWED_FOR);
            if let Some(renewed) = state.renewed.get(&Origin::of(url, connect_timeout)) {
                return Ok(renewed.client.clone());
            }
        }
        if let Some((_, client)) = state.shared.iter().find(|(timeout, _)| *timeout == connect_timeout) {
            return Ok(client.clone());
        }
        let client = self.build(connect_timeout, self.idle_per_host)?;
        if state.shared.len() == MAX_CLIENTS {
            state.shared.pop_front();
        }
        state.shared.push_back((connect_timeout, client.clone()));
        Ok(client)
    }

    /// A client that opens a connection for each call. A server may have closed an idle one without it being known yet; a call on it
    /// would fail, and nobody could tell whether it was carried out.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn client_without_idle(&self, connect_timeout: Duration) -> Result<Client, Failure> {
        let mut state = self.state.lock();
        if let Some((_, client)) = state.without_idle.iter().find(|(timeout, _)| *timeout == connect_timeout) {
            return Ok(client.clone());
        }
        let client = self.build(connect_timeout, 0)?;
        if state.without_idle.len() == MAX_CLIENTS {
            state.without_idle.pop_front();
        }
        state.without_idle.push_back((connect_timeout, client.clone()));
        Ok(client)
    }

    /// Remembers that an origin has answered.
    pub fn answered(&self, url: &Url, connect_timeout: Duration, is_http2: bool) {
        let origin = Origin::of(url, connect_timeout);
        let mut state = self.state.lock();
        if let Some(renewed) = state.renewed.get_mut(&origin) {
            renewed.has_answered = true;
        }
        if state.answered.len() >= MAX_ANSWERED && !state.answered.contains_key(&origin) {
            state.answered.clear();
        }
        state.answered.insert(origin, Answered { at: Instant::now(), is_http2 });
    }

    /// A call that began at `started` has timed out. The connections of its origin may be dead: its own, which over HTTP/2 lives on and is
    /// shared, or over HTTP/1.1 the idle ones, if the origin has answered nobody since the call began. The next calls to this origin get new
    /// ones, while those that are in flight go on.
    ///
    /// # Errors
    /// A client cannot be built.
    pub fn timed_out(&self, url: &Url, connect_timeout: Duration, started: Instant) -> Result<TimeoutCause, Failure> {
        let origin = Origin::of(url, connect_timeout);
        let mut state = self.state.lock();
        let Some(answered) = state.answered.get(&origin).copied() else { return Ok(TimeoutCause::Upstream) };
        if !answered.is_http2 && answered.at >= started {
            return Ok(TimeoutCause::Upstream);
        }
        let before = state.renewed.get(&origin);
        if let Some(renewed) = before.filter(|renewed| started < renewed.since) {
            // Over HTTP/1.1 each call has a connection to itself: that many dead ones at a time are rarer than an upstream that hangs.
            let is_connection = answered.is_http2 && renewed.others_had_answered;
            return Ok(if is_connection { TimeoutCause::Connection } else { TimeoutCause::Upstream });
        }
        if before.is_some_and(|renewed| renewed.since.elapsed() < RENEWAL_INTERVAL) {
            return Ok(TimeoutCause::Upstream);
        }
        let others_had_answered = before.is_none_or(|renewed| renewed.has_answered);
        let oldest = state.renewed.iter().min_by_key(|(_, renewed)| renewed.since).map(|(origin, _)| *origin);
        if let Some(oldest) = oldest.filter(|_| state.renewed.len() >= MAX_RENEWED) {
            state.renewed.remove(&oldest);
        }
        let client = self.build(connect_timeout, self.idle_per_host)?;
        let since = Instant::now();
        let renewed = Renewed { since, client, others_had_answered, has_answered: false };
        state.renewed.insert(origin, renewed);
        Ok(TimeoutCause::Upstream)
    }

    /// Closes all idle connections. Those in use go on.
    pub fn close_idle(&self) {
        let mut state = self.state.lock();
        state.shared.clear();
        state.renewed.clear();
    }

    fn build(&self, connect_timeout: Duration, idle_per_host: usize) -> Result<Client, Failure> {
        Client::builder()
            .user_agent(concat!("redial/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect_timeout)
            .dns_resolver(self.guard.clone())
            // Reading the system's certificates takes tens of milliseconds, which no task should pay.
            .tls_backend_preconfigured(self.tls.clone())
            // A redirect could carry the task's credentials anywhere, and a proxy from the environment would see them.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            // Redial retries on its own terms: retries wait in Redis and are counted.
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(idle_per_host)
            .pool_idle_timeout(IDLE_TIMEOUT)
            // What browsers accept: many headers, lines that go on in the next one, a space before the colon, lines that are no headers.
            .http1_max_headers(MAX_RESPONSE_HEADERS)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true)
            .http2_max_header_list_size(MAX_HEADER_LIST_BYTES)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_keep_alive_while_idle(true)
            .build()
            .map_err(|error| Failure::Other(format!("cannot build the HTTP client: {error}")))
    }
}
