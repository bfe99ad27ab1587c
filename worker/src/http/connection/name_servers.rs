//! Who is asked for the addresses of a name, and the resolver that asks. It follows `/etc/resolv.conf` and `/etc/hosts` when they change.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Resolver, TokioResolver};
use parking_lot::Mutex;

use redial_core::watched_files::FileStamp;

/// The files that say how names are resolved here, and how often they are looked at.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How long all questions about a name may take together.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(20);

/// Who is asked, as configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NameServers {
    /// Those of `/etc/resolv.conf`, by its options.
    #[default]
    OfSystem,
    /// The C library's resolver, which may ask whatever `/etc/nsswitch.conf` names.
    Library,
    /// These.
    These(Vec<SocketAddr>),
}

/// A setting that names no servers.
#[derive(Debug, thiserror::Error)]
#[error(
    "name_servers holds {0:?}: use addresses, such as \"10.0.0.53, 127.0.0.1:5353\"; \"system\" for the C library's resolver; or leave it empty \
     for those of /etc/resolv.conf"
)]
pub struct InvalidNameServer(String);

impl NameServers {
    /// Reads the setting.
    ///
    /// # Errors
    /// It holds something else than addresses.
    pub fn parse(text: &str) -> Result<Self, InvalidNameServer> {
        match text.trim() {
            "" => Ok(Self::OfSystem),
            "system" => Ok(Self::Library),
            list => {
                let parse = |item: &str| {
                    let address = item.parse().or_else(|_| item.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53)));
                    address.map_err(|_| InvalidNameServer(item.to_owned()))
                };
                list.split(',').map(str::trim).map(parse).collect::<Result<_, _>>().map(Self::These)
            }
        }
    }
}

/// The addresses of a name, at least one, and until when they may be used again; `None` if only now.
pub struct Answer {
    pub addresses: Arc<[IpAddr]>,
    pub until: Option<Instant>,
}

/// The resolver for the files as they are now.
#[derive(Debug)]
pub struct Resolvers {
    servers: NameServers,
    generation: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None`: the C library's.
    resolver: Option<Arc<TokioResolver>>,
    stamps: [FileStamp; 2],
    looked_at: Instant,
}

fn stamps() -> [FileStamp; 2] {
    FILES.map(FileStamp::of)
}

impl Resolvers {
    /// For these servers.
    pub fn new(servers: NameServers) -> Self {
        let stamps = stamps();
        let resolver = build(&servers).unwrap_or_else(|error| {
            tracing::warn!(error, "names are resolved by the C library, whose lookups cannot be interrupted; the setting name_servers can name servers");
            None
        });
        let state = State { resolver, stamps, looked_at: Instant::now() };
        Self { servers, generation: AtomicU64::new(0), state: Mutex::new(state) }
    }

    /// Which resolver this is. Another one may give other answers.
    pub fn generation(&self) -> u64 {
        self.follow_files();
        self.generation.load(Ordering::Relaxed)
    }

    /// Builds another resolver if the files have changed. One that cannot be built leaves things as they are.
    fn follow_files(&self) {
        let mut state = self.state.lock();
        if state.looked_at.elapsed() < LOOK_INTERVAL || self.servers == NameServers::Library {
            return;
        }
        state.looked_at = Instant::now();
        let stamps = stamps();
        if stamps == state.stamps {
            return;
        }
        state.stamps = stamps;
        match build(&self.servers) {
            Ok(resolver) => {
                state.resolver = resolver;
                self.generation.fetch_add(1, Ordering::Relaxed);
                tracing::info!("names are resolved by the new contents of /etc/resolv.conf and /etc/hosts");
            }
            Err(error) => tracing::warn!(error, "names are resolved as before: the new settings cannot be used"),
        }
    }

    /// Asks for the addresses of a name.
    ///
    /// # Errors
    /// There are none, or nobody answers.
    pub async fn ask(&self, host: &str) -> Result<Answer, String> {
        let resolver = self.state.lock().resolver.clone();
        let Some(resolver) = resolver else { return ask_library(host).await };
        let found = tokio::time::timeout(LOOKUP_TIMEOUT, resolver.lookup_ip(host)).await;
        let found = found.map_err(|_| "no name server answered".to_owned())?.map_err(|error| error.to_string())?;
        answer(found.iter().collect(), Some(found.valid_until()))
    }
}

/// Not interrupted: a thread is occupied until this returns, and so is the turn of whoever asks.
async fn ask_library(host: &str) -> Result<Answer, String> {
    let found = tokio::net::lookup_host((host, 0)).await.map_err(|error| error.to_string())?;
    answer(found.map(|address| address.ip()).collect(), None)
}

fn answer(addresses: Vec<IpAddr>, until: Option<Instant>) -> Result<Answer, String> {
    if addresses.is_empty() {
        return Err("the name has no address".to_owned());
    }
    Ok(Answer { addresses: addresses.into(), until })
}

/// # Errors
/// `/etc/resolv.conf` cannot be read, or names no server.
fn build(servers: &NameServers) -> Result<Option<Arc<TokioResolver>>, String> {
    let (config, mut options) = match servers {
        NameServers::Library => return Ok(None),
        NameServers::OfSystem => {
            read_system_conf().map_err(|error| format!("/etc/resolv.conf cannot be used: {error}"))?
        }
        NameServers::These(addresses) => {
            let servers = addresses.iter().map(name_server).collect();
            (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
        }
    };
    options.use_hosts_file = ResolveHosts::Always;
    // As the C library does, where there is no route for IPv6: many answers hold such addresses.
    options.ip_strategy = if has_ipv6_route() { LookupIpStrategy::Ipv6AndIpv4 } else { LookupIpStrategy::Ipv4thenIpv6 };
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().map(|resolver| Some(Arc::new(resolver))).map_err(|error| error.to_string())
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// Whether there is a way to addresses of IPv6. Nothing is sent.
fn has_ipv6_route() -> bool {
    let Ok(socket) = UdpSocket::bind("[::]:0") else { return false };
    // Of the range for documentation (RFC 3849).
    socket.connect("[2001:db8::1]:53").is_ok()
}
