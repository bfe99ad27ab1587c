//! What happens to the fleet, its Redis, its network and its upstreams.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use redial_tests::{Proxy, RedisServer};

use crate::QUEUES;
use crate::fleet::Fleet;
use crate::topology::{Kind, USER};
use crate::world::World;

/// The memory limit of a Redis that is full, in bytes.
const FULL: &str = "100kb";
/// How far away the other end of a slow link is, one way.
const FAR: Duration = Duration::from_millis(80);
/// By how many ms the clock of Redis is set ahead.
const STEPS_MS: [i64; 3] = [9_000, -800, -30_000];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Fault {
    KillWorker,
    FreezeWorker,
    TerminateWorker,
    /// SIGTERM while Redis does not answer.
    TerminateInOutage,
    KillRedis,
    FreezeRedis,
    ForgetScripts,
    CutConnections,
    FillMemory,
    StepClock,
    /// The workers' user may not run scripts for a while.
    RevokePermission,
    MoveSlot,
    PromoteReplica,
    FailOver,
    DelayRedis,
    SilenceRedis,
    HalfCloseRedis,
    LoseRedisReplies,
    ResetRedis,
    DelayUpstream,
    SilenceUpstream,
    HalfCloseUpstream,
    LoseUpstreamReplies,
    ResetUpstream,
    /// All connections of the HTTP/2 upstream say nothing more.
    SilenceHttp2,
}

impl Fault {
    fn is_possible_on(self, kind: Kind) -> bool {
        match self {
            Self::FillMemory | Self::StepClock | Self::RevokePermission => kind == Kind::Node,
            Self::MoveSlot | Self::PromoteReplica => kind == Kind::Cluster,
            // Once, in the second half: see `torment`.
            Self::FailOver => false,
            // A master that is down is for the Sentinel to judge, and it talks to it directly.
            Self::KillRedis | Self::FreezeRedis | Self::TerminateInOutage => kind != Kind::Sentinel,
            _ => !self.is_of_redis_link() || kind != Kind::Sentinel,
        }
    }

    fn is_of_redis_link(self) -> bool {
        (Self::DelayRedis..=Self::ResetRedis).contains(&self)
    }

    fn is_of_upstream(self) -> bool {
        self >= Self::DelayUpstream
    }

    /// Whether it happens to one server of Redis, and concerns the queues on it alone.
    fn is_of_server(self) -> bool {
        self.is_of_redis_link()
            || matches!(
                self,
                Self::TerminateInOutage
                    | Self::KillRedis
                    | Self::FreezeRedis
                    | Self::ForgetScripts
                    | Self::CutConnections
                    | Self::FillMemory
                    | Self::StepClock
                    | Self::RevokePermission
            )
    }

    /// Whether a worker dies or stands still, so that what it holds is taken over, and calls may come late or twice.
    pub(crate) fn is_of_worker(self) -> bool {
        self <= Self::TerminateInOutage
    }
}

/// Injects a fault every few seconds for this long.
pub(crate) async fn torment(world: &World, fleet: &mut Fleet, faults: &[Fault], rng: &mut StdRng, span: Duration) {
    let kind = world.topology.kind();
    let possible: Vec<Fault> = faults.iter().copied().filter(|fault| fault.is_possible_on(kind)).collect();
    let may_fail_over = kind == Kind::Sentinel && faults.contains(&Fault::FailOver);
    let start = Instant::now();
    while start.elapsed() < span {
        tokio::time::sleep(Duration::from_millis(rng.random_range(500..3_000))).await;
        let is_due = may_fail_over && start.elapsed() > span / 2 && !world.topology.has_failed_over();
        let chosen = if is_due { Some(&Fault::FailOver) } else { possible.choose(rng) };
        if let Some(fault) = chosen {
            inject(world, fleet, rng, *fault).await;
        }
    }
}

