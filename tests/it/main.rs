//! Tests against real parts: redis-server processes, the programs that ship, an upstream over TCP.
//!
//! - [`promises`]: what Redial promises its users; [`attacks`]: what those who mean harm get
//! - [`canary`]: secrets, which are found nowhere but where the docs say
//! - [`scripts`]: each Lua script on keys made by hand; [`script_bounds`]: how long each takes at most; [`conservation`], [`leaders`]: random interleavings of them; [`cluster`]: the
//!   scripts on a Redis Cluster
//! - [`command_line`], [`typos`], [`operating`], [`limits_shown`], [`shown`], [`batch`]: the `redial` program; [`top`]: on a terminal
//! - [`gateway`]: `redial serve`, and what clients of it see
//! - [`dashboard`]: its page, in a browser
//! - [`documented`], [`tutorial`], [`drop_in`], [`producers`]: the commands and programs in the docs, and the examples; [`clients`]: the clients in Python and TypeScript
//! - [`observed`]: metrics, traces, alerts
//! - [`deploy`]: the files by which a fleet is run: Docker Compose, systemd, Kubernetes
//! - [`chaos`]: two minutes of random faults
//! - [`harness_works`]: the harness itself; [`tidy`], [`tidy_dependencies`], [`tidy_scripts`]: the source tree
//! - [`examples`]: the examples of the library
//! - [`peers`]: what the comparison with other job queues runs, and what the docs say of it
//! - [`library`]: the packed library, used from outside the workspace
//! - [`schema`]: the published JSON schemas

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot continue should stop with a message")]

mod attacks;
mod batch;
mod canary;
mod chaos;
mod clients;
mod cluster;
mod command_line;
mod conservation;
mod dashboard;
mod deploy;
mod documented;
mod drop_in;
mod examples;
mod gateway;
mod harness_works;
mod leaders;
mod library;
mod limits_shown;
mod observed;
mod operating;
mod peers;
mod producers;
mod promises;
mod schema;
mod script_bounds;
mod scripts;
mod shown;
mod tidy;
mod tidy_dependencies;
mod tidy_scripts;
mod top;
mod tutorial;
mod typos;
