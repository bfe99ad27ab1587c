//! How an `[[upstream]]` block says that its upstream is connected to: through a proxy, with certificates of its own, over HTTP/1.1 only.

use std::time::Duration;

use redial_tests::{Certificates, DnsServer, HttpProxy, Reply, TlsFront, Upstream, Worker, WorkerBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{SOON, Stage, attempts};

/// `Basic` of `redial:open sesame`.
const LOGIN: &str = "Basic cmVkaWFsOm9wZW4gc2VzYW1l";

/// A settings file that lives as long as its worker.
struct Settings(TempDir);

impl Settings {
    fn new(text: &str) -> Self {
        let settings = Self(tempfile::tempdir().unwrap());
        settings.write(text);
        settings
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    fn path(&self) -> String {
        self.0.path().join("redial.toml").display().to_string()
    }

    async fn worker(&self, builder: WorkerBuilder) -> Worker {
        let worker = builder.arg("--config").arg(&self.path()).spawn();
        worker.wait_ready().await;
        worker
    }
}

/// A task that makes one attempt.
fn once(id: &str, url: &str) -> Value {
    json!({"id": id, "url": url, "retry": {"max_attempts": 1}, "timeout_ms": 5_000})
}

fn error(result: &Value) -> &str {
    result["error"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_proxy_passes_on_http_and_https_with_its_login_and_resolves_the_names() {
    let stage = Stage::unruly().await;
    let certificates = Certificates::new();
    let front = TlsFront::before(stage.upstream.address(), certificates.acceptor(&["http/1.1"], false)).await;
    let proxy = HttpProxy::start(Some(LOGIN)).await;
    let dns = DnsServer::start();
    // The worker knows the proxy's name alone; the proxy knows all others.
    dns.set_addresses("proxy.test", &["127.0.0.1"], 60);
    let port = stage.upstream.address().port();
    let settings = Settings::new(&format!(
        "[[upstream]]\nurl = \"http://api.inside.test:{port}/\"\n\
         proxy = {{ url = \"http://proxy.test:{proxy}\", user = \"redial\", password = \"${{PROXY_PASSWORD}}\" }}\n\
         [[upstream]]\nurl = \"https://localhost:{tls}/\"\nca_file = \"{ca}\"\n\
         proxy = {{ url = \"http://127.0.0.1:{proxy}\", user = \"redial\", password = \"${{PROXY_PASSWORD}}\" }}\n",
        proxy = proxy.port(),
        tls = front.port(),
        ca = certificates.authority().display(),
    ));
    let builder = stage.worker().env("REDIAL_NAME_SERVERS", dns.address()).env("PROXY_PASSWORD", "open sesame");
    // A proxy of the operator's may be anywhere; what a task may reach stays as it is.
    let worker = settings.worker(builder.env("REDIAL_ALLOW_PRIVATE", "")).await;
    let plain = stage.answer(once("http", &format!("http://api.inside.test:{port}/echo?a=b"))).await;
    assert_eq!(plain["status"], "ok", "{plain}");
    assert_eq!(plain["body"]["path"], "/echo?a=b");
    assert!(
        !plain.to_string().to_ascii_lowercase().contains("proxy-auth"),
        "the login is for the proxy alone: {plain}"
    );
    let tls = stage.answer(once("https", &front.url("/ok"))).await;
    assert_eq!(tls["status"], "ok", "{tls}");
    let requests = proxy.requests();
    assert_eq!(requests[0], format!("GET http://api.inside.test:{port}/echo?a=b HTTP/1.1"));
    assert_eq!(requests[1], format!("CONNECT localhost:{} HTTP/1.1", front.port()));
    assert_eq!(dns.queries("api.inside.test"), 0, "the proxy resolves the name");

    // Everything else goes directly, and is judged as ever. An address is judged in every case.
    let outside = stage.answer(once("outside", &stage.url("/ok"))).await;
    assert_eq!(outside["reason"], "forbidden_target", "{outside}");

    proxy.set_login("Basic another");
    for (id, url) in [("refused", format!("http://api.inside.test:{port}/ok")), ("refused-tls", front.url("/ok"))] {
        let mut task = once(id, &url);
        // A new connection: a tunnel that is open stays open.
        task["connect_timeout_ms"] = json!(4_000);
        let refused = stage.answer(task).await;
        assert_eq!((refused["reason"].as_str(), attempts(&refused)), (Some("attempts_exhausted"), 1), "{refused}");
        assert!(error(&refused).contains("proxy"), "{refused}");
    }
    assert!(!worker.log().contains("sesame"), "{}", worker.log());
}

/// The upstream of a stage is called through a proxy.
fn behind(proxy: &HttpProxy, stage: &Stage) -> Settings {
    let (upstream, proxy) = (stage.url("/"), proxy.url());
    Settings::new(&format!("[[upstream]]\nurl = \"{upstream}\"\nproxy = {{ url = \"{proxy}\" }}\n"))
}

#[tokio::test]
async fn an_address_behind_a_proxy_is_judged_like_any_other() {
    let stage = Stage::unruly().await;
    let proxy = HttpProxy::start(None).await;
    let settings = behind(&proxy, &stage);
    let worker = settings.worker(stage.worker().env("REDIAL_ALLOW_PRIVATE", "")).await;
    assert_eq!(stage.answer(once("refused", &stage.url("/ok"))).await["reason"], "forbidden_target");
    assert_eq!(proxy.requests().len(), 0);
    drop(worker);
    let _worker = settings.worker(stage.worker()).await;
    assert_eq!(stage.answer(once("allowed", &stage.url("/ok"))).await["status"], "ok");
    assert_eq!(proxy.requests().len(), 1);
}

#[tokio::test]
async fn calls_with_effect_once_and_redirects_are_connected_to_as_the_upstream_of_their_url_says() {
    let stage = Stage::unruly().await;
    let proxy = HttpProxy::start(None).await;
    let settings = behind(&proxy, &stage);
    let _worker = settings.worker(stage.worker()).await;
    let mut task = once("once", &stage.url("/ok"));
    task["effect"] = json!("once");
    assert_eq!(stage.answer(task).await["status"], "ok");
    assert_eq!(proxy.requests().len(), 1);

    let target = stage.url("/ok");
    let direct = Upstream::start(move |_| Reply::status(307).header("location", target.clone())).await;
    for (n, effect) in ["idempotent", "once"].into_iter().enumerate() {
        let mut task = once(&format!("redirected {effect}"), &direct.url("/"));
        task["effect"] = json!(effect);
        task["redirects"] = json!(1);
        let result = stage.answer(task).await;
        assert_eq!(result["status"], "ok", "{result}");
        assert_eq!(proxy.requests().len(), n + 2, "the hop went through the proxy, the first request did not");
    }
}

#[tokio::test]
async fn an_upstream_is_verified_by_its_own_authority_and_gets_the_client_certificate() {
    let stage = Stage::unruly().await;
    let (known, unknown) = (Certificates::new(), Certificates::new());
    let front = TlsFront::before(stage.upstream.address(), known.acceptor(&["http/1.1"], true)).await;
    let other = TlsFront::before(stage.upstream.address(), unknown.acceptor(&["http/1.1"], false)).await;
    let client = known.issue("client");
    let block = |url: &str, more: &str| {
        format!("[[upstream]]\nurl = \"{url}\"\nca_file = \"{}\"\n{more}", known.authority().display())
    };
    let identity =
        format!("client_certificate_file = \"{}\"\nclient_key_file = \"{}\"\n", client.certificate(), client.key());
    let blocks =
        block(&front.url("/with"), &identity) + &block(&front.url("/"), "") + &block(&other.url("/"), &identity);
    let settings = Settings::new(&blocks);
    let _worker = settings.worker(stage.worker()).await;
    let with = stage.answer(once("with", &front.url("/with/status"))).await;
    assert_eq!(with["http_status"], 404, "the upstream was reached: {with}");
    let without = stage.answer(once("without", &front.url("/ok"))).await;
    assert_eq!(without["status"], "dead", "the upstream demands a certificate: {without}");
    let stranger = stage.answer(once("stranger", &other.url("/ok"))).await;
    assert!(error(&stranger).starts_with("TLS"), "{stranger}");
    assert_eq!(stage.upstream.count(), 1);
}

#[tokio::test]
async fn http2_is_not_offered_to_an_upstream_that_is_to_be_called_over_http1() {
    let stage = Stage::unruly().await;
    let certificates = Certificates::new();
    let front = TlsFront::before(stage.upstream.address(), certificates.acceptor(&["h2", "http/1.1"], false)).await;
    let settings = Settings::new(&format!(
        "[[upstream]]\nurl = \"{}\"\nca_file = \"{}\"\nhttp1_only = true\n",
        front.url("/"),
        certificates.authority().display()
    ));
    let _worker = settings.worker(stage.worker()).await;
    assert_eq!(stage.answer(once("a", &front.url("/ok"))).await["status"], "ok");
    assert_eq!(front.protocols(), ["http/1.1"]);
}

#[tokio::test]
async fn settings_of_a_connection_are_checked_before_the_worker_starts() {
    let certificates = Certificates::new();
    let (one, two) = (certificates.issue("one"), certificates.issue("two"));
    let (cert, key, other) = (one.certificate(), one.key(), two.key());
    for (lines, says) in [
        ("proxy = { url = \"proxy.example.com:3128\" }".to_owned(), "its url is neither http nor https"),
        ("proxy = { url = \"socks5://p:1\" }".to_owned(), "neither http nor https"),
        ("proxy = { url = \"http://u:geheim@p:1\" }".to_owned(), "use user and password"),
        ("proxy = { url = \"http://p:1\", password = \"geheim\" }".to_owned(), "password needs user"),
        ("proxy = { url = \"http://p:1\", login = \"geheim\" }".to_owned(), "login"),
        ("ca_file = \"/no/such/file\"".to_owned(), "cannot read the file /no/such/file"),
        (format!("ca_file = \"{key}\""), "no certificate in PEM"),
        (format!("client_certificate_file = \"{cert}\""), "needs client_key_file"),
        (format!("client_key_file = \"{key}\""), "needs client_certificate_file"),
        (format!("client_certificate_file = \"{cert}\"\nclient_key_file = \"{other}\""), "do not belong together"),
        (format!("client_certificate_file = \"{cert}\"\nclient_key_file = \"{cert}\""), "no private key"),
    ] {
        let settings = Settings::new(&format!("[[upstream]]\nurl = \"https://h.example.com/\"\n{lines}\n"));
        let worker = Worker::builder("redis://127.0.0.1:1").arg("--config").arg(&settings.path()).arg("--check-config");
        let worker = worker.spawn();
        let status = worker.wait_exit(SOON).await;
        let log = worker.log();
        assert_eq!(status.code(), Some(1), "{lines}: {log}");
        assert!(log.contains(says) && log.contains("upstream") && !log.contains("geheim"), "{lines}: {log}");
    }
    let settings = Settings::new(&format!(
        "[[upstream]]\nurl = \"https://h/\"\nclient_certificate_file = \"{cert}\"\nclient_key_file = \"{key}\"\n"
    ));
    let good = Worker::builder("redis://127.0.0.1:1").arg("--config").arg(&settings.path()).arg("--check-config");
    let good = good.spawn();
    assert_eq!(good.wait_exit(Duration::from_secs(20)).await.code(), Some(0), "{}", good.log());
}
