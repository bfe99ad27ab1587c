//! Credentials that are made for a call: access tokens and signatures. Those that are simply sent are headers of an `[[upstream]]` block.

pub mod oauth;
pub mod sigv4;
pub mod tokens;
