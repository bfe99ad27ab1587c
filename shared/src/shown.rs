//! What tasks, upstreams and Redis chose, as people may see it: in a terminal, in a log, in an error.
//!
//! - [`escape`]: nothing in it controls a terminal, adds a line or reorders one
//! - [`redact`]: credentials in it are hidden
//! - [`json`]: tasks, dead letters and limits as programs read them

pub mod escape;
pub mod json;
pub mod redact;
