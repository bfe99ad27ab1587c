//! The options of `redial batch`, checked together before anything is written.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::answer::AnswerFormat;
use super::base_url::BaseUrl;
use super::encoding;
use super::format::{Format, FormatName, IdSource, RequestForm, RequestFormat};
use super::input::InputRules;
use super::journal::Fingerprint;
use super::line::LineDefaults;
use super::template::Template;
use crate::commands::enqueue::headers;
use crate::task_json::{check, condition};

/// Where Anthropic's batches send their requests.
const ANTHROPIC_URL: &str = "/v1/messages";

/// What the lines of the input are, and what is done to each.
#[derive(Debug, clap::Args)]
pub struct LineOptions {
    /// The format of the input. Default: csv for a file *.csv, jsonl with --template, body with --url, openai with --base-url, else redial.
    #[arg(long)]
    format: Option<FormatName>,
    /// The base of the `url` of lines, such as https://api.openai.com; its query, such as ?api-version=..., is sent with each call.
    #[arg(long)]
    base_url: Option<String>,
    /// The URL for every line of the formats body, anthropic (default /v1/messages) and gemini; a path below --base-url.
    #[arg(long)]
    url: Option<String>,
    /// A header for every request. It is stored in Redis, so let the worker add secrets instead.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// A task as JSON, with {{column}} in place of a row's value, {{column?}} for one that may be absent, {{*}} for the whole row.
    #[arg(long, value_name = "TASK.json")]
    template: Option<PathBuf>,
    /// Where the id of a line is: a column, the path of a field such as metadata.row_id, or `line` for its number.
    #[arg(long, value_name = "PATH")]
    id: Option<String>,
    /// The timeout of an attempt in seconds, for lines that set none. Default: 30.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    timeout: Option<u32>,
    /// The retry policy of lines that set none: the maximum number of attempts, or JSON such as '{"max_attempts": 3, "base_ms": 500}'.
    #[arg(long, value_name = "N|JSON")]
    retry: Option<String>,
    /// What a good answer is, for lines that do not say it: a JSONPath that must find something in it, such as '$.choices[0]', or JSON such
    /// as '{"status": [200, 404]}'.
    #[arg(long, value_name = "PATH|JSON")]
    ok_when: Option<String>,
    /// After which answers to try again, besides those that always are; as --ok-when.
    #[arg(long, value_name = "PATH|JSON")]
    retry_when: Option<String>,
    /// On whose behalf the calls are made, for lines that do not say it.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
}

impl LineOptions {
    /// What becomes of the lines of this input, and the format of the answers.
    pub fn rules(&self, input: &Path) -> anyhow::Result<(InputRules, AnswerFormat)> {
        let name = self.format_name(input);
        self.check_fit(name)?;
        let format = match name {
            FormatName::Redial => Format::Tasks,
            FormatName::Csv | FormatName::Jsonl => Format::Rows(self.template()?),
            FormatName::Openai => Format::Requests(self.requests(RequestForm::OpenAi)?),
            FormatName::Anthropic => {
                let url = self.url.clone().unwrap_or_else(|| ANTHROPIC_URL.into());
                Format::Requests(self.requests(RequestForm::Anthropic { url })?)
            }
            FormatName::Gemini => {
                let url = self.url.clone();
                let url = url.context(
                    "the Gemini format needs a --url with the model, such as /v1beta/models/MODEL:generateContent",
                )?;
                Format::Requests(self.requests(RequestForm::Gemini { url })?)
            }
            FormatName::Body => {
                let url = self.url.clone().context("the format body needs a --url to send each line to")?;
                Format::Requests(self.requests(RequestForm::Body { url })?)
            }
        };
        let ids = match self.id.as_deref() {
            None => IdSource::Format,
            Some("line") => IdSource::Line,
            Some(path) => IdSource::Field(path.to_owned()),
        };
        let answers = match name {
            FormatName::Openai => AnswerFormat::OpenAi,
            FormatName::Anthropic => AnswerFormat::Anthropic,
            FormatName::Gemini => AnswerFormat::Gemini,
            _ => AnswerFormat::Redial,
        };
        let defaults = self.defaults()?;
        Ok((InputRules { format, is_table: name == FormatName::Csv, ids, defaults }, answers))
    }

