//! Work on many dead letters.

pub(crate) mod counts;
pub(crate) mod job;
