//! Names become addresses: by asking the name servers of `/etc/resolv.conf`, after looking into `/etc/hosts`, with a cache that keeps an
//! answer for as long as its TTL says.
//!
//! The C library's resolver would occupy a thread for each lookup, which nothing can interrupt: a few hundred names whose name server hangs
//! would stop all others. It is used only where the configuration asks for it, or where there is no usable `/etc/resolv.conf`.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::descriptors::is_shortage;
use super::name_servers::{Answer, NameServers, Resolvers};

/// How long a lookup waits for others to end before its task gives its slot to another one.
const TURN_TIMEOUT: Duration = Duration::from_millis(500);
/// How many names are looked up at a time, at most and at least, and which share of the descriptors each may use four of.
const MOST_LOOKUPS: usize = 256;
const FEWEST_LOOKUPS: usize = 8;
const DESCRIPTORS_PER_LOOKUP: usize = 16;
/// How many names are remembered.
const MAX_CACHED: usize = 10_000;

/// The addresses of a name, or why there are none. Shared by all calls that asked for the name meanwhile.
type Found = Result<Arc<[IpAddr]>, LookupError>;

/// Looks up names. One that many calls ask for at the same time is looked up once. Clones share what they know.
#[derive(Debug, Clone)]
pub struct Names {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    resolvers: Resolvers,
    max_lookups: usize,
    turns: Semaphore,
    cached: Mutex<HashMap<String, Cached>>,
    running: Mutex<HashMap<String, watch::Receiver<Option<Found>>>>,
}

#[derive(Debug)]
struct Cached {
    addresses: Arc<[IpAddr]>,
    until: Instant,
    /// Of the resolver that found it: a change of `/etc/hosts` makes it worthless.
    generation: u64,
}

/// Why a name has no address.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LookupError {
    /// Too many other lookups do not end. It says nothing about the name.
    #[error("a name lookup: {0} others do not end")]
    TooMany(usize),
    /// This machine lacks what a lookup needs.
    #[error("a name lookup: {0}")]
    Shortage(Arc<io::Error>),
    /// No name server has an address for the name, or none answers.
    #[error("{0}")]
    Failed(Arc<str>),
}

impl Names {
    /// Asks these servers, about so many names at a time as that many descriptors allow.
    pub fn new(servers: &NameServers, descriptors: usize) -> Self {
        let max_lookups = (descriptors / DESCRIPTORS_PER_LOOKUP).clamp(FEWEST_LOOKUPS, MOST_LOOKUPS);
        Self::with(Resolvers::new(servers.clone()), max_lookups)
    }

    fn with(resolvers: Resolvers, max_lookups: usize) -> Self {
        let turns = Semaphore::new(max_lookups);
        let shared = Shared { resolvers, max_lookups, turns, cached: Mutex::default(), running: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// The addresses of a name, at least one.
    ///
    /// # Errors
    /// It has none, no name server answers, or this machine cannot ask.
    pub async fn addresses(&self, host: &str) -> Found {
        if let Some(addresses) = self.cached(host) {
            return Ok(addresses);
        }
        let mut found = self.join_or_start(host);
        match found.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(found)) => found.clone(),
            // Only if the runtime is shutting down.
            Ok(None) | Err(_) => Err(LookupError::Failed("the lookup was aborted".into())),
        }
    }

    fn cached(&self, host: &str) -> Option<Arc<[IpAddr]>> {
        let generation = self.shared.resolvers.generation();
        let cached = self.shared.cached.lock();
        let found = cached.get(host).filter(|found| found.generation == generation && Instant::now() < found.until)?;
        Some(found.addresses.clone())
    }

    fn join_or_start(&self, host: &str) -> watch::Receiver<Option<Found>> {
        let mut running = self.shared.running.lock();
        if let Some(found) = running.get(host) {
            return found.clone();
        }
        let (sender, receiver) = watch::channel(None);
        running.insert(host.to_owned(), receiver.clone());
        let (names, host) = (self.clone(), host.to_owned());
        // On its own, so that the calls which wait for it may come and go.
        tokio::spawn(async move {
            let found = names.look_up(&host).await;
            // In this order: whoever finds neither a running lookup nor a cached one starts another.
            names.shared.running.lock().remove(&host);
            sender.send_replace(Some(found));
        });
        receiver
    }

    async fn look_up(&self, host: &str) -> Found {
        let shared = &self.shared;
        let Ok(Ok(_turn)) = tokio::time::timeout(TURN_TIMEOUT, shared.turns.acquire()).await else {
            return Err(LookupError::TooMany(shared.max_lookups));
        };
        let generation = shared.resolvers.generation();
        match shared.resolvers.ask(host).await {
            Ok(Answer { addresses, until }) => {
                if let Some(until) = until {
                    self.remember(host, Cached { addresses: addresses.clone(), until, generation });
                }
                Ok(addresses)
            }
            Err(error) => Err(shortage().map_or_else(|| LookupError::Failed(error.into()), LookupError::Shortage)),
        }
    }

    fn remember(&self, host: &str, found: Cached) {
        let mut cached = self.shared.cached.lock();
        if cached.len() >= MAX_CACHED {
            let now = Instant::now();
            cached.retain(|_, found| now < found.until);
            if cached.len() >= MAX_CACHED {
                cached.clear();
            }
        }
        cached.insert(host.to_owned(), found);
    }
}

/// What this machine lacks for a lookup, if it does. Resolvers hide it: they report that no server answered.
fn shortage() -> Option<Arc<io::Error>> {
    let error = UdpSocket::bind("0.0.0.0:0").err()?;
    // To bind to any port fails like this if none is free.
    let has_no_port = error.raw_os_error() == Some(libc::EADDRINUSE);
    (has_no_port || is_shortage(&error)).then(|| Arc::new(error))
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.addresses.iter()).finish()
    }
}
