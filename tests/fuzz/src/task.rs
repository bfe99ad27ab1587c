//! What producers push.

use std::sync::OnceLock;

use jsonschema::Validator;
use redial_core::Task;
use redial_core::protocol::schema;
use redial_core::protocol::task::{InvalidTask, MAX_BYTES, TaskError};
use redial_core::shown::redact;
use serde_json::Value;

use crate::bound::bounded;

/// A task is valid and conforms to the published schema, or is refused with the name of the field.
pub fn run(bytes: &[u8]) {
    match bounded("parsing", || Task::parse(bytes, MAX_BYTES)) {
        Ok(task) => {
            // Numbers beyond a double and lone surrogates are JSON, but no values of serde_json.
            if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
                conforms(&value);
                means_the_same_written_again(&task, &value);
            }
        }
        Err(refused) => says_where(&refused),
    }
    // `redial list` and the logs show any bytes.
    bounded("showing", || redact::task(bytes));
}

fn conforms(value: &Value) {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        let text: Value = serde_json::from_str(&schema::task()).unwrap();
        jsonschema::validator_for(&text).unwrap()
    });
    if let Err(error) = schema.validate(value) {
        panic!("a valid task does not conform to docs/task.schema.json: {error} at {}", error.instance_path());
    }
}

/// Neither the order of fields nor white space means anything, and what was written again stays as it is.
fn means_the_same_written_again(task: &Task, value: &Value) {
    let text = value.to_string();
    let again = Task::parse(text.as_bytes(), MAX_BYTES * 2).unwrap_or_else(|error| panic!("{text}: {error}"));
    // The boundary of a multipart body is random, and the spelling of numbers in bodies counts.
    let comparable = |task: &Task| {
        let mut task = Task { body: None, then: None, meta: None, unknown: Vec::new(), ..task.clone() };
        task.headers.remove("content-type");
        format!("{task:?}")
    };
    assert_eq!(comparable(task), comparable(&again));
    let rewritten: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(rewritten.to_string(), text);
}

/// Whoever reads the refusal knows what to look at.
fn says_where(refused: &TaskError) {
    let text = refused.to_string();
    let is_whole = matches!(
        refused.cause,
        InvalidTask::TooLarge { .. }
            | InvalidTask::NotUtf8 { .. }
            | InvalidTask::TooDeep
            | InvalidTask::NotJson(_)
            | InvalidTask::NotAnObject
            | InvalidTask::TrailingData(_)
    );
    let says = if is_whole { text.contains("the task") } else { text.matches('`').count() >= 2 };
    assert!(says, "{text:?} names no field");
}
