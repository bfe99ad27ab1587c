//! Anyone who can push makes the worker call addresses: it calls only the allowed ones.

use redial_tests::Reply;
use serde_json::json;

use super::Stage;

#[tokio::test]
async fn a_non_public_address_is_called_only_if_allowed() {
    let stage = Stage::unruly().await;
    let worker = stage.worker().env("REDIAL_ALLOW_PRIVATE", "").spawn();
    let port = stage.upstream.address().port();
    let hosts = [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "168.63.129.16",
    ];
    for host in hosts {
        let task = json!({"id": host, "url": format!("http://{host}:{port}/ok")});
        let result = stage.answer(task).await;
        assert_eq!(result["reason"], "forbidden_target", "{host}: {result}");
        assert!(result["error"].as_str().unwrap().contains("REDIAL_ALLOW_PRIVATE"), "{result}");
    }
    assert_eq!(stage.upstream.count(), 0);
    assert_eq!(stage.queue.dead().await.len(), hosts.len());
    assert!(worker.is_running());
}

#[tokio::test]
async fn a_redirect_is_reported_and_not_followed() {
    let stage = Stage::answering(|request| match request.route() {
        "/moved" => Reply::status(302).header("location", "/inside"),
        _ => Reply::ok(),
    })
    .await;
    let _worker = stage.worker().spawn();
    let result = stage.answer(json!({"id": "a", "url": stage.url("/moved")})).await;
    assert_eq!((&result["reason"], &result["http_status"]), (&json!("rejected"), &json!(302)));
    assert_eq!(result["headers"]["location"], "/inside");
    assert_eq!(stage.upstream.calls_to("/inside").len(), 0);
}
