//! What the tests, the benchmarks and the demo stand on: real parts, and ways to break them.
//!
//! Nothing here is a mock. Redis is a real `redis-server`, the upstream a real HTTP/1.1 server,
//! the worker and the command line the binaries that ship. In reading order:
//!
//! - [`port`] a TCP port that nobody else takes, also across test processes and restarts
//! - [`process`] a child that can be killed, paused and resumed, and never outlives its parent
//! - [`redis_server`] one Redis; [`cluster`] three of them as a Redis Cluster; [`sentinel`] two of them and who watches
//! - [`upstream`] the other side of the calls, which misbehaves on command
//! - [`worker`] the `redial-worker` binary; [`cli`] the `redial` binary
//! - [`link`] a connection to either kind of Redis; [`queue`] a producer's view of a queue over it
//! - [`wait`] polling until something is so

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::missing_errors_doc,
    reason = "test code: whatever goes wrong here should stop the test with a message"
)]

pub mod cli;
pub mod cluster;
pub mod connection;
pub mod port;
pub mod process;
pub mod proxy;
pub mod queue;
pub mod redis_server;
pub mod sentinel;
pub mod stalls;
pub mod upstream;
pub mod wait;
pub mod worker;

pub use cli::Cli;
pub use cluster::Cluster;
pub use connection::RedisConnection;
pub use port::Port;
pub use proxy::Proxy;
pub use queue::TestQueue;
pub use redis_server::RedisServer;
pub use sentinel::Sentinel;
pub use upstream::{Reply, Request, Upstream};
pub use wait::eventually;
pub use worker::{Worker, WorkerBuilder};
