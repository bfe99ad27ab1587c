//! Redial's front door: an HTTP server before a queue. Whatever speaks HTTP can have its calls made by Redial's workers, with an address
//! as the only change, and can enqueue tasks and wait for their results.
//!
//! It is a producer like any other: it pushes tasks, and waits for thousands of results over one blocking connection per queue. It holds
//! nothing that Redis does not have, so it can be killed, restarted, and run any number of times.
//!
//! In reading order:
//!
//! - [`config`]: the settings, from the file that workers read too; `tokens`: who may use a gateway, and for what
//! - `server`: connections, from accepting them to draining them; `connection`: one of them; `tls`: the certificate
//! - `routes`: which request goes where; `route_pattern`: what metrics call it; `guard`: which are let in; `cors`: which web pages may read the answers
//! - `gateway`: what all requests share
//! - `upstreams`: calls to an upstream through the gateway; `forward`: how such a request becomes a task; `answer`: how a result becomes
//!   a response; `relay`: how an answer is passed on while it arrives
//! - `tasks`: tasks and results as they are; `submission`: a task on its way to the queue
//! - `waiting`: waiting for results; `location`: where a task is
//! - `events`: what happens to tasks
//! - `fleet`, `statistics`, `limits`, `listing`, `dead_letters`, `letters`: what operators see and change; `dashboard`: the page that shows it
//! - `body`: reading the body of a request; `params`: its query and preferences; `problem`: what went wrong, as a response
//! - `metrics`, `traces`, `openapi`: what operators and generators of clients read; [`healthcheck`]: what containers ask

mod answer;
mod body;
pub mod config;
mod connection;
mod cors;
mod dashboard;
mod dead_letters;
mod events;
mod fleet;
mod forward;
mod gateway;
mod guard;
pub mod healthcheck;
mod letters;
mod limits;
mod listing;
mod location;
mod metrics;
mod openapi;
mod params;
mod problem;
mod relay;
mod route_pattern;
mod routes;
mod server;
mod statistics;
mod submission;
mod tasks;
mod tls;
mod tokens;
mod traces;
mod upstreams;
mod waiting;

pub use config::{GatewayArgs, GatewayConfig, InvalidConfig};
pub use server::{GatewaySource, ServeError, serve};
pub use tls::{GatewayCertificate, InvalidCertificate};
pub use tokens::EnvironmentToken;
