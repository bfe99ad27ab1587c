//! The lines of a batch: read one at a time, each turned into a call or a complaint.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use redial::add_field;
use redial_core::protocol::task::{self, Task};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::template::{self, Template};

/// A line of the input.
#[derive(Debug)]
pub struct Line {
    /// Where it stands in the file, from 1.
    pub number: u64,
    /// The call, or what is wrong with the line and the name it gives, if it does.
    pub call: Result<Call, (Option<String>, String)>,
}

/// The call of a line.
#[derive(Debug)]
pub struct Call {
    /// The name that its producer gave it: `id` or `custom_id`.
    pub name: Option<String>,
    /// A task that was checked.
    text: String,
}

impl Call {
    /// The task as it is pushed.
    pub fn task(&self, id: &str, reply_to: &str) -> anyhow::Result<String> {
        let mut given: BTreeMap<String, &RawValue> = serde_json::from_str(&self.text)?;
        given.retain(|name, value| match name.as_str() {
            "id" | "reply_to" | "result_ttl_ms" => false,
            "enqueued_at_ms" => value.get() != "null",
            _ => true,
        });
        // The result's time to live, whatever the line says: what was taken off the list and not written before a kill is found
        // under its key.
        let kept = redial_core::queue::batch::RESULT_KEPT_MS;
        let mut task = format!("{{\"id\":{},\"reply_to\":{},\"result_ttl_ms\":{kept}", json!(id), json!(reply_to));
        if !given.contains_key("enqueued_at_ms") {
            let _ = write!(task, ",\"enqueued_at_ms\":{}", redial_core::UnixMs::local_now());
        }
        for (name, value) in &given {
            let _ = write!(task, ",{}:{}", json!(name), value.get());
        }
        task.push('}');
        anyhow::ensure!(task.len() <= task::MAX_BYTES, "the task has {} bytes, too many", task.len());
        Ok(task)
    }
}

/// How the lines are written.
#[derive(Debug)]
pub enum Format {
    /// Redial's own tasks.
    Redial,
    /// Requests of the OpenAI Batch format, under this address and with these headers.
    OpenAi {
        base_url: String,
        headers: BTreeMap<String, String>,
    },
    /// Rows for a template: CSV with a first line of names, or objects of JSON.
    Csv(Template),
    Jsonl(Template),
}

/// A file being read.
pub struct Input {
    format: Format,
    source: Source,
    /// Hashes of the names seen: 8 bytes each, so that a million lines fit.
    names: HashSet<u64>,
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
            let columns = reader.headers().context("the first line, of names")?.iter().map(str::to_owned).collect();
            Source::Csv { reader: Box::new(reader), columns }
        } else {
            Source::Lines { file: BufReader::with_capacity(1 << 16, file), number: 0 }
        };
        Ok(Self { format, source, names: HashSet::new() })
    }

    /// The next line that is not blank.
    pub fn next(&mut self) -> anyhow::Result<Option<Line>> {
        let read = match &mut self.source {
            Source::Lines { file, number } => next_text(file, number)?,
            Source::Csv { reader, columns } => next_row(reader, columns, &self.format)?,
        };
        let Some((number, text)) = read else { return Ok(None) };
        let call = match text {
            Ok(text) => self.call(&text),
            Err(wrong) => Err((None, wrong)),
        };
        Ok(Some(Line { number, call }))
    }

    fn call(&mut self, text: &[u8]) -> Result<Call, (Option<String>, String)> {
        let text = std::str::from_utf8(text).map_err(|_| (None, "it is not UTF-8".to_owned()))?;
        let call = match &self.format {
            Format::Redial | Format::Csv(_) => of_task(text),
            Format::OpenAi { base_url, headers } => of_request(text, base_url, headers),
            Format::Jsonl(template) => {
                fill(template, text).map_err(|wrong| (None, wrong)).and_then(|task| of_task(&task))
            }
        }?;
        if let Some(name) = &call.name {
            let mut hasher = DefaultHasher::new();
            name.hash(&mut hasher);
            if !self.names.insert(hasher.finish()) {
                return Err((Some(name.clone()), format!("the name {name:?} was used by a line before it")));
            }
        }
        Ok(call)
    }
}

