//! Adding fields to a task that is already JSON.

use std::fmt::Write as _;

/// Adds a field to a JSON object that has at least one field and ends with its brace. The value is added byte for byte.
pub fn add_field(task: &mut String, field: &str, json: &str) {
    task.pop();
    let _ = write!(task, ",\"{field}\":{json}}}");
}