    /// The format and its options, without headers, which may contain secrets. If it changes, it is another batch.
    pub fn description(&self, input: &Path) -> anyhow::Result<String> {
        let open = |path: &PathBuf| std::fs::File::open(path).with_context(|| format!("{}", path.display()));
        let template = self.template.as_ref().map(open).transpose()?.map(Fingerprint::read).transpose()?;
        let template = template.map_or(0, |print| print.fnv);
        let base = self.base_url.as_deref().unwrap_or("-");
        let mut text = format!("{:?} {base} {template:x}", self.format_name(input));
        for (option, value) in [("url", &self.url), ("id", &self.id)] {
            if let Some(value) = value {
                text = format!("{text} {option}={value}");
            }
        }
        Ok(text)
    }

    fn format_name(&self, input: &Path) -> FormatName {
        let is_csv = input.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
        self.format.unwrap_or(match (is_csv, &self.template, &self.url, &self.base_url) {
            (true, ..) => FormatName::Csv,
            (_, Some(_), ..) => FormatName::Jsonl,
            (_, _, Some(_), _) => FormatName::Body,
            (_, _, _, Some(_)) => FormatName::Openai,
            _ => FormatName::Redial,
        })
    }

    /// Refuses options that the format would ignore.
    fn check_fit(&self, name: FormatName) -> anyhow::Result<()> {
        let (is_rows, is_tasks) = (matches!(name, FormatName::Csv | FormatName::Jsonl), name == FormatName::Redial);
        let given = [
            ("--template", self.template.is_some(), is_rows),
            ("--base-url", self.base_url.is_some(), !is_rows && !is_tasks),
            ("--header", !self.headers.is_empty(), !is_rows && !is_tasks),
            ("--url", self.url.is_some(), !is_rows && !is_tasks && name != FormatName::Openai),
        ];
        for (option, is_given, fits) in given {
            ensure!(!is_given || fits, "{option} does not go with the format {}", format!("{name:?}").to_lowercase());
        }
        Ok(())
    }

    fn template(&self) -> anyhow::Result<Template> {
        let path = self.template.as_ref().context("rows need a --template: a task that contains {{column}}")?;
        let bytes = std::fs::read(path).with_context(|| format!("{}", path.display()))?;
        let text = encoding::text(bytes, &path.display().to_string())?;
        Template::parse(&text).with_context(|| format!("{}", path.display()))
    }

    fn requests(&self, form: RequestForm) -> anyhow::Result<RequestFormat> {
        let headers = headers(&self.headers)?;
        check(&json!({"headers": headers})).context("--header")?;
        let base = self.base_url.as_deref().map(BaseUrl::parse).transpose()?;
        let url = match &form {
            RequestForm::OpenAi => None,
            RequestForm::Anthropic { url } | RequestForm::Gemini { url } | RequestForm::Body { url } => Some(url),
        };
        match (&base, url) {
            (Some(base), Some(url)) => drop(base.join(url).context("--url, which is a path below --base-url")?),
            (Some(_), None) => {}
            (None, Some(url)) if !url.starts_with('/') => check(&json!({"url": url})).context("--url")?,
            (None, _) => anyhow::bail!("the format needs a --base-url, such as https://api.openai.com"),
        }
        Ok(RequestFormat { form, base, headers })
    }

    fn defaults(&self) -> anyhow::Result<LineDefaults> {
        let retry = self.retry.as_ref().map(|retry| match retry.trim().parse::<u64>() {
            Ok(attempts) => format!("{{\"max_attempts\":{attempts}}}"),
            Err(_) => retry.trim().to_owned(),
        });
        if let Some(retry) = &retry {
            let value: serde_json::Value =
                serde_json::from_str(retry).context("--retry: use a number of attempts, or JSON")?;
            ensure!(value.is_object(), "--retry: use a number of attempts, or a JSON object");
            check(&json!({"retry": value})).context("--retry")?;
        }
        let mut fields: Vec<(&'static str, String)> = Vec::new();
        fields.extend(self.timeout.map(|seconds| ("timeout_ms", (u64::from(seconds) * 1000).to_string())));
        fields.extend(retry.map(|retry| ("retry", retry)));
        if let Some(tenant) = &self.tenant {
            check(&json!({"tenant": tenant})).context("--tenant")?;
            fields.push(("tenant", json!(tenant).to_string()));
        }
        let given = [("ok_when", "--ok-when", &self.ok_when), ("retry_when", "--retry-when", &self.retry_when)];
        for (field, option, given) in given {
            if let Some(given) = given {
                fields.push((field, condition(field, given).with_context(|| option.to_owned())?));
            }
        }
        Ok(LineDefaults { fields })
    }
}
