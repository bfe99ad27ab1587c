//! The call itself: the client, which addresses it may reach, how an attempt fails, what is known about the APIs of vendors, and the
//! signatures of callbacks.

pub mod client;
pub mod descriptors;
mod failure;
mod guard;
mod pools;
pub mod presets;
pub mod types;
pub mod webhook;
