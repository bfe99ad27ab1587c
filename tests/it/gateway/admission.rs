//! Who is let in.

use redial_tests::{Cli, RedisServer};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::{FrontDoor, Headers, token_block};

const ACME: Headers = &[("authorization", "Bearer token-of-acme")];
const OTHER: Headers = &[("authorization", "Bearer token-of-other")];
const READER: Headers = &[("x-api-key", "token-of-reader")];

fn tokens() -> String {
    [
        token_block(
            "acme",
            "tenant = \"acme\"\nqueues = [\"default\", \"acme\"]\nupstreams = [\"api\"]\nlimits = [\"acme-budget\"]",
        ),
        token_block("other", "tenant = \"other\""),
        token_block("reader", "access = \"read\""),
        "[[limit]]\nname = \"acme-budget\"\nrate = 1000\n".to_owned(),
    ]
    .concat()
}

#[tokio::test]
async fn without_a_token_or_with_a_wrong_one_nothing_is_done() {
    let door = FrontDoor::new(&tokens()).await;
    for headers in [&[][..], &[("authorization", "Bearer token-of-acm")], &[("authorization", "Basic token-of-acme")]] {
        for (method, path) in [
            ("POST", "/v1/tasks"),
            ("GET", "/v1/tasks/acme.1"),
            ("DELETE", "/v1/tasks/acme.1"),
            ("GET", "/u/api/ok"),
            ("GET", "/metrics"),
        ] {
            let answer = door.gateway.send(method, path, headers, b"{}").await;
            assert_eq!(
                (answer.status, answer.header("www-authenticate")),
                (401, "Bearer"),
                "{method} {path} {headers:?}"
            );
        }
    }
    assert_eq!(door.gateway.send("GET", "/healthz", &[], b"").await.status, 200);
    assert_eq!(door.gateway.send("GET", "/metrics", READER, b"").await.status, 200);
}

#[tokio::test]
async fn a_token_opens_its_own_tasks_queues_and_upstreams_only() {
    let door = FrontDoor::new(&tokens()).await;
    let task = door.task("/ok").to_string();
    let accepted = door.gateway.send("POST", "/v1/tasks", ACME, task.as_bytes()).await;
    let location = accepted.header("location").to_owned();
    assert!(location.starts_with("/v1/tasks/acme."), "{location}");
    assert_eq!(door.gateway.send("GET", &location, ACME, b"").await.status, 202);
    for (method, headers, status) in
        [("GET", OTHER, 404), ("DELETE", OTHER, 404), ("GET", READER, 202), ("DELETE", READER, 403)]
    {
        let answer = door.gateway.send(method, &location, headers, b"").await;
        assert_eq!(answer.status, status, "{method} {headers:?}: {}", answer.text());
    }
    let of = |field: &str, value: serde_json::Value| {
        let mut task = door.task("/ok");
        task[field] = value;
        task.to_string()
    };
    for (method, path, headers, body, status) in [
        ("POST", "/v1/tasks?queue=secret", ACME, task.clone(), 403),
        ("POST", "/v1/tasks", READER, task.clone(), 403),
        ("GET", "/u/api/ok", READER, String::new(), 403),
        ("POST", "/v1/tasks", ACME, of("url", json!("https://elsewhere.example/")), 403),
        ("POST", "/v1/tasks", ACME, of("then", json!({"url": "https://elsewhere.example/"})), 403),
        ("POST", "/v1/tasks", ACME, of("callback_url", json!("https://elsewhere.example/")), 403),
        ("POST", "/v1/tasks", ACME, of("reply_to", json!("answers:mine")), 403),
        ("POST", "/v1/tasks", ACME, of("id", json!("other.1")), 403),
        ("POST", "/v1/tasks", ACME, of("id", json!("acme.1")), 202),
        ("POST", "/v1/tasks", ACME, of("tenant", json!("acme")), 202),
        ("POST", "/v1/tasks", ACME, of("tenant", json!("globex")), 403),
        ("POST", "/v1/tasks?queue=acme", ACME, task.clone(), 202),
    ] {
        let answer = door.gateway.send(method, path, headers, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.text());
    }
}

