//! `/v1/queues/{queue}/dead-jobs`: replaying or dropping many dead letters at a rate.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;
use redial_core::queue::dead_page::DeadLetterFilter;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body;
use crate::fleet::{gone, ok, queue_of};
use crate::gateway::Gateway;
use crate::letters::job::{JobAction, JobRequest};
use crate::params::Query;
use crate::problem::Problem;
use crate::tokens::{Access, Caller};

/// The highest rate, in letters a second.
const MAX_RATE: f64 = 1_000.0;

/// A job as it is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobFields {
    action: JobAction,
    reason: Option<String>,
    upstream: Option<String>,
    text: Option<String>,
    per_second: f64,
    #[serde(default)]
    forgotten_keys: bool,
}

/// `POST /v1/queues/{queue}/dead-jobs`: starts one.
pub(crate) async fn start(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(queue): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let queue = queue_of(&gateway, &caller, &queue, Access::Operate)?;
    Query::read(request.uri(), &[])?;
    let bytes = body::read(request.into_body()).await?;
    let fields: JobFields = serde_json::from_slice(&bytes).map_err(|error| {
        Problem::invalid(format!(
            "the body is not a job such as {{\"action\": \"replay\", \"per_second\": 50}}: {error}"
        ))
    })?;
    let JobFields { action, reason, upstream, text, per_second, forgotten_keys } = fields;
    if !(0.01..=MAX_RATE).contains(&per_second) {
        return Err(Problem::invalid(format!("per_second is {per_second}: use a number from 0.01 to {MAX_RATE}")));
    }
    let filter = DeadLetterFilter { reason, upstream, text };
    let asked = JobRequest { action, filter, per_second, forgotten_keys };
    let name = queue.name().clone();
    let started = gateway.dead_jobs.start(queue, asked, gateway.draining.clone()).await.map_err(Problem::core)?;
    let Some(job) = started else {
        let detail = "too many jobs run already: cancel one, or wait";
        return Err(Problem::new(StatusCode::CONFLICT, "too_many_jobs", detail));
    };
    tracing::info!(job = %job.to_json(), queue = %name, by = caller.name(), "an operator started a job on dead letters");
    Ok(ok(&job.to_json()))
}

/// `GET /v1/queues/{queue}/dead-jobs`: those of this gateway, newest first.
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(queue): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let queue = queue_of(&gateway, &caller, &queue, Access::Read)?;
    Query::read(request.uri(), &[])?;
    let jobs: Vec<Value> = gateway.dead_jobs.of(&queue).iter().map(|job| job.to_json()).collect();
    Ok(ok(&json!({"jobs": jobs})))
}

/// `DELETE /v1/queues/{queue}/dead-jobs/{job}`: cancels it. What it has done stays done.
pub(crate) async fn cancel(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path((queue, number)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let queue = queue_of(&gateway, &caller, &queue, Access::Operate)?;
    Query::read(request.uri(), &[])?;
    let jobs = gateway.dead_jobs.of(&queue);
    let job = jobs.iter().find(|job| job.number().to_string() == number);
    let job = job.ok_or_else(|| gone("unknown_job", format!("this gateway has no job {number} of this queue")))?;
    job.cancel();
    Ok(ok(&job.to_json()))
}
