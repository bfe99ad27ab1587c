//! What the worker reads of upstreams, as functions of bytes, for the fuzz targets in `tests/fuzz`.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use prometheus_client::metrics::counter::Counter;
use redial_core::protocol::task::TaskDefaults;
use redial_core::{Status, Task, TaskResult, UnixMs};

use crate::config::{Reloadable, SecretReader, Upstreams};
use crate::http::answer_memory::AnswerMemory;
pub use crate::http::client::HttpClient;
use crate::http::connection::descriptors::Descriptors;
use crate::http::connection::guard::Guard;
use crate::http::connection::name_servers::NameServers;
use crate::http::connection::names::Names;
use crate::http::presets::Presets;
use crate::http::redirect::Hop;
use crate::http::relay::AnswerReading;
use crate::http::types::{AttemptResult, Redirection, Response};
use crate::task::job::add_response;
use crate::task::policy::advice::Advice;
pub use crate::task::policy::classify::Outcome;
use crate::task::policy::classify::{Policy, classify};
use crate::task::policy::judge::Criteria;

/// The time of everything here.
pub const NOW: UnixMs = UnixMs(1_763_900_000_000);
/// The longest reset of a limit that is believed.
pub const MAX_RESET: Duration = Duration::from_secs(3600);
/// The longest wait that a worker plans.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// A response that came without redirects.
pub fn response(status: u16, headers: HeaderMap, body: Vec<u8>) -> Response {
    Response { status, headers, body, redirection: Redirection::default() }
}

/// What a response of a host says about when to call again.
///
/// # Errors
/// The built-in presets cannot be read.
pub fn advice(response: &Response, host: &str) -> anyhow::Result<Advice> {
    let presets = Presets::built_in()?;
    Ok(Advice::read(response, presets.for_host(Some(host)), NOW, MAX_RESET))
}

/// A client that may call loopback addresses, and takes answers of at most that size.
///
/// # Errors
/// The HTTP client cannot be built.
pub fn client(max_answer_bytes: usize) -> anyhow::Result<HttpClient> {
    let names = Names::new(&NameServers::OfSystem, 16);
    let guard = Guard::new(&["127.0.0.0/8".parse()?], names);
    let no_secrets = |_: &str| None;
    let upstreams = Upstreams::new(&[], TaskDefaults::default(), &SecretReader::new(&no_secrets))?;
    Ok(HttpClient::new(guard, max_answer_bytes, 1, Reloadable::new(upstreams), Descriptors::new(None, 0))?)
}

/// Makes one attempt of a task.
///
/// # Errors
/// There is no complete response.
pub async fn attempt(client: &HttpClient, task: &Task) -> AttemptResult {
    let no_headers = |_: &Hop| Ok(HeaderMap::new());
    let memory = Arc::new(AnswerMemory::new(usize::MAX, Counter::default())).hold();
    let reading = AnswerReading { relay: None, memory: &memory };
    client.call(task, HeaderMap::new(), task.body.as_ref(), no_headers, reading).await
}

/// What the first attempt of a task means for it.
///
/// # Errors
/// The built-in presets cannot be read.
pub fn outcome(task: &Task, result: &AttemptResult) -> anyhow::Result<Outcome> {
    let presets = Presets::built_in()?;
    let preset = presets.for_host(task.url.host_str());
    let criteria = Criteria::new(task.ok_when.as_ref(), task.retry_when.as_ref(), preset);
    let judgement = result.as_ref().map(|response| criteria.judge(response)).unwrap_or_default();
    let policy = Policy {
        retry: &task.retry,
        effect: task.effect,
        preset,
        judgement: &judgement,
        has_key: task.idempotency_key.is_some(),
        counted: 0,
        free_waits: 0,
        max_free_waits: 10,
        is_probe: false,
        previous: Duration::ZERO,
        max_stated_wait: MAX_WAIT,
        now: NOW,
        deadline: None,
        random: 0.5,
    };
    Ok(classify(result, &policy))
}

/// The result that is stored of a response.
pub fn result_of(response: Response) -> TaskResult {
    let mut result = TaskResult::new(None, Status::Ok, NOW);
    add_response(&mut result, response);
    result
}
