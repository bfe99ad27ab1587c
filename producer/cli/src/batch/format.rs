//! The formats of the input, and how the call of a line is read in each.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::base_url::BaseUrl;
use super::line::{InvalidLine, LineCall, LineError};
use super::source::Row;
use super::template::{RowValue, Template, WHOLE_ROW};
use crate::task_json::add_field;

/// The formats by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FormatName {
    /// Tasks of the protocol.
    Redial,
    /// The OpenAI Batch API.
    Openai,
    /// Anthropic's Message Batches API.
    Anthropic,
    /// The Gemini Batch API.
    Gemini,
    /// Each line whole as the body of a call to --url.
    Body,
    /// A table for a --template.
    Csv,
    /// JSON objects for a --template.
    Jsonl,
}

/// How lines become calls.
#[derive(Debug)]
pub enum Format {
    /// They are tasks.
    Tasks,
    /// They are rows, whose values fill a template.
    Rows(Template),
    /// They are requests in the form of a batch API, or bodies.
    Requests(RequestFormat),
}

/// The form of requests, and what they have in common.
#[derive(Debug)]
pub struct RequestFormat {
    pub form: RequestForm,
    pub base: Option<BaseUrl>,
    pub headers: BTreeMap<String, String>,
}

/// The forms of requests. All but OpenAI's go to one URL.
#[derive(Debug)]
pub enum RequestForm {
    OpenAi,
    Anthropic { url: String },
    Gemini { url: String },
    Body { url: String },
}

/// Where the id of a line is.
#[derive(Debug)]
pub enum IdSource {
    /// Where its format has it.
    Format,
    /// It is the number of the line.
    Line,
    /// A column of the table, or the path of a field: names joined by points.
    Field(String),
}

#[derive(Deserialize)]
struct OpenAiRequest<'a> {
    custom_id: Option<String>,
    method: Option<String>,
    url: String,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct AnthropicRequest<'a> {
    custom_id: Option<String>,
    #[serde(borrow)]
    params: &'a RawValue,
}

#[derive(Deserialize)]
struct GeminiRequest<'a> {
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    request: &'a RawValue,
}

impl Format {
    /// The call of a line. Its id is that of the source, or else that of the format.
    pub fn call(&self, number: u64, row: &Row, columns: &[String], ids: &IdSource) -> Result<LineCall, InvalidLine> {
        let row = OpenRow::new(row, columns)?;
        let chosen = match ids {
            IdSource::Format => None,
            IdSource::Line => Some(number.to_string()),
            IdSource::Field(path) => row.value(path).and_then(|value| value.as_id()),
        };
        let has_rule = !matches!(ids, IdSource::Format);
        let read = match self {
            Self::Tasks => LineCall::parse(row.text()),
            Self::Rows(template) => row.fill(template).map(|call| match call.id {
                None => LineCall { id: row.value("id").and_then(|value| value.as_id()), ..call },
                Some(_) => call,
            }),
            Self::Requests(requests) => requests.call(row.text(), !has_rule),
        };
        match read {
            Ok(call) if has_rule => Ok(LineCall { id: chosen, ..call }),
            Err(invalid) if chosen.is_some() => Err(InvalidLine { id: chosen, ..invalid }),
            read => read,
        }
    }
}

impl RequestFormat {
    fn call(&self, text: &str, needs_id: bool) -> Result<LineCall, InvalidLine> {
        match &self.form {
            RequestForm::OpenAi => {
                let request: OpenAiRequest = serde_json::from_str(text).map_err(LineError::NotARequest)?;
                let id = required(request.custom_id, needs_id)?;
                self.task(id, &request.url, request.method.as_deref(), request.body)
            }
            RequestForm::Anthropic { url } => {
                let request: AnthropicRequest = serde_json::from_str(text).map_err(LineError::NotARequest)?;
                let id = required(request.custom_id, needs_id)?;
                self.task(id, url, None, Some(request.params))
            }
            RequestForm::Gemini { url } => {
                let request: GeminiRequest = serde_json::from_str(text).map_err(LineError::NotARequest)?;
                let id = request.key.and_then(|key| RowValue::Json(key.get().into()).as_id());
                self.task(id, url, None, Some(request.request))
            }
            RequestForm::Body { url } => {
                let body: &RawValue = serde_json::from_str(text).map_err(LineError::NotJson)?;
                self.task(None, url, None, Some(body))
            }
        }
    }

