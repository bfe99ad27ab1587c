//! A hook of the tests, in debug builds alone: a task that kills its worker.

/// Ends the process, as a bug would, when the URL holds what `REDIAL_DEBUG_ABORT_ON_URL` says.
pub fn maybe_abort(url: &url::Url) {
    if let Ok(needle) = std::env::var("REDIAL_DEBUG_ABORT_ON_URL")
        && url.as_str().contains(&needle)
    {
        tracing::error!("REDIAL_DEBUG_ABORT_ON_URL matches: aborting");
        std::process::abort();
    }
}
