//! `redial enqueue`

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redial::{Client, PreparedTask, prepare};
use serde_json::{Map, Value, json};

use crate::output::Output;
use crate::task_json::{add_field, condition};

/// How many tasks are pushed at a time.
const MAX_PUSH: usize = 1_000;

/// Enqueue calls; prints the id of each.
///
/// There are three ways: whole tasks as JSON; `-` to read tasks from standard input, one per line; or --url and its options.
#[derive(Debug, clap::Args)]
pub struct EnqueueArgs {
    /// Tasks as JSON, or - to read them from standard input, one per line.
    #[arg(value_name = "TASK", required_unless_present = "url", conflicts_with = "url")]
    tasks: Vec<String>,
    /// The URL to call.
    #[arg(long)]
    url: Option<String>,
    /// GET, POST, ... Default: POST with a body, else GET.
    #[arg(short = 'X', long, requires = "url")]
    method: Option<String>,
    /// A request header, such as 'Accept: text/html'.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", requires = "url")]
    headers: Vec<String>,
    /// A JSON body.
    #[arg(short, long, requires = "url")]
    body: Option<String>,
    /// A text body.
    #[arg(long, requires = "url", conflicts_with = "body")]
    body_text: Option<String>,
    /// A field to send as a form; can be given several times.
    #[arg(long = "form", value_name = "NAME=VALUE", requires = "url", conflicts_with_all = ["body", "body_text"])]
    form: Vec<String>,
    /// A part of an upload, or, with @, a file to upload; can be given several times.
    #[arg(short = 'F', long = "part", value_name = "NAME=VALUE|NAME=@FILE", requires = "url",
        conflicts_with_all = ["body", "body_text", "form"])]
    parts: Vec<String>,
    /// An id for the call. Default: a new UUIDv7.
    #[arg(long, requires = "url")]
    id: Option<String>,
    /// Sent as Idempotency-Key on every attempt. For a day, calls with the same key are made once and share the answer.
    #[arg(long, requires = "url")]
    idempotency_key: Option<String>,
    /// Share the answer with all tasks that make the same call, and keep it this many milliseconds.
    #[arg(long, requires = "url")]
    cache_ttl_ms: Option<u64>,
    /// The maximum number of attempts.
    #[arg(long, requires = "url")]
    max_attempts: Option<u32>,
    /// What a good answer is: a JSONPath that must find something in it, such as '$.choices[0]', or JSON such as '{"status": [200, 404]}'.
    #[arg(long, value_name = "PATH|JSON", requires = "url")]
    ok_when: Option<String>,
    /// After which answers to try again, besides those that always are; as --ok-when.
    #[arg(long, value_name = "PATH|JSON", requires = "url")]
    retry_when: Option<String>,
    /// How many redirects to follow. Default 0.
    #[arg(long, value_name = "N", requires = "url")]
    redirects: Option<u32>,
    /// No attempt starts before this many milliseconds have passed.
    #[arg(long, requires = "url")]
    delay_ms: Option<u64>,
    /// Never make the call twice, unless it is certain that the upstream did not act: `"effect": "once"`.
    #[arg(long, requires = "url")]
    once: bool,
    /// Where to deliver the result, by a POST.
    #[arg(long, requires = "url")]
    callback_url: Option<String>,
    /// The task, as JSON, to push when this one is complete; '{{$.body.id}}' in it is replaced by a value of the result.
    #[arg(long, value_name = "TASK", requires = "url")]
    then: Option<String>,
}

impl EnqueueArgs {
    pub async fn run(self, client: &Client, output: Output) -> anyhow::Result<ExitCode> {
        if let Some(url) = &self.url {
            let task = self.task(url)?;
            return push(client, &[prepare(&task)?], output).await;
        }
        if self.tasks == ["-"] {
            return from_stdin(client, output).await;
        }
        let tasks = self.tasks.iter().map(|task| prepare(task)).collect::<Result<Vec<_>, _>>()?;
        push(client, &tasks, output).await
    }

