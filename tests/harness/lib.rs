//! The foundation of the tests, the benchmarks and the demo: real servers, and ways to break them.
//!
//! Nothing here is a mock: Redis is a real `redis-server`, the upstream a real HTTP/1.1 server, and the worker and the command
//! line are the binaries that ship. In reading order:
//!
//! - [`port`]: a TCP port that nobody else takes, even across test processes and restarts
//! - [`process`]: a child process that can be killed, paused and resumed, and never outlives its parent
//! - `fake_clock`: a clock that a test sets
//! - [`redis_server`]: one Redis; [`cluster`]: several of them as a Redis Cluster; [`sentinel`]: a master, its replica and a Sentinel;
//!   [`redis_tls`]: over TLS, with client certificates
//! - [`proxy`]: a connection to Redis that can lose replies
//! - [`upstream`]: the server that calls go to, which misbehaves on command; [`http2`]: one that speaks HTTP/2 over TLS
//! - [`certificates`]: an authority and what it signs; [`tls_front`]: TLS in front of an upstream; [`http_proxy`]: a forward proxy
//! - [`dns`]: a name server that answers what a test says
//! - [`worker`]: the `redial-worker` binary; [`cli`]: the `redial` binary; [`gateway`]: the same as a server; [`terminal`]: a terminal for it
//! - [`instructions`]: a program whose instructions are counted
//! - [`connection`]: a connection to a single Redis or a Cluster; [`queue`]: a producer's view of a queue over it
//! - [`wait`]: polling until a condition holds; [`stalls`]: when the machine itself stood still

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::missing_errors_doc,
    reason = "test code: any failure here should stop the test with a message"
)]

pub mod certificates;
pub mod cli;
pub mod cluster;
pub mod connection;
pub mod dns;
mod fake_clock;
pub mod gateway;
pub mod http2;
pub mod http_proxy;
pub mod instructions;
pub mod port;
pub mod process;
pub mod proxy;
pub mod queue;
pub mod redis_server;
pub mod redis_tls;
pub mod sentinel;
pub mod stalls;
pub mod terminal;
pub mod tls_front;
pub mod upstream;
pub mod wait;
pub mod worker;

pub use certificates::Certificates;
pub use cli::Cli;
pub use cluster::Cluster;
pub use connection::RedisConnection;
pub use dns::DnsServer;
pub use gateway::{GatewayProcess, HttpAnswer};
pub use http_proxy::HttpProxy;
pub use http2::Http2Upstream;
pub use instructions::InstructionCounter;
pub use port::Port;
pub use proxy::Proxy;
pub use queue::TestQueue;
pub use redis_server::RedisServer;
pub use sentinel::Sentinel;
pub use tls_front::TlsFront;
pub use upstream::{Reply, Request, Upstream};
pub use wait::eventually;
pub use worker::{Worker, WorkerBuilder};
