//! The gateway over TLS: real certificates, replaced while it runs.

use std::fs;
use std::time::Duration;

use redial_tests::certificates::{CertificateFiles, connect};
use redial_tests::{Certificates, Cli, RedisServer, Reply, Upstream, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ALL_VERSIONS, SupportedProtocolVersion};

use super::{FrontDoor, SOON, read_until};
use crate::drop_in::install::{self, run_within};

/// Puts another certificate where one is, in one step a file.
fn replace(with: &CertificateFiles, at: &CertificateFiles) {
    for (from, to) in [(&with.certificate, &at.certificate), (&with.key, &at.key)] {
        let beside = to.with_extension("new");
        fs::copy(from, &beside).unwrap();
        fs::rename(&beside, to).unwrap();
    }
}

/// The certificate that a new connection is shown.
async fn shown(authority: &Certificates, port: u16) -> Vec<u8> {
    let stream = connect(&authority.connector(&[], ALL_VERSIONS), port).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_certificate_is_replaced_while_a_stream_goes_on() {
    let (authority, pause) = (Certificates::new(), Duration::from_millis(20));
    let current = authority.issue("current");
    let events = move |_: &redial_tests::Request| {
        let events = (0..500).map(move |n| (pause, format!("data: {n}\n\n")));
        Reply::streamed(events).header("content-type", "text/event-stream")
    };
    let door = FrontDoor::over_tls(Upstream::start(events).await, &authority, &current).await;
    let _worker = door.worker();
    let (gateway, accept) = (&door.gateway, [("accept", "text/event-stream")]);
    let mut stream = gateway.open("GET", "/u/api/events", &accept, b"").await.unwrap();
    read_until(&mut stream, "data: 1\n").await;

    let first = shown(&authority, gateway.port()).await;
    replace(&authority.issue("second"), &current);
    let is_replaced = async |before: &Vec<u8>| {
        let now = shown(&authority, gateway.port()).await;
        (now != *before).then_some(now)
    };
    let second = eventually(SOON, || is_replaced(&first)).await;

    // The key of another certificate: what is in force stays, and the log says why.
    fs::copy(&authority.issue("other").key, &current.key).unwrap();
    eventually(SOON, || async { gateway.log().contains("is not the key of the certificate in").then_some(()) }).await;
    assert_eq!(shown(&authority, gateway.port()).await, second);
    replace(&authority.issue("third"), &current);
    gateway.hangup();
    eventually(SOON, || is_replaced(&second)).await;

    read_until(&mut stream, "data: 499\n").await;
}

#[tokio::test]
async fn http2_and_http1_are_spoken_over_tls_and_nothing_without_it() {
    let authority = Certificates::new();
    let door = FrontDoor::over_tls(Upstream::unruly().await, &authority, &authority.issue("gateway")).await;
    let _worker = door.worker();
    let versions: [&[&'static SupportedProtocolVersion]; 2] = [&[&TLS12], &[&TLS13]];
    for (versions, offered, agreed) in [
        (versions[0], &["h2", "http/1.1"][..], Some("h2")),
        (versions[1], &["h2", "http/1.1"], Some("h2")),
        (versions[1], &["http/1.1"], Some("http/1.1")),
        (versions[0], &[], None),
    ] {
        let stream = connect(&authority.connector(offered, versions), door.gateway.port()).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed.map(str::as_bytes), "{offered:?}");
    }
    let answer = door.gateway.send("GET", "/u/api/echo?http=1", &[], b"").await;
    assert_eq!(answer.status, 200, "{}", answer.text());

    // Over one connection, each request gets its own answer.
    let stream = connect(&authority.connector(&["h2"], ALL_VERSIONS), door.gateway.port()).await.unwrap();
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut answers = tokio::task::JoinSet::new();
    for n in 0..100 {
        let mut requests = requests.clone().ready().await.unwrap();
        let url = format!("https://localhost/u/api/echo?n={n}");
        let (answer, _) = requests.send_request(http::Request::get(url).body(()).unwrap(), true).unwrap();
        answers.spawn(async move {
            let answer = answer.await.unwrap();
            let (status, mut body, mut text) = (answer.status(), answer.into_body(), Vec::new());
            while let Some(piece) = body.data().await {
                let piece = piece.unwrap();
                text.extend_from_slice(&piece);
                body.flow_control().release_capacity(piece.len()).unwrap();
            }
            let text = String::from_utf8(text).unwrap();
            assert!(status == 200 && text.contains(&format!("\"/echo?n={n}\"")), "{n}: {status} {text}");
        });
    }
    tokio::time::timeout(SOON, answers.join_all()).await.expect("an answer to each request");

    let mut plain = TcpStream::connect(("127.0.0.1", door.gateway.port())).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    // The connection may be reset as well.
    let _ = plain.read_to_end(&mut said).await;
    assert!(!said.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&said));

    // It tells this connection that it ends, too.
    door.gateway.term();
    assert!(door.gateway.wait_exit(SOON).await.success(), "{}", door.gateway.log());
    assert!(tokio::time::timeout(SOON, connection).await.is_ok(), "the connection is still there");
}

#[tokio::test]
async fn handshakes_that_say_nothing_hold_nobody_up_and_end() {
    let authority = Certificates::new();
    let door = FrontDoor::over_tls(Upstream::unruly().await, &authority, &authority.issue("gateway")).await;
    let mut silent = Vec::new();
    for n in 0..200 {
        let mut socket = TcpStream::connect(("127.0.0.1", door.gateway.port())).await.unwrap();
        if n % 2 == 0 {
            // The beginning of a record of a handshake, and no more.
            socket.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
        }
        silent.push(socket);
    }
    assert_eq!(door.gateway.send("GET", "/healthz", &[], b"").await.status, 200);
    // Ten seconds after they began; until then they are as many connections.
    for mut socket in silent {
        let ended = tokio::time::timeout(SOON, socket.read(&mut [0; 64])).await;
        assert!(ended.is_ok(), "a silent handshake is still there");
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_an_error_at_the_start() {
    let (authority, redis) = (Certificates::new(), RedisServer::start().await);
    let (own, other) = (authority.issue("own"), authority.issue("other"));
    let folder = tempfile::tempdir().unwrap();
    let [missing, empty] = ["missing.pem", "empty.pem"].map(|name| folder.path().join(name).display().to_string());
    fs::write(&empty, "no certificate\n").unwrap();
    for (certificate, key, says) in [
        (missing.as_str(), own.key(), vec!["tls_certificate_file", "missing.pem", "No such file"]),
        (own.certificate(), missing.as_str(), vec!["tls_key_file", "missing.pem", "No such file"]),
        (&empty, own.key(), vec!["tls_certificate_file", "empty.pem", "BEGIN CERTIFICATE"]),
        (own.certificate(), own.certificate(), vec!["tls_key_file", "own-cert.pem", "BEGIN PRIVATE KEY"]),
        (own.certificate(), other.key(), vec!["other-key.pem is not the key of the certificate in", "own-cert.pem"]),
    ] {
        let command = ["serve", "--listen", "127.0.0.1:0"];
        let command = [&command[..], &["--tls-certificate-file", certificate, "--tls-key-file", key]].concat();
        let ended = Cli::new(&redis).run(&command).await;
        assert_eq!(ended.status, 1, "{}", ended.stderr);
        assert!(says.iter().all(|words| ended.stderr.contains(words)), "{says:?}: {}", ended.stderr);
    }
    let half = ["serve", "--listen", "127.0.0.1:0", "--tls-key-file", own.key()];
    let ended = Cli::new(&redis).run(&half).await;
    assert!(ended.status == 1 && ended.stderr.contains("needs tls_certificate_file"), "{}", ended.stderr);
}

/// Makes a call over `https`, and reads its answer as a stream.
const PYTHON: &str = r#"
import sys
from redial import Gateway
with Gateway(sys.argv[1]) as gateway:
    task = gateway.enqueue(sys.argv[2], stream=True)
    print(b"".join(entry.data for entry in gateway.stream(task)), gateway.wait(task).status)
"#;
const TYPESCRIPT: &str = r#"
const gateway = new Gateway({ url: process.argv[2]! });
const task = await gateway.enqueue({ url: process.argv[3]!, stream: true });
const pieces: Uint8Array[] = [];
for await (const entry of gateway.stream(task)) if (entry.type === "data") pieces.push(entry.bytes);
console.log(Buffer.concat(pieces).toString(), (await gateway.wait(task)).status);
"#;

#[tokio::test]
async fn the_clients_trust_an_authority_that_the_environment_names() {
    let authority = Certificates::new();
    let upstream = Upstream::start(|_| Reply::ok().body("over TLS")).await;
    let door = FrontDoor::over_tls(upstream, &authority, &authority.issue("gateway")).await;
    let _worker = door.worker();
    let (url, task) = (door.gateway.url(""), door.upstream.url("/x"));
    let (mut clients, scripts) = (Vec::new(), tempfile::tempdir().unwrap());
    if let Some(folder) = install::python_client().await {
        let mut python = Command::new(folder.join("venv/bin/python"));
        python.args(["-c", PYTHON, &url, &task]).env("SSL_CERT_FILE", authority.authority()).current_dir(folder);
        clients.push(python);
    }
    if let Some(folder) = install::node_client().await {
        let script = scripts.path().join("over_tls.mts");
        let import =
            format!("import {{ Gateway }} from \"{}/src/index.ts\";", folder.canonicalize().unwrap().display());
        fs::write(&script, import + TYPESCRIPT).unwrap();
        let mut node = Command::new("node");
        node.args(["--import", "tsx"]).arg(script).args([&url, &task]).current_dir(folder);
        node.env("NODE_EXTRA_CA_CERTS", authority.authority()).env("NODE_OPTIONS", "");
        clients.push(node);
    }
    for mut client in clients {
        let ended = run_within(Duration::from_secs(120), &mut client).await.unwrap();
        assert!(ended.success, "{}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains("over TLS") && ended.stdout.contains("ok"), "{}", ended.stdout);
    }
}

#[tokio::test]
async fn its_health_is_asked_for_over_tls_by_the_certificate_in_its_files() {
    let authority = Certificates::new();
    let (own, other) = (authority.issue("own"), authority.issue("other"));
    let door = FrontDoor::over_tls(Upstream::unruly().await, &authority, &own).await;
    let (cli, listen) = (Cli::new(&door.redis), format!("127.0.0.1:{}", door.gateway.port()));
    let ask = async |files: &[&str]| {
        let ended = cli.run(&[&["serve", "--healthcheck", "--listen", &listen], files].concat()).await;
        (ended.status, ended.stderr)
    };
    let files = |of: &CertificateFiles| {
        ["--tls-certificate-file", of.certificate(), "--tls-key-file", of.key()].map(str::to_owned)
    };
    assert_eq!(ask(&files(&own).each_ref().map(String::as_str)).await, (0, String::new()));
    let (status, why) = ask(&files(&other).each_ref().map(String::as_str)).await;
    assert!(status == 1 && why.contains("is the gateway running, with the same settings?"), "{why}");
    let (status, why) = ask(&[]).await;
    assert!(status == 1 && why.contains("no answer"), "{why}");
}
