//! `/v1/limits` and `/v1/breakers`: what holds calls back, in the whole fleet.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;
use redial_core::protocol::task::Limit;
use redial_core::shown::json::{limit, limit_in_full};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body;
use crate::fleet::ok;
use crate::gateway::Gateway;
use crate::params::Query;
use crate::problem::Problem;
use crate::tokens::{Access, Caller};

/// How many fairness keys of each queue are shown.
const MAX_KEYS: usize = 20;

/// The definition of a limit in a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitFields {
    rate: Option<f64>,
    per_ms: Option<u64>,
    burst: Option<f64>,
    concurrency: Option<u32>,
    unit: Option<String>,
}

/// `GET /v1/limits`: a page of the limits in use.
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_fleet(Access::Read)?;
    let query = Query::read(request.uri(), &["from"])?;
    let from = query.number("from", 0, usize::MAX >> 11)?;
    let limits = gateway.client().queue().db().limits();
    let (page, next) = limits.page(from as u64).await.map_err(Problem::core)?;
    let page: Vec<Value> = page.iter().map(limit).collect();
    Ok(ok(&json!({"limits": page, "next": next})))
}

/// `GET /v1/limits/{name}`
pub(crate) async fn show(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_fleet(Access::Read)?;
    Query::read(request.uri(), &[])?;
    shown(&gateway, &checked(&name)?).await
}

/// `PUT /v1/limits/{name}`: sets a limit, overriding the configuration and tasks.
pub(crate) async fn set(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_fleet(Access::Operate)?;
    Query::read(request.uri(), &[])?;
    let bytes = body::read(request.into_body()).await?;
    let fields: LimitFields = serde_json::from_slice(&bytes).map_err(|error| {
        Problem::invalid(format!("the body is not a limit such as {{\"rate\": 5, \"per_ms\": 1000}}: {error}"))
    })?;
    let LimitFields { rate, per_ms, burst, concurrency, unit } = fields;
    if rate.is_none() && concurrency.is_none() {
        return Err(Problem::invalid("the limit has neither rate nor concurrency: give one of them"));
    }
    let limit = Limit { rate, per_ms, burst, concurrency, unit, ..Limit::named(name) };
    limit.check().map_err(|error| Problem::invalid(error.to_string()))?;
    gateway.client().queue().db().limits().set(&limit).await.map_err(Problem::core)?;
    tracing::info!(limit = limit.name, by = caller.name(), "an operator set a limit");
    shown(&gateway, &limit.name).await
}

/// `DELETE /v1/limits/{name}`: lets the configuration and tasks define it again.
pub(crate) async fn unset(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_fleet(Access::Operate)?;
    Query::read(request.uri(), &[])?;
    let unset = gateway.client().queue().db().limits().unset(&checked(&name)?).await.map_err(Problem::core)?;
    tracing::info!(limit = name, by = caller.name(), unset, "an operator unset a limit");
    Ok(ok(&json!({"unset": unset})))
}

/// `POST /v1/limits/{name}/reset`: makes all of it available at once.
pub(crate) async fn reset(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_fleet(Access::Operate)?;
    Query::read(request.uri(), &[])?;
    let name = checked(&name)?;
    if !gateway.client().queue().db().limits().reset(&name).await.map_err(Problem::core)? {
        return Err(not_in_use(&name));
    }
    tracing::info!(limit = name, by = caller.name(), "an operator reset a limit");
    shown(&gateway, &name).await
}

/// `GET /v1/breakers`: the upstreams that are down or recovering.
pub(crate) async fn breakers(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_fleet(Access::Read)?;
    Query::read(request.uri(), &[])?;
    let db = gateway.client().queue().db();
    let breakers = db.breakers().list().await.map_err(Problem::core)?;
    let breakers = breakers
        .iter()
        .map(|(upstream, state, since)| json!({"upstream": upstream, "state": state.as_str(), "since_ms": since}));
    Ok(ok(&json!({"breakers": breakers.collect::<Vec<_>>()})))
}

/// The name, if a limit may have it.
fn checked(name: &str) -> Result<String, Problem> {
    let named = Limit { concurrency: Some(1), ..Limit::named(name) };
    named.check().map_err(|error| Problem::invalid(error.to_string()))?;
    Ok(named.name)
}

async fn shown(gateway: &Gateway, name: &str) -> Result<Response, Problem> {
    let limits = gateway.client().queue().db().limits();
    let status = limits.inspect(name).await.map_err(Problem::core)?;
    if status.source.is_none() {
        return Err(not_in_use(name));
    }
    let mut keys = Vec::new();
    for (queue, _) in &status.waiting {
        keys.extend(limits.waiting_keys(name, queue, MAX_KEYS).await.map_err(Problem::core)?);
    }
    Ok(ok(&limit_in_full(&status, &keys)))
}

fn not_in_use(name: &str) -> Problem {
    let detail = format!("no limit {name:?} is in use: GET /v1/limits lists those that are");
    Problem::new(StatusCode::NOT_FOUND, "unknown_limit", detail)
}
