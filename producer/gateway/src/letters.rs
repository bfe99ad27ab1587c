//! Work on many dead letters.

pub(crate) mod job;
