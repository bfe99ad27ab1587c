//! The pools of connections, each in a client of reqwest: one that all origins share, and one for each origin whose connections may be dead.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::{Client, ClientBuilder};
use url::Url;

use super::guard::Guard;
use super::transport::{InvalidTransport, Transport, TransportSettings};
use crate::config::{Reloadable, Upstreams};
use crate::http::types::Failure;

/// How many connect timeouts are in use at a time, with one transport and with all. One more evicts a client with its idle connections,
/// nothing else.
const MAX_CLIENTS_PER_TRANSPORT: usize = 8;
const MAX_CLIENTS: usize = 64;
/// How long a connection to an address of the operator's may take.
const OPERATOR_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
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
/// hyper fills 64 bytes for each that there may be, whenever it reads a response.
const MAX_RESPONSE_HEADERS: usize = 256;
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
    upstreams: Reloadable<Upstreams>,
    /// For upstreams whose block says nothing else.
    direct: Arc<Transport>,
    state: Mutex<State>,
}

/// Clients, with the ids of their transports and their connect timeouts.
type Clients = VecDeque<(u64, Duration, Client)>;

#[derive(Debug, Default)]
struct State {
    /// One client per transport and connect timeout in use, the latest last: a task chooses the timeout, reqwest sets it per client.
    shared: Clients,
    /// The same, of clients that keep no idle connections.
    without_idle: Clients,
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

/// A client for one call.
#[derive(Debug)]
pub struct PooledClient {
    pub client: Client,
    origin: Origin,
    transport: Arc<Transport>,
    connect_timeout: Duration,
}

impl PooledClient {
    /// Whether its calls go through a proxy.
    pub fn has_proxy(&self) -> bool {
        self.transport.proxy.is_some()
    }
}

/// Scheme, host, port, transport and connect timeout: what the connections of a client that a call may use have in common. As a hash: two origins
/// that collide share the fate of their connections, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Origin(u64);

impl Origin {
    fn of(url: &Url, transport: &Transport, connect_timeout: Duration) -> Self {
        let mut hasher = DefaultHasher::new();
        (url.scheme(), url.host_str(), url.port_or_known_default(), transport.id(), connect_timeout).hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl Pools {
    /// Pools without connections, each with that many idle ones per host at most. The blocks say how their upstreams are connected to.
    ///
    /// # Errors
    /// The system's root certificates cannot be read.
    pub fn new(guard: Guard, idle_per_host: usize, upstreams: Reloadable<Upstreams>) -> Result<Self, InvalidTransport> {
        let direct = Arc::new(Transport::new(&TransportSettings::default())?);
        Ok(Self { guard, idle_per_host, upstreams, direct, state: Mutex::default() })
    }

    /// The client for a call.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn client(&self, url: &Url, connect_timeout: Duration) -> Result<PooledClient, Failure> {
        let transport = self.transport(url);
        let origin = Origin::of(url, &transport, connect_timeout);
        let client = self.find_or_build(origin, &transport, connect_timeout)?;
        Ok(PooledClient { client, origin, transport, connect_timeout })
    }

    /// How a URL is connected to.
    fn transport(&self, url: &Url) -> Arc<Transport> {
        self.upstreams.current().transport_for(url).unwrap_or(&self.direct).clone()
    }

    fn find_or_build(
        &self,
        origin: Origin,
        transport: &Transport,
        connect_timeout: Duration,
    ) -> Result<Client, Failure> {
        let mut state = self.state.lock();
        if !state.renewed.is_empty() {
            state.renewed.retain(|_, renewed| renewed.since.elapsed() < RENEWED_FOR);
            if let Some(renewed) = state.renewed.get(&origin) {
                return Ok(renewed.client.clone());
            }
        }
        find_or_insert(&mut state.shared, transport, connect_timeout, || {
            self.build(transport, connect_timeout, &self.guard, self.idle_per_host)
        })
    }

    /// A client for a call that opens a connection of its own. A server may have closed an idle one without it being known yet; a call on it
    /// would fail, and nobody could tell whether it was carried out.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn client_without_idle(&self, url: &Url, connect_timeout: Duration) -> Result<PooledClient, Failure> {
        let transport = self.transport(url);
        let origin = Origin::of(url, &transport, connect_timeout);
        let client = find_or_insert(&mut self.state.lock().without_idle, &transport, connect_timeout, || {
            self.build(&transport, connect_timeout, &self.guard, 0)
        })?;
        Ok(PooledClient { client, origin, transport, connect_timeout })
    }

