//! The real gateway, `redial serve`, and a plain HTTP client.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ALL_VERSIONS;

use crate::certificates::{Certificates, connect};
use crate::port::Port;
use crate::process::Process;
use crate::wait::within;
use crate::worker::program;

const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// Longer than any response of a test takes.
const HTTP_TIMEOUT: Duration = Duration::from_secs(120);

/// A running gateway. Dropping it kills the process.
#[allow(missing_debug_implementations, reason = "a TLS connector does not implement it")]
pub struct GatewayProcess {
    process: Process,
    redis_url: String,
    port: Port,
    folder: TempDir,
    /// Over TLS, what its clients connect with.
    tls: Option<TlsConnector>,
    /// `RUST_LOG`, if that is set.
    log_filter: Option<&'static str>,
}

/// A connection, with TLS or without.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

impl std::fmt::Debug for dyn Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Socket")
    }
}

/// A response of a server.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// Its status.
    pub status: u16,
    /// Its headers; names are in lower case.
    pub headers: HashMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl GatewayProcess {
    /// Starts a gateway on this Redis with these settings (the text of `redial.toml`), and waits until it is ready.
    pub async fn start(redis: impl AsRef<str>, settings: &str) -> Self {
        Self::start_with(redis, settings, None, None).await
    }

    /// The same with `RUST_LOG=trace`.
    pub async fn start_tracing(redis: impl AsRef<str>, settings: &str) -> Self {
        Self::start_with(redis, settings, None, Some("trace")).await
    }

    /// The same over TLS, where the settings say so. Its clients trust these certificates and speak HTTP/1.1.
    pub async fn start_tls(redis: impl AsRef<str>, settings: &str, certificates: &Certificates) -> Self {
        let connector = certificates.connector(&["http/1.1"], ALL_VERSIONS);
        Self::start_with(redis, settings, Some(connector), None).await
    }

    async fn start_with(
        redis: impl AsRef<str>,
        settings: &str,
        tls: Option<TlsConnector>,
        log_filter: Option<&'static str>,
    ) -> Self {
        let (folder, port) = (tempfile::tempdir().expect("the temp folder is writable"), Port::claim());
        fs::write(folder.path().join("redial.toml"), settings).expect("the temp folder is writable");
        let redis_url = redis.as_ref().to_owned();
        let process = launch(&redis_url, &port, &folder, log_filter);
        let gateway = Self { process, redis_url, port, folder, tls, log_filter };
        gateway.wait_ready().await;
        gateway
    }

    /// Starts it again at the same address, after a kill.
    pub async fn restart(&mut self) {
        self.process = launch(&self.redis_url, &self.port, &self.folder, self.log_filter);
        self.wait_ready().await;
    }

    async fn wait_ready(&self) {
        let ready = || async {
            assert!(self.process.is_running(), "the gateway ended:\n{}", self.log());
            let answer = self.try_send("GET", "/readyz", &[], b"").await;
            answer.is_ok_and(|answer| answer.status == 200).then_some(())
        };
        assert!(within(READY_TIMEOUT, ready).await.is_some(), "the gateway is not ready:\n{}", self.log());
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}{path}", self.port.number())
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Kills it with SIGKILL.
    pub fn kill9(&self) {
        self.process.kill9();
    }

    /// Asks it to drain, with SIGTERM.
    pub fn term(&self) {
        self.process.term();
    }

    /// Writes other settings to its file, which it reads at SIGHUP and at a restart.
    pub fn write_settings(&self, settings: &str) {
        fs::write(self.folder.path().join("redial.toml"), settings).expect("the temp folder is writable");
    }

    /// Asks it to read its settings and its certificate again, with SIGHUP.
    pub fn hangup(&self) {
        self.process.hangup();
    }

    /// Waits until it ends; panics if it is still running at the timeout.
    pub async fn wait_exit(&self, timeout: Duration) -> ExitStatus {
        self.process.wait_exit(timeout).await
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.process.rss_bytes()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("gateway.log")).unwrap_or_default()
    }

    /// Sends a request on a connection of its own; panics if there is no response.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> HttpAnswer {
        let answer = self.try_send(method, path, headers, body).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()))
    }

    /// The same, and the connection may break.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<HttpAnswer> {
        tokio::time::timeout(HTTP_TIMEOUT, async {
            let mut socket = self.open(method, path, headers, body).await?;
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).await?;
            parse(&answer).ok_or_else(|| io::Error::other(format!("{} bytes that are no response", answer.len())))
        })
        .await?
    }

    /// Sends a request and leaves its response to the caller.
    pub async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Box<dyn Socket>> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "host") {
            head += "host: localhost\r\n";
        }
        for (name, value) in headers {
            for piece in [name, ": ", value, "\r\n"] {
                head += piece;
            }
        }
        let mut socket: Box<dyn Socket> = match &self.tls {
            Some(connector) => Box::new(connect(connector, self.port.number()).await?),
            None => Box::new(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port.number())).await?),
        };
        socket.write_all((head + "\r\n").as_bytes()).await?;
        // A server that refuses a request may close the connection before it has read it.
        let _ = socket.write_all(body).await;
        Ok(socket)
    }
}

impl HttpAnswer {
    /// The body as JSON; null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a header, or an empty string if the response does not have it.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

fn launch(redis_url: &str, port: &Port, folder: &TempDir, log_filter: Option<&str>) -> Process {
    let log = File::options().create(true).append(true).open(folder.path().join("gateway.log"));
    let log = log.expect("a log can be written");
    let same_log = log.try_clone().expect("a file handle can be copied");
    let mut command = Command::new(program("redial"));
    command.args(["serve", "--listen", &format!("127.0.0.1:{}", port.number())]);
    command.env_clear().env("REDIS_URL", redis_url).current_dir(folder.path());
    command.envs(log_filter.map(|filter| ("RUST_LOG", filter)));
    command.stdin(Stdio::null()).stdout(log).stderr(same_log);
    Process::spawn(command)
}

fn parse(answer: &[u8]) -> Option<HttpAnswer> {
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut lines);
    let httparse::Status::Complete(length) = head.parse(answer).ok()? else { return None };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers: HashMap<_, _> = head.headers.iter().map(|line| (line.name.to_lowercase(), text(line.value))).collect();
    let is_chunked = headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
    let body = if is_chunked { unchunked(&answer[length..])? } else { answer[length..].to_vec() };
    let announced = headers.get("content-length").and_then(|length| length.parse::<usize>().ok());
    (announced.is_none_or(|announced| announced == body.len())).then_some(HttpAnswer {
        status: head.code?,
        headers,
        body,
    })
}

/// The body of a chunked response as far as it has arrived; `None` if its head has not.
pub fn arrived(response: &[u8]) -> Option<Vec<u8>> {
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let httparse::Status::Complete(length) = httparse::Response::new(&mut lines).parse(response).ok()? else {
        return None;
    };
    Some(chunks(&response[length..]).0)
}

/// A chunked body without its framing (RFC 9112 section 7.1); `None` if its last chunk is missing.
fn unchunked(framed: &[u8]) -> Option<Vec<u8>> {
    let (body, is_whole) = chunks(framed);
    is_whole.then_some(body)
}

/// The chunks that have arrived whole, and whether the last one is among them.
fn chunks(mut framed: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(framed) {
        let Some(size) = usize::try_from(size).ok().filter(|size| *size > 0) else { return (body, true) };
        let (Some(chunk), Some(rest)) = (framed.get(line..line + size), framed.get(line + size + 2..)) else { break };
        body.extend_from_slice(chunk);
        framed = rest;
    }
    (body, false)
}
