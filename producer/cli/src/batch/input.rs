//! The input of a batch, read line by line; each line becomes a call or an error.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use redial_core::protocol::task::{self, Task};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::template::{self, Template};
use crate::task_json::add_field;

/// A line of the input.
#[derive(Debug)]
pub struct InputLine {
    /// Its number in the file, from 1.
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
    #[error("it is not a request: {0}")]
    NotARequest(serde_json::Error),
    #[error("it has no `custom_id`")]
    NoCustomId,
    #[error("the id {0:?} was used by an earlier line")]
    DuplicateId(String),
    #[error("`reply_to` is used by the batch itself: omit it")]
    ReplyTo,
    #[error("`callback_url` does not work in a batch, which takes the results itself: omit it")]
    CallbackUrl,
    #[error(transparent)]
    Template(#[from] template::TemplateError),
    #[error(transparent)]
    Task(#[from] Box<task::TaskError>),
}

impl<E: Into<LineError>> From<E> for InvalidLine {
    fn from(error: E) -> Self {
        Self { id: None, error: error.into() }
    }
}

/// The call of a line.
#[derive(Debug)]
pub struct LineCall {
    /// The producer's id for it: `id` or `custom_id`.
    pub id: Option<String>,
    /// The checked task.
    text: String,
}

impl LineCall {
    /// The task as it is pushed at this time.
    pub fn task(&self, id: &str, reply_to: &str, now: redial_core::UnixMs) -> anyhow::Result<String> {
        let mut fields: BTreeMap<String, &RawValue> = serde_json::from_str(&self.text)?;
        fields.retain(|name, value| match name.as_str() {
            "id" | "reply_to" | "result_ttl_ms" => false,
            "enqueued_at_ms" => value.get() != "null",
            _ => true,
        });
        // The result's TTL, whatever the line says: an answer that was taken from the list but not written before a kill is read again
        // under its key.
        let ttl = redial_core::queue::batch::RESULT_TTL_MS;
        let mut task = format!("{{\"id\":{},\"reply_to\":{},\"result_ttl_ms\":{ttl}", json!(id), json!(reply_to));
        if !fields.contains_key("enqueued_at_ms") {
            let _ = write!(task, ",\"enqueued_at_ms\":{now}");
        }
        for (name, value) in &fields {
            let _ = write!(task, ",{}:{}", json!(name), value.get());
        }
        task.push('}');
        anyhow::ensure!(task.len() <= task::MAX_BYTES, "the task has {} bytes: too many", task.len());
        Ok(task)
    }
}

/// The format of the lines.
#[derive(Debug)]
pub enum Format {
    /// Redial's own tasks.
    Redial,
    /// Requests of the OpenAI Batch format, with this base URL and these headers.
    OpenAi {
        base_url: String,
        headers: BTreeMap<String, String>,
    },
    /// Rows for a template: CSV with a first line of column names, or JSON objects.
    Csv(Template),
    Jsonl(Template),
}

/// A file being read.
pub struct Input {
    format: Format,
    source: Source,
    /// Hashes of the ids seen: 8 bytes each, so that a million lines fit in memory.
    ids: HashSet<u64>,
}

enum Source {
    Lines { file: BufReader<File>, number: u64 },
    Csv { reader: Box<csv::Reader<File>>, columns: Vec<String> },
}

impl Input {
    pub fn open(path: &Path, format: Format) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("{}", path.display()))?;
        let source = if let Format::Csv(_) = format {
            let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
            let columns =
                reader.headers().context("the first line, with the column names")?.iter().map(str::to_owned).collect();
            Source::Csv { reader: Box::new(reader), columns }
        } else {
            Source::Lines { file: BufReader::with_capacity(1 << 16, file), number: 0 }
        };
        Ok(Self { format, source, ids: HashSet::new() })
    }

    /// The next line that is not blank.
    pub fn next(&mut self) -> anyhow::Result<Option<InputLine>> {
        let read = match &mut self.source {
            Source::Lines { file, number } => next_text(file, number)?,
            Source::Csv { reader, columns } => next_row(reader, columns, &self.format)?,
        };
        let Some((number, text)) = read else { return Ok(None) };
        let call = text.map_err(InvalidLine::from).and_then(|text| self.call(&text));
        Ok(Some(InputLine { number, call }))
    }

