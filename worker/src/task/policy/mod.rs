//! Decisions as pure functions: what an attempt means for its task, and how long to wait. Time and randomness are arguments.

pub mod backoff;
pub mod classify;
pub mod rate_headers;
pub mod retry_after;
