//! What a worker shows of itself: metrics, health, the HTTP endpoints, logs.

pub mod attempt_metrics;
pub mod events;
pub mod exposition;
pub mod health;
pub mod healthcheck;
pub mod http_server;
pub mod known_names;
pub mod limit_metrics;
pub mod metrics;
pub mod queue_metrics;
pub mod statistics;
pub mod telemetry;