    fn task(&self, url: &str) -> anyhow::Result<String> {
        let mut task = Map::from_iter([("url".to_owned(), json!(url))]);
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                task.insert(name.into(), value);
            }
        };
        put("id", self.id.as_ref().map(|id| json!(id)));
        put("method", self.method.as_ref().map(|method| json!(method)));
        put("body_text", self.body_text.as_ref().map(|text| json!(text)));
        put("idempotency_key", self.idempotency_key.as_ref().map(|key| json!(key)));
        put("cache_ttl_ms", self.cache_ttl_ms.map(|ttl| json!(ttl)));
        put("delay_ms", self.delay_ms.map(|ms| json!(ms)));
        put("effect", self.once.then(|| json!("once")));
        put("callback_url", self.callback_url.as_ref().map(|url| json!(url)));
        put("retry", self.max_attempts.map(|n| json!({ "max_attempts": n })));
        if !self.headers.is_empty() {
            put("headers", Some(json!(headers(&self.headers)?)));
        }
        put("redirects", self.redirects.map(|count| json!(count)));
        if !self.parts.is_empty() {
            put("parts", Some(self.parts.iter().map(|part| typed_part(part)).collect::<anyhow::Result<_>>()?));
        }
        let mut task = Value::Object(task).to_string();
        if !self.form.is_empty() {
            add_field(&mut task, "form", &form(&self.form)?);
        }
        for (field, typed) in [("ok_when", &self.ok_when), ("retry_when", &self.retry_when)] {
            if let Some(typed) = typed {
                let option = format!("--{}", field.replace('_', "-"));
                add_field(&mut task, field, &condition(field, typed).context(option)?);
            }
        }
        let errors = ["--body is not JSON: use --body-text for other text", "--then is not JSON: use a whole task"];
        for ((field, json), error) in [("body", &self.body), ("then", &self.then)].into_iter().zip(errors) {
            if let Some(json) = json {
                let _: &serde_json::value::RawValue = serde_json::from_str(json).context(error)?;
                // Byte for byte as it was typed.
                add_field(&mut task, field, json);
            }
        }
        Ok(task)
    }
}

/// The fields of a form as they are typed, in their order. A name that occurs twice is sent twice.
fn form(typed: &[String]) -> anyhow::Result<String> {
    let pair = |field: &String| {
        let (name, value) = field.split_once('=').with_context(|| format!("--form {field:?}: use NAME=VALUE"))?;
        Ok(format!("{}:{}", json!(name), json!(value)))
    };
    let fields = typed.iter().map(pair).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(format!("{{{}}}", fields.join(",")))
}

/// A part as it is typed: `name=text`, or `name=@file`.
fn typed_part(typed: &str) -> anyhow::Result<Value> {
    let (name, value) =
        typed.split_once('=').with_context(|| format!("--part {typed:?}: use NAME=VALUE or NAME=@FILE"))?;
    let Some(path) = value.strip_prefix('@') else {
        return Ok(json!({"name": name, "text": value}));
    };
    let bytes = std::fs::read(path).with_context(|| format!("--part {name}: {path}"))?;
    let filename = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(json!({"name": name, "filename": filename, "base64": STANDARD.encode(bytes)}))
}

/// Parses headers as they are typed: 'Name: value'.
pub fn headers(typed: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |header: &String| {
        let (name, value) =
            header.split_once(':').with_context(|| format!("--header {header:?}: use 'Name: value'"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    typed.iter().map(pair).collect()
}

/// Checks every line before it is pushed. The first invalid one ends the command, which says how many were pushed.
async fn from_stdin(client: &Client, output: Output) -> anyhow::Result<ExitCode> {
    let mut batch: Vec<PreparedTask> = Vec::with_capacity(MAX_PUSH);
    let mut pushed = 0_usize;
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line.with_context(|| format!("line {}", number + 1))?;
        if line.trim().is_empty() {
            continue;
        }
        match prepare(&line) {
            Ok(task) => batch.push(task),
            Err(error) => {
                push(client, &batch, output).await?;
                pushed += batch.len();
                bail!("line {}: {error} ({pushed} tasks before it were pushed)", number + 1);
            }
        }
        if batch.len() == MAX_PUSH {
            push(client, &batch, output).await?;
            pushed += batch.len();
            batch.clear();
        }
    }
    ensure!(pushed > 0 || !batch.is_empty(), "standard input contains no task: use one as JSON per line");
    push(client, &batch, output).await
}

async fn push(client: &Client, tasks: &[PreparedTask], output: Output) -> anyhow::Result<ExitCode> {
    client.push(tasks).await?;
    for task in tasks {
        let id = task.id.as_str();
        output.print(|| id.to_owned(), || json!({ "id": id }))?;
    }
    Ok(ExitCode::SUCCESS)
}
