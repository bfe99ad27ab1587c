//! Headers and methods that would change the request, or smuggle another one.

use serde_json::json;

use super::{attempt, with};

const HEADERS: &[(&str, &str)] = &[
    ("Host", "evil.example"),
    ("host", "evil.example"),
    ("Content-Length", "0"),
    ("content-length", "5"),
    ("Transfer-Encoding", "chunked"),
    ("transfer-encoding", "identity"),
    ("TRANSFER-ENCODING", "chunked, chunked"),
    ("Connection", "close"),
    ("Connection", "x-api-key"),
    ("Keep-Alive", "timeout=5"),
    ("Upgrade", "h2c"),
    ("TE", "trailers"),
    ("Trailer", "x"),
    ("Expect", "100-continue"),
    ("Proxy-Authorization", "Basic eA=="),
    ("X-A", "a\r\nX-B: b"),
    ("X-A", "a\nX-B: b"),
    ("X-A", "a\rX-B: b"),
    ("X-A", "a\u{0}b"),
    ("X-A\r\nX-B", "b"),
    ("X-A\n", "b"),
    ("X-A: b\r\nX-C", "c"),
    ("X A", "b"),
    ("X-A:", "b"),
    ("", "b"),
    (" ", "b"),
    ("X-Ä", "b"),
    ("X\u{0}", "b"),
    ("X-A(", "b"),
    ("X-A,B", "b"),
    ("X-A/B", "b"),
    ("X=A", "b"),
    ("X;A", "b"),
    ("{X}", "b"),
    ("GET / HTTP/1.1\r\nX", "b"),
    ("X-A", "\u{7f}"),
    ("X-A", "\u{1b}[2J"),
    ("X-A", "\u{8}"),
];

const METHODS: &[&str] = &[
    "CONNECT",
    "TRACE",
    "FETCH",
    "GET /",
    "GET\r\nX: y",
    "",
    " GET",
    "GET ",
    "PROPFIND",
    "DEBUG",
    "Ｇet",
    "GET\u{0}",
    "PRI",
];

#[tokio::test]
async fn no_header_or_method_smuggles_anything() {
    let headers = HEADERS.iter().map(|(name, value)| (with(&json!({"headers": {*name: value}})), "invalid_task"));
    let methods = METHODS.iter().map(|method| (with(&json!({"method": method})), "invalid_task"));
    let keys = ["a\r\nX: b", "a\nb", "\u{0}", ""].map(|key| (with(&json!({"idempotency_key": key})), "invalid_task"));
    let traces = ["a\r\nX: b", "a\u{0}b"].map(|trace| (with(&json!({"traceparent": trace})), "invalid_task"));
    let good =
        [json!({"headers": {"X-A": "a\tb"}}), json!({"method": "put", "body": 1}), json!({"headers": {"x-utf8": "ü"}})];
    let good = good.iter().map(|fields| (with(fields), "ok"));
    attempt(",127.0.0.0/8", headers.chain(methods).chain(keys).chain(traces).chain(good).collect()).await;
}
