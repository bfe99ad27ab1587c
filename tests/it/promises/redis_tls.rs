//! Redis over TLS, with a client certificate and an authority of its own, also behind a Sentinel that wants the same and a login.

use std::time::Duration;

use redial_tests::redis_tls::{REDIS_PASSWORD, SENTINEL_LOGIN, TlsRedis, TlsSentinel};
use redial_tests::{Certificates, Cli, Upstream, Worker, eventually};

use super::SOON;

/// Percent-encodes what these passwords hold.
fn encoded(text: &str) -> String {
    text.replace(' ', "%20")
}

/// Enqueues with the command line, lets a worker make the call, and waits for the result with the command line.
async fn assert_answers(redis_url: &str) {
    let upstream = Upstream::unruly().await;
    let worker = Worker::builder(redis_url).spawn();
    worker.wait_ready().await;
    let cli = Cli::new(redis_url);
    let pushed = cli.run(&["enqueue", "--url", &upstream.url("/ok"), "--id", "a"]).await;
    assert_eq!(pushed.status, 0, "{pushed:?}");
    let waited = cli.run(&["wait", "a"]).await;
    assert_eq!(waited.status, 0, "{waited:?}");
    assert!(waited.stdout.contains("\"ok\""), "{waited:?}");
    for secret in [REDIS_PASSWORD, SENTINEL_LOGIN.1, &encoded(REDIS_PASSWORD), &encoded(SENTINEL_LOGIN.1)] {
        assert!(!worker.log().contains(secret), "{}", worker.log());
    }
}

/// Starts a worker that must not get through, and says what keeps it.
async fn assert_refused(redis_url: &str) {
    let worker = Worker::builder(redis_url).spawn();
    let told = || async { worker.log().contains("Redis does not answer").then_some(()) };
    eventually(SOON, told).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(worker.get("/readyz").await.0, 503, "{}", worker.log());
}

#[tokio::test]
async fn redis_with_an_authority_of_its_own_and_client_certificates_is_used() {
    let redis = TlsRedis::start().await;
    let url = format!("rediss://127.0.0.1:{}/0", redis.port());
    assert_answers(&format!("{url}?{}", redis.options())).await;
    // Without a certificate the server refuses; with another authority the client does.
    assert_refused(&format!("{url}?ca_file={}", redis.authority().display())).await;
    let stranger = Certificates::new();
    let options =
        redis.options().replace(&redis.authority().display().to_string(), &stranger.authority().display().to_string());
    assert_refused(&format!("{url}?{options}")).await;
    assert_refused(&url).await;
}

#[tokio::test]
async fn a_sentinel_over_tls_with_a_login_leads_to_its_master_over_tls() {
    let sentinel = TlsSentinel::start().await;
    let (user, password) = SENTINEL_LOGIN;
    let address = |master: &str, sentinel_password: &str| {
        format!(
            "rediss-sentinel://:{}@127.0.0.1:{}/main?{}&sentinel_user={user}&sentinel_password={}",
            encoded(master),
            sentinel.port(),
            sentinel.redis().options(),
            encoded(sentinel_password),
        )
    };
    assert_answers(&address(REDIS_PASSWORD, password)).await;
    assert_refused(&address(REDIS_PASSWORD, "wrong")).await;
    assert_refused(&address("wrong", password)).await;
    assert_refused(&format!("{}&sentinel_tls=false", address(REDIS_PASSWORD, password))).await;
}

#[tokio::test]
async fn an_option_that_cannot_be_used_is_told_before_the_worker_starts() {
    let certificates = Certificates::new();
    let (one, two) = (certificates.issue("one"), certificates.issue("two"));
    for (url, says) in [
        ("rediss://:geheim@h?ca_fil=x".to_owned(), "unknown option \"ca_fil\""),
        ("rediss://:geheim@h?ca_file=/no/such/file".to_owned(), "cannot read the ca_file /no/such/file"),
        (format!("rediss://:geheim@h?client_certificate_file={}", one.certificate()), "needs client_key_file"),
        (format!("redis://:geheim@h?ca_file={}", one.certificate()), "certificates need TLS"),
        ("redis://:geheim@h?sentinel_password=geheim".to_owned(), "need redis-sentinel://"),
        (
            format!("rediss://:geheim@h?client_certificate_file={}&client_key_file={}", one.key(), two.certificate()),
            "cannot be used",
        ),
    ] {
        let worker = Worker::builder(&url).arg("--check-config").spawn();
        assert_eq!(worker.wait_exit(SOON).await.code(), Some(1), "{url}: {}", worker.log());
        let log = worker.log();
        assert!(log.contains(says) && log.contains("REDIS_URL") && !log.contains("geheim"), "{url}: {log}");
    }
}
