//! The published JSON Schemas are generated from the types that parse and write tasks and results.

use std::path::Path;

use redial_core::protocol::schema;

/// `make schema` updates the files.
#[test]
fn the_published_schemas_are_those_of_the_types() {
    for (file, generated) in [("task", schema::task()), ("result", schema::result())] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/{file}.schema.json"));
        if std::env::var_os("REDIAL_UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, &generated).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(published, generated, "docs/{file}.schema.json is outdated: run `make schema`");
    }
}
