//! Redirects, which are followed as often as a task says, and lead nowhere a task may not call.

use redial_tests::{Port, Reply, Request, Upstream};
use serde_json::{Value, json};

use super::{Stage, attempts};

/// Redirects by path: `/<status>` to `/target`, `/loop` to itself, `/to?<url>` to anywhere.
fn redirecting(request: &Request) -> Reply {
    let to = |status: u16, location: &str| Reply::status(status).header("location", location.to_owned());
    match request.route() {
        "/301" => to(301, "/target"),
        "/302" => to(302, "target?x=1"),
        "/303" => to(303, "/target"),
        "/307" => to(307, "/target"),
        "/308" => to(308, "/target"),
        "/loop" => to(302, "/loop"),
        "/nowhere" => Reply::status(302),
        "/file" => to(302, "file:///etc/passwd"),
        "/to" => to(307, request.path.split_once('?').unwrap_or_default().1),
        "/see" => to(303, request.path.split_once('?').unwrap_or_default().1),
        _ => Reply::ok().json(&json!({"target": true})),
    }
}

fn task(stage: &Stage, id: &str, path: &str, more: &Value) -> Value {
    let mut task =
        json!({"id": id, "url": stage.url(path), "body": {"n": 1}, "redirects": 3, "retry": {"max_attempts": 1}});
    for (name, value) in more.as_object().into_iter().flatten() {
        task[name] = value.clone();
    }
    task
}

#[tokio::test]
async fn redirects_are_followed_as_often_as_the_task_says() {
    let stage = Stage::answering(redirecting).await;
    let _worker = stage.worker().spawn();
    for (status, method, body) in
        [(301, "GET", ""), (302, "GET", ""), (303, "GET", ""), (307, "POST", "{\"n\":1}"), (308, "POST", "{\"n\":1}")]
    {
        let result = stage.answer(task(&stage, &status.to_string(), &format!("/{status}"), &json!({}))).await;
        assert_eq!((&result["status"], &result["http_status"]), (&json!("ok"), &json!(200)), "{status}: {result}");
        assert_eq!((attempts(&result), &result["body"]), (1, &json!({"target": true})), "{status}");
        let call = stage.upstream.calls().pop().unwrap();
        assert_eq!(
            (call.route(), call.method.as_str(), &call.body[..]),
            ("/target", method, body.as_bytes()),
            "{status}"
        );
        assert_eq!(call.headers.get("content-type").is_some(), !body.is_empty(), "{status}");
    }
    let before = stage.upstream.count();
    let result = stage.answer(task(&stage, "loop", "/loop", &json!({}))).await;
    assert_eq!((&result["reason"], &result["http_status"]), (&json!("rejected"), &json!(302)), "{result}");
    assert!(result["error"].as_str().unwrap().contains("not followed: redirects allows 3"), "{result}");
    assert_eq!(stage.upstream.count() - before, 4);
    for (id, path, redirects, says) in [
        ("by default", "/307", Value::Null, "status 307"),
        ("nowhere", "/nowhere", json!(3), "status 302"),
        ("file", "/file", json!(3), "not followed: its Location is not an http or https URL"),
    ] {
        let result = stage.answer(task(&stage, id, path, &json!({"redirects": redirects}))).await;
        assert_eq!(result["reason"], "rejected", "{id}: {result}");
        assert!(result["error"].as_str().unwrap().contains(says), "{id}: {result}");
    }
    let result = stage.answer(task(&stage, "many", "/307", &json!({"redirects": 21}))).await;
    assert!(result["error"].as_str().unwrap().contains("`redirects` is 21: use 0 to 20"), "{result}");
}

