//! Decisions as pure functions: what an attempt means for its task, and how long to wait. Time and randomness are arguments.

pub mod advice;
pub mod backoff;
pub mod classify;
pub mod judge;
pub mod rate_headers;
mod ratelimit_field;
mod reader;
mod retry_after;
#[cfg(test)]
mod tests;
mod time_text;
