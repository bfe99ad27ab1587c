//! Canary secrets: one of its own in every place where a secret can stand, while everything is done that Redial can do. Then each is looked
//! for in everything that can be read, and found only where `docs/security.md` says.
//!
//! - [`secrets`]: the places, and where each may be found; [`actions`]: what is done; [`search`]: where it is looked for

mod actions;
mod search;
mod secrets;

use std::path::Path;

use redial_tests::{Cli, GatewayProcess, HttpProxy, RedisServer, Reply, Request, TlsFront, Upstream, Worker};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use search::Findings;
use secrets::Secrets;

/// A fleet that holds a canary in every place.
struct Fleet {
    redis: RedisServer,
    /// Redis, with a login.
    redis_url: String,
    upstream: Upstream,
    /// An upstream behind a proxy that wants a login.
    proxy: HttpProxy,
    /// An upstream that wants a client certificate.
    tls_front: TlsFront,
    worker: Worker,
    gateway: GatewayProcess,
    cli: Cli,
    folder: TempDir,
}

/// Sends back all that it was sent, and cookies; the path says with which status.
fn echo(request: &Request, secrets: &Secrets) -> Reply {
    let cookie = format!("sid={}; Secure", secrets.of("cookie of an upstream"));
    let all: Vec<String> = request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    // A task brings its own secrets itself: only what the worker added must not come back.
    let is_added = |line: &&String| {
        line.starts_with("authorization:") || line.starts_with("x-key:") || line.starts_with("x-login:")
    };
    let of_task = secrets.of("Authorization of a task");
    let is_echoed =
        |line: &&String| is_added(line) && !request.route().starts_with("/plain") && !line.contains(of_task);
    let added = all.iter().filter(is_echoed);
    let body = json!({"you_sent": added.collect::<Vec<_>>(), "usage": {"total_tokens": 3}, "id": "x"});
    let reply = match request.route().rsplit('/').next().unwrap_or_default() {
        "token" => {
            return Reply::ok().json(&json!({
                "access_token": secrets.of("access token"), "token_type": "Bearer", "expires_in": 3600
            }));
        }
        "flaky" if request.nth.is_multiple_of(2) => Reply::status(503),
        "dead" => Reply::status(401),
        "away" => Reply::status(307).header("location", "/elsewhere/ok"),
        "reset" => return Reply::reset(),
        "garbage" => return Reply::garbage(),
        _ => Reply::ok(),
    };
    reply.header("set-cookie", cookie).header("retry-after", "0").json(&body)
}

impl Fleet {
    async fn start(secrets: &Secrets) -> Self {
        let redis = RedisServer::start().await;
        let password = secrets.of("password of Redis");
        redis.cli(&["ACL", "SETUSER", "fleet", "on", &format!(">{password}"), "~*", "&*", "+@all"]).await;
        let redis_url = format!("redis://fleet:{password}@127.0.0.1:{}", redis.port());
        let known = secrets.clone();
        let upstream = Upstream::start(move |request| echo(request, &known)).await;
        let proxy = HttpProxy::start(Some(&secrets.basic("password of a proxy"))).await;
        let certificates = secrets.certificates();
        let tls_front = TlsFront::before(upstream.address(), certificates.acceptor(&["http/1.1"], true)).await;
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(secrets, &upstream, &proxy, &tls_front, folder.path());
        let file = folder.path().join("redial.toml");
        std::fs::write(&file, &settings).unwrap();
        let worker = Worker::builder(&redis_url)
            .env("RUST_LOG", "trace")
            .env("REDIAL_QUEUES", "default=1,other=1")
            .env("REDIAL_CONFIG", file.to_str().unwrap())
            .env("CANARY_ENV", secrets.of("header from the environment"))
            .env("CANARY_OAUTH", secrets.of("client secret of OAuth"))
            .env("CANARY_AWS", secrets.of("secret key of AWS"))
            .env("CANARY_WEBHOOK", secrets.webhook())
            .spawn();
        worker.wait_ready().await;
        let digest = Sha256::digest(secrets.of("token of the gateway"));
        let hash = digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        let token = format!("[[token]]\nname = \"t\"\nhash = \"sha256:{hash}\"\naccess = \"operate\"\n");
        // The gateway reads the same blocks, and does not resolve their secrets.
        let gateway = GatewayProcess::start_tracing(&redis_url, &(settings + &token)).await;
        let cli = Cli::new(&redis_url);
        Self { redis, redis_url, upstream, proxy, tls_front, worker, gateway, cli, folder }
    }
}

/// The settings of worker and gateway, with secrets from the environment and from files, and where they stand in the file itself.
fn settings(secrets: &Secrets, upstream: &Upstream, proxy: &HttpProxy, tls_front: &TlsFront, folder: &Path) -> String {
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let header = file("header", secrets.of("header from a file"));
    let password = file("proxy", secrets.of("password of a proxy"));
    let key = file("client.pem", secrets.client_certificate());
    let login = secrets.basic("login in the settings");
    let url = |path: &str| upstream.url(path);
    let (proxy, far) = (proxy.url(), url("/proxied/").replace("127.0.0.1", "127.0.0.2"));
    format!(
        r#"
webhook_secret = "${{CANARY_WEBHOOK}}"
[[upstream]]
name = "own"
url = "{}"
headers = {{ Authorization = "Bearer ${{CANARY_ENV}}", X-Key = "${{file:{header}}}", X-Login = "{login}" }}
[[upstream]]
url = "{}"
oauth = {{ token_url = "{}", client_id = "fleet", client_secret = "${{CANARY_OAUTH}}" }}
[[upstream]]
url = "{far}"
proxy = {{ url = "{proxy}", user = "fleet", password = "${{file:{password}}}" }}
[[upstream]]
url = "{}"
aws = {{ region = "eu-central-1", service = "s3", access_key_id = "AKIAEXAMPLE", secret_access_key = "${{CANARY_AWS}}" }}
[[upstream]]
url = "{}"
ca_file = "{}"
client_certificate_file = "{key}"
client_key_file = "{key}"
"#,
        url("/own/"),
        url("/oauth/"),
        url("/token"),
        url("/aws/"),
        tls_front.url("/"),
        secrets.certificates().authority().display(),
    )
}

#[tokio::test]
async fn no_secret_is_found_where_the_security_page_does_not_say() {
    let secrets = Secrets::random();
    let fleet = Fleet::start(&secrets).await;
    let mut findings = Findings::new(&secrets);
    actions::tasks(&fleet, &secrets).await;
    actions::gateway(&fleet, &secrets, &mut findings).await;
    actions::commands(&fleet, &secrets, &mut findings).await;
    actions::settings(&fleet, &secrets, &mut findings).await;
    findings.pages(&fleet).await;
    findings.redis(&fleet.redis).await;
    findings.look_in("log", &fleet.worker.log());
    findings.look_in("log", &fleet.gateway.log());
    findings.look_in("log", &fleet.redis.log());
    assert!(fleet.worker.log().contains("TRACE"), "the log is at its most detailed level");
    assert_eq!(fleet.proxy.requests().len(), 1, "the proxy was given its login");
    findings.check(&fleet.upstream);
}