#[tokio::test]
async fn another_origin_gets_no_credentials_of_the_task_and_no_secrets_of_the_operator() {
    let other = Upstream::start(|_| Reply::ok()).await;
    let stage = Stage::answering(redirecting).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("redial.toml");
    let text = format!(
        "[[upstream]]\nurl = \"{}\"\nheaders = {{ x-first-secret = \"one\" }}\n\
         [[upstream]]\nurl = \"{}\"\nheaders = {{ x-second-secret = \"two\" }}\n",
        stage.url("/"),
        other.url("/")
    );
    std::fs::write(&settings, text).unwrap();
    let _worker = stage.worker().arg("--config").arg(settings.to_str().unwrap()).spawn();
    let headers = json!({"headers": {"Authorization": "Bearer t", "X-Api-Key": "k", "Cookie": "c=1",
        "X-User-Id": "7", "Accept-Language": "de"}});
    let path = format!("/to?{}", other.url("/elsewhere"));
    let result = stage.answer(task(&stage, "a", &path, &headers)).await;
    assert_eq!(result["status"], "ok", "{result}");
    let (first, second) = (stage.upstream.calls().remove(0), other.calls().remove(0));
    let has =
        |call: &Request, names: &[&str]| names.iter().map(|name| call.headers.get(name).is_some()).collect::<Vec<_>>();
    let names =
        ["authorization", "x-api-key", "cookie", "x-first-secret", "x-second-secret", "x-user-id", "accept-language"];
    assert_eq!(has(&first, &names), [true, true, true, true, false, true, true]);
    assert_eq!(has(&second, &names), [false, false, false, false, false, false, true]);
    assert_eq!(second.body, "{\"n\":1}");
}

#[tokio::test]
async fn a_redirect_reaches_no_address_that_a_task_may_not_call() {
    let stage = Stage::answering(redirecting).await;
    let _worker = stage.worker().env("REDIAL_ALLOW_PRIVATE", "127.0.0.1/32").spawn();
    let port = stage.upstream.address().port();
    for (n, target) in
        ["http://127.0.0.2", "http://[::1]", "http://169.254.169.254", "http://0x7f000002", "http://localhost6"]
            .into_iter()
            .enumerate()
    {
        let path = format!("/to?{target}:{port}/");
        let result = stage.answer(task(&stage, &n.to_string(), &path, &json!({}))).await;
        let is_refused = result["reason"] == "forbidden_target" || target.contains("localhost6");
        assert!(is_refused && result["status"] == "dead", "{target}: {result}");
    }
    assert_eq!(stage.upstream.calls_to("/").len(), 0);
}

#[tokio::test]
async fn a_redirect_leads_around_no_limit() {
    let other = Upstream::start(|_| Reply::ok()).await;
    let stage = Stage::answering(redirecting).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("redial.toml");
    let text = format!(
        "[[limit]]\nname = \"other\"\nrate = 1\n[[upstream]]\nurl = \"{}\"\nlimits = [\"other\"]\n",
        other.url("/")
    );
    std::fs::write(&settings, text).unwrap();
    let _worker = stage.worker().arg("--config").arg(settings.to_str().unwrap()).spawn();
    let result = stage.answer(task(&stage, "a", &format!("/to?{}", other.url("/")), &json!({}))).await;
    assert_eq!(result["reason"], "rejected", "{result}");
    assert!(result["error"].as_str().unwrap().contains("has limits of its own: call it directly"), "{result}");
    assert_eq!(other.count(), 0);
}

#[tokio::test]
async fn a_once_only_call_that_was_answered_by_a_redirect_is_not_repeated() {
    let stage = Stage::answering(redirecting).await;
    let _worker = stage.worker().spawn();
    let nobody = Port::claim();
    let target = format!("http://127.0.0.1:{}/", nobody.number());
    let once = json!({"effect": "once", "retry": {"max_attempts": 3, "base_ms": 10}});
    // 303: the call was carried out, and its result is elsewhere. 307: it is to be made elsewhere, where nobody has seen it.
    for (path, reason, calls) in [("see", "outcome_unknown", 1), ("to", "attempts_exhausted", 3)] {
        let result = stage.answer(task(&stage, path, &format!("/{path}?{target}"), &once)).await;
        assert_eq!((&result["reason"], attempts(&result)), (&json!(reason), calls), "{path}: {result}");
        assert!(result["error"].as_str().unwrap().contains("connection refused, after a redirect"), "{path}: {result}");
    }
    let result = stage.answer(task(&stage, "good", "/303", &once)).await;
    assert_eq!(result["status"], "ok", "{result}");
}

#[tokio::test]
async fn an_upstream_says_for_its_tasks_how_many_redirects_are_followed() {
    let stage = Stage::answering(redirecting).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("redial.toml");
    std::fs::write(&settings, format!("[[upstream]]\nurl = \"{}\"\nredirects = 2\n", stage.url("/"))).unwrap();
    let _worker = stage.worker().arg("--config").arg(settings.to_str().unwrap()).spawn();
    assert_eq!(stage.answer(json!({"id": "a", "url": stage.url("/302")})).await["status"], "ok");
    let own = json!({"id": "b", "url": stage.url("/302"), "redirects": 0});
    assert_eq!(stage.answer(own).await["reason"], "rejected");
}
