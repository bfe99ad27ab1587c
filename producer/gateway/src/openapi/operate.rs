//! What operators see and change: the paths that the dashboard uses.

use serde_json::{Map, Value, json};

use super::{queue_in_path, reference, responses};

/// The schemas of the answers.
pub(super) fn schemas() -> Map<String, Value> {
    let (text, number, flag) = (json!({"type": "string"}), json!({"type": "number"}), json!({"type": "boolean"}));
    let counts = json!({"type": "object", "additionalProperties": {"type": "integer"}});
    let list = |of: Value| json!({"type": "array", "items": of});
    let object = |required: &[&str], properties: Value| json!({"type": "object", "required": required, "properties": properties});
    let any = json!({"type": "object"});
    let schemas = json!({
        "Access": object(&["access", "sees_fleet", "default_queue"], json!({"access": {"enum": ["read", "call", "operate"]}, "name": text, "sees_fleet": flag, "default_queue": text})),
        "Queues": object(&["now_ms", "queues"], json!({"now_ms": number, "queues": list(object(
            &["queue", "paused", "waiting", "active", "scheduled", "parked", "dead", "completed", "died", "workers"],
            json!({"queue": text, "paused": flag, "waiting": number, "active": number, "scheduled": number, "parked": number, "dead": number,
                "completed": number, "died": number, "workers": number}),
        ))})),
        "Paused": object(&["queue", "paused", "changed"], json!({"queue": text, "paused": flag, "changed": flag})),
        "Statistics": object(&["now_ms", "window_ms", "step_ms", "completed", "dead", "waits", "upstreams", "steps"], json!({
            "now_ms": number, "window_ms": number, "step_ms": number, "completed": counts, "dead": counts, "waits": counts,
            "upstreams": list(object(&["upstream", "attempts", "good"], json!({"upstream": text, "attempts": number, "good": number,
                "retries": number, "rate_limited": number, "statuses": counts, "failures": counts, "p50_ms": {"type": ["number", "null"]},
                "p95_ms": {"type": ["number", "null"]}, "p99_ms": {"type": ["number", "null"]}}))),
            "steps": list(object(&["attempts", "good", "completed", "dead"], json!({"attempts": number, "good": number, "completed": number, "dead": number}))),
        })),
        "Workers": object(&["now_ms", "workers"], json!({"now_ms": number, "workers": list(any.clone())})),
        "Batches": object(&["now_ms", "batches"], json!({"now_ms": number, "batches": list(object(
            &["batch", "name", "queue", "state", "lines", "answered", "failed", "invalid", "updated_at_ms"],
            json!({"batch": text, "name": text, "queue": text, "state": {"enum": ["running", "stopped", "done"]}, "silent": flag, "lines": number,
                "answered": number, "failed": number, "invalid": number, "retries": number, "started_at_ms": number, "updated_at_ms": number}),
        ))})),
        "ListedTasks": object(&["tasks", "next"], json!({"tasks": list(any.clone()), "next": {"type": ["integer", "null"]}})),
        "Waits": object(&["scheduled", "lists", "answers", "waiting"], json!({"scheduled": number, "answers": number, "waiting": number,
            "lists": list(object(&["for", "name", "tasks"], json!({"for": {"enum": ["limit", "breaker", "in_flight", "memo"]}, "name": text, "tasks": number})))})),
        "Story": object(&["id", "queue", "state", "events", "links"], json!({"id": text, "queue": text, "state": text, "events": list(any.clone()), "links": any})),
        "Schedules": object(&["schedules"], json!({"schedules": list(any.clone())})),
        "Removed": object(&["name", "removed"], json!({"name": text, "removed": flag})),
        "DeadLetters": object(&["dead", "letters", "next"], json!({"dead": number, "letters": list(any.clone()), "next": {"type": ["integer", "null"]}})),
        "DeadLetter": object(&["serial", "at_ms", "attempts", "bytes"], json!({"serial": text, "at_ms": number, "bytes": number, "attempts": list(any.clone())})),
        "DeadLetterGroups": object(&["dead", "counted", "partial", "groups"], json!({"dead": number, "counted": number, "partial": flag, "groups": list(object(
            &["reason", "upstream", "letters"], json!({"reason": text, "upstream": text, "letters": number, "oldest_ms": number, "newest_ms": number}),
        ))})),
        "Replayed": object(&["replayed"], json!({"replayed": flag})),
        "Dropped": object(&["dropped"], json!({"dropped": flag})),
        "DeadLetterJob": object(&["job", "action", "state", "done"], json!({"job": number, "action": {"enum": ["replay", "drop"]},
            "state": {"enum": ["running", "done", "cancelled", "failed"]}, "letters": number, "looked_at": number, "done": number, "passed_over": number})),
        "DeadLetterJobs": object(&["jobs"], json!({"jobs": list(reference("DeadLetterJob"))})),
        "Limits": object(&["limits", "next"], json!({"limits": list(any.clone()), "next": {"type": ["integer", "null"]}})),
        "Limit": object(&["name", "defined_by", "waiting"], json!({"name": text, "defined_by": text, "waiting": number})),
        "Unset": object(&["unset"], json!({"unset": flag})),
        "Breakers": object(&["breakers"], json!({"breakers": list(object(&["upstream", "state", "since_ms"], json!({"upstream": text, "state": text, "since_ms": number})))})),
    });
    schemas.as_object().cloned().unwrap_or_default()
}

