//! The call itself: the client, its connections, how an attempt fails, what is known about the APIs of vendors, and the signatures of
//! callbacks.

pub mod answer_memory;
pub mod client;
pub mod connection;
pub mod credentials;
mod decode;
mod failure;
pub mod own_secrets;
pub mod presets;
pub mod redirect;
pub mod relay;
pub mod types;
pub mod webhook;
