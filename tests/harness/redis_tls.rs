//! Redis over TLS, with client certificates: one node, and a master that a Sentinel looks after.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

use crate::certificates::{CertificateFiles, Certificates};
use crate::port::Port;
use crate::process::Process;
use crate::redis_server::{RedisServer, program};
use crate::wait::eventually;

/// The login that the Sentinel wants.
pub const SENTINEL_LOGIN: (&str, &str) = ("watch", "over the master");
/// The password that Redis wants.
pub const REDIS_PASSWORD: &str = "of the master";
const FORM_TIMEOUT: Duration = Duration::from_secs(30);

/// A Redis that the tests reach without TLS, and others only over TLS and with a certificate of its authority.
#[derive(Debug)]
pub struct TlsRedis {
    server: RedisServer,
    certificates: Certificates,
    server_files: CertificateFiles,
    client: CertificateFiles,
    port: Port,
}

impl TlsRedis {
    /// Starts one.
    pub async fn start() -> Self {
        let certificates = Certificates::new();
        let (server_files, client) = (certificates.issue("redis"), certificates.issue("client"));
        let port = Port::claim();
        let number = port.number().to_string();
        let authority = certificates.authority();
        let tls = tls_settings(&authority, &server_files);
        let mut args: Vec<&str> = vec!["--tls-port", &number];
        args.extend(tls.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
        let server = RedisServer::with_args(&args).await;
        Self { server, certificates, server_files, client, port }
    }

    /// Without TLS, for the tests.
    pub fn server(&self) -> &RedisServer {
        &self.server
    }

    /// The port for TLS.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The file of the authority that signed its certificate.
    pub fn authority(&self) -> PathBuf {
        self.certificates.authority()
    }

    /// The options of an address that reach it: its authority and a client certificate.
    pub fn options(&self) -> String {
        let (authority, client) = (self.authority(), &self.client);
        format!(
            "ca_file={}&client_certificate_file={}&client_key_file={}",
            authority.display(),
            client.certificate(),
            client.key()
        )
    }
}

/// The settings of a server that speaks TLS with clients of its authority alone.
fn tls_settings(authority: &std::path::Path, files: &CertificateFiles) -> Vec<(String, String)> {
    [
        ("--tls-cert-file", files.certificate()),
        ("--tls-key-file", files.key()),
        ("--tls-ca-cert-file", authority.to_str().expect("the temp folder has a plain name")),
        ("--tls-auth-clients", "yes"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// A Sentinel that is reached over TLS and with a login only, and that reaches its master over TLS.
#[derive(Debug)]
pub struct TlsSentinel {
    redis: TlsRedis,
    _process: Process,
    port: Port,
    folder: TempDir,
}

impl TlsSentinel {
    /// Starts a master, which wants a password, and its Sentinel, and waits until that knows the master.
    pub async fn start() -> Self {
        let redis = TlsRedis::start().await;
        let master = redis.port();
        let (port, folder) = (Port::claim(), tempfile::tempdir().expect("the temp folder is writable"));
        let tls = tls_settings(&redis.authority(), &redis.server_files);
        let tls: Vec<String> =
            tls.iter().map(|(name, value)| format!("{} {value}", name.trim_start_matches('-'))).collect();
        let (user, password) = SENTINEL_LOGIN;
        let settings = format!(
            "port 0\ntls-port {}\nbind 127.0.0.1\nlogfile sentinel.log\ndir {}\n{}\ntls-replication yes\n\
             user {user} on \">{password}\" allchannels +@all\nuser default off\n\
             sentinel monitor main 127.0.0.1 {master} 1\n\
             sentinel auth-pass main \"{REDIS_PASSWORD}\"\n",
            port.number(),
            folder.path().display(),
            tls.join("\n"),
        );
        let file = folder.path().join("sentinel.conf");
        fs::write(&file, settings).expect("the temp folder is writable");
        let mut command = program();
        command.arg(&file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null());
        let sentinel = Self { redis, _process: Process::spawn(command), port, folder };
        sentinel.redis.server.cli(&["CONFIG", "SET", "requirepass", REDIS_PASSWORD]).await;
        eventually(FORM_TIMEOUT, || async { sentinel.is_watching().then_some(()) }).await;
        sentinel
    }

    /// The master.
    pub fn redis(&self) -> &TlsRedis {
        &self.redis
    }

    /// The port of the Sentinel.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    fn is_watching(&self) -> bool {
        let log = fs::read_to_string(self.folder.path().join("sentinel.log")).unwrap_or_default();
        log.contains("+monitor master main")
    }
}