/// An operation: what it is called, what it does, what it answers with.
fn operation(id: &str, summary: &str, schema: &str, more: &[Value]) -> Value {
    let problems = ["400", "401", "403", "404", "408", "409", "413", "421", "503"];
    json!({
        "operationId": id, "summary": summary, "parameters": more,
        "responses": responses(&[("200", summary, reference(schema))], &problems),
    })
}

fn param(name: &str, schema: &Value, description: &str) -> Value {
    json!({"name": name, "in": "query", "schema": schema, "description": description})
}

fn in_path(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}})
}

fn with_body(mut operation: Value, schema: &Value) -> Value {
    operation["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": schema}}});
    operation
}

/// The paths below a queue.
pub(super) fn queue_paths() -> Value {
    let number = |max: u64| json!({"type": "integer", "minimum": 0, "maximum": max});
    let text = json!({"type": "string"});
    let filter = [
        param("reason", &text, "Those that died of this."),
        param("upstream", &text, "Those of tasks for this host:port."),
        param("text", &text, "Those whose id, error or upstream contains this."),
        param("limit", &number(200), "How many. Default: 50."),
        param("before", &number(1 << 53), "Goes on from `next`."),
    ];
    let page = [
        param("state", &json!({"enum": ["waiting", "scheduled", "parked", "active"]}), "Default: waiting."),
        param("skip", &number(10_000_000), "How many to pass over."),
        param("limit", &number(200), "How many. Default: 50."),
        param(
            "for",
            &json!({"enum": ["limit", "breaker", "in_flight", "memo"]}),
            "Parked tasks that wait for such a thing.",
        ),
        param("name", &text, "The name of that thing."),
    ];
    let nullable = json!({"type": ["string", "null"]});
    let job = json!({"type": "object", "required": ["action", "per_second"], "additionalProperties": false, "properties": {
        "action": {"enum": ["replay", "drop"]}, "per_second": {"type": "number", "minimum": 0.01, "maximum": 1000},
        "reason": nullable, "upstream": nullable, "text": nullable, "forgotten_keys": {"type": "boolean"},
    }});
    let queue = || queue_in_path();
    let forgotten = param(
        "forgotten_keys",
        &json!({"enum": ["true", "false"]}),
        "Also where the upstream may have forgotten the idempotency key.",
    );
    json!({
        "/v1/queues/{queue}/pause": {"parameters": [queue()], "post": operation("pauseQueue", "Pause a queue: workers finish what they hold.", "Paused", &[])},
        "/v1/queues/{queue}/resume": {"parameters": [queue()], "post": operation("resumeQueue", "Resume a queue.", "Paused", &[])},
        "/v1/queues/{queue}/tasks": {"parameters": [queue()], "get": operation("listTasks", "Tasks that have not ended, in pages.", "ListedTasks", &page)},
        "/v1/queues/{queue}/waits": {"parameters": [queue()], "get": operation("showWaits", "Why tasks wait, and how many.", "Waits", &[])},
        "/v1/queues/{queue}/schedules": {"parameters": [queue()], "get": operation("listSchedules", "The schedules.", "Schedules", &[])},
        "/v1/queues/{queue}/schedules/{name}": {"parameters": [queue(), in_path("name")], "delete": operation("removeSchedule", "Remove a schedule.", "Removed", &[])},
        "/v1/queues/{queue}/dead": {"parameters": [queue()], "get": operation("listDeadLetters", "Dead letters, newest first.", "DeadLetters", &filter)},
        "/v1/queues/{queue}/dead/groups": {"parameters": [queue()], "get": operation("groupDeadLetters", "How many dead letters there are by reason and upstream.", "DeadLetterGroups", &[])},
        "/v1/queues/{queue}/dead/{letter}": {
            "parameters": [queue(), in_path("letter")],
            "get": operation("showDeadLetter", "A whole dead letter, with credentials redacted.", "DeadLetter", &[]),
            "delete": operation("dropDeadLetter", "Delete a dead letter for good.", "Dropped", &[]),
        },
        "/v1/queues/{queue}/dead/{letter}/replay": {"parameters": [queue(), in_path("letter")], "post": operation("replayDeadLetter", "Put a dead letter back on the queue.", "Replayed", &[forgotten])},
        "/v1/queues/{queue}/dead-jobs": {
            "parameters": [queue()],
            "get": operation("listDeadLetterJobs", "The jobs of this gateway on many dead letters.", "DeadLetterJobs", &[]),
            "post": with_body(operation("startDeadLetterJob", "Replay or drop many dead letters at a rate.", "DeadLetterJob", &[]), &job),
        },
        "/v1/queues/{queue}/dead-jobs/{job}": {"parameters": [queue(), in_path("job")], "delete": operation("cancelDeadLetterJob", "Cancel a job.", "DeadLetterJob", &[])},
    })
}

