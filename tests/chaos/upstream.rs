//! The upstreams: they fail as the path of a call and the seed have it, and keep a record of every call.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Mutex;
use std::time::Duration;

use redial_tests::{Http2Upstream, Proxy, Reply, Request, Upstream};
use serde_json::json;

/// The longest that an answer takes, in ms.
const MAX_DELAY_MS: u64 = 300;
/// One answer in this many is so large that its result goes another way to Redis than that of others.
const LARGE_ONE_IN: u64 = 8;
const LARGE: usize = 40_000;
/// How long the answer of `/slow/…` takes.
const SLOW: Duration = Duration::from_millis(1_500);

/// One server that is many hosts, since each address of 127.0.0.0/8 counts as one: faults of one host are not to touch the others.
pub(crate) struct Upstreams {
    http1: Upstream,
    pub(crate) http2: Http2Upstream,
    /// In front of the server, for what a network does to connections.
    pub(crate) link: Proxy,
    seed: u64,
}

impl Upstreams {
    /// Starts them. `/flaky/…` fails up to twice for each path and then answers; `/down/…` always answers 503; all else is answered.
    pub(crate) async fn start(seed: u64) -> Self {
        let calls: Mutex<HashMap<String, u64>> = Mutex::default();
        let http1 = Upstream::on_all_addresses(move |request| {
            let nth = {
                let mut calls = calls.lock().expect("no holder panics");
                let count = calls.entry(request.route().to_owned()).or_default();
                *count += 1;
                *count
            };
            answer(seed, request, nth)
        })
        .await;
        let link = Proxy::before(http1.address().port()).await;
        Self { http1, http2: Http2Upstream::start().await, link, seed }
    }

    fn at(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.http1.address().port())
    }

    /// A host that answers.
    pub(crate) fn good(&self, path: &str) -> String {
        self.at("127.0.0.1", path)
    }

    /// The host of the calls that fail at first.
    pub(crate) fn flaky(&self, path: &str) -> String {
        self.at("127.0.0.2", path)
    }

    /// The host of the calls that always fail.
    pub(crate) fn down(&self, path: &str) -> String {
        self.at("127.0.0.3", path)
    }

    /// One of many hosts.
    pub(crate) fn host(&self, number: u8, path: &str) -> String {
        self.at(&format!("127.0.1.{number}"), path)
    }

    /// The host behind the link.
    pub(crate) fn linked(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.link.port())
    }

    /// The host that speaks HTTP/2 over TLS.
    pub(crate) fn http2(&self, path: &str) -> String {
        self.http2.url(path)
    }

    /// The calls over HTTP/1.1, in order of arrival.
    pub(crate) fn calls(&self) -> Vec<Request> {
        self.http1.calls()
    }

    /// How long the answer to this path takes, in ms.
    pub(crate) fn delay_ms(&self, route: &str) -> u64 {
        delay_ms(self.seed, route)
    }
}

fn chance(seed: u64, route: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, route).hash(&mut hasher);
    hasher.finish()
}

fn delay_ms(seed: u64, route: &str) -> u64 {
    chance(seed, route) / 1_000 % MAX_DELAY_MS
}

fn answer(seed: u64, request: &Request, nth: u64) -> Reply {
    let route = request.route();
    let chance = chance(seed, route);
    let delay = Duration::from_millis(delay_ms(seed, route));
    // The number of the call tells answers apart: tasks that share an answer must have the same one.
    let filler = "x".repeat(if chance.is_multiple_of(LARGE_ONE_IN) { LARGE } else { 0 });
    let good = || Reply::ok().json(&json!({"path": route, "call": request.nth, "filler": filler})).after(delay);
    if route.starts_with("/down/") {
        return Reply::status(503);
    }
    if route.starts_with("/slow/") {
        return good().after(SLOW);
    }
    let failures = if route.starts_with("/flaky/") { chance % 3 } else { 0 };
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
