//! Connections: which addresses may be reached, how names become addresses, which connections are kept, and how many descriptors they may
//! use.

pub mod descriptors;
pub mod guard;
pub mod name_servers;
pub mod names;
mod networks;
pub mod pools;
pub mod transport;
