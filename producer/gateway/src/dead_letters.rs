//! `/v1/queues/{queue}/dead`: dead letters grouped, searched, shown, replayed and dropped.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;
use redial_core::queue::dead::DeadLetter;
use redial_core::queue::dead_page::{DeadLetterFilter, DeadLetterSummary};
use redial_core::queue::dead_search::DeadLetterPage;
use redial_core::shown::json::dead_letter;
use redial_core::{Queue, UnixMs};
use serde_json::{Value, json};

use crate::fleet::{gone, ok, queue_of};
use crate::gateway::Gateway;
use crate::params::Query;
use crate::problem::Problem;
use crate::tokens::{Access, Caller};

pub(crate) mod jobs;

/// The highest position of a letter that a request may name: JSON has no larger whole numbers.
const MAX_POSITION: usize = 1 << 53;
/// How long counting groups of letters may take.
const MAX_COUNT_TIME: Duration = Duration::from_secs(5);
/// How many letters a page has at most.
const MAX_PAGE: usize = 200;

/// `GET /v1/queues/{queue}/dead/groups`: how many letters there are by reason and upstream.
pub(crate) async fn groups(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(queue): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let queue = queue_of(&gateway, &caller, &queue, Access::Read)?;
    Query::read(request.uri(), &[])?;
    let dead = queue.counts().await.map_err(Problem::core)?.dead;
    let counts = gateway.dead_groups.of(&queue, MAX_COUNT_TIME).await.map_err(Problem::core)?;
    let groups = counts.groups.iter().map(|group| {
        json!({
            "reason": group.reason, "upstream": group.upstream, "letters": group.letters,
            "oldest_ms": group.oldest, "newest_ms": group.newest,
        })
    });
    Ok(ok(
        &json!({"dead": dead, "counted": counts.counted, "partial": counts.is_partial(), "groups": groups.collect::<Vec<_>>()}),
    ))
}

/// The letters that a request means.
fn filter(query: &Query) -> DeadLetterFilter {
    DeadLetterFilter { reason: query.text("reason"), upstream: query.text("upstream"), text: query.text("text") }
}

/// `GET /v1/queues/{queue}/dead`: a page of letters, newest first.
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path(queue): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let queue = queue_of(&gateway, &caller, &queue, Access::Read)?;
    let query = Query::read(request.uri(), &["reason", "upstream", "text", "limit", "before"])?;
    let limit = query.number("limit", 50, MAX_PAGE)?.max(1);
    let filter = filter(&query);
    // It fails only when the semaphore is closed, which it never is.
    let _permit = gateway.searches.acquire().await;
    let before = query.given("before").map(|_| query.number("before", 0, MAX_POSITION)).transpose()?;
    let DeadLetterPage { dead, letters, next } =
        queue.newest_dead(&filter, before, limit).await.map_err(Problem::core)?;
    let letters: Vec<Value> = letters.iter().map(to_json).collect();
    Ok(ok(&json!({"dead": dead, "letters": letters, "next": next})))
}

/// A letter as in a list. Its `letter` names it.
pub(crate) fn to_json(letter: &DeadLetterSummary) -> Value {
    json!({
        "letter": format!("{}-{}", letter.at, letter.serial), "id": letter.id, "at_ms": letter.at, "reason": letter.reason,
        "error": letter.error, "upstream": letter.upstream, "bytes": letter.bytes,
    })
}

/// The letter with a name as [`to_json`] makes it.
async fn named(queue: &Queue, name: &str) -> Result<DeadLetter, Problem> {
    let wrong = || Problem::invalid(format!("{name:?} is not the name of a dead letter: lists have it as letter"));
    let (at, serial) = name.split_once('-').ok_or_else(wrong)?;
    let at = UnixMs(at.parse().ok().filter(|at| *at < 1 << 53).ok_or_else(wrong)?);
    let letter = queue.dead_letter(at, serial).await.map_err(Problem::core)?;
    letter.ok_or_else(|| gone("unknown_letter", format!("{name}: replayed, dropped, or never there")))
}

/// `GET /v1/queues/{queue}/dead/{letter}`
pub(crate) async fn show(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path((queue, letter)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let queue = queue_of(&gateway, &caller, &queue, Access::Read)?;
    Query::read(request.uri(), &[])?;
    Ok(ok(&dead_letter(&named(&queue, &letter).await?)))
}

/// `POST /v1/queues/{queue}/dead/{letter}/replay`: puts it back on the queue.
pub(crate) async fn replay(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path((queue, letter)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let queue = queue_of(&gateway, &caller, &queue, Access::Operate)?;
    let query = Query::read(request.uri(), &["forgotten_keys"])?;
    let letter = named(&queue, &letter).await?;
    let now = queue.db().now().await.map_err(Problem::core)?;
    if letter.is_past_its_key(now) && query.text("forgotten_keys").as_deref() != Some("true") {
        let detail = "it died more than a day ago: its upstream may have forgotten the idempotency key and act a second time. \
                      ?forgotten_keys=true replays it all the same";
        return Err(Problem::new(StatusCode::CONFLICT, "forgotten_key", detail));
    }
    let replayed = queue.replay(&letter).await.map_err(Problem::core)?;
    tracing::info!(queue = %queue.name(), serial = letter.serial, by = caller.name(), "an operator replayed a dead letter");
    Ok(ok(&json!({"replayed": replayed})))
}

/// `DELETE /v1/queues/{queue}/dead/{letter}`: deletes it for good.
pub(crate) async fn delete(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path((queue, letter)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let queue = queue_of(&gateway, &caller, &queue, Access::Operate)?;
    Query::read(request.uri(), &[])?;
    let letter = named(&queue, &letter).await?;
    let dropped = queue.drop_dead(&letter).await.map_err(Problem::core)?;
    tracing::info!(queue = %queue.name(), serial = letter.serial, by = caller.name(), "an operator dropped a dead letter");
    Ok(ok(&json!({"dropped": dropped})))
}