    fn call(&mut self, text: &[u8]) -> Result<LineCall, InvalidLine> {
        let text = std::str::from_utf8(text).map_err(|_| LineError::NotUtf8)?;
        let call = match &self.format {
            Format::Redial | Format::Csv(_) => parse_task(text),
            Format::OpenAi { base_url, headers } => parse_request(text, base_url, headers),
            Format::Jsonl(template) => parse_task(&fill(template, text)?),
        }?;
        if let Some(id) = &call.id {
            let mut hasher = DefaultHasher::new();
            id.hash(&mut hasher);
            if !self.ids.insert(hasher.finish()) {
                return Err(InvalidLine { id: Some(id.clone()), error: LineError::DuplicateId(id.clone()) });
            }
        }
        Ok(call)
    }
}

/// The number and the text of a line, or why it cannot be read; `None` at the end.
type NumberedText = Option<(u64, Result<Vec<u8>, LineError>)>;

fn next_text(file: &mut BufReader<File>, number: &mut u64) -> anyhow::Result<NumberedText> {
    loop {
        let mut line = Vec::new();
        let max_bytes = task::MAX_BYTES as u64 + 2;
        if file.by_ref().take(max_bytes).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        *number += 1;
        if line.last() != Some(&b'\n') && line.len() as u64 == max_bytes {
            file.skip_until(b'\n')?;
            return Ok(Some((*number, Err(LineError::TooLong))));
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Some((*number, Ok(line))));
        }
    }
}

fn next_row(reader: &mut csv::Reader<File>, columns: &[String], format: &Format) -> anyhow::Result<NumberedText> {
    let Format::Csv(template) = format else { bail!("a CSV file needs a template") };
    let mut row = csv::StringRecord::new();
    let line = reader.position().line();
    match reader.read_record(&mut row) {
        Ok(false) => return Ok(None),
        Ok(true) => {}
        Err(error) if error.is_io_error() => return Err(error.into()),
        Err(error) => return Ok(Some((line, Err(error.into())))),
    }
    let number = row.position().map_or(line, csv::Position::line);
    if row.len() != columns.len() {
        return Ok(Some((number, Err(LineError::Columns { found: row.len(), expected: columns.len() }))));
    }
    let value = |name: &str| row.get(columns.iter().position(|column| column == name)?).map(template::cell);
    Ok(Some((number, template.fill(value).map(String::into_bytes).map_err(LineError::from))))
}

fn fill(template: &Template, text: &str) -> Result<String, LineError> {
    let row: BTreeMap<String, Value> = serde_json::from_str(text).map_err(LineError::NotAnObject)?;
    Ok(template.fill(|name| row.get(name).cloned())?)
}

fn parse_task(text: &str) -> Result<LineCall, InvalidLine> {
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
    Ok(LineCall { id, text: text.to_owned() })
}

#[derive(Deserialize)]
struct Request<'a> {
    custom_id: Option<String>,
    method: Option<String>,
    url: String,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

fn parse_request(text: &str, base_url: &str, headers: &BTreeMap<String, String>) -> Result<LineCall, InvalidLine> {
    let request: Request = serde_json::from_str(text).map_err(LineError::NotARequest)?;
    let Some(id) = request.custom_id.filter(|id| !id.is_empty()) else {
        return Err(LineError::NoCustomId.into());
    };
    let base = base_url.trim_end_matches('/');
    // Base URLs are commonly written both with and without the version.
    let base = if request.url.starts_with("/v1/") { base.strip_suffix("/v1").unwrap_or(base) } else { base };
    let mut task = json!({"url": format!("{base}{}", request.url), "method": request.method});
    if !headers.is_empty() {
        task["headers"] = json!(headers);
    }
    let mut task = task.to_string();
    if let Some(body) = request.body {
        add_field(&mut task, "body", body.get());
    }
    match parse_task(&task) {
        Ok(call) => Ok(LineCall { id: Some(id), ..call }),
        Err(invalid) => Err(InvalidLine { id: Some(id), ..invalid }),
    }
}
