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
    // It can't fail: a schema is plain JSON.
    serde_json::to_string_pretty(schema).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// `make schema` writes them anew.
    #[test]
    fn the_published_schemas_are_those_of_the_types() -> std::io::Result<()> {
        for (file, generated) in [("task", super::task()), ("result", super::result())] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/{file}.schema.json"));
            if std::env::var_os("REDIAL_UPDATE_SCHEMA").is_some() {
                std::fs::write(&path, &generated)?;
            }
            let published = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(published, generated, "docs/{file}.schema.json is old: run `make schema`");
        }
        Ok(())
    }
}