#[tokio::test]
async fn calls_of_a_token_are_under_its_limits_and_do_not_carry_it() {
    let door = FrontDoor::new(&tokens()).await;
    let free = json!({"url": door.upstream.url("/ok"), "limit": [{"name": "acme-budget", "cost": 0.001}, "mine"]});
    let accepted = door.gateway.send("POST", "/v1/tasks", ACME, free.to_string().as_bytes()).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let headers: Headers = &[ACME[0], ("redial-async", "true"), ("redial-limit", "mine")];
    assert_eq!(door.gateway.send("GET", "/u/api/ok", headers, b"").await.status, 202);
    let pushed = door.redis.cli(&["LRANGE", "redial:{default}", "0", "-1"]).await;
    assert_eq!(pushed.matches(r#""limit":["acme-budget","mine"]"#).count(), 2, "{pushed}");
    assert!(!pushed.contains("token-of-acme"), "{pushed}");
}

#[tokio::test]
async fn tenants_share_neither_answers_nor_idempotency_keys() {
    let door = FrontDoor::new(&tokens()).await;
    let _worker = door.worker();
    for (kind, header) in [("cached", ("redial-cache-ttl-ms", "60000")), ("keyed", ("idempotency-key", "one"))] {
        for (caller, calls) in [(ACME, 1), (ACME, 1), (OTHER, 2)] {
            let answer = door.gateway.send("GET", &format!("/u/api/ok?{kind}"), &[caller[0], header], b"").await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let made = door.upstream.calls().iter().filter(|call| call.path.ends_with(kind)).count();
            assert_eq!(made, calls, "{kind} {caller:?}");
        }
    }
}

#[tokio::test]
async fn without_tokens_foreign_hosts_and_origins_are_refused() {
    let door = FrontDoor::new("").await;
    for (headers, status) in [
        (&[("host", "evil.example")][..], 421),
        (&[("host", "127.0.0.1.evil.example:8080")][..], 421),
        (&[("origin", "https://evil.example")][..], 403),
        (&[("origin", "null")][..], 403),
        (&[("host", "[::1]:8080"), ("origin", "http://localhost:3000")][..], 202),
    ] {
        let answer = door.gateway.send("POST", "/v1/tasks", headers, door.task("/ok").to_string().as_bytes()).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
    }
}

#[tokio::test]
async fn with_tokens_only_its_own_names_are_served() {
    let hosts = "[gateway]\nhosts = [\"gateway.example.com\"]\n";
    let door = FrontDoor::new(&(tokens() + hosts)).await;
    for (host, status) in [
        ("gateway.example.com", 404),
        ("gateway.example.com:8443", 404),
        ("127.0.0.1:8080", 404),
        ("redial-gateway.jobs.svc.cluster.local", 404),
        ("evil.example", 421),
        ("gateway.example.com.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
    ] {
        let headers = [ACME[0], ("host", host)];
        let answer = door.gateway.send("GET", "/v1/tasks/acme.none", &headers, b"").await;
        assert_eq!(answer.status, status, "{host}: {}", answer.text());
        let described = door.gateway.send("GET", "/openapi.json", &[("host", host)], b"").await;
        assert_eq!(described.status == 200, status == 404, "{host}: {}", described.text());
        // Whoever checks its health may call it as they like, and learns nothing.
        assert_eq!(door.gateway.send("GET", "/readyz", &[("host", host)], b"").await.status, 200);
    }
}

#[tokio::test]
async fn a_token_in_the_environment_opens_everything_and_its_health_can_be_asked_for() {
    let (redis, port) = (RedisServer::start().await, redial_tests::Port::claim());
    let listen = format!("0.0.0.0:{}", port.number());
    let token = ("REDIAL_GATEWAY_TOKEN", "token-of-the-environment");
    let ended = Cli::new(&redis).env(token.0, "short").run(&["serve", "--listen", &listen]).await;
    assert!(ended.status == 1 && ended.stderr.contains("openssl rand -hex 32"), "{}", ended.stderr);

    let cli = Cli::new(&redis).env(token.0, token.1).env("REDIAL_GATEWAY_LISTEN", &listen);
    let ended = cli.run(&["serve", "--healthcheck"]).await;
    assert!(ended.status == 1 && ended.stderr.contains("is the gateway running"), "{}", ended.stderr);
    let serving = cli.start(&["serve"]);
    let healthy = || async { (cli.run(&["serve", "--healthcheck"]).await.status == 0).then_some(()) };
    redial_tests::eventually(super::SOON, healthy).await;
    let ask = async |token: &str| {
        let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port.number())).await.unwrap();
        let head = format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        super::read_until(&mut socket, "\r\n").await
    };
    assert!(ask(token.1).await.starts_with("HTTP/1.1 200"));
    assert!(ask("token-of-the-environmenT").await.starts_with("HTTP/1.1 401"));
    drop(serving);
}

#[tokio::test]
async fn an_address_that_others_reach_needs_a_token() {
    let redis = RedisServer::start().await;
    let ended = Cli::new(&redis).run(&["serve", "--listen", "0.0.0.0:0"]).await;
    assert_eq!(ended.status, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("Add a [[token]]"), "{}", ended.stderr);
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = occupied.local_addr().unwrap().to_string();
    let ended = Cli::new(&redis).run(&["serve", "--listen", &listen]).await;
    assert_eq!(ended.status, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("cannot listen on {listen}")), "{}", ended.stderr);
}

