//! The harness itself, which all other tests rely on.

use std::time::{Duration, Instant};

use redial_tests::{Cli, Cluster, Port, Proxy, RedisServer, Reply, TestQueue, Upstream, Worker};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_killed_redis_restarts_on_the_same_port_with_its_data() {
    // By default, a Redis whose disk is busy holds back for up to two seconds what it appends.
    let redis = RedisServer::with_args(&["--appendfsync", "always"]).await;
    let queue = TestQueue::new(&redis, "default");
    queue.push(r#"{"url":"http://a/"}"#).await;
    queue.push_all((0..2_500).map(|n| format!("task {n}"))).await;

    redis.kill9();
    redis.restart().await;

    assert_eq!(queue.waiting().await, 2_501);
    let oldest = redis.cli(&["LINDEX", "redial:{default}", "-1"]).await;
    assert_eq!(oldest, r#"{"url":"http://a/"}"#);
}

#[tokio::test]
async fn a_paused_redis_answers_only_after_it_is_resumed() {
    let redis = RedisServer::start().await;
    let mut connection = redis.connection().await;
    redis.pause();

    let ping = tokio::spawn(async move { redis::cmd("PING").query_async::<String>(&mut connection).await });
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!ping.is_finished());

    redis.resume();
    assert_eq!(ping.await.unwrap().unwrap(), "PONG");
}

#[tokio::test]
async fn the_clock_of_a_redis_can_be_set_and_stopped_and_durations_stay_as_they_are() {
    let redis = RedisServer::with_fake_clock().await;
    let mut connection = redis.connection().await;
    let () = redis::cmd("SET").arg("k").arg("v").query_async(&mut connection).await.unwrap();
    for ahead_ms in [0, 9_000, -800, -3_600_000] {
        redis.set_clock(ahead_ms);
        let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut connection).await.unwrap();
        let real = i64::try_from(redial_tests::stalls::now_ms()).unwrap();
        let ahead = seconds * 1_000 + micros / 1_000 - real;
        assert!((ahead - ahead_ms).abs() < 500, "{ahead} instead of {ahead_ms}");
    }
    let asked = Instant::now();
    let nothing: Option<String> = redis::cmd("BLPOP").arg("none").arg(0.3).query_async(&mut connection).await.unwrap();
    assert!(nothing.is_none() && asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    for moment in [1_795_953_600_300_499, 1_795_953_609_999_999] {
        redis.stop_clock_at(moment);
        for _ in 0..3 {
            let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(&mut connection).await.unwrap();
            assert_eq!(seconds * 1_000_000 + micros, moment, "it stands to the microsecond");
        }
    }
}

#[tokio::test]
async fn each_info_call_counts_as_one_command() {
    let redis = RedisServer::start().await;
    let before = redis.info_number("total_commands_processed").await;
    let after = redis.info_number("total_commands_processed").await;
    assert_eq!(after - before, 1);
}

#[tokio::test]
async fn a_cluster_serves_queues_in_every_slot() {
    let cluster = Cluster::start(3).await;
    for name in ["default", "critical", "mail", "bulk"] {
        let queue = TestQueue::new(&cluster, name);
        queue.push_all(["a", "b"]).await;
        assert_eq!(queue.waiting().await, 2);
        let node = cluster.node_of(&queue.key()).await;
        assert_eq!(node.cli(&["LLEN", &queue.key()]).await, "2");
    }
}

#[tokio::test]
async fn clients_follow_a_queue_whose_slot_moves() {
    let cluster = Cluster::start(3).await;
    let queue = TestQueue::new(&cluster, "default");
    queue.push_all(["a", "b"]).await;
    let key = queue.key();
    let from = cluster.node_of(&key).await.port();
    let to = cluster.nodes().iter().find(|node| node.port() != from);

    cluster.move_slot_of(&key, to.unwrap()).await;

    queue.push("c").await;
    assert_eq!(queue.waiting().await, 3);
    assert_ne!(cluster.node_of(&key).await.port(), from);
}

#[tokio::test]
async fn a_cluster_with_replicas_announces_the_ports_of_proxies_and_promotes_a_replica() {
    let cluster = Cluster::with_replicas(3).await;
    let mut proxies = Vec::new();
    for node in cluster.nodes() {
        proxies.push(Proxy::before(node.port()).await);
    }
    cluster.announce_ports(&proxies.iter().map(Proxy::port).collect::<Vec<_>>()).await;
    let slots = cluster.nodes()[0].cli(&["CLUSTER", "SLOTS"]).await;
    assert!(slots.contains(&proxies[1].port().to_string()), "{slots}");
    let (queue, old) = (TestQueue::new(&cluster, "default"), cluster.masters().await.len());
    assert_eq!(old, 3);
    queue.push("{}").await;
    let replica = &cluster.nodes()[3];
    assert_eq!(replica.cli(&["CLUSTER", "FAILOVER"]).await, "OK");
    let promoted = || async { cluster.masters().await.iter().any(|node| node.port() == replica.port()).then_some(()) };
    redial_tests::eventually(Duration::from_secs(20), promoted).await;
    assert_eq!(queue.waiting().await, 1);
}

#[tokio::test]
async fn a_proxy_closes_one_direction_of_its_connections_or_resets_them() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::before(redis.port()).await;
    let ping = async || {
        let mut socket = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        socket.write_all(b"PING\r\n").await.unwrap();
        let mut pong = [0; 7];
        socket.read_exact(&mut pong).await.unwrap();
        socket
    };
    let mut half_closed = ping().await;
    proxy.half_close_all();
    assert_eq!(half_closed.read(&mut [0; 8]).await.unwrap(), 0, "the server seems to have ended");
    half_closed.write_all(b"PING\r\n").await.expect("the other direction is open");
    assert_eq!(half_closed.read(&mut [0; 8]).await.unwrap(), 0);
    let mut reset = ping().await;
    proxy.reset_all();
    let error = reset.read(&mut [0; 8]).await.expect_err("it is reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    ping().await;
}

#[tokio::test]
async fn results_and_dead_letters_are_parsed_as_the_protocol_defines_them() {
    let redis = RedisServer::start().await;
    let queue = TestQueue::new(&redis, "mail");
    let ids: Vec<String> = (0..450).map(|n| format!("t{n}")).collect();
    for id in &ids {
        let result = json!({"id": id, "status": "ok"}).to_string();
        redis.cli(&["SET", &format!("redial:{{mail}}:result:{id}"), &result]).await;
    }
    let member: &[u8] = b"{\"reason\":\"invalid_task\"}\nnot json\n\xff";
    let mut connection = redis.connection().await;
    redis::cmd("ZADD").arg(&["redial:{mail}:dead", "1"]).arg(member).query_async::<()>(&mut connection).await.unwrap();

    let results = queue.wait_results(&ids, SOON).await;
    assert_eq!(results[449]["id"], "t449");
    assert_eq!(queue.result("t1000").await, None);
    let dead = queue.dead().await;
    assert_eq!(dead[0].header["reason"], "invalid_task");
    assert_eq!(dead[0].raw, b"not json\n\xff");
}

#[tokio::test]
async fn the_upstream_records_each_request() {
    let upstream = Upstream::unruly().await;
    let body = r#"{"text":"grüß"}"#;
    let request = format!(
        "POST /echo?key=k HTTP/1.1\r\nHost: x\r\nX-Some: Thing\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // Two at once: the second must not be lost in the buffer.
    let (head, answer) = exchange(&upstream, &format!("{request}{request}")).await;
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert_eq!(answer.matches("grüß").count(), 2);

    let calls = upstream.calls_to("/echo");
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[1].nth, 1);
    assert_eq!(calls[1].method, "POST");
    assert_eq!(calls[1].query("key"), Some("k"));
    assert_eq!(calls[1].headers.get("x-some"), Some("Thing"));
    assert_eq!(calls[1].json(), json!({"text": "grüß"}));
}

#[tokio::test]
async fn the_upstream_reads_a_chunked_body() {
    let upstream = Upstream::unruly().await;
    let request = "POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
                   3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n";
    exchange(&upstream, request).await;
    assert_eq!(upstream.calls()[0].json(), json!([1, 2]));
}

#[tokio::test]
async fn a_flaky_path_fails_the_stated_number_of_times_per_key() {
    let upstream = Upstream::unruly().await;
    for key in ["a", "b"] {
        for expected in [503, 503, 200, 200] {
            let (head, _) = get(&upstream, &format!("/flaky/2/503?key={key}")).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {expected}")), "{key}: {head}");
        }
    }
    let (head, _) = get(&upstream, "/retry-after/7?key=a").await;
    assert!(head.contains("429 Too Many Requests\r\n") && head.contains("retry-after: 7\r\n"));
}

#[tokio::test]
async fn each_misbehaviour_looks_on_the_wire_as_its_name_says() {
    let upstream = Upstream::unruly().await;

    let (head, body) = get(&upstream, "/truncated").await;
    assert!(head.contains("content-length: 17\r\n") && body.len() == 8);
    let (head, body) = get(&upstream, "/chunks-cut-off").await;
    assert!(head.contains("transfer-encoding: chunked") && !body.contains("0\r\n\r\n"));
    let (head, _) = get(&upstream, "/close").await;
    assert_eq!(head, "");
    let (_, body) = get(&upstream, "/big/3000000").await;
    assert_eq!(body.len(), 3_000_000);

    let mut garbage = connect(&upstream, "/garbage").await;
    let mut bytes = Vec::new();
    garbage.read_to_end(&mut bytes).await.unwrap();
    assert!(!bytes.starts_with(b"HTTP"));

    let mut reset = connect(&upstream, "/reset").await;
    let error = reset.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let mut hang = connect(&upstream, "/hang").await;
    let read = hang.read_u8();
    assert!(tokio::time::timeout(Duration::from_millis(300), read).await.is_err());
}

#[tokio::test]
async fn a_delayed_call_is_in_flight_until_it_is_answered_or_abandoned() {
    let upstream = Upstream::start(|_| Reply::ok().after(Duration::from_secs(60))).await;
    let calls = [connect(&upstream, "/").await, connect(&upstream, "/").await];
    redial_tests::eventually(SOON, || async { (upstream.in_flight() == 2).then_some(()) }).await;
    drop(calls);
    redial_tests::eventually(SOON, || async { (upstream.in_flight() == 0).then_some(()) }).await;
    assert_eq!(upstream.max_in_flight(), 2);
}

#[tokio::test]
async fn response_and_body_delays_are_honoured() {
    let upstream = Upstream::start(|_| {
        let late = Duration::from_millis(100);
        Reply::ok().body("late").after(late).body_after(late)
    })
    .await;
    let start = Instant::now();
    let (_, body) = get(&upstream, "/").await;
    assert_eq!(body, "late");
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn the_worker_binary_can_be_observed_frozen_and_stopped() {
    let redis = RedisServer::start().await;
    let upstream = Upstream::unruly().await;
    let queue = TestQueue::new(&redis, "default");
    let worker = Worker::builder(&redis).env("RUST_LOG", "debug").spawn();
    worker.wait_ready().await;

    queue.push(task("t1", &upstream.url("/ok"))).await;
    let result = queue.wait_result("t1", SOON).await;
    assert_eq!(result["body"], json!({"ok": true}));
    assert_eq!(worker.get("/healthz").await.0, 200);
    let completed = r#"redial_tasks_completed_total{queue="default"}"#;
    let counted = || async { (worker.metric(completed).await > 0.5).then_some(()) };
    redial_tests::eventually(SOON, counted).await;
    assert!(worker.metric(r#"redial_tasks_completed_total{queue="mail"}"#).await < 0.5);
    assert!(worker.rss_bytes() > 1_000_000 && worker.log().contains("DEBUG"));

    worker.pause();
    queue.push(task("t2", &upstream.url("/ok"))).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(queue.result("t2").await, None);
    worker.resume();
    queue.wait_result("t2", SOON).await;

    worker.term();
    assert!(worker.wait_exit(SOON).await.success());
}

#[tokio::test]
async fn the_cli_binary_runs() {
    let output = Cli::new("redis://127.0.0.1:1").run(&["--help"]).await;
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
}

fn task(id: &str, url: &str) -> String {
    json!({"id": id, "url": url}).to_string()
}

#[tokio::test]
async fn nothing_listens_on_a_claimed_port() {
    let port = Port::claim_with_bus();
    let error = TcpStream::connect(("127.0.0.1", port.number())).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// Sends raw bytes, closes, and returns the first head and everything after it.
async fn exchange(upstream: &Upstream, request: &str) -> (String, String) {
    let mut socket = TcpStream::connect(upstream.address()).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    read(socket).await
}

async fn get(upstream: &Upstream, path: &str) -> (String, String) {
    read(connect(upstream, path).await).await
}

async fn read(mut socket: TcpStream) -> (String, String) {
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    match answer.split_once("\r\n\r\n") {
        Some((head, rest)) => (format!("{head}\r\n"), rest.to_owned()),
        None => (answer, String::new()),
    }
}

/// A connection on which only a GET was sent.
async fn connect(upstream: &Upstream, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(upstream.address()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}
