//! What a worker adds to the headers of a task's call, and so tells its upstream.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use redial_traces::context::TRACEPARENT;

use super::job::Job;
use super::task_trace::TaskTrace;
use super::traces;
use super::types::Admission;
use crate::http::credentials::sigv4::{AwsSigner, Unsigned};
use crate::http::own_secrets::OwnSecrets;
use crate::http::redirect::Hop;
use crate::queue::queue_worker::QueueWorker;

/// What the worker adds to the task's own headers.
pub fn added_headers(
    worker: &QueueWorker,
    job: &Job,
    admission: &Admission,
    body: Option<&Vec<u8>>,
) -> Result<HeaderMap, Unsigned> {
    let upstreams = worker.shared.config.upstreams.current();
    let mut headers = upstreams.headers_for(&job.task);
    upstreams.add_idempotency_header(&job.task, &mut headers);
    if let Some(token) = &admission.token {
        headers.insert(AUTHORIZATION, token.authorization().clone());
    }
    if let Some(callback) = &admission.callback {
        headers.extend(callback.headers.clone());
    }
    add_trace(worker, job, &mut headers);
    if let Some(signer) = upstreams.aws_for(&job.task) {
        sign(worker, signer, &Hop::first(&job.task), &mut headers, body)?;
    }
    Ok(headers)
}

/// What is added to the headers of a redirect: within its origin, what its URL gets anyway, as for a task of its own. A redirect must not
/// lead around the limits of an upstream, and nobody else may have calls made with the secrets of the operator.
pub fn added_at(
    worker: &QueueWorker,
    job: &Job,
    admission: &Admission,
    body: Option<&Vec<u8>>,
    hop: &Hop,
) -> Result<HeaderMap, String> {
    let (url, own) = (&hop.url, &hop.headers);
    let upstreams = worker.shared.config.upstreams.current();
    let refused = |why: &str| format!("{} {why}: call it directly", url.host_str().unwrap_or_default());
    let limits = upstreams.limits_at(url);
    if !limits.is_empty() && limits != upstreams.limits_for(&job.task) {
        return Err(refused("has limits of its own"));
    }
    let mut added = if hop.redirection.left_origin { HeaderMap::new() } else { upstreams.headers_at(url, own) };
    upstreams.add_idempotency_header_at(url, &job.task, &mut added);
    if !hop.redirection.left_origin {
        add_trace(worker, job, &mut added);
    }
    let is_same = !hop.redirection.left_origin && upstreams.share_block(&job.task.url, url);
    if upstreams.oauth_at(url, own).is_some() {
        let token = admission.token.as_ref().filter(|_| is_same);
        let token =
            token.ok_or_else(|| refused("wants an access token, which a redirect from elsewhere does not get"))?;
        added.insert(AUTHORIZATION, token.authorization().clone());
    }
    if let Some(signer) = upstreams.aws_at(url, own) {
        if !is_same {
            return Err(refused("wants a signature, which a redirect from elsewhere does not get"));
        }
        let body = body.filter(|_| hop.sends_body);
        sign(worker, signer, hop, &mut added, body).map_err(|unsigned| unsigned.to_string())?;
    }
    Ok(added)
}

/// Has the upstream's spans belong to the attempt.
fn add_trace(worker: &QueueWorker, job: &Job, headers: &mut HeaderMap) {
    if let Some(value) = traces::trace_of(worker, job).and_then(TaskTrace::header) {
        headers.insert(TRACEPARENT, value);
    }
}

/// Adds the signature of a request to what is added to its headers.
fn sign(
    worker: &QueueWorker,
    signer: &AwsSigner,
    hop: &Hop,
    added: &mut HeaderMap,
    body: Option<&Vec<u8>>,
) -> Result<(), Unsigned> {
    let mut headers = hop.headers.clone();
    headers.extend(added.clone());
    let at = UNIX_EPOCH + Duration::from_millis(worker.queue.clock.now().0);
    let body = body.map_or(&[][..], Vec::as_slice);
    added.extend(signer.sign(&hop.method, &hop.url, &headers, body, at)?);
    Ok(())
}

/// The worker's own secrets that the call tells its upstream, which may echo them.
pub fn own_secrets(worker: &QueueWorker, job: &Job, added: &HeaderMap) -> OwnSecrets {
    let upstreams = worker.shared.config.upstreams.current();
    let secrets = upstreams.secrets_at(&job.task.url);
    let is_made = upstreams.oauth_for(&job.task).is_some() || upstreams.aws_for(&job.task).is_some();
    match added.get(AUTHORIZATION).filter(|_| is_made) {
        Some(authorization) => secrets.with_authorization(authorization),
        None => secrets,
    }
}