    /// Remembers that an origin has answered.
    pub fn answered(&self, pooled: &PooledClient, is_http2: bool) {
        let origin = pooled.origin;
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
    pub fn timed_out(&self, pooled: &PooledClient, started: Instant) -> Result<TimeoutCause, Failure> {
        let origin = pooled.origin;
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
        let client = self.build(&pooled.transport, pooled.connect_timeout, &self.guard, self.idle_per_host)?;
        let since = Instant::now();
        let renewed = Renewed { since, client, others_had_answered, has_answered: false };
        state.renewed.insert(origin, renewed);
        Ok(TimeoutCause::Upstream)
    }

    /// A client for an address that the operator chose and no task did, wherever that is. It is not kept.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn client_without_bounds(&self, url: &Url) -> Result<Client, Failure> {
        let transport = self.transport(url);
        self.build(&transport, OPERATOR_CONNECT_TIMEOUT, &self.guard.without_bounds(), self.idle_per_host)
    }

    /// Closes all idle connections. Those in use go on.
    pub fn close_idle(&self) {
        let mut state = self.state.lock();
        state.shared.clear();
        state.renewed.clear();
    }

    fn build(
        &self,
        transport: &Transport,
        connect_timeout: Duration,
        guard: &Guard,
        idle_per_host: usize,
    ) -> Result<Client, Failure> {
        let mut builder = builder(transport, connect_timeout, idle_per_host).dns_resolver(guard.clone());
        if transport.http1_only {
            builder = builder.http1_only();
        }
        if let Some(proxy) = &transport.proxy {
            // The one name that is resolved here is the proxy's, which the operator chose. The proxy resolves the upstream's: which addresses
            // that may be is up to the proxy, and the upstream as well was chosen by the operator, whose block names it.
            builder = builder.proxy(proxy.clone()).dns_resolver(self.guard.without_bounds());
        }
        builder.build().map_err(|error| Failure::Other(format!("cannot build the HTTP client: {error}")))
    }
}

/// The client with that transport and connect timeout. A new one may take the place of the oldest.
fn find_or_insert(
    clients: &mut Clients,
    transport: &Transport,
    connect_timeout: Duration,
    build: impl FnOnce() -> Result<Client, Failure>,
) -> Result<Client, Failure> {
    let is_wanted = |id: u64, timeout: Duration| id == transport.id() && timeout == connect_timeout;
    if let Some((_, _, client)) = clients.iter().find(|(id, timeout, _)| is_wanted(*id, *timeout)) {
        return Ok(client.clone());
    }
    let client = build()?;
    let has_transport = |(id, _, _): &(u64, Duration, Client)| *id == transport.id();
    if clients.iter().filter(|other| has_transport(other)).count() >= MAX_CLIENTS_PER_TRANSPORT {
        let oldest = clients.iter().position(has_transport).unwrap_or_default();
        clients.remove(oldest);
    } else if clients.len() >= MAX_CLIENTS {
        clients.pop_front();
    }
    clients.push_back((transport.id(), connect_timeout, client.clone()));
    Ok(client)
}

fn builder(transport: &Transport, connect_timeout: Duration, idle_per_host: usize) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("redial/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect_timeout)
        // Reading the system's certificates takes tens of milliseconds, which no task should pay.
        .tls_backend_preconfigured(transport.tls.clone())
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
}
