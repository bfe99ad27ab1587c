//! Settings and secrets are reloaded while a worker runs, and what is wrong with the new ones stops nothing.

use std::path::{Path, PathBuf};

use redial_tests::{Certificates, TlsFront, Worker, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{SOON, Stage, ids, number};

/// A worker whose settings and secrets are in files that a test changes.
struct ReloadStage {
    stage: Stage,
    folder: TempDir,
}

impl ReloadStage {
    async fn new() -> Self {
        Self { stage: Stage::unruly().await, folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a file at once, as an orchestrator does.
    fn write(&self, name: &str, text: &str) {
        let unfinished = self.file("unfinished");
        std::fs::write(&unfinished, text).unwrap();
        std::fs::rename(unfinished, self.file(name)).unwrap();
    }

    async fn worker(&self) -> Worker {
        let worker = self.stage.worker().arg("--config").arg(path(&self.file("redial.toml"))).spawn();
        worker.wait_ready().await;
        worker
    }

    /// The `Authorization` with which a call arrives.
    async fn authorization(&self, id: &str) -> Value {
        let result = self.stage.answer(json!({"id": id, "url": self.stage.url("/echo"), "effect": "once"})).await;
        assert_eq!(result["status"], "ok", "{result}");
        result["body"]["headers"]["authorization"].clone()
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Waits until a worker's log says this, so many times.
async fn logged(worker: &Worker, text: &str, times: usize) {
    eventually(SOON, || async { (worker.log().matches(text).count() >= times).then_some(()) }).await;
}

#[tokio::test]
async fn a_secret_is_read_anew_when_its_file_changes_and_a_bad_one_is_not_used() {
    let files = ReloadStage::new().await;
    files.write("key", "first\n");
    let block = format!("[[upstream]]\nurl = \"{}\"\n", files.stage.url("/"));
    let header = format!("headers = {{ Authorization = \"Bearer ${{file:{}}}\" }}\n", files.file("key").display());
    files.write("redial.toml", &(block + &header));
    let worker = files.worker().await;
    assert_eq!(files.authorization("a").await, "Bearer first");
    files.write("key", "second\n");
    logged(&worker, "reloaded the secrets", 1).await;
    assert_eq!(files.authorization("b").await, "Bearer second");
    for (n, bad) in ["\n", "not\na header"].into_iter().enumerate() {
        files.write("key", bad);
        logged(&worker, "cannot be used", n + 1).await;
        assert_eq!(files.authorization(&format!("bad{n}")).await, "Bearer second");
    }
    std::fs::remove_file(files.file("key")).unwrap();
    logged(&worker, "cannot be used", 3).await;
    assert_eq!(files.authorization("gone").await, "Bearer second");
    files.write("key", "third\n");
    logged(&worker, "reloaded the secrets", 2).await;
    assert_eq!(files.authorization("c").await, "Bearer third");
    assert!(!worker.log().contains("second") && !worker.log().contains("not\na"), "{}", worker.log());
}

#[tokio::test]
async fn sighup_reloads_what_can_be_and_tells_the_rest_and_keeps_the_old_when_the_new_is_bad() {
    let files = ReloadStage::new().await;
    let block = |secret: &str| {
        format!(
            "[[upstream]]\nurl = \"{}\"\nheaders = {{ Authorization = \"Bearer {secret}\" }}\n",
            files.stage.url("/")
        )
    };
    files.write("redial.toml", &block("first"));
    let worker = files.worker().await;
    assert_eq!(files.authorization("a").await, "Bearer first");
    // Calls are in flight while it happens.
    let slow = ids("slow", 20);
    files.stage.push_many(&slow, "/slow/2000", &json!({"retry": {"max_attempts": 1}})).await;
    files.stage.wait_in_flight(20).await;
    files.write("redial.toml", &format!("concurrency = 7\n{}", block("second")));
    worker.hangup();
    logged(&worker, "SIGHUP: reloaded", 1).await;
    assert!(worker.log().contains("changed=\"upstream\""), "{}", worker.log());
    assert!(
        worker.log().contains("changed=\"concurrency\""),
        "told to take effect at the next start: {}",
        worker.log()
    );
    assert_eq!(files.authorization("b").await, "Bearer second");
    for (n, bad) in ["concurency = 7\n", "[[upstream]\n", "[[upstream]]\nurl = \"https://h/\"\nlimits = [\"none\"]\n"]
        .into_iter()
        .enumerate()
    {
        files.write("redial.toml", bad);
        worker.hangup();
        logged(&worker, "the settings in force stay as they are", n + 1).await;
        assert_eq!(files.authorization(&format!("bad{n}")).await, "Bearer second");
    }
    files.write("redial.toml", "");
    worker.hangup();
    logged(&worker, "SIGHUP: reloaded", 2).await;
    assert_eq!(files.authorization("c").await, Value::Null);
    let results = files.stage.queue.wait_results(&slow, SOON).await;
    assert!(
        results.iter().all(|result| result["status"] == "ok" && number(&result["attempts"][0]["took_ms"]) >= 1_900)
    );
    // A storm of signals ends nothing either, and the worker still drains.
    for _ in 0..50 {
        worker.hangup();
    }
    assert_eq!(files.authorization("d").await, Value::Null);
    worker.term();
    assert_eq!(worker.wait_exit(SOON).await.code(), Some(0), "{}", worker.log());
    assert!(!worker.log().contains("Bearer"), "{}", worker.log());
}

#[tokio::test]
async fn a_renewed_client_certificate_is_used_without_a_restart() {
    let files = ReloadStage::new().await;
    let (old, new) = (Certificates::new(), Certificates::new());
    let front = TlsFront::before(files.stage.upstream.address(), new.acceptor(&["http/1.1"], true)).await;
    let (expired, renewed) = (old.issue("client"), new.issue("client"));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    // Certificate and key in one file, so that they never differ.
    files.write("client.pem", &(read(&expired.certificate) + &read(&expired.key)));
    let client = files.file("client.pem");
    files.write(
        "redial.toml",
        &format!(
            "[[upstream]]\nurl = \"{}\"\nca_file = \"{}\"\nclient_certificate_file = \"{client}\"\nclient_key_file = \"{client}\"\n",
            front.url("/"),
            new.authority().display(),
            client = client.display(),
        ),
    );
    let worker = files.worker().await;
    let call = |id: &str| json!({"id": id, "url": front.url("/ok"), "retry": {"max_attempts": 1}});
    assert_eq!(files.stage.answer(call("old")).await["status"], "dead");
    files.write("client.pem", &(read(&renewed.certificate) + &read(&renewed.key)));
    logged(&worker, "reloaded the secrets", 1).await;
    let result = files.stage.answer(call("new")).await;
    assert_eq!(result["status"], "ok", "{result}");
}

#[tokio::test]
async fn an_idempotency_key_of_a_named_account_outlives_a_change_of_its_secret() {
    let files = ReloadStage::new().await;
    files.write("key", "first");
    let block = format!("[[upstream]]\nurl = \"{}\"\naccount = \"payments\"\n", files.stage.url("/"));
    let header = format!("headers = {{ Authorization = \"Bearer ${{file:{}}}\" }}\n", files.file("key").display());
    files.write("redial.toml", &(block + &header));
    let worker = files.worker().await;
    let call =
        |id: &str| json!({"id": id, "url": files.stage.url("/ok"), "method": "POST", "idempotency_key": "pay-1"});
    assert_eq!(files.stage.answer(call("a")).await["source"], "call");
    files.write("key", "second");
    logged(&worker, "reloaded the secrets", 1).await;
    let again = files.stage.answer(call("b")).await;
    assert_eq!(again["source"], "idempotency", "a payment is not made twice because a password changed: {again}");
    assert_eq!(files.stage.upstream.count(), 1);
}

#[tokio::test]
async fn sighup_reloads_tenants_and_metrics_name_those_that_have_a_block() {
    let files = ReloadStage::new().await;
    let block = |name: &str| format!("[[tenant]]\nname = \"{name}\"\nqueues = [\"default\"]\n");
    files.write("redial.toml", "");
    let worker = files.worker().await;
    let push = async |id: &str, tenant: Value| {
        let task = json!({"id": id, "url": files.stage.url("/ok"), "tenant": tenant});
        files.stage.answer(task).await["status"].clone()
    };
    assert_eq!(push("free", json!("whoever")).await, "ok");
    assert!(!worker.metrics().await.contains("redial_tenant_attempts_total{"), "nobody has a block");
    files.write("redial.toml", &block("acme"));
    worker.hangup();
    logged(&worker, "SIGHUP: reloaded", 1).await;
    assert!(worker.log().contains("changed=\"tenant\""), "{}", worker.log());
    assert_eq!(push("foreign", json!("whoever")).await, "dead");
    assert_eq!(push("own", Value::Null).await, "ok");
    let counted = || async {
        (worker.metric("redial_tenant_attempts_total{tenant=\"acme\",reason=\"ok\"}").await >= 1.0).then_some(())
    };
    eventually(SOON, counted).await;
    // One that cannot be is not used, and does not end the old one.
    files.write("redial.toml", &(block("acme") + &block("other")));
    worker.hangup();
    logged(&worker, "belongs to several tenants", 1).await;
    assert_eq!(push("still", json!("other")).await, "dead");
    files.write("redial.toml", &block("other").replace("default", "elsewhere"));
    worker.hangup();
    logged(&worker, "SIGHUP: reloaded", 2).await;
    for n in 0..20 {
        assert_eq!(push(&format!("made up {n}"), json!(format!("tenant {n}"))).await, "ok");
    }
    let others =
        || async { (worker.metric("redial_tenant_attempts_total{tenant=\"(others)\"}").await >= 20.0).then_some(()) };
    eventually(SOON, others).await;
    assert_eq!(worker.metrics().await.matches("redial_tenant_attempts_total{").count(), 2, "tasks add no labels");
}
