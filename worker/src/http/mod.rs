//! The call itself: the client, which addresses it may reach, how an attempt fails, and the signatures of callbacks.

pub mod client;
pub mod descriptors;
mod failure;
mod guard;
mod pools;
pub mod types;
pub mod webhook;
