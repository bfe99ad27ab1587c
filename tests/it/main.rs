//! Redial's promises, each tested against real parts. A file a promise.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on should stop with a message")]

mod batch;
mod cluster;
mod command_line;
mod conservation;
mod documented;
mod drop_in;
mod examples;
mod harness_works;
mod leaders;
mod library;
mod limits_shown;
mod operating;
mod producers;
mod promises;
mod schema;
mod scripts;
mod tidy;
mod tidy_dependencies;
mod tidy_scripts;
