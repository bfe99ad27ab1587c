//! The protocol as JSON Schema (draft 2020-12), generated from the types that parse and write it; published in `docs/`.

use crate::{TaskResult, task::Wire};

/// The schema of a task.
pub fn task() -> String {
    pretty(&schemars::schema_for!(Wire))
}

/// The schema of a result.
pub fn result() -> String {
    pretty(&schemars::schema_for!(TaskResult))
}

fn pretty(schema: &schemars::Schema) -> String {
    // It can't fail: a schema is plain JSON.
    serde_json::to_string_pretty(schema).unwrap_or_default() + "\n"
}
