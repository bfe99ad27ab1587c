//! The protocol as JSON Schema (draft 2020-12), generated from the types that parse and write it; published in `docs/`.

use crate::TaskResult;
use crate::protocol::task::RawTask;

/// The schema of a task.
pub fn task() -> String {
    pretty(&schemars::schema_for!(RawTask))
}

/// The schema of a result.
pub fn result() -> String {
    pretty(&schemars::schema_for!(TaskResult))
}

fn pretty(schema: &schemars::Schema) -> String {
    // It cannot fail: a schema is plain JSON.
    serde_json::to_string_pretty(schema).unwrap_or_default() + "\n"
}
