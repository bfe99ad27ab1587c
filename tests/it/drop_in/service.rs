//! A web service among the examples, as a process of its own.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use redial_tests::process::Process;
use redial_tests::{GatewayProcess, Port, eventually};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::install;

/// For a program that may have to be compiled first, on a busy machine.
const STARTS: Duration = Duration::from_secs(120);
/// How many callers wait at a time, where each takes a thread or a process.
const THREADS: &str = "64:64";
const PROCESSES: &str = "16";

/// Which example a service is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Web {
    FastApi,
    Express,
    Go,
    Java,
    Php,
    Sinatra,
}

impl Web {
    fn folder(self) -> &'static str {
        match self {
            Self::FastApi => "examples/fastapi",
            Self::Express => "examples/express",
            Self::Go => "examples/go",
            Self::Java => "examples/java",
            Self::Php => "examples/php",
            Self::Sinatra => "examples/sinatra",
        }
    }

    /// Whether it speaks HTTP to a gateway, and not to Redis.
    fn uses_gateway(self) -> bool {
        !matches!(self, Self::FastApi | Self::Express)
    }

    /// What succeeds if this machine can run it.
    fn check(self) -> &'static [&'static str] {
        match self {
            // Their packages are installed.
            Self::FastApi => &["python3", "--version"],
            Self::Express => &["node", "--version"],
            Self::Go => &["go", "version"],
            Self::Java => &["javac", "--version"],
            Self::Php => &["php", "--version"],
            Self::Sinatra => &["ruby", "-e", "require 'sinatra/base'; require 'puma'"],
        }
    }

    /// The command that runs it at this port. `None`: this machine cannot.
    async fn command(self, port: u16) -> Option<Command> {
        let port = port.to_string();
        let (check, folder) = (self.check(), install::path(self.folder()));
        let can_run = Command::new(check[0]).args(&check[1..]).output().is_ok_and(|output| output.status.success());
        if !can_run {
            eprintln!("SKIPPED: {}: `{}` failed", self.folder(), check.join(" "));
            return None;
        }
        let command = match self {
            Self::FastApi => uvicorn(&install::python(self.folder()).await?, "app:app", &port),
            Self::Express => with_args("node", &["app.js"], &install::node(self.folder()).await?),
            Self::Go => {
                // Not `go run`, which leaves the program behind when it is killed.
                let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples-go");
                let built = with_args("go", &["build", "-o", &program.to_string_lossy(), "main.go"], &folder).status();
                assert!(built.is_ok_and(|status| status.success()), "examples/go does not compile");
                with_args(&program.to_string_lossy(), &[], &folder)
            }
            Self::Java => with_args("java", &["App.java"], &folder),
            Self::Php => with_args("php", &["-S", &format!("127.0.0.1:{port}"), "app.php"], &folder),
            Self::Sinatra => {
                let address = format!("tcp://127.0.0.1:{port}");
                with_args("puma", &["--quiet", "--threads", THREADS, "--bind", &address, "config.ru"], &folder)
            }
        };
        Some(command).map(|mut command| {
            command.env("PORT", port).env("PHP_CLI_SERVER_WORKERS", PROCESSES);
            command
        })
    }
}

fn with_args(program: &str, args: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(folder);
    command
}

fn uvicorn(folder: &Path, app: &str, port: &str) -> Command {
    let python = folder.join("venv/bin/python").to_string_lossy().into_owned();
    with_args(&python, &["-m", "uvicorn", app, "--log-level", "warning", "--port", port], folder)
}

/// An example that runs, with the gateway that it uses, if it does.
pub(crate) struct Service {
    port: u16,
    process: Process,
    _gateway: Option<GatewayProcess>,
    /// After the process, so that the port is released when nobody uses it.
    _claimed: Port,
}

impl Service {
    /// `None`: this machine cannot run it, or its packages cannot be installed here.
    pub(crate) async fn start(web: Web, redis_url: &str, upstream: &str) -> Option<Self> {
        let claimed = Port::claim();
        let command = web.command(claimed.number()).await?;
        let gateway = if web.uses_gateway() { Some(GatewayProcess::start(redis_url, "").await) } else { None };
        Some(Self::spawn(command, claimed, gateway, redis_url, upstream).await)
    }

    /// An application under uvicorn, of an example that is installed in this folder.
    pub(crate) async fn uvicorn(folder: &Path, app: &str, redis_url: &str, upstream: &str) -> Self {
        let claimed = Port::claim();
        let command = uvicorn(folder, app, &claimed.number().to_string());
        Self::spawn(command, claimed, None, redis_url, upstream).await
    }

    async fn spawn(
        mut command: Command,
        claimed: Port,
        gateway: Option<GatewayProcess>,
        redis_url: &str,
        upstream: &str,
    ) -> Self {
        command.env("REDIS_URL", redis_url).env("UPSTREAM", upstream);
        if let Some(gateway) = &gateway {
            command.env("REDIAL_URL", gateway.url(""));
        }
        let port = claimed.number();
        let service = Self { port, process: Process::spawn(command), _gateway: gateway, _claimed: claimed };
        eventually(STARTS, || service.http("GET", "/calls/none", "")).await;
        service
    }

    /// Status and body of its response to a request in JSON. `None`: it does not answer.
    pub(crate) async fn http(&self, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let about = format!("content-type: application/json\r\ncontent-length: {}", body.len());
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{about}\r\n\r\n{body}");
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).ok()?))
    }
}

impl Drop for Service {
    /// PHP's processes outlive the one that started them: all of them are of its group.
    fn drop(&mut self) {
        let group = format!("-{}", self.process.pid());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
    }
}
