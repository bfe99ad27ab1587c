//! Fields of a task as JSON: as options give them, and added to a task that is already JSON.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use redial_core::protocol::task::{self, Task};
use serde_json::json;

/// Adds a field to a JSON object that has at least one field and ends with its brace. The value is added byte for byte.
pub fn add_field(task: &mut String, field: &str, json: &str) {
    task.pop();
    let _ = write!(task, ",\"{field}\":{json}}}");
}

/// A condition as it is typed: a JSONPath, or the field of the protocol.
pub fn condition(field: &str, typed: &str) -> anyhow::Result<String> {
    let value = if typed.trim_start().starts_with('{') {
        serde_json::from_str(typed).context("use a JSONPath such as '$.error', or JSON with `status` and `path`")?
    } else {
        json!({"path": typed.trim()})
    };
    check(&json!({field: value}))?;
    Ok(value.to_string())
}

/// Checks the fields of a task, and that the protocol knows them.
pub fn check(fields: &serde_json::Value) -> anyhow::Result<()> {
    let mut sample = json!({"url": "http://example.com"});
    for (name, value) in fields.as_object().into_iter().flatten() {
        sample[name] = value.clone();
    }
    let task = Task::parse(sample.to_string().as_bytes(), task::MAX_BYTES)?;
    ensure!(task.unknown.is_empty(), "the protocol has no field {}", task.unknown.join(", "));
    Ok(())
}
