//! Logs to standard error, as text for people or as JSON.

use std::io::IsTerminal as _;

use redial_core::shown::escape::{EscapeForm, LogWriter};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{Config, LogFormat};

/// The log filter cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("RUST_LOG (log) is {filter:?}: use a level, or target=level,...")]
pub struct InvalidFilter {
    filter: String,
    source: ParseError,
}

/// Starts logging.
///
/// # Errors
/// The filter cannot be parsed.
pub fn start(config: &Config) -> Result<(), InvalidFilter> {
    // It logs whole URLs, with the keys in them, at its most detailed level.
    let filter = EnvFilter::try_new(&config.log)
        .and_then(|filter| Ok(filter.add_directive("aws_sigv4=info".parse()?)))
        .map_err(|source| InvalidFilter { filter: config.log.clone(), source })?;
    let (colours, form) = match config.log_format {
        LogFormat::Text => (std::io::stderr().is_terminal(), EscapeForm::Text),
        LogFormat::Json => (false, EscapeForm::Json),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || LogWriter::new(std::io::stderr(), form, colours))
        .with_ansi(colours);
    match config.log_format {
        LogFormat::Text => lines.with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
