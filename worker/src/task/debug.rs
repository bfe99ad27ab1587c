//! Hooks for the tests, in debug builds only: a task that kills its worker, or panics in it.

/// Aborts the process, as a bug would, if the URL contains the value of `REDIAL_DEBUG_ABORT_ON_URL`; panics if it contains that of
/// `REDIAL_DEBUG_PANIC_ON_URL`.
pub fn before_call(url: &url::Url) {
    abort_on("REDIAL_DEBUG_ABORT_ON_URL", url.as_str());
    if let Ok(needle) = std::env::var("REDIAL_DEBUG_PANIC_ON_URL") {
        assert!(!url.as_str().contains(&needle), "REDIAL_DEBUG_PANIC_ON_URL matches");
    }
}

/// Aborts the process if the task contains the value of `REDIAL_DEBUG_ABORT_ON_TASK`.
pub fn before_parsing(raw: &[u8]) {
    abort_on("REDIAL_DEBUG_ABORT_ON_TASK", &String::from_utf8_lossy(raw));
}

fn abort_on(variable: &'static str, text: &str) {
    if let Ok(needle) = std::env::var(variable)
        && text.contains(&needle)
    {
        tracing::error!(variable, "matches: aborting");
        std::process::abort();
    }
}
