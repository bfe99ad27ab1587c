//! Behaviour by path; [`Upstream::unruly`](super::Upstream::unruly) has the table.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Reply, Request};

/// Counts how often each path and key was called.
#[derive(Debug, Default)]
pub(super) struct UnrulyPaths {
    calls: Mutex<HashMap<(String, String), u64>>,
}

impl UnrulyPaths {
    pub(super) fn answer(&self, request: &Request) -> Reply {
        let reply = self.by_path(request);
        let extra = Duration::from_millis(request.query("delay_ms").map_or(0, number));
        let delay = reply.delay + extra;
        reply.after(delay)
    }

    fn by_path(&self, request: &Request) -> Reply {
        let parts: Vec<&str> = request.route().split('/').skip(1).collect();
        match parts[..] {
            ["ok"] => Reply::ok().json(&json!({"ok": true})),
            ["echo"] => Reply::ok().json(&echo(request)),
            ["status", status] => status_reply(number(status)),
            ["flaky", fails, status] => {
                let calls = self.count(request);
                if calls <= number(fails) { status_reply(number(status)) } else { recovered(calls) }
            }
            ["retry-after", seconds] => match self.count(request) {
                1 => status_reply(429).header("retry-after", seconds.to_owned()),
                calls => recovered(calls),
            },
            ["slow", ms] => Reply::ok().json(&json!({"ok": true})).after(Duration::from_millis(number(ms))),
            ["reset"] => Reply::reset(),
            ["close"] => Reply::close(),
            ["truncated"] => Reply::truncated("{\"ok\":tr"),
            ["chunks-cut-off"] => Reply::chunks_cut_off("{\"ok\":tr"),
            ["garbage"] => Reply::garbage(),
            ["hang"] => Reply::hang(),
            ["big", bytes] => Reply::ok().body(Bytes::from(vec![b'x'; number(bytes)])),
            _ => status_reply(404),
        }
    }

    /// Counts this call and returns how many calls its path and key have had, this one included.
    fn count(&self, request: &Request) -> u64 {
        let key = request.query("key").unwrap_or_default().to_owned();
        let mut calls = self.calls.lock().expect("no thread panics while it counts");
        let count = calls.entry((request.route().to_owned(), key)).or_default();
        *count += 1;
        *count
    }
}

fn status_reply(status: u16) -> Reply {
    Reply::status(status).json(&json!({"status": status}))
}

fn recovered(calls: u64) -> Reply {
    Reply::ok().json(&json!({"ok": true, "calls": calls}))
}

fn echo(request: &Request) -> Value {
    let headers: Map<String, Value> =
        request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.into())).collect();
    let body: Value =
        serde_json::from_slice(&request.body).unwrap_or_else(|_| String::from_utf8_lossy(&request.body).into());
    json!({
        "method": request.method.as_str(),
        "path": request.path,
        "headers": headers,
        "body": body,
    })
}

/// A number in a path. If a test mistypes it, the handler panics and the connection is closed.
fn number<N: FromStr>(text: &str) -> N {
    text.parse().unwrap_or_else(|_| panic!("not a number in the path of an unruly upstream: {text}"))
}
