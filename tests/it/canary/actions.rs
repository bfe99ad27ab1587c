//! Everything that Redial can do, with a secret wherever one can stand.

use std::time::Duration;

use redial_tests::{TestQueue, Worker};
use serde_json::{Value, json};

use super::Fleet;
use super::search::Findings;
use super::secrets::Secrets;

const SOON: Duration = Duration::from_secs(60);

/// A task with a secret in each of its parts.
fn task(fleet: &Fleet, secrets: &Secrets, id: &str, path: &str) -> Value {
    let userinfo = format!("http://fleet:{}@", secrets.of("userinfo in the URL of a task"));
    let url = fleet.upstream.url(path).replace("http://", &userinfo);
    // Elsewhere the worker's own credentials are used.
    let url = if path.starts_with("/plain") { url } else { fleet.upstream.url(path) };
    let query = [("api_key", "key in the URL of a task"), ("X-Amz-Signature", "signature in the URL of a task")];
    let query: Vec<String> = query.iter().map(|(name, place)| format!("{name}={}", secrets.of(place))).collect();
    json!({
        "id": id,
        "url": format!("{url}?{}", query.join("&")),
        "headers": {
            "X-Corporate-Pass": secrets.of("odd header of a task"),
            "Cookie": format!("sid={}", secrets.of("cookie of a task")),
        },
        "body": {"q": 1},
        "retry": {"max_attempts": 3, "base_ms": 10},
        "timeout_ms": 5_000,
        "callback_url": fleet.upstream.url(&format!("/hook/ok?token={}", secrets.of("token in the URL of a callback"))),
        "reply_to": "answers:canary",
    })
}

