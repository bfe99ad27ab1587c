//! The description of the gateway for generators of clients: OpenAPI 3.1, with the schemas of the types that parse and write tasks and
//! results.

mod operate;

use std::sync::LazyLock;

use redial_core::protocol::schema;
use serde_json::{Map, Value, json};

/// The document, as JSON.
pub(crate) fn document() -> String {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| generate().to_string());
    DOCUMENT.clone()
}

fn generate() -> Value {
    let mut schemas = Map::new();
    add_schema(&mut schemas, "Task", &schema::task());
    add_schema(&mut schemas, "Result", &schema::result());
    let text = json!({"type": "string"});
    schemas.insert(
        "Pending".into(),
        json!({
            "type": "object", "description": "A task that has no result yet.", "required": ["id", "queue"],
            "properties": {"id": text, "queue": text, "location": text, "state": text},
        }),
    );
    schemas.insert(
        "Cancelled".into(),
        json!({
            "type": "object", "required": ["id", "queue", "cancelled", "was"],
            "properties": {"id": text, "queue": text, "cancelled": {"const": true}, "was": text},
        }),
    );
    schemas.insert("Problem".into(), json!({
        "type": "object", "description": "What went wrong (RFC 9457).", "required": ["type", "title", "status", "detail", "code"],
        "properties": {"type": text, "title": text, "status": {"type": "integer"}, "detail": text, "code": text, "task": text,
            "error": {"type": "object"}},
    }));
    schemas.extend(operate::schemas());
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Redial gateway", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "MIT OR Apache-2.0"},
            "description": "HTTP calls that succeed. Requests for an upstream go to /u/{upstream}/{path}: see docs/gateway.md.",
        },
        "security": [{}, {"token": []}],
        "paths": {
            "/v1/tasks": {"post": create()},
            "/v1/tasks/{id}": {"parameters": [id(), queue()], "get": show(), "delete": cancel()},
            "/v1/tasks/{id}/stream": {"parameters": [id(), queue()], "get": stream()},
            "/v1/tasks/{id}/events": {"parameters": [id(), queue()], "get": task_events()},
            "/v1/tasks/{id}/story": {"parameters": [id(), queue()], "get": operate::story()},
            "/v1/queues/{queue}/events": {"parameters": [queue_in_path()], "get": queue_events()},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    });
    for paths in [operate::queue_paths(), operate::fleet_paths()] {
        for (path, operations) in paths.as_object().into_iter().flatten() {
            document["paths"][path] = operations.clone();
        }
    }
    document
}

/// A schema refers to its parts by their place in its own document; here they are components as well.
fn add_schema(schemas: &mut Map<String, Value>, name: &str, schema: &str) {
    let moved = schema.replace("#/$defs/", "#/components/schemas/");
    // It cannot fail: it was serialized just now.
    let mut schema: Value = serde_json::from_str(&moved).unwrap_or_default();
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
        if let Some(Value::Object(parts)) = object.remove("$defs") {
            schemas.extend(parts);
        }
    }
    schemas.insert(name.to_owned(), schema);
}

fn create() -> Value {
    let (task, result, pending) = (reference("Task"), reference("Result"), reference("Pending"));
    let many = |of: Value| json!({"type": "array", "items": of});
    let mut responses = responses(
        &[
            (
                "200",
                "The result, or all results in the order of the tasks.",
                json!({"anyOf": [result, many(result.clone())]}),
            ),
            ("202", "Enqueued.", json!({"anyOf": [pending, many(json!({"anyOf": [result, pending]}))]})),
        ],
        &["400", "401", "403", "408", "413", "421", "422", "503"],
    );
    let link = |operation: &str| json!({"operationId": operation, "parameters": {"path.id": "$response.body#/id", "query.queue": "$response.body#/queue"}});
    responses["202"]["links"] = json!({"task": link("getTask"), "cancel": link("cancelTask")});
    json!({
        "operationId": "createTasks",
        "summary": "Enqueue a task, an array of up to 1,000 tasks, or one task per line, and wait for results if asked.",
        "parameters": [queue(), wait(), {
            "name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "minLength": 1, "maxLength": 250},
            "description": "The same key is the same task: a request that is sent again enqueues nothing.",
        }],
        "requestBody": {"required": true, "content": {
            "application/json": {
                "schema": {"anyOf": [task, {"type": "array", "items": task, "minItems": 1}]},
                "examples": {"call": {"value": {"url": "https://api.example.com/v1/extract", "body": {"text": "hi"}}}},
            },
            "application/x-ndjson": {"schema": {"type": "string"}},
        }},
        "responses": responses,
    })
}

