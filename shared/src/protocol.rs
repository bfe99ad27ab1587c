//! The protocol, version 1: what producers push and read, parsed and checked at the edge. `docs/protocol.md` describes it.

pub(crate) mod canonical;
pub mod credentials;
pub mod event;
pub mod follow_ups;
pub mod id;
pub mod json;
pub mod result;
#[cfg(feature = "schema")]
pub mod schema;
pub mod stream;
pub mod task;

pub use task::then;

/// The version of the protocol. It changes when workers and gateways of the one before could no longer share a Redis with those of this one.
pub const VERSION: u32 = 1;