#[tokio::test]
async fn web_pages_of_the_origins_in_the_settings_may_read_answers_and_no_others() {
    let app: Headers = &[("origin", "https://app.example.com")];
    let ask: Headers = &[
        ("origin", "https://app.example.com"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization, content-type"),
    ];
    let named = "[gateway]\norigins = [\"https://app.example.com\"]\n";
    for (settings, own, status) in
        [(named.to_owned(), app, 202), (named.to_owned() + &tokens(), &[app[0], ACME[0]], 202)]
    {
        // [gateway] comes first: what follows belongs to [[upstream]].
        let upstream = redial_tests::Upstream::unruly().await;
        let redis = RedisServer::start().await;
        let text = format!("{settings}\n[[upstream]]\nurl = \"{}\"\nname = \"api\"\n", upstream.url("/"));
        let gateway = redial_tests::GatewayProcess::start(&redis, &text).await;
        let preflight = gateway.send("OPTIONS", "/v1/tasks", ask, b"").await;
        assert_eq!(
            (preflight.status, preflight.header("access-control-allow-origin")),
            (204, "https://app.example.com")
        );
        assert_eq!(preflight.header("access-control-allow-headers"), "authorization, content-type");
        let task = json!({"url": upstream.url("/ok")}).to_string();
        let answer = gateway.send("POST", "/v1/tasks", own, task.as_bytes()).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, "https://app.example.com"));
        let evil: Headers = &[("origin", "https://evil.example"), ask[1]];
        let refused = gateway.send("OPTIONS", "/v1/tasks", evil, b"").await;
        assert!(
            refused.status >= 400 && !refused.headers.contains_key("access-control-allow-origin"),
            "{}",
            refused.status
        );
        let refused = gateway.send("POST", "/v1/tasks", &[evil[0]], task.as_bytes()).await;
        assert!(
            refused.status >= 400 && !refused.headers.contains_key("access-control-allow-origin"),
            "{}",
            refused.status
        );
    }
    let door = FrontDoor::new("").await;
    let local: Headers = &[("origin", "http://localhost:3000")];
    let answer = door.gateway.send("GET", "/v1/tasks/none", local, b"").await;
    assert_eq!(answer.header("access-control-allow-origin"), "http://localhost:3000");
}

#[tokio::test]
async fn sighup_reloads_tokens_and_upstreams_and_keeps_the_old_ones_when_the_new_are_bad() {
    let acme = token_block("acme", "tenant = \"acme\"");
    let door = FrontDoor::new(&acme).await;
    let log = async |words: &str| {
        redial_tests::eventually(super::SOON, || async { door.gateway.log().contains(words).then_some(()) }).await;
    };
    let status = async |path: &str, headers| door.gateway.send("GET", path, headers, b"").await.status;
    assert_eq!((status("/v1/tasks/acme.1", ACME).await, status("/v1/tasks/other.1", OTHER).await), (404, 401));

    let second = format!("[[upstream]]\nurl = \"{}\"\nname = \"second\"\n", door.upstream.url("/v1/"));
    let tables = format!("[gateway]\nmax_wait_ms = 5000\n{second}{}", token_block("other", "tenant = \"other\""));
    door.gateway.write_settings(&tables);
    door.gateway.hangup();
    log("tokens, upstreams, hosts and origins are those of the settings now").await;
    assert_eq!((status("/v1/tasks/acme.1", ACME).await, status("/v1/tasks/other.1", OTHER).await), (401, 404));
    let asynchronous: Headers = &[OTHER[0], ("redial-async", "true")];
    assert_eq!((status("/u/api/ok", asynchronous).await, status("/u/second/ok", asynchronous).await), (404, 202));
    log("restart the gateway to apply them settings=\"max_wait_ms\"").await;

    for (bad, says) in [("[[token]]\nname = \"x\"\n", "hash"), ("[gateway", "redial.toml")] {
        door.gateway.write_settings(bad);
        door.gateway.hangup();
        log("the settings in force stay as they are").await;
        log(says).await;
        assert_eq!(status("/v1/tasks/other.1", OTHER).await, 404);
    }
}