async fn inject(world: &World, fleet: &mut Fleet, rng: &mut StdRng, fault: Fault) {
    let topology = &world.topology;
    let at = rng.random_range(0..fleet.size());
    let span = Duration::from_millis(rng.random_range(300..4_000));
    let servers = topology.servers();
    let server = *servers.choose(rng).expect("there are servers");
    let queue = *QUEUES.choose(rng).expect("there are queues");
    let concerned = match fault {
        Fault::MoveSlot => vec![queue],
        _ if fault.is_of_server() => topology.queues_of(server).await,
        _ if fault.is_of_upstream() => Vec::new(),
        _ => QUEUES.to_vec(),
    };
    world.timeline.begin(fault, concerned);
    match fault {
        Fault::KillWorker => fleet.kill(at),
        Fault::FreezeWorker => fleet.freeze(at, span).await,
        Fault::TerminateWorker => fleet.terminate(at).await,
        Fault::TerminateInOutage => {
            server.pause();
            fleet.terminate(at).await;
            server.resume();
        }
        Fault::KillRedis => topology.crash(server, span / 2).await,
        Fault::FreezeRedis => {
            server.pause();
            tokio::time::sleep(span).await;
            server.resume();
        }
        Fault::ForgetScripts => send(server, &["SCRIPT", "FLUSH"]).await,
        Fault::CutConnections => send(server, &["CLIENT", "KILL", "TYPE", "normal"]).await,
        Fault::FillMemory => {
            send(server, &["CONFIG", "SET", "maxmemory", FULL]).await;
            tokio::time::sleep(span).await;
            send(server, &["CONFIG", "SET", "maxmemory", "0"]).await;
        }
        Fault::StepClock => {
            server.set_clock(*STEPS_MS.choose(rng).expect("there are steps"));
            tokio::time::sleep(span).await;
            server.set_clock(0);
        }
        Fault::RevokePermission => {
            send(server, &["ACL", "SETUSER", USER, "-evalsha", "-eval"]).await;
            tokio::time::sleep(span).await;
            send(server, &["ACL", "SETUSER", USER, "+evalsha", "+eval"]).await;
        }
        Fault::MoveSlot => topology.move_slot_of(queue, rng).await,
        Fault::PromoteReplica => topology.promote_a_replica(rng).await,
        Fault::FailOver => topology.fail_over().await,
        Fault::SilenceHttp2 => world.upstreams.http2.silence_connections(),
        _ if fault.is_of_upstream() => break_link(&world.upstreams.link, fault, span).await,
        _ => {
            if let Some(link) = topology.link_of(server) {
                break_link(link, fault, span).await;
            }
        }
    }
    world.timeline.end();
}

/// What happens to a link, until it works again.
async fn break_link(link: &Proxy, fault: Fault, span: Duration) {
    match fault {
        Fault::DelayRedis | Fault::DelayUpstream => {
            link.set_delay(FAR);
            tokio::time::sleep(span).await;
            link.set_delay(Duration::ZERO);
        }
        Fault::SilenceRedis | Fault::SilenceUpstream => {
            link.set_silent(true);
            tokio::time::sleep(span).await;
            link.set_silent(false);
        }
        Fault::HalfCloseRedis | Fault::HalfCloseUpstream => {
            link.half_close_all();
            tokio::time::sleep(span).await;
            link.break_all();
        }
        Fault::LoseRedisReplies | Fault::LoseUpstreamReplies => link.lose_replies(span / 4).await,
        _ => link.reset_all(),
    }
}

/// Sends a command to one server, unless it does not answer.
async fn send(server: &RedisServer, command: &[&str]) {
    let Ok(client) = redis::Client::open(server.url()) else { return };
    let exchange = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd(command[0]).arg(&command[1..]).exec_async(&mut connection).await
    };
    // `CLIENT KILL` cuts its own connection as well: no answer is not a fault.
    let _ = tokio::time::timeout(Duration::from_secs(3), exchange).await;
}
