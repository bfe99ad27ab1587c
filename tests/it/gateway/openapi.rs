//! The gateway does what its OpenAPI document says: Schemathesis reads the document and sends requests that it allows, and others.

use std::time::Duration;

use redial_tests::{GatewayProcess, RedisServer};
use tokio::process::Command;

use crate::drop_in::install;

/// There are some thirty operations, each with a hundred requests and more.
const TIMEOUT: Duration = Duration::from_secs(400);

#[tokio::test]
async fn whatever_is_sent_the_gateway_answers_as_its_openapi_document_says() {
    let Some(folder) = install::python("tests/it/gateway/openapi").await else { return };
    let redis = RedisServer::start().await;
    // There is no worker, so nothing is called; and so a request that waits must not do so for long.
    let gateway = GatewayProcess::start(&redis, "[gateway]\nmax_wait_ms = 1000\n").await;
    let mut command = Command::new(folder.join("venv/bin/schemathesis"));
    command.arg("run").arg(gateway.url("/openapi.json")).current_dir(&folder);
    command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "20", "--seed", "1"]);
    // The events of a queue have no end, so that each request would wait for all of that time.
    command.args(["--exclude-operation-id", "watchQueue"]);
    // A schema cannot say everything about a task, such as what a URL is.
    command.args(["--exclude-checks", "positive_data_acceptance", "--no-color"]);
    let ended = install::run_within(TIMEOUT, &mut command).await.unwrap();
    assert!(ended.success, "{}{}\n{}", ended.stdout, ended.stderr, gateway.log());
    assert!(ended.stdout.contains("Tested: 31"), "{}", ended.stdout);
}