/// Tasks that end in every way: each with what it has besides, and how it ends.
pub(super) async fn tasks(fleet: &Fleet, secrets: &Secrets) {
    let login = format!("Bearer {}", secrets.of("Authorization of a task"));
    let chain =
        json!({"url": fleet.upstream.url("/plain/ok"), "headers": {"Authorization": secrets.of("header in a chain")}});
    let port = fleet.upstream.address().port();
    let cases = [
        ("good", "/own/ok", json!({}), "ok"),
        ("echo in a stream", "/own/ok", json!({"stream": true}), "ok"),
        ("cached", "/own/ok", json!({"cache_ttl_ms": 60_000, "cache_key": "c"}), "ok"),
        ("cached again", "/own/ok", json!({"cache_ttl_ms": 60_000, "cache_key": "c"}), "ok"),
        ("keyed", "/own/ok", json!({"idempotency_key": "k"}), "ok"),
        ("keyed otherwise", "/own/ok", json!({"idempotency_key": "k", "body": 7}), "idempotency_mismatch"),
        ("retried", "/own/flaky", json!({"retry": {"max_attempts": 20, "base_ms": 10, "cap_ms": 50}}), "ok"),
        ("rejected", "/own/dead", json!({}), "rejected"),
        ("redirected", "/own/away", json!({"redirects": 2}), "ok"),
        ("reset", "/own/reset", json!({}), "attempts_exhausted"),
        ("garbage", "/own/garbage", json!({}), "attempts_exhausted"),
        ("once", "/own/reset", json!({"effect": "once"}), "outcome_unknown"),
        ("plain", "/plain/ok", json!({"headers": {"Authorization": login}}), "ok"),
        ("plain and rejected", "/plain/dead", json!({"headers": {"Authorization": login}, "then": chain}), "rejected"),
        ("redirected without", "/plain/away", json!({"redirects": 2, "headers": {"Authorization": login}}), "ok"),
        ("chained", "/plain/ok", json!({"then": chain}), "ok"),
        ("limited", "/plain/ok", json!({"limit": {"name": "l", "rate": 100, "usage": "usage.total_tokens"}}), "ok"),
        ("expired", "/plain/ok", json!({"ttl_ms": 0}), "expired"),
        ("invalid", "/plain/ok", json!({"method": "FETCH"}), "invalid_task"),
        ("invalid header", "/plain/ok", json!({"headers": {"Authorization": format!("{login}\n")}}), "invalid_task"),
        ("unknown field", "/plain/ok", json!({"of_a_later_version": 1}), "ok"),
        ("oauth", "/oauth/ok", json!({}), "ok"),
        ("aws", "/aws/ok", json!({}), "ok"),
    ];
    let queue = TestQueue::new(&fleet.redis, "default");
    let mut ids = Vec::new();
    for (id, path, more, _) in &cases {
        let mut task = task(fleet, secrets, id, path);
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        queue.push(task.to_string()).await;
        if id.starts_with("keyed") {
            // The first one has the key.
            queue.wait_result(id, SOON).await;
        }
        ids.push((*id).to_owned());
    }
    let key = secrets.of("key in the URL of a task");
    let elsewhere = [
        (
            "forbidden",
            format!("http://fleet:{}@10.0.0.1/", secrets.of("userinfo in the URL of a task")),
            "forbidden_target",
        ),
        ("proxied", format!("http://127.0.0.2:{port}/proxied/ok?key={key}"), "ok"),
        ("with a certificate", fleet.tls_front.url(&format!("/plain/ok?key={key}")), "ok"),
        ("no TLS there", format!("https://127.0.0.3:{port}/ok?key={key}"), "attempts_exhausted"),
        ("no URL", format!("nowhere?key={key}"), "invalid_task"),
    ];
    for (id, url, _) in &elsewhere {
        queue.push(json!({"id": id, "url": url, "retry": {"max_attempts": 1}}).to_string()).await;
        ids.push((*id).to_owned());
    }
    let broken = secrets.of("header in a task that does not parse");
    for raw in [
        format!(r#"{{"url":"http://h/","headers":{{"Authorization":"Bearer {broken}"}}"#),
        format!(r#"{{"url":"http://h/?sig={broken}","headers":{{"Authorization":["{broken}"]}}}}"#),
        format!("Authorization: Bearer {broken}"),
    ] {
        queue.push(raw).await;
    }
    let expected =
        cases.iter().map(|(_, _, _, expected)| expected).chain(elsewhere.iter().map(|(_, _, expected)| expected));
    for (result, expected) in queue.wait_results(&ids, SOON).await.iter().zip(expected) {
        let came = result["reason"].as_str().unwrap_or("ok");
        assert_eq!(came, *expected, "{result}");
    }
    redial_tests::eventually(SOON, async || (queue.waiting().await == 0).then_some(())).await;
}

/// What callers of the gateway get.
pub(super) async fn gateway(fleet: &Fleet, secrets: &Secrets, findings: &mut Findings) {
    let token = format!("Bearer {}", secrets.of("token of the gateway"));
    let wrong = format!("Bearer {}", secrets.of("wrong token of the gateway"));
    let own = ("x-corporate-pass", secrets.of("header through the gateway"));
    let path = |path: &str| format!("{path}?key={}", secrets.of("key in a URL through the gateway"));
    let task = json!({"id": "by gateway", "url": fleet.upstream.url(&path("/plain/ok")), "headers": {own.0: own.1}});
    let invalid = json!({"url": fleet.upstream.url("/plain/ok"), "headers": {own.0: format!("{}\n", own.1)}});
    for (method, target, authorization, body) in [
        ("GET", path("/u/own/ok"), &token, String::new()),
        ("POST", path("/u/own/dead"), &token, "{}".to_owned()),
        ("GET", path("/u/own/ok"), &wrong, String::new()),
        ("GET", path("/u/unknown/ok"), &token, String::new()),
        ("POST", "/v1/tasks?wait=30".to_owned(), &token, task.to_string()),
        ("POST", "/v1/tasks".to_owned(), &token, invalid.to_string()),
        ("POST", "/v1/tasks".to_owned(), &token, format!("{{\"url\":\"{}\"", own.1)),
        ("GET", "/v1/tasks/rejected".to_owned(), &token, String::new()),
        ("GET", "/v1/tasks/echo%20in%20a%20stream/stream".to_owned(), &token, String::new()),
        ("GET", "/v1/tasks/rejected/events".to_owned(), &token, String::new()),
        ("GET", "/v1/tasks/rejected/events".to_owned(), &wrong, String::new()),
        ("GET", "/metrics".to_owned(), &token, String::new()),
        ("GET", "/openapi.json".to_owned(), &token, String::new()),
    ] {
        let headers = [("authorization", authorization.as_str()), own];
        let answer = fleet.gateway.send(method, &target, &headers, body.as_bytes()).await;
        let mut text = answer.text();
        text += &answer.headers.values().cloned().collect::<Vec<_>>().join("\n");
        findings.look_in(&format!("page {method} {}", target.split('?').next().unwrap_or_default()), &text);
    }
}

/// What commands print and leave, of tasks that wait, are scheduled, are dead and are done.
pub(super) async fn commands(fleet: &Fleet, secrets: &Secrets, findings: &mut Findings) {
    let waiting = task(fleet, secrets, "waiting", "/plain/ok");
    TestQueue::new(&fleet.redis, "unserved").push(waiting.to_string()).await;
    let mut later = task(fleet, secrets, "later", "/plain/ok");
    later["delay_ms"] = json!(3_600_000);
    TestQueue::new(&fleet.redis, "default").push(later.to_string()).await;
    let folder = fleet.folder.path().join("batch");
    std::fs::create_dir(&folder).unwrap();
    let (lines, out) = (folder.join("in.jsonl"), folder.join("out.jsonl"));
    let invalid = secrets.of("line of a batch that is invalid");
    let body = format!("{{\"n\":1}}\n{{\"n\":\n{{\"n\":2,\"key\":{invalid}}}\n");
    std::fs::write(&lines, body).unwrap();
    let header = format!("Authorization: Bearer {}", secrets.of("header of a batch"));
    let url = fleet.upstream.url("/plain/ok");
    let (lines, out) = (lines.display().to_string(), out.display().to_string());
    let get = task(fleet, secrets, "cached", "/own/ok").to_string();
    for args in [
        &["batch", &lines, "-o", &out, "--url", &url, "-H", &header][..],
        &["enqueue", "--url", &url, "-H", &header, "--wait=30"],
        &["enqueue", "--url", "nowhere", "-H", &header],
        &["-q", "unserved", "enqueue", "--url", &url, "-H", &header],
        &["-q", "unserved", "list", "waiting"],
        &["-q", "unserved", "--json", "list", "waiting"],
        &["list", "scheduled"],
        &["--json", "list", "scheduled"],
        &["dead", "list"],
        &["--json", "dead", "list"],
        &["dead", "show", "rejected", "plain and rejected", "invalid", "invalid header", "no URL", "forbidden"],
        &["--json", "dead", "show", "rejected", "plain and rejected", "keyed otherwise"],
        &["result", "good", "rejected", "oauth", "aws"],
        &["wait", "good", "plain", "--timeout", "5"],
        &["stream", "echo in a stream"],
        &["events", "--since", "1h", "--timeout", "2"],
        &["--json", "events", "--since", "1h", "--timeout", "2"],
        &["events", "retried"],
        &["status", "good", "rejected", "later"],
        &["queues"],
        &["--json", "workers"],
        &["limits"],
        &["limits", "show", "l"],
        &["breakers"],
        &["cache", "get", &get],
        &["schedule", "add", "s", "0 3 * * *", &waiting.to_string()],
        &["schedule", "list"],
        &["--json", "schedule", "list"],
        &["cancel", "later"],
        &["dead", "replay", "reset"],
        &["--help"],
        &["completions", "bash"],
    ] {
        let output = fleet.cli.run(args).await;
        findings.look_in(&format!("command {:?}", &args[..args.len().min(3)]), &(output.stdout + &output.stderr));
    }
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        if path.display().to_string() != lines {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            findings.look_in(&format!("file {}", path.display()), &text);
        }
    }
}

/// Workers that check their settings, or refuse them, and commands that cannot reach Redis.
pub(super) async fn settings(fleet: &Fleet, secrets: &Secrets, findings: &mut Findings) {
    let secret = secrets.of("secret in broken settings");
    let file = fleet.folder.path().join("redial.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    let broken = fleet.folder.path().join("broken.toml");
    let own = |url: &str, more: &str| format!("[[upstream]]\nurl = \"{url}\"\n{more}\n");
    let texts = [
        good.clone(),
        own("http://h/", &format!("headers = {{ Authorization = \"{secret}")),
        own("http://h/", &format!("headers = {{ Authorization = [\"{secret}\"] }}")),
        own("http://h/", &format!("headers = {{ Authorization = \"{secret}\\n\" }}")),
        own(
            "http://h/",
            &format!("proxy = {{ url = \"http://fleet:{secret}@:x\", user = \"u\", password = \"{secret}\" }}"),
        ),
        own("http://h/", &format!("proxy = {{ url = \"ftp://{secret}\", user = \"u\", password = 5 }}")),
        own(
            "http://h/",
            &format!(
                "oauth = {{ token_url = \"nowhere?key={secret}\", client_id = \"c\", client_secret = \"{secret}\" }}"
            ),
        ),
        own("http://h/", &format!("oauth = {{ token_url = \"http://h/\", client_secret = \"{secret}\" }}")),
        own("http://h/", &format!("aws = {{ secret_access_key = \"{secret}\" }}")),
        own(&format!("http://fleet:{secret}@h/"), ""),
        own(&format!("http://h/?key={secret}"), ""),
        format!("webhook_secret = \"{secret}\"\n"),
        format!("webhook_secret = \"whsec_{secret}!\"\n"),
        format!("redis_url = \"redis://fleet:{secret}@h:port\"\n"),
        format!("redis_url = \"nonsense://fleet:{secret}@h\"\n"),
        format!("[[token]]\nname = \"t\"\nhash = \"{secret}\"\n"),
    ];
    for (n, text) in texts.iter().enumerate() {
        std::fs::write(&broken, text).unwrap();
        for argument in ["--check-config", "--print-config", "--healthcheck"] {
            let worker = Worker::builder(&fleet.redis_url)
                .env("RUST_LOG", "trace")
                .env("CANARY_ENV", secrets.of("header from the environment"))
                .env("CANARY_OAUTH", secrets.of("client secret of OAuth"))
                .env("CANARY_AWS", secrets.of("secret key of AWS"))
                .env("CANARY_WEBHOOK", secrets.webhook())
                .arg("--config")
                .arg(broken.to_str().unwrap())
                .arg(argument)
                .spawn();
            let _ = worker.wait_exit(SOON).await;
            findings.look_in(&format!("log of {argument} with settings {n}"), &worker.log());
        }
        // An address that is in use ends those whose settings are good.
        let occupied = fleet.upstream.address().to_string();
        let listen = ["serve", "--config", broken.to_str().unwrap(), "--listen", &occupied];
        let served = fleet.cli.run(&listen).await;
        findings.look_in(&format!("log of serve with settings {n}"), &(served.stdout + &served.stderr));
    }
    for url in [
        format!("redis://fleet:{secret}@127.0.0.1:1"),
        format!("redis://fleet:{secret}@127.0.0.1:{}", fleet.redis.port()),
        format!("redis://:{secret}@h:port"),
        secret.to_owned(),
    ] {
        let command = redial_tests::Cli::new(&url).run(&["queues"]).await;
        findings.look_in("log of a command without Redis", &(command.stdout + &command.stderr));
        let worker = Worker::builder(&url).env("RUST_LOG", "trace").arg("--check-config").spawn();
        let _ = worker.wait_exit(SOON).await;
        findings.look_in("log of a worker without Redis", &worker.log());
    }
}
