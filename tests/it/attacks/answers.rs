//! Answers that are not what they say, too much of something, or that lead elsewhere: byte for byte as an upstream sends them.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use redial_tests::{RedisServer, Reply, TestQueue, Upstream, Worker};
use serde_json::json;

use super::{SOON, is_well};

/// The largest answer that the worker takes here.
const MAX_ANSWER: usize = 256 << 10;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A 200 with these headers and a body of the stated length.
fn ok(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    [format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

/// A 200 with a chunked body, framed as given.
fn chunked(framed: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{framed}").into()
}

/// Another status without a body.
fn empty(status: &str, headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\n\r\n").into()
}

fn framing() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let many = |count: usize| (0..count).map(|n| format!("X-{n}: v\r\n")).collect::<Vec<_>>().concat();
    vec![
        ("nothing", b"".to_vec(), "attempts_exhausted"),
        ("not HTTP", b"hello".to_vec(), "attempts_exhausted"),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), "attempts_exhausted"),
        ("another version", b"HTTP/9.9 200 OK\r\n\r\n".to_vec(), "attempts_exhausted"),
        ("no status", b"HTTP/1.1 OK\r\n\r\n".to_vec(), "attempts_exhausted"),
        ("status 000", empty("000 X", ""), "attempts_exhausted"),
        ("status 999", empty("999 X", ""), "attempts_exhausted"),
        ("status of four digits", empty("2000 OK", ""), "attempts_exhausted"),
        ("head cut off", b"HTTP/1.1 200 OK\r\nContent-Le".to_vec(), "attempts_exhausted"),
        ("length too long", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi".to_vec(), "attempts_exhausted"),
        ("length negative", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhi".to_vec(), "attempts_exhausted"),
        (
            "length of 20 digits",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
            "attempts_exhausted",
        ),
        ("length in hex", b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nhi".to_vec(), "attempts_exhausted"),
        (
            "two lengths",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!".to_vec(),
            "attempts_exhausted",
        ),
        ("chunk without digits", chunked("zz\r\nhi\r\n0\r\n\r\n"), "attempts_exhausted"),
        ("chunk negative", chunked("-2\r\nhi\r\n0\r\n\r\n"), "attempts_exhausted"),
        ("chunk beyond 64 bits", chunked("fffffffffffffffff\r\nhi"), "attempts_exhausted"),
        ("chunk of 16 EiB", chunked("ffffffffffffffff\r\nhi"), "attempts_exhausted"),
        ("chunk cut off", chunked("5\r\nhi"), "attempts_exhausted"),
        ("no last chunk", chunked("2\r\nhi\r\n"), "attempts_exhausted"),
        (
            "chunk extension of 64 KiB",
            chunked(&format!("2;{}\r\nhi\r\n0\r\n\r\n", "x".repeat(64 << 10))),
            "attempts_exhausted",
        ),
        (
            "trailers of 64 KiB",
            chunked(&format!("2\r\nhi\r\n0\r\nX: {}\r\n\r\n", "x".repeat(64 << 10))),
            "attempts_exhausted",
        ),
        ("trailer", chunked("2\r\nhi\r\n0\r\nSet-Cookie: a=b\r\n\r\n"), "ok"),
        ("150 headers", ok(&many(150), "hi"), "ok"),
        ("header of 1 MiB", ok(&format!("X: {}\r\n", "x".repeat(1 << 20)), "hi"), "attempts_exhausted"),
        ("header with NUL", ok("X: a\0b\r\n", "hi"), "attempts_exhausted"),
        ("header name with a space", ok("X Y: a\r\n", "hi"), "ok"),
        ("header in Latin 1", ok("X: \u{e4}\r\n", "hi"), "ok"),
        ("1xx flood", [b"HTTP/1.1 100 Continue\r\n\r\n".repeat(50), ok("", "hi")].concat(), "ok"),
        ("early hints", [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec(), ok("", "hi")].concat(), "ok"),
        ("switching protocols", b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_vec(), "rejected"),
        ("two answers", [ok("", "hi"), ok("", "evil")].concat(), "ok"),
    ]
}

fn bodies() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let zeros = vec![0; 8 << 20];
    let deep = "[".repeat(5_000);
    vec![
        ("too much", ok("", "x".repeat(MAX_ANSWER + 1)), "too_large"),
        (
            "too much without a length",
            [b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), vec![b'x'; MAX_ANSWER + 1]].concat(),
            "too_large",
        ),
        ("gzip bomb", ok("Content-Encoding: gzip\r\n", gzip(&zeros)), "too_large"),
        ("gzip bomb in gzip", ok("Content-Encoding: gzip, gzip\r\n", gzip(&gzip(&zeros))), "too_large"),
        ("deflate bomb", ok("Content-Encoding: deflate\r\n", deflate(&zeros)), "too_large"),
        ("gzip cut off", ok("Content-Encoding: gzip\r\n", &gzip(b"hi")[..9]), "attempts_exhausted"),
        ("bytes that are not gzip", ok("Content-Encoding: gzip\r\n", "hi there"), "attempts_exhausted"),
        ("bytes that are not brotli", ok("Content-Encoding: br\r\n", "hi there"), "attempts_exhausted"),
        (
            "zstd with a window of 2 GiB",
            ok("Content-Encoding: zstd\r\n", b"\x28\xb5\x2f\xfd\x00\xa8\x00\x00"),
            "attempts_exhausted",
        ),
        ("a hundred codings", ok(&format!("Content-Encoding: {}\r\n", ["gzip"; 100].join(",")), gzip(b"hi")), "ok"),
        ("coding that nobody knows", ok("Content-Encoding: nonsense\r\n", "hi"), "ok"),
        ("JSON of 5,000 levels", ok("Content-Type: application/json\r\n", deep), "ok"),
        ("JSON that breaks off", ok("Content-Type: application/json\r\n", "{\"a\":"), "ok"),
        ("invalid UTF-8", ok("Content-Type: application/json\r\n", b"\"\xff\xfe\""), "ok"),
        (
            "invalid UTF-8 in a header",
            [b"HTTP/1.1 200 OK\r\nX: \xff\xfe\r\n".as_slice(), b"Content-Length: 0\r\n\r\n"].concat(),
            "ok",
        ),
        ("usage of absurd size", ok("Content-Type: application/json\r\n", r#"{"usage":{"total_tokens":1e308}}"#), "ok"),
        (
            "usage that is negative",
            ok("Content-Type: application/json\r\n", r#"{"usage":{"total_tokens":-1e9}}"#),
            "ok",
        ),
        ("cookies", ok("Set-Cookie: sid=1\r\nSet-Cookie: sid=2\r\n", "hi"), "ok"),
    ]
}

fn directions() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let to = |target: &str| empty("302 Found", &format!("Connection: close\r\nLocation: {target}\r\n"));
    let wait = |value: &str| empty("429 Too Many", &format!("Retry-After: {value}\r\n"));
    vec![
        ("redirect to metadata", to("http://169.254.169.254/latest/"), "forbidden_target"),
        ("redirect to a private network", to("http://10.0.0.1/"), "forbidden_target"),
        ("redirect in decimal", to("http://2852039166/"), "forbidden_target"),
        ("redirect to IPv6 loopback", to("http://[::1]/"), "forbidden_target"),
        ("redirect by a mapped address", to("//[::ffff:10.0.0.1]/"), "forbidden_target"),
        ("redirect to a file", to("file:///etc/passwd"), "rejected"),
        ("redirect to nowhere", to("http://["), "rejected"),
        ("redirect in circles", to("/again"), "rejected"),
        ("redirect without a target", empty("302 Found", ""), "rejected"),
        ("wait of 1e308 s", wait("1e308"), "attempts_exhausted"),
        ("wait of 31,000 years", wait("999999999999"), "attempts_exhausted"),
        ("wait of 400 digits", wait(&"9".repeat(400)), "attempts_exhausted"),
        ("wait that is negative", wait("-5"), "attempts_exhausted"),
        ("wait that is not a number", wait("NaN"), "attempts_exhausted"),
        ("wait until the year 9999", wait("Fri, 31 Dec 9999 23:59:59 GMT"), "attempts_exhausted"),
        ("wait until the year 1000", wait("Wed, 01 Jan 1000 00:00:00 GMT"), "attempts_exhausted"),
        (
            "limit that is full in 1e300 s",
            empty("429 X", "x-ratelimit-remaining: 0\r\nx-ratelimit-reset: 1e300\r\n"),
            "attempts_exhausted",
        ),
        (
            "limit that has less than nothing",
            empty("429 X", "x-ratelimit-remaining: -1e9\r\nx-ratelimit-reset: 1\r\n"),
            "attempts_exhausted",
        ),
        (
            "limit field of 10,000 members",
            empty("429 X", &format!("RateLimit: {}\r\n", ["\"a\";r=5;t=1"; 10_000].join(","))),
            "attempts_exhausted",
        ),
        ("proxy login", empty("407 X", "Proxy-Authenticate: Basic\r\n"), "rejected"),
    ]
}

#[tokio::test]
async fn no_answer_of_an_upstream_stalls_a_worker_or_leads_it_astray() {
    let cases: Vec<_> = framing().into_iter().chain(bodies()).chain(directions()).collect();
    assert!(cases.len() >= 60);
    let replies: Vec<Vec<u8>> = cases.iter().map(|(_, answer, _)| answer.clone()).collect();
    let redis = RedisServer::start().await;
    let upstream = Upstream::on_all_addresses(move |request| {
        let n = request.headers.get("x-case").and_then(|n| n.parse::<usize>().ok());
        n.map_or_else(Reply::ok, |n| Reply::raw(replies[n].clone()))
    })
    .await;
    let worker = Worker::builder(&redis)
        .env("REDIAL_ALLOW_PRIVATE", "127.0.0.0/8")
        .env("REDIAL_MAX_ANSWER_BYTES", MAX_ANSWER.to_string())
        .spawn();
    worker.wait_ready().await;
    let before = worker.peak_rss_bytes();
    let queue = TestQueue::new(&redis, "default");
    let port = upstream.address().port();
    // Each has a host of its own, so that no breaker opens.
    let tasks = (0..cases.len()).map(|n| {
        json!({
            "id": format!("case {n}"), "url": format!("http://127.1.0.{n}:{port}/"), "headers": {"x-case": n.to_string()},
            "redirects": 5, "retry": {"max_attempts": 1}, "limit": {"name": format!("l{n}"), "rate": 10, "usage": "usage.total_tokens"},
        })
        .to_string()
    });
    queue.push_all(tasks.collect::<Vec<_>>()).await;
    let ids: Vec<String> = (0..cases.len()).map(|n| format!("case {n}")).collect();
    let results = queue.wait_results(&ids, SOON).await;
    let mut wrong = Vec::new();
    for ((name, _, expected), result) in cases.iter().zip(&results) {
        let came = result["reason"].as_str().unwrap_or("ok");
        if came != *expected {
            wrong.push(format!("{name}: {came} instead of {expected}: {result}"));
        }
        let headers = result["headers"].to_string();
        if headers.contains("set-cookie") || headers.len() > 16 << 10 || result.to_string().contains("evil") {
            wrong.push(format!("{name}: {result}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let grown = worker.peak_rss_bytes().saturating_sub(before);
    assert!(grown < 200 << 20, "the worker has grown by {grown} bytes");
    is_well(&worker, &redis, &format!("http://127.77.77.77:{port}/")).await;
}
