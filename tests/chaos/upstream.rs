//! The upstream: it fails as the path of a call and the seed have it, and keeps a record of every call.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Mutex;
use std::time::Duration;

use redial_tests::{Reply, Request, Upstream};
use serde_json::json;

/// The longest that an answer takes, in ms.
const MAX_DELAY_MS: u64 = 300;

/// Starts it. `/flaky/…` fails up to twice for each path and then answers; `/down/…` always answers 503; all else answers at once.
pub(crate) async fn start(seed: u64) -> Upstream {
    let calls: Mutex<HashMap<String, u64>> = Mutex::default();
    Upstream::start(move |request| {
        let nth = {
            let mut calls = calls.lock().expect("no holder panics");
            let count = calls.entry(request.route().to_owned()).or_default();
            *count += 1;
            *count
        };
        answer(seed, request, nth)
    })
    .await
}

fn answer(seed: u64, request: &Request, nth: u64) -> Reply {
    let mut hasher = DefaultHasher::new();
    (seed, request.route()).hash(&mut hasher);
    let chance = hasher.finish();
    let delay = Duration::from_millis(chance / 1_000 % MAX_DELAY_MS);
    // The number of the call tells answers apart: tasks that share an answer must have the same one.
    let good = || Reply::ok().json(&json!({"path": request.route(), "call": request.nth})).after(delay);
    if request.route().starts_with("/down/") {
        return Reply::status(503);
    }
    let failures = if request.route().starts_with("/flaky/") { chance % 3 } else { 0 };
    if nth > failures {
        return good();
    }
    match (chance + nth) % 6 {
        0 => Reply::status(503).header("retry-after", "1"),
        1 => Reply::status(500),
        2 => Reply::reset(),
        3 => Reply::close(),
        4 => Reply::truncated("{\"half\":"),
        _ => Reply::status(429).header("retry-after", "1"),
    }
}
