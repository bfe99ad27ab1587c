//! A line of the input: the call that it asks for, or why it is invalid.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use redial_core::UnixMs;
use redial_core::protocol::task::{self, Task};
use serde_json::json;
use serde_json::value::RawValue;

use super::base_url::PathOfLineError;
use super::template::TemplateError;

/// A line of the input.
#[derive(Debug)]
pub struct InputLine {
    /// Its number in the file, from 1; in an array, that of the request.
    pub number: u64,
    /// The call, or why the line is invalid.
    pub call: Result<LineCall, InvalidLine>,
}

/// Why a line is invalid.
#[derive(Debug)]
pub struct InvalidLine {
    /// The producer's id for it, if it can be read.
    pub id: Option<String>,
    pub error: LineError,
}

/// The causes, in words for whoever reads the error file.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("it is longer than the {} bytes that a task may have", task::MAX_BYTES)]
    TooLong,
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("it has {found} columns, the first line {expected}")]
    Columns { found: usize, expected: usize },
    #[error(transparent)]
    Csv(#[from] csv::Error),
    #[error("it is not a JSON object: {0}")]
    NotAnObject(serde_json::Error),
    #[error("it is not JSON: {0}")]
    NotJson(serde_json::Error),
    #[error("it is not a request: {0}")]
    NotARequest(serde_json::Error),
    #[error("it has no `{0}`")]
    NoId(&'static str),
    #[error("the id {id:?} was used by line {first}")]
    DuplicateId { id: String, first: u64 },
    #[error("`reply_to` is used by the batch itself: omit it")]
    ReplyTo,
    #[error("`callback_url` does not work in a batch, which takes the results itself: omit it")]
    CallbackUrl,
    #[error(transparent)]
    PathOfLine(#[from] PathOfLineError),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Task(#[from] Box<task::TaskError>),
}

impl<E: Into<LineError>> From<E> for InvalidLine {
    fn from(error: E) -> Self {
        Self { id: None, error: error.into() }
    }
}

/// What every line gets that does not set it itself.
#[derive(Debug, Default)]
pub struct LineDefaults {
    /// Fields of a task, each with its JSON.
    pub fields: Vec<(&'static str, String)>,
}

impl LineDefaults {
    fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| *field == name)
    }
}

/// The call of a line.
#[derive(Debug)]
pub struct LineCall {
    /// The producer's id for it.
    pub id: Option<String>,
    /// The checked task.
    pub(super) text: String,
}

impl LineCall {
    /// Checks the task of a line.
    pub fn parse(text: &str) -> Result<Self, InvalidLine> {
        let task = Task::parse(text.trim().as_bytes(), task::MAX_BYTES).map_err(|error| InvalidLine {
            id: error.return_address.id.as_ref().map(|id| id.as_str().to_owned()),
            error: error.into(),
        })?;
        let id = task.id.map(|id| id.as_str().to_owned());
        if task.reply_to.is_some() {
            return Err(InvalidLine { id, error: LineError::ReplyTo });
        }
        if task.callback_url.is_some() {
            return Err(InvalidLine { id, error: LineError::CallbackUrl });
        }
        Ok(Self { id, text: text.to_owned() })
    }

    /// The task as it is pushed at this time.
    pub fn task(&self, id: &str, reply_to: &str, defaults: &LineDefaults, now: UnixMs) -> anyhow::Result<String> {
        let mut fields: BTreeMap<String, &RawValue> = serde_json::from_str(&self.text)?;
        fields.retain(|name, value| match name.as_str() {
            "id" | "reply_to" | "result_ttl_ms" => false,
            name if name == "enqueued_at_ms" || defaults.has(name) => value.get() != "null",
            _ => true,
        });
        // The result's TTL, whatever the line says: an answer that was taken from the list but not written before a kill is read again
        // under its key.
        let ttl = redial_core::queue::batch::RESULT_TTL_MS;
        let mut task = format!("{{\"id\":{},\"reply_to\":{},\"result_ttl_ms\":{ttl}", json!(id), json!(reply_to));
        if !fields.contains_key("enqueued_at_ms") {
            let _ = write!(task, ",\"enqueued_at_ms\":{now}");
        }
        for (name, json) in defaults.fields.iter().filter(|(name, _)| !fields.contains_key(*name)) {
            let _ = write!(task, ",\"{name}\":{json}");
        }
        for (name, value) in &fields {
            let _ = write!(task, ",{}:{}", json!(name), value.get());
        }
        task.push('}');
        anyhow::ensure!(task.len() <= task::MAX_BYTES, "the task has {} bytes: too many", task.len());
        Ok(task)
    }
}