type Read = Option<(u64, Result<Vec<u8>, String>)>;

fn next_text(file: &mut BufReader<File>, number: &mut u64) -> anyhow::Result<Read> {
    loop {
        let mut line = Vec::new();
        let most = task::MAX_BYTES as u64 + 2;
        if file.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        *number += 1;
        if line.last() != Some(&b'\n') && line.len() as u64 == most {
            file.skip_until(b'\n')?;
            let wrong = format!("it is longer than the {} bytes that a task may have", task::MAX_BYTES);
            return Ok(Some((*number, Err(wrong))));
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Some((*number, Ok(line))));
        }
    }
}

fn next_row(reader: &mut csv::Reader<File>, columns: &[String], format: &Format) -> anyhow::Result<Read> {
    let Format::Csv(template) = format else { bail!("a CSV file needs a template") };
    let mut row = csv::StringRecord::new();
    let line = reader.position().line();
    match reader.read_record(&mut row) {
        Ok(false) => return Ok(None),
        Ok(true) => {}
        Err(error) if error.is_io_error() => return Err(error.into()),
        Err(error) => return Ok(Some((line, Err(error.to_string())))),
    }
    let number = row.position().map_or(line, csv::Position::line);
    if row.len() != columns.len() {
        let wrong = format!("it has {} columns, the first line {}", row.len(), columns.len());
        return Ok(Some((number, Err(wrong))));
    }
    let value = |name: &str| row.get(columns.iter().position(|column| column == name)?).map(template::cell);
    Ok(Some((number, template.fill(value).map(String::into_bytes).map_err(|error| error.to_string()))))
}

fn fill(template: &Template, text: &str) -> Result<String, String> {
    let row: BTreeMap<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("it is no object: {error}"))?;
    template.fill(|name| row.get(name).cloned()).map_err(|error| error.to_string())
}

fn of_task(text: &str) -> Result<Call, (Option<String>, String)> {
    let task = Task::parse(text.trim().as_bytes(), task::MAX_BYTES)
        .map_err(|refusal| (refusal.sender.id.map(|id| id.as_str().to_owned()), refusal.error))?;
    let name = task.id.map(|id| id.as_str().to_owned());
    if task.reply_to.is_some() {
        return Err((name, "`reply_to` is the batch's own: leave it out".into()));
    }
    if task.callback_url.is_some() {
        return Err((
            name,
            "`callback_url`: a batch takes its results itself, and nothing is left to deliver: leave it out".into(),
        ));
    }
    Ok(Call { name, text: text.to_owned() })
}

#[derive(Deserialize)]
struct Request<'a> {
    custom_id: Option<String>,
    method: Option<String>,
    url: String,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

fn of_request(
    text: &str,
    base_url: &str,
    headers: &BTreeMap<String, String>,
) -> Result<Call, (Option<String>, String)> {
    let request: Request = serde_json::from_str(text).map_err(|error| (None, format!("it is no request: {error}")))?;
    let Some(name) = request.custom_id.filter(|name| !name.is_empty()) else {
        return Err((None, "it has no `custom_id`".into()));
    };
    let base = base_url.trim_end_matches('/');
    // Both spellings of a base are in use: with and without the version.
    let base = if request.url.starts_with("/v1/") { base.strip_suffix("/v1").unwrap_or(base) } else { base };
    let mut task = json!({"url": format!("{base}{}", request.url), "method": request.method});
    if !headers.is_empty() {
        task["headers"] = json!(headers);
    }
    let mut task = task.to_string();
    if let Some(body) = request.body {
        add_field(&mut task, "body", body.get());
    }
    let mut call = of_task(&task).map_err(|(_, wrong)| (Some(name.clone()), wrong))?;
    call.name = Some(name);
    Ok(call)
}
