//! What `redial batch` reads, as a function of bytes, for the fuzz targets in `tests/fuzz`.

use std::collections::BTreeMap;
use std::path::Path;

use redial_core::UnixMs;

use super::base_url::BaseUrl;
use super::format::{Format, IdSource, RequestForm, RequestFormat};
use super::input::{Input, InputRules};
use super::line::LineDefaults;
use super::source::InputFile;
use super::template::Template;

/// What [`lines`] can read a file as.
pub const FORMS: [&str; 7] = ["redial", "openai", "anthropic", "gemini", "body", "csv", "jsonl"];

/// Where all lines go that name no origin themselves.
pub const BASE: &str = "https://api.example.com/base";

/// A line, by its number: the task that is pushed for it, or why it is invalid.
pub type ReadLine = (u64, Result<String, String>);

/// Reads a file as one of [`FORMS`]; those that are tables use the template.
///
/// # Errors
/// The file as a whole cannot be read in that form: the error says why. So it does of the template.
pub fn lines(file: &Path, form: &str, template: &str) -> anyhow::Result<Vec<ReadLine>> {
    let requests = |form| {
        let base = Some(BaseUrl::parse(BASE)?);
        anyhow::Ok(Format::Requests(RequestFormat { form, base, headers: BTreeMap::new() }))
    };
    let url = "/v1/messages".to_owned();
    let format = match form {
        "openai" => requests(RequestForm::OpenAi)?,
        "anthropic" => requests(RequestForm::Anthropic { url })?,
        "gemini" => requests(RequestForm::Gemini { url })?,
        "body" => requests(RequestForm::Body { url })?,
        "csv" | "jsonl" => Format::Rows(Template::parse(template)?),
        _ => Format::Tasks,
    };
    let rules =
        InputRules { format, is_table: form == "csv", ids: IdSource::Format, defaults: LineDefaults::default() };
    let opened = InputFile::open(file, file.parent().unwrap_or(Path::new(".")))?;
    let mut input = Input::open(&opened, &rules)?;
    let mut read = Vec::new();
    while let Some(line) = input.next()? {
        let pushed = line.call.map_err(|invalid| invalid.error.to_string()).and_then(|call| {
            let id = call.id.clone().unwrap_or_else(|| line.number.to_string());
            call.task(&id, "answers:fuzz", &rules.defaults, UnixMs(0)).map_err(|error| error.to_string())
        });
        read.push((line.number, pushed));
    }
    Ok(read)
}