    /// The task of a request. A path is joined to the base URL; without a base, `url` is absolute and was given as an option.
    fn task(
        &self,
        id: Option<String>,
        url: &str,
        method: Option<&str>,
        body: Option<&RawValue>,
    ) -> Result<LineCall, InvalidLine> {
        let invalid = |error: LineError| InvalidLine { id: id.clone(), error };
        let url = match &self.base {
            Some(base) => Cow::from(base.join(url).map_err(|error| invalid(error.into()))?),
            None => url.into(),
        };
        let mut task = json!({"url": url, "method": method});
        if !self.headers.is_empty() {
            task["headers"] = json!(self.headers);
        }
        // In a task, a field that is null is absent.
        let is_null = body.is_some_and(|body| body.get() == "null");
        if is_null {
            task["body_text"] = json!("null");
            if !self.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
                task["headers"]["content-type"] = json!("application/json");
            }
        }
        let mut task = task.to_string();
        if let Some(body) = body.filter(|_| !is_null) {
            add_field(&mut task, "body", body.get());
        }
        match LineCall::parse(&task) {
            Ok(call) => Ok(LineCall { id, ..call }),
            Err(error) => Err(InvalidLine { id, ..error }),
        }
    }
}

fn required(id: Option<String>, is_needed: bool) -> Result<Option<String>, LineError> {
    let id = id.filter(|id| !id.is_empty());
    if is_needed && id.is_none() { Err(LineError::NoId("custom_id")) } else { Ok(id) }
}

/// A row whose values can be looked up.
enum OpenRow<'a> {
    Text(&'a str),
    Cells(&'a csv::StringRecord, &'a [String]),
}

type Fields<'a> = BTreeMap<String, &'a RawValue>;

impl<'a> OpenRow<'a> {
    fn new(row: &'a Row, columns: &'a [String]) -> Result<Self, LineError> {
        match row {
            Row::Text(text) => Ok(Self::Text(std::str::from_utf8(text).map_err(|_| LineError::NotUtf8)?.trim())),
            Row::Cells(cells) => Ok(Self::Cells(cells, columns)),
        }
    }

    /// The text of a line that is JSON.
    fn text(&self) -> &'a str {
        if let Self::Text(text) = self { text } else { "" }
    }

    /// A cell by its column, or a field by its path.
    fn value(&self, path: &str) -> Option<RowValue<'a>> {
        match self {
            Self::Cells(cells, columns) => cell(cells, columns, path),
            Self::Text(text) => {
                let mut found = *text;
                for name in path.split('.') {
                    found = serde_json::from_str::<Fields>(found).ok()?.get(name)?.get();
                }
                Some(RowValue::Json(found.into()))
            }
        }
    }

    fn fill(&self, template: &Template) -> Result<LineCall, InvalidLine> {
        let filled = match self {
            Self::Cells(cells, columns) => template.fill(|name| {
                let whole = || RowValue::Json(table_row(cells, columns).into());
                cell(cells, columns, name).or_else(|| (name == WHOLE_ROW).then(whole))
            }),
            Self::Text(text) => {
                let fields: Fields = serde_json::from_str(text).map_err(LineError::NotAnObject)?;
                let field = |name: &str| fields.get(name).map(|value| RowValue::Json(value.get().into()));
                template
                    .fill(|name| field(name).or_else(|| (name == WHOLE_ROW).then(|| RowValue::Json((*text).into()))))
            }
        };
        LineCall::parse(&filled.map_err(LineError::from)?)
    }
}

fn cell<'a>(cells: &'a csv::StringRecord, columns: &[String], name: &str) -> Option<RowValue<'a>> {
    cells.get(columns.iter().position(|column| column == name)?).map(|text| RowValue::Cell(text.into()))
}

/// The row of a table as a JSON object, in the order of its columns.
fn table_row(cells: &csv::StringRecord, columns: &[String]) -> String {
    let field = |(name, text): (&String, &str)| format!("{}:{}", json!(name), RowValue::Cell(text.into()).as_json());
    let fields: Vec<String> = columns.iter().zip(cells).map(field).collect();
    format!("{{{}}}", fields.join(","))
}
