//! A hook for the tests, in debug builds only: a task that kills its worker.

/// Aborts the process, as a bug would, if the URL contains the value of `REDIAL_DEBUG_ABORT_ON_URL`.
pub fn maybe_abort(url: &url::Url) {
    if let Ok(needle) = std::env::var("REDIAL_DEBUG_ABORT_ON_URL")
        && url.as_str().contains(&needle)
    {
        tracing::error!("REDIAL_DEBUG_ABORT_ON_URL matches: aborting");
        std::process::abort();
    }
}
