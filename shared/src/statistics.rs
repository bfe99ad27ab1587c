//! What a fleet does, in numbers: how many attempts each upstream answered and how, how long that took, how tasks ended, and why they waited.
//! Workers count in memory and publish the counts; readers add them up.

pub mod counts;
pub mod histogram;
pub mod log;
pub mod summary;
