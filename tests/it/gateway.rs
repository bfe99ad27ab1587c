//! The gateway, `redial serve`: a real process before a real worker, Redis and upstream.
//!
//! - [`tasks`]: tasks and results over HTTP; [`upstreams`]: calls through it; [`streams`]: answers while they arrive; [`events`]: what happens to tasks; [`admission`]: who is
//!   let in
//! - [`tls`]: certificates, HTTP/2, silent handshakes
//! - [`failures`]: what dies while callers wait; [`readers`]: what dies while streams are read; [`many`]: how many can wait
//! - [`operate`]: what operators see and change
//! - [`openapi`]: whether it does what its OpenAPI document says
//! - [`sdks`]: the SDKs of OpenAI and Anthropic, with a base URL as the only change

mod admission;
mod events;
mod failures;
mod many;
mod openapi;
mod operate;
mod readers;
mod sdks;
mod streams;
mod tasks;
mod tls;
mod upstreams;

use std::time::Duration;

use redial_tests::certificates::CertificateFiles;
use redial_tests::{Certificates, GatewayProcess, RedisServer, Upstream, Worker};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};

const SOON: Duration = Duration::from_secs(30);

/// An upstream that is named `api`, the Redis, and a gateway; a worker when a test starts one.
struct FrontDoor {
    redis: RedisServer,
    upstream: Upstream,
    gateway: GatewayProcess,
    settings: String,
}

impl FrontDoor {
    async fn new(more_settings: &str) -> Self {
        Self::before(Upstream::unruly().await, more_settings).await
    }

    async fn before(upstream: Upstream, more_settings: &str) -> Self {
        // Whatever a test kills, what was acknowledged is kept.
        let redis = RedisServer::with_args(&["--appendfsync", "always"]).await;
        let settings = format!("[[upstream]]\nurl = \"{}\"\nname = \"api\"\n{more_settings}", upstream.url("/"));
        let gateway = GatewayProcess::start(&redis, &settings).await;
        Self { redis, upstream, gateway, settings }
    }

    /// One whose gateway speaks TLS with this certificate.
    async fn over_tls(upstream: Upstream, authority: &Certificates, certificate: &CertificateFiles) -> Self {
        let redis = RedisServer::with_args(&["--appendfsync", "always"]).await;
        let (file, key) = (certificate.certificate(), certificate.key());
        let settings = format!(
            "[[upstream]]\nurl = \"{}\"\nname = \"api\"\n[gateway]\ntls_certificate_file = \"{file}\"\ntls_key_file = \"{key}\"\n",
            upstream.url("/")
        );
        let gateway = GatewayProcess::start_tls(&redis, &settings, authority).await;
        Self { redis, upstream, gateway, settings }
    }

    /// A worker with the same settings file.
    fn worker(&self) -> Worker {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &self.settings).unwrap();
        // The worker reads the file as it starts, and keeps looking at it: leave it.
        let path = file.into_temp_path().keep().unwrap();
        Worker::builder(&self.redis).arg("--config").arg(path.to_str().unwrap()).spawn()
    }

    /// A task for a path of the upstream.
    fn task(&self, path: &str) -> Value {
        json!({"url": self.upstream.url(path), "retry": {"base_ms": 20}})
    }
}

/// Headers of a test.
type Headers<'a> = &'a [(&'a str, &'a str)];

/// What has arrived of a response as soon as it contains `wanted`.
async fn read_until(socket: &mut (impl AsyncRead + Unpin), wanted: &str) -> String {
    let mut seen = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&seen).contains(wanted) {
            assert!(socket.read_buf(&mut seen).await.unwrap() > 0, "ended: {}", String::from_utf8_lossy(&seen));
        }
    };
    tokio::time::timeout(SOON, read).await.unwrap_or_else(|_| panic!("no {wanted}"));
    String::from_utf8_lossy(&seen).into_owned()
}

/// The `[[token]]` block of the token `token-of-<name>`.
pub(crate) fn token_block(name: &str, more: &str) -> String {
    let digest = Sha256::digest(format!("token-of-{name}"));
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let hex: String = digits.map(|digit| char::from_digit(digit.into(), 16).unwrap()).collect();
    format!("[[token]]\nname = \"{name}\"\nhash = \"sha256:{hex}\"\n{more}\n")
}