/// The paths about what all queues share.
pub(super) fn fleet_paths() -> Value {
    let positive = json!({"type": "number", "exclusiveMinimum": 0});
    let limit = json!({"type": "object", "additionalProperties": false, "properties": {
        "rate": positive, "burst": positive, "per_ms": {"type": "integer", "minimum": 1}, "concurrency": {"type": "integer", "minimum": 1},
        "unit": {"type": "string"},
    }, "anyOf": [{"required": ["rate"]}, {"required": ["concurrency"]}]});
    let window =
        param("window", &json!({"enum": ["minute", "five_minutes", "hour"]}), "How far back. Default: minute.");
    let mut queue = queue_in_path();
    (queue["in"], queue["required"], queue["description"]) =
        ("query".into(), false.into(), "One queue. Default: all.".into());
    let from = param("from", &json!({"type": "integer", "minimum": 0, "maximum": 1_u64 << 53}), "Goes on from `next`.");
    json!({
        "/v1/access": {"get": operation("showAccess", "What the caller may do.", "Access", &[])},
        "/v1/queues": {"get": operation("listQueues", "All queues, and how many tasks are in each state.", "Queues", &[])},
        "/v1/batches": {"get": operation("listBatches", "How far the batches are that ran within a day.", "Batches", &[])},
        "/v1/workers": {"get": operation("listWorkers", "All workers, and what they hold.", "Workers", &[])},
        "/v1/statistics": {"get": operation("showStatistics", "What workers counted lately.", "Statistics", &[queue, window])},
        "/v1/limits": {"get": operation("listLimits", "The limits in use, in pages.", "Limits", &[from])},
        "/v1/limits/{name}": {
            "parameters": [in_path("name")],
            "get": operation("showLimit", "A limit in full.", "Limit", &[]),
            "put": with_body(operation("setLimit", "Set a limit, overriding the configuration and tasks.", "Limit", &[]), &limit),
            "delete": operation("unsetLimit", "Let the configuration and tasks define a limit again.", "Unset", &[]),
        },
        "/v1/limits/{name}/reset": {"parameters": [in_path("name")], "post": operation("resetLimit", "Make all of a limit available at once.", "Limit", &[])},
        "/v1/breakers": {"get": operation("listBreakers", "The upstreams that are down or recovering.", "Breakers", &[])},
    })
}

/// The story of a task.
pub(super) fn story() -> Value {
    operation("tellTask", "Where a task is, what happened to it, and what belongs to it.", "Story", &[])
}
