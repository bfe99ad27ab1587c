//! What Redial reads of strangers, as functions of bytes. Each checks what must hold whatever the bytes are, and panics if it does not.
//!
//! `tests/stable.rs` runs them with the corpus and with random changes to it; `libfuzzer/` runs them under cargo-fuzz.
//!
//! - [`task`]: what producers push; [`headers`]: the headers of a task; [`template`]: the JSONPaths of a chain, filled in
//! - [`entry`]: what Redial stores of a task
//! - [`advice`]: `Retry-After` and the headers of rate limits
//! - [`answers`]: what an upstream sends, through the HTTP client of the worker
//! - [`batch`]: the files of `redial batch`
//! - [`bound`]: how long anything may take

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a finding is a panic")]

mod advice;
mod answers;
mod batch;
mod bound;
mod entry;
mod headers;
mod task;
mod template;

/// A target: its name, and what it does with an input.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 8] = [
    ("task", task::run),
    ("entry", entry::run),
    ("template", template::run),
    ("headers", headers::run),
    ("retry_after", advice::retry_after),
    ("rate_headers", advice::rate_headers),
    ("batch", batch::run),
    ("answers", answers::run),
];

/// Runs a target.
///
/// # Panics
/// There is none of that name, or something does not hold: a finding.
pub fn run(target: &str, bytes: &[u8]) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).expect("the name of a target");
    run(bytes);
}
