//! Requests to the gateway, byte for byte: what each is, what it sends, and the status that it has to get.

use std::time::Duration;

use redial_tests::{GatewayProcess, RedisServer, Reply, Upstream, Worker, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::SOON;
use crate::gateway::token_block;

/// A name, the method and target, headers, body, and the status; 0 if the connection may be closed without one.
type Case = (&'static str, &'static str, &'static str, &'static str, u16);

const ACME: &str = "Authorization: Bearer token-of-acme\r\n";

/// What stands for a task that may be called, and for its URL.
const TASK: &str = "TASK";

/// With tokens. `AUTH` is replaced by the header of the token of `acme`, which may use the queue `default` and the upstream `api`.
const WITH_TOKENS: &[Case] = &[
    ("no token", "POST /v1/tasks", "", TASK, 401),
    ("wrong token", "POST /v1/tasks", "Authorization: Bearer token-of-acmee\r\n", TASK, 401),
    ("empty token", "POST /v1/tasks", "Authorization: Bearer \r\n", TASK, 401),
    ("hash as token", "POST /v1/tasks", "Authorization: Bearer HASH\r\n", TASK, 401),
    ("token in the query", "POST /v1/tasks?token=token-of-acme&key=token-of-acme", "", TASK, 401),
    ("token as basic", "POST /v1/tasks", "Authorization: Basic token-of-acme\r\n", TASK, 401),
    ("token in a cookie", "POST /v1/tasks", "Cookie: authorization=token-of-acme\r\n", TASK, 401),
    (
        "right and wrong token",
        "POST /v1/tasks",
        "Authorization: Bearer wrong\r\nAuthorization: Bearer token-of-acme\r\n",
        TASK,
        401,
    ),
    ("token of 64 KiB", "POST /v1/tasks", "Authorization: Bearer LONG\r\n", TASK, 431),
    ("queue of others", "POST /v1/tasks?queue=other", "AUTH", TASK, 403),
    ("queue with braces", "POST /v1/tasks?queue=a%7Bb%7D", "AUTH", TASK, 400),
    ("queue twice", "POST /v1/tasks?queue=default&queue=other", "AUTH", TASK, 403),
    ("queue with a line break", "POST /v1/tasks?queue=default%0D%0Ax", "AUTH", TASK, 400),
    ("task of another tenant", "GET /v1/tasks/other.1", "AUTH", "", 404),
    ("cancel of another tenant", "DELETE /v1/tasks/other.1", "AUTH", "", 404),
    ("stream of another tenant", "GET /v1/tasks/other.1/stream", "AUTH", "", 404),
    ("events of another tenant", "GET /v1/tasks/other.1/events", "AUTH", "", 404),
    ("events of another queue", "GET /v1/queues/other/events", "AUTH", "", 403),
    ("id of the own tenant with dots", "GET /v1/tasks/acme./../other.1", "AUTH", "", 404),
    ("id with an encoded slash", "GET /v1/tasks/acme.%2F..%2Fother.1", "AUTH", "", 404),
    ("id of 300 characters", "GET /v1/tasks/acme.LONGID", "AUTH", "", 400),
    ("id with NUL", "GET /v1/tasks/acme.%00", "AUTH", "", 400),
    ("id with a glob", "GET /v1/tasks/*", "AUTH", "", 404),
    ("id in the task of another tenant", "POST /v1/tasks", "AUTH", r#"{"id":"other.1","url":"URL"}"#, 403),
    ("tenant in the task", "POST /v1/tasks", "AUTH", r#"{"tenant":"other","url":"URL"}"#, 403),
    ("tenant in a header", "GET /u/api/ok", "AUTHRedial-Tenant: other\r\n", "", 403),
    ("reply list", "POST /v1/tasks", "AUTH", r#"{"reply_to":"answers:x","url":"URL"}"#, 403),
    ("callback", "POST /v1/tasks", "AUTH", r#"{"callback_url":"http://evil.example/","url":"URL"}"#, 403),
    ("forged delivery", "POST /v1/tasks", "AUTH", r#"{"callback_of":"other.1","url":"URL"}"#, 400),
    ("URL elsewhere", "POST /v1/tasks", "AUTH", r#"{"url":"http://evil.example/"}"#, 403),
    ("URL with userinfo", "POST /v1/tasks", "AUTH", r#"{"url":"http://127.0.0.1:PORT@evil.example/"}"#, 403),
    ("unknown upstream", "GET /u/secret/ok", "AUTH", "", 403),
    ("out of the upstream", "GET /u/api/../../etc/passwd", "AUTH", "", 404),
    ("out of it, encoded", "GET /u/api/%2e%2e/%2e%2e/x", "AUTH", "", 404),
    ("out of it, backslashes", "GET /u/api/..\\..\\x", "AUTH", "", 404),
    ("another host in the path", "GET /u/api//evil.example/", "AUTH", "", 202),
    ("unknown redial header", "GET /u/api/ok", "AUTHRedial-Admin: true\r\n", "", 400),
    ("limit of others", "GET /u/api/ok", "AUTHRedial-Limit: a{b}\r\n", "", 400),
    ("pages without a token", "GET /metrics", "", "", 401),
    ("CONNECT", "CONNECT evil.example:443", "AUTH", "", 421),
    ("absolute target", "GET http://evil.example/metrics", "", "", 421),
];

/// Whatever the token.
const ANY: &[Case] = &[
    ("unknown path", "GET /admin", "AUTH", "", 404),
    ("dots in the path", "GET /../../etc/passwd", "AUTH", "", 404),
    ("encoded dots", "GET /%2e%2e/%2e%2e/etc/passwd", "AUTH", "", 404),
    ("two slashes", "GET //v1//tasks", "AUTH", "", 404),
    ("TRACE", "TRACE /v1/tasks", "AUTH", "", 405),
    ("PUT", "PUT /v1/tasks", "AUTH", TASK, 405),
    ("unknown method", "BREW /v1/tasks", "AUTH", "", 405),
    ("TRACE to an upstream", "TRACE /u/api/ok", "AUTH", "", 400),
    ("two lengths", "POST /v1/tasks", "AUTHContent-Length: 5\r\nContent-Length: 50\r\n", TASK, 400),
    (
        "length and chunks",
        "POST /v1/tasks",
        "AUTHContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n",
        400,
    ),
    ("negative length", "POST /v1/tasks", "AUTHContent-Length: -1\r\n", TASK, 400),
    ("length in words", "POST /v1/tasks", "AUTHContent-Length: five\r\n", TASK, 400),
    ("coding that is not chunked", "POST /v1/tasks", "AUTHTransfer-Encoding: gzip\r\n", TASK, 400),
    ("chunk that is not hex", "POST /v1/tasks", "AUTHTransfer-Encoding: chunked\r\n", "zz\r\nhi\r\n0\r\n\r\n", 400),
    ("folded header", "POST /v1/tasks", "AUTHX-A: a\r\n b\r\n", TASK, 400),
    ("header with a space", "POST /v1/tasks", "AUTHX A: a\r\n", TASK, 400),
    ("header with NUL", "POST /v1/tasks", "AUTHX-A: a\0b\r\n", TASK, 400),
    ("header of 1 MiB", "POST /v1/tasks", "AUTHX-A: LONG\r\n", TASK, 431),
    ("200 headers", "POST /v1/tasks", "AUTHMANY", TASK, 431),
    ("not JSON", "POST /v1/tasks", "AUTH", "{", 400),
    ("nothing", "POST /v1/tasks", "AUTH", "", 400),
    ("not an object", "POST /v1/tasks", "AUTH", "5", 400),
    ("an empty array", "POST /v1/tasks", "AUTH", "[]", 400),
    ("deep JSON", "POST /v1/tasks", "AUTH", "DEEP", 400),
    ("two URLs", "POST /v1/tasks", "AUTH", r#"{"url":"URL","url":"http://evil.example/"}"#, 400),
    ("header in the task", "POST /v1/tasks", "AUTH", r#"{"url":"URL","headers":{"X":"a\r\nY: b"}}"#, 400),
    ("host in the task", "POST /v1/tasks", "AUTH", r#"{"url":"URL","headers":{"Host":"evil.example"}}"#, 400),
    ("too large", "POST /v1/tasks", "AUTH", "HUGE", 413),
    ("wait that is not a number", "POST /v1/tasks?wait=soon", "AUTH", TASK, 400),
    ("wait that is negative", "POST /v1/tasks?wait=-1", "AUTH", TASK, 400),
    ("wait without end", "POST /v1/tasks?wait=1e308", "AUTH", TASK, 400),
    ("unknown parameter", "POST /v1/tasks?admin=true", "AUTH", TASK, 400),
    ("Last-Event-ID that is not an id", "GET /v1/queues/default/events", "AUTHLast-Event-ID: $\r\n", "", 400),
    ("Last-Event-ID with a command", "GET /v1/queues/default/events", "AUTHLast-Event-ID: 0-0 FLUSHALL\r\n", "", 400),
    ("since that is negative", "GET /v1/queues/default/events?since=-1", "AUTH", "", 400),
    ("key with a line break", "POST /v1/tasks", "AUTHIdempotency-Key: \u{1}\r\n", TASK, 400),
    ("key of 10,000 characters", "POST /v1/tasks", "AUTHIdempotency-Key: LONGID\r\n", TASK, 400),
];

/// Without tokens.
const WITHOUT_TOKENS: &[Case] = &[
    ("foreign host", "POST /v1/tasks", "Host: evil.example\r\n", TASK, 421),
    ("host that begins like loopback", "POST /v1/tasks", "Host: 127.0.0.1.evil.example\r\n", TASK, 421),
    ("host that ends like localhost", "POST /v1/tasks", "Host: evil-localhost\r\n", TASK, 421),
    ("private host", "POST /v1/tasks", "Host: 10.0.0.1\r\n", TASK, 421),
    ("host with userinfo", "POST /v1/tasks", "Host: localhost@evil.example\r\n", TASK, 421),
    ("two hosts", "POST /v1/tasks", "Host: localhost\r\nHost: evil.example\r\n", TASK, 421),
    ("no host", "POST /v1/tasks", "NOHOST", TASK, 421),
    ("host in the target", "POST http://evil.example/v1/tasks", "", TASK, 421),
    ("CONNECT", "CONNECT evil.example:443", "", "", 421),
    ("foreign origin", "POST /v1/tasks", "Origin: https://evil.example\r\n", TASK, 403),
    ("origin null", "POST /v1/tasks", "Origin: null\r\n", TASK, 403),
    ("origin that begins like localhost", "POST /v1/tasks", "Origin: http://localhost.evil.example\r\n", TASK, 403),
    ("two origins", "POST /v1/tasks", "Origin: http://localhost\r\nOrigin: https://evil.example\r\n", TASK, 403),
    (
        "preflight of a foreign origin",
        "OPTIONS /v1/tasks",
        "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n",
        "",
        403,
    ),
];

/// Sends one request, and returns the status and all that came back.
async fn send(port: u16, upstream: u16, hash: &str, case: &Case) -> (u16, String) {
    let (_, line, headers, body, _) = case;
    let url = format!("http://127.0.0.1:{upstream}/base/ok");
    let body = body
        .replace("TASK", r#"{"url":"URL"}"#)
        .replace("URL", &url)
        .replace("DEEP", &format!("{{\"url\":\"{url}\",\"meta\":{}}}", "[".repeat(5_000)))
        .replace("HUGE", &format!("{{\"url\":\"{url}\",\"body_text\":\"{}\"}}", "x".repeat(2 << 20)));
    let many = (0..200).map(|n| format!("X-{n}: v\r\n")).collect::<Vec<_>>().concat();
    let mut headers = headers.replace("AUTH", ACME).replace("HASH", hash).replace("LONGID", &"x".repeat(10_000));
    headers = headers.replace("LONG", &"x".repeat(1 << 20)).replace("MANY", &many);
    if !headers.contains("Host: ") && !headers.contains("NOHOST") {
        headers += "Host: localhost\r\n";
    }
    if !headers.contains("Content-Length") && !headers.contains("Transfer-Encoding") {
        headers = format!("{headers}Content-Length: {}\r\n", body.len());
    }
    let line = line.replace("LONGID", &"x".repeat(300));
    let headers = headers.replace("NOHOST", "");
    let redial = if line.contains("/u/") { "Redial-Async: true\r\n" } else { "" };
    let request = format!("{line} HTTP/1.1\r\nConnection: close\r\n{headers}{redial}\r\n{body}");
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // A server that refuses a request may close the connection before it has read it.
    let _ = socket.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    (status.unwrap_or_default(), answer)
}

/// Sends all requests one after the other. Only what was accepted is enqueued, and the gateway still does what it is for.
async fn attack(settings: &str, hash: &str, cases: &[&[Case]], headers: &[(&str, &str)]) {
    let (redis, upstream) = (RedisServer::start().await, Upstream::start(|_| Reply::ok()).await);
    let settings = format!("[[upstream]]\nname = \"api\"\nurl = \"{}\"\n{settings}", upstream.url("/base/"));
    let gateway = GatewayProcess::start(&redis, &settings).await;
    let before = gateway.rss_bytes();
    let (mut wrong, mut accepted) = (Vec::new(), 0);
    for case in cases.iter().copied().flatten() {
        let (status, answer) = send(gateway.port(), upstream.address().port(), hash, case).await;
        accepted += u64::from(status == 202);
        if status != case.4 {
            wrong.push(format!("{}: {status} instead of {}: {answer}", case.0, case.4));
        }
        if answer.matches("HTTP/1.1").count() > 1 || answer.contains("token-of") || answer.contains("root:") {
            wrong.push(format!("{}: {answer}", case.0));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let keys = redis.cli(&["KEYS", "redial:*"]).await;
    let pushed: u64 = redis.cli(&["LLEN", "redial:{default}"]).await.parse().unwrap();
    assert_eq!(pushed, accepted, "{keys}");
    assert!(!keys.contains("{other}"), "{keys}");
    assert!(gateway.rss_bytes().saturating_sub(before) < 100 << 20);
    assert!(!gateway.log().contains("token-of"), "{}", gateway.log());
    let _worker = Worker::builder(&redis).env("REDIAL_ALLOW_PRIVATE", "127.0.0.0/8").spawn();
    eventually(SOON, async || (redis.cli(&["LLEN", "redial:{default}"]).await == "0").then_some(())).await;
    let task = format!(r#"{{"url":"{}"}}"#, upstream.url("/base/ok"));
    let answer = gateway.send("POST", "/v1/tasks?wait=30", headers, task.as_bytes()).await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &"ok".into()), "{}", answer.text());
}

#[tokio::test]
async fn no_request_gets_past_the_tokens_of_a_gateway_or_breaks_it() {
    let own = "tenant = \"acme\"\nqueues = [\"default\"]\nupstreams = [\"api\"]";
    let settings = token_block("acme", own) + &token_block("other", "tenant = \"other\"");
    let hash = settings.split("hash = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    attack(&settings, &hash, &[WITH_TOKENS, ANY], &[("authorization", "Bearer token-of-acme")]).await;
}

#[tokio::test]
async fn no_web_page_and_no_foreign_name_uses_a_gateway_without_tokens() {
    attack("", "", &[WITHOUT_TOKENS, ANY], &[]).await;
}
