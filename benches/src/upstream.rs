//! What the upstreams of the benchmarks answer, and one as a program of its own, so that every worker that `make bench-peers` compares
//! calls the same one.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use redial_tests::{Reply, Upstream};

/// The first argument that makes this program an upstream.
pub const ARGUMENT: &str = "upstream";

/// The calls since the last reset.
#[derive(Default)]
struct Calls {
    count: u64,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// A small answer in JSON.
pub fn answer() -> Reply {
    Reply::ok().header("content-type", "application/json").body(r#"{"ok":true}"#)
}

/// Responds at once until the program ends, and prints its address first. `/calls` tells how many calls there were, and the seconds
/// from the first to the last of them; `/reset` counts from zero.
pub async fn run() -> anyhow::Result<()> {
    let calls = Mutex::new(Calls::default());
    let upstream = Upstream::quiet(move |request| {
        // The counts are valid whatever panicked while holding them.
        let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        match request.path.as_str() {
            "/calls" => {
                let span = calls.last.zip(calls.first).map_or(0.0, |(last, first)| (last - first).as_secs_f64());
                Reply::ok().body(format!(r#"{{"calls":{},"seconds":{span}}}"#, calls.count))
            }
            "/reset" => {
                *calls = Calls::default();
                Reply::ok()
            }
            _ => {
                let now = Instant::now();
                calls.count += 1;
                calls.first.get_or_insert(now);
                calls.last = Some(now);
                answer()
            }
        }
    })
    .await;
    println!("{}", upstream.url("/"));
    std::io::stdout().flush()?;
    std::future::pending().await
}