fn show() -> Value {
    json!({
        "operationId": "getTask",
        "summary": "The result of a task, or its state.",
        "parameters": [wait()],
        "responses": responses(&[
            ("200", "The result.", reference("Result")),
            ("202", "The state of a task that has not ended.", reference("Pending")),
        ], &["400", "401", "403", "404", "421", "503"]),
    })
}

fn stream() -> Value {
    let mut responses = responses(&[], &["400", "401", "403", "404", "421", "503"]);
    responses["200"] = events("The entries of the stream, as server-sent events.");
    json!({
        "operationId": "streamTask",
        "summary": "The answer of a task while it arrives.",
        "parameters": [last_event_id()],
        "responses": responses,
    })
}

fn task_events() -> Value {
    let mut responses = responses(&[], &["400", "401", "403", "404", "421", "503"]);
    responses["200"] =
        events("What has happened to the task, and what happens until it is done, as server-sent events.");
    json!({
        "operationId": "watchTask",
        "summary": "What happens to a task: queued, started, attempt_failed, waiting, done.",
        "responses": responses,
    })
}

fn queue_events() -> Value {
    let mut responses = responses(&[], &["400", "401", "403", "421", "503"]);
    responses["200"] = events("What happens to the tasks of the queue, as server-sent events.");
    let since = json!({"type": "number", "minimum": 0});
    json!({
        "operationId": "watchQueue",
        "summary": "What happens to the tasks of a queue.",
        "parameters": [last_event_id(), {
            "name": "since", "in": "query", "schema": since,
            "description": "Begin with the events of the last seconds. Default: with those that happen from now on.",
        }],
        "responses": responses,
    })
}

/// A response that consists of events.
fn events(description: &str) -> Value {
    let text = json!({"type": "string"});
    let event = json!({"type": "object", "properties": {"id": text, "event": text, "data": text}});
    json!({"description": description, "content": {"text/event-stream": {"schema": event}}})
}

fn last_event_id() -> Value {
    json!({
        "name": "Last-Event-ID", "in": "header", "schema": {"type": "string", "pattern": "^[0-9]{1,18}-[0-9]{1,18}$"},
        "description": "The last event that the reader has.",
    })
}

fn queue_in_path() -> Value {
    let mut queue = queue();
    queue["in"] = "path".into();
    queue["required"] = true.into();
    queue["description"] = "The queue.".into();
    queue
}

fn cancel() -> Value {
    json!({
        "operationId": "cancelTask",
        "summary": "Cancel a task wherever it is.",
        "responses": responses(&[("200", "Cancelled.", reference("Cancelled"))], &[
            "400", "401", "403", "404", "409", "421", "503",
        ]),
    })
}

fn responses(good: &[(&str, &str, Value)], problems: &[&str]) -> Value {
    let mut all = Map::new();
    for (status, description, schema) in good {
        let content = json!({"application/json": {"schema": schema}});
        all.insert((*status).to_owned(), json!({"description": description, "content": content}));
    }
    for status in problems {
        let content = json!({"application/problem+json": {"schema": reference("Problem")}});
        all.insert((*status).to_owned(), json!({"description": "A problem.", "content": content}));
    }
    Value::Object(all)
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn id() -> Value {
    let schema = json!({"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[ -~]+$"});
    json!({"name": "id", "in": "path", "required": true, "schema": schema})
}

fn queue() -> Value {
    let description = "The queue. Default: the gateway's, or the first one of the token.";
    let schema = json!({"type": "string", "minLength": 1, "maxLength": 100, "pattern": "^[A-Za-z0-9._/-]+$"});
    json!({"name": "queue", "in": "query", "schema": schema, "description": description})
}

fn wait() -> Value {
    let description = "How long to wait for results, in seconds, at most `max_wait_ms`; also as a header, `Prefer: wait=30` (RFC 7240).";
    let schema = json!({"type": "number", "minimum": 0});
    json!({"name": "wait", "in": "query", "schema": schema, "description": description})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_in_the_document_leads_somewhere() {
        let document = generate();
        let text = document.to_string();
        let references: Vec<&str> =
            text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(references.len() > 10, "{references:?}");
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
        assert!(!text.contains("$defs") && text.contains("One HTTP call to make"));
    }
}
