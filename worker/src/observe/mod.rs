//! What a worker shows of itself: metrics, health, the HTTP endpoints, logs.

pub mod events;
pub mod health;
pub mod healthcheck;
pub mod hosts;
pub mod http_server;
pub mod metrics;
pub mod telemetry;
