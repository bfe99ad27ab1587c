//! The call itself: the client, which addresses it may reach, how an attempt fails, and the signatures of callbacks.

pub mod client;
mod failure;
mod guard;
pub mod types;
pub mod webhook;
