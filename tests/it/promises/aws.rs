//! Calls to AWS are signed at each attempt. The upstream of these tests verifies the signatures by the specification, with code of its own.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use redial_tests::{Reply, Request, Upstream, Worker, eventually};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{SOON, Stage, attempts};

const ACCESS_KEY: &str = "AKIDEXAMPLE";
const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const REGION: &str = "eu-central-1";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Percent-encodes all but what RFC 3986 calls unreserved, and what is `kept`.
fn encoded(text: &str, kept: &str) -> String {
    let is_kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.as_bytes().contains(&byte);
    let encode = |byte| if is_kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

/// What is wrong with a request's signature, if anything.
fn fault(request: &Request, service: &str) -> Option<String> {
    let header = |name: &str| request.headers.get(name).unwrap_or_default().to_owned();
    let authorization = header("authorization");
    let fields: BTreeMap<&str, &str> = authorization
        .strip_prefix("AWS4-HMAC-SHA256 ")?
        .split(", ")
        .filter_map(|field| field.split_once('='))
        .collect();
    let date = header("x-amz-date");
    let day = date.get(..8)?;
    let scope = format!("{day}/{REGION}/{service}/aws4_request");
    if fields["Credential"] != format!("{ACCESS_KEY}/{scope}") {
        return Some(format!("credential {}", fields["Credential"]));
    }
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    // Every service but S3 encodes the path twice.
    let path = if service == "s3" { path.to_owned() } else { encoded(path, "/") };
    let mut query: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    query.sort_unstable();
    let names = fields["SignedHeaders"];
    let headers: String =
        names.split(';').map(|name| format!("{name}:{}\n", header(name).trim())).collect::<Vec<_>>().concat();
    let body = hex(&Sha256::digest(&request.body));
    let canonical = [request.method.as_str(), &path, &query.join("&"), &headers, names, &body].join("\n");
    let to_sign = ["AWS4-HMAC-SHA256", &date, &scope, &hex(&Sha256::digest(canonical.as_bytes()))].join("\n");
    let mut key = hmac(format!("AWS4{SECRET_KEY}").as_bytes(), day);
    for part in [REGION, service, "aws4_request"] {
        key = hmac(&key, part);
    }
    let expected = hex(&hmac(&key, &to_sign));
    (fields["Signature"] != expected).then(|| format!("{canonical}\n--- {expected} is not {}", fields["Signature"]))
}

/// An upstream that verifies the signatures, and a worker that signs.
struct AwsStage {
    stage: Stage,
    folder: TempDir,
    worker: Worker,
}

impl AwsStage {
    async fn start(service: &'static str, more: &str) -> Self {
        let stage = Stage::answering(move |request| {
            let Some(fault) = (if request.headers.get("authorization").is_some_and(|value| value.starts_with("AWS4")) {
                fault(request, service)
            } else {
                Some("not signed".to_owned())
            }) else {
                if let Some(status) = request.route().strip_prefix("/redirect/") {
                    return Reply::status(status.parse().unwrap()).header("location", "/target/a%20b?x=1");
                }
                let flaky = request.path.contains("flaky") && request.nth == 0;
                let token = request.headers.get("x-amz-security-token");
                return Reply::status(if flaky { 503 } else { 200 }).json(&json!({"token": token}));
            };
            Reply::status(403).json(&json!({"fault": fault}))
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), SECRET_KEY).unwrap();
        let text = format!(
            "[[upstream]]\nurl = \"{}\"\n[upstream.aws]\nregion = \"{REGION}\"\nservice = \"{service}\"\n\
             secret_access_key = \"${{file:{}}}\"\n{more}\n",
            stage.url("/"),
            folder.path().join("secret").display(),
        );
        let file = folder.path().join("redial.toml");
        std::fs::write(&file, text).unwrap();
        // Without access_key_id, it comes from the variable that all of AWS's tools know.
        let worker =
            stage.worker().env("AWS_ACCESS_KEY_ID", ACCESS_KEY).arg("--config").arg(file.to_str().unwrap()).spawn();
        worker.wait_ready().await;
        Self { stage, folder, worker }
    }

    async fn call(&self, id: &str, path: &str, more: &Value) -> Value {
        let mut task = more.clone();
        task["id"] = json!(id);
        task["url"] = json!(self.stage.url(path));
        self.stage.answer(task).await
    }
}

#[tokio::test]
async fn calls_of_every_form_are_signed_so_that_the_service_accepts_them() {
    for service in ["bedrock", "s3"] {
        let aws = AwsStage::start(service, "").await;
        for (n, (path, more)) in [
            ("/", json!({})),
            ("/model/anthropic.claude-v2%3A1/invoke", json!({"body": {"prompt": "Grüße"}})),
            ("/a/b?list-type=2&prefix=x%2Fy&empty=", json!({"method": "PUT", "body_text": "text"})),
            ("/z?b=2&a=1", json!({"headers": {"x-amz-target": "Service.Do", "content-type": "application/x-amz-json-1.0"}, "body_text": "{}"})),
        ]
        .into_iter()
        .enumerate()
        {
            let result = aws.call(&format!("t{n}"), path, &more).await;
            assert_eq!(result["status"], "ok", "{service} {path}: {}", result["body"]["fault"].as_str().unwrap_or_default());
        }
        assert!(!aws.worker.log().contains(SECRET_KEY), "{}", aws.worker.log());
    }
}

#[tokio::test]
async fn each_attempt_is_signed_anew_and_a_task_with_its_own_authorization_is_not() {
    let aws = AwsStage::start("bedrock", "session_token = \"of the session\"").await;
    let retried = aws.call("retried", "/flaky", &json!({"retry": {"base_ms": 1500, "jitter": "none"}})).await;
    assert_eq!((retried["status"].as_str(), attempts(&retried)), (Some("ok"), 2), "{retried}");
    assert_eq!(aws.stage.upstream.calls()[0].headers.get("x-amz-security-token"), Some("of the session"));
    assert_eq!(retried["body"]["token"], "[redacted]", "an echo of it is not stored");
    let dates: Vec<String> =
        aws.stage.upstream.calls().iter().map(|call| call.headers.get("x-amz-date").unwrap().to_owned()).collect();
    assert_ne!(dates[0], dates[1], "signed when it was sent");
    let own = aws.call("own", "/", &json!({"headers": {"authorization": "Bearer mine"}})).await;
    assert_eq!(own["body"]["fault"], "not signed", "{own}");
    assert_eq!(aws.stage.upstream.calls()[2].headers.get("authorization"), Some("Bearer mine"));
}

#[tokio::test]
async fn new_credentials_of_aws_are_used_when_their_file_changes() {
    let aws = AwsStage::start("bedrock", "").await;
    assert_eq!(aws.call("good", "/", &json!({})).await["status"], "ok");
    std::fs::write(aws.folder.path().join("secret"), "another").unwrap();
    let refused = || async {
        let id = format!("bad{}", aws.stage.upstream.count());
        (aws.call(&id, "/", &json!({})).await["http_status"] == 403).then_some(())
    };
    eventually(SOON, refused).await;
}

#[tokio::test]
async fn a_redirect_is_signed_anew_within_its_upstream_and_not_followed_from_elsewhere() {
    let aws = AwsStage::start("bedrock", "").await;
    for (status, method, body) in [(307, "POST", &b"{\"n\":1}"[..]), (303, "GET", b"")] {
        let more = json!({"body": {"n": 1}, "redirects": 1, "retry": {"max_attempts": 1}});
        let result = aws.call(&status.to_string(), &format!("/redirect/{status}"), &more).await;
        assert_eq!(result["status"], "ok", "{status}: {result}");
        let call = aws.stage.upstream.calls().pop().unwrap();
        assert_eq!((call.route(), call.method.as_str(), &call.body[..]), ("/target/a%20b", method, body), "{status}");
    }
    let target = aws.stage.url("/target");
    let elsewhere = Upstream::start(move |_| Reply::status(307).header("location", target.clone())).await;
    let before = aws.stage.upstream.count();
    let task = json!({"id": "elsewhere", "url": elsewhere.url("/"), "redirects": 1, "retry": {"max_attempts": 1}});
    let result = aws.stage.answer(task).await;
    assert_eq!(result["reason"], "rejected", "{result}");
    let error = result["error"].as_str().unwrap();
    assert!(error.contains("not followed: 127.0.0.1 wants a signature"), "{error}");
    assert_eq!(aws.stage.upstream.count(), before);
}
