//! The fields of a task as options.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::task_json::{add_field, condition};

/// The fields of one task; those that are not given are left to the workers' defaults.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Fields of the task")]
pub struct TaskOptions {
    /// The URL to call.
    #[arg(long)]
    pub url: Option<String>,
    /// GET, POST, ... Default: POST with a body, else GET.
    #[arg(short = 'X', long, requires = "url")]
    method: Option<String>,
    /// A request header, such as 'Accept: text/html'; can be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", requires = "url")]
    headers: Vec<String>,
    /// A JSON body, or, with @, a file that contains one; @- reads standard input.
    #[arg(short, long, value_name = "JSON|@FILE", requires = "url")]
    body: Option<String>,
    /// A text body, or, with @, a file that contains one; @- reads standard input.
    #[arg(long, value_name = "TEXT|@FILE", requires = "url", conflicts_with = "body")]
    body_text: Option<String>,
    /// A body of any bytes, in base64.
    #[arg(long, value_name = "BASE64", requires = "url", conflicts_with_all = ["body", "body_text"])]
    body_base64: Option<String>,
    /// A field to send as a form; can be given several times.
    #[arg(long = "form", value_name = "NAME=VALUE", requires = "url", conflicts_with_all = ["body", "body_text", "body_base64"])]
    form: Vec<String>,
    /// A part of an upload, or, with @, a file to upload; can be given several times.
    #[arg(short = 'F', long = "part", value_name = "NAME=VALUE|NAME=@FILE", requires = "url",
        conflicts_with_all = ["body", "body_text", "body_base64", "form"])]
    parts: Vec<String>,
    /// An id for the call. Default: a new UUIDv7.
    #[arg(long, requires = "url")]
    id: Option<String>,
    /// How long one attempt may take, from connecting to the last byte.
    #[arg(long, value_name = "MS", requires = "url")]
    timeout_ms: Option<u64>,
    /// How long connecting may take.
    #[arg(long, value_name = "MS", requires = "url")]
    connect_timeout_ms: Option<u64>,
    /// The maximum number of attempts.
    #[arg(long, value_name = "N", requires = "url")]
    max_attempts: Option<u32>,
    /// When and how often to try again, such as '{"max_attempts": 3, "base_ms": 200, "on": [404]}'.
    #[arg(long, value_name = "JSON", requires = "url", conflicts_with = "max_attempts")]
    retry: Option<String>,
    /// What a good answer is: a JSONPath that must find something in it, such as '$.choices[0]', or JSON such as '{"status": [200, 404]}'.
    #[arg(long, value_name = "PATH|JSON", requires = "url")]
    ok_when: Option<String>,
    /// After which answers to try again, besides those that always are; as --ok-when.
    #[arg(long, value_name = "PATH|JSON", requires = "url")]
    retry_when: Option<String>,
    /// How many redirects to follow. Default 0.
    #[arg(long, value_name = "N", requires = "url")]
    redirects: Option<u32>,
    /// No attempt starts after this many milliseconds from the push: the call is dead then, as `expired`.
    #[arg(long, value_name = "MS", requires = "url", conflicts_with = "expires_at_ms")]
    ttl_ms: Option<u64>,
    /// No attempt starts after this time, in Unix milliseconds.
    #[arg(long, value_name = "UNIX_MS", requires = "url")]
    expires_at_ms: Option<u64>,
    /// No attempt starts before this many milliseconds have passed.
    #[arg(long, value_name = "MS", requires = "url", conflicts_with = "run_at_ms")]
    delay_ms: Option<u64>,
    /// No attempt starts before this time, in Unix milliseconds.
    #[arg(long, value_name = "UNIX_MS", requires = "url")]
    run_at_ms: Option<u64>,
    /// Sent as Idempotency-Key on every attempt. For a day, calls with the same key are made once and share the answer.
    #[arg(long, value_name = "KEY", requires = "url")]
    idempotency_key: Option<String>,
    /// Never make the call twice, unless it is certain that the upstream did not act: `"effect": "once"`.
    #[arg(long, requires = "url")]
    once: bool,
    /// Share the answer with all tasks that make the same call, and keep it this many milliseconds.
    #[arg(long, value_name = "MS", requires = "url")]
    cache_ttl_ms: Option<u64>,
    /// What names the answer in the cache, in place of the call itself.
    #[arg(long, value_name = "KEY", requires = "url")]
    cache_key: Option<String>,
    /// Who shares the answer, as `cache_scope` of the protocol says.
    #[arg(long, value_name = "SCOPE", requires = "url")]
    cache_scope: Option<String>,
    /// On whose behalf the call is made: tenants share no answers.
    #[arg(long, value_name = "NAME", requires = "url")]
    tenant: Option<String>,
    /// A limit that the call is under: its name, or JSON such as '{"name": "mine", "rate": 5}'; can be given several times.
    #[arg(long = "limit", value_name = "NAME|JSON", requires = "url")]
    limits: Vec<String>,
    /// Append the answer, as it arrives, to a stream that `redial stream` prints.
    #[arg(long, requires = "url")]
    stream: bool,
    /// What becomes of a streamed call whose answer breaks off: `fail` or `restart`. Default `fail`.
    #[arg(long, value_name = "ACTION", requires = "stream")]
    on_break: Option<String>,
    /// A list that the result is pushed on as well.
    #[arg(long, value_name = "LIST", requires = "url")]
    reply_to: Option<String>,
    /// How long the result is kept.
    #[arg(long, value_name = "MS", requires = "url")]
    result_ttl_ms: Option<u64>,
    /// Where to deliver the result, by a POST.
    #[arg(long, value_name = "URL", requires = "url")]
    callback_url: Option<String>,
    /// The task, as JSON, to push when this one is complete; '{{$.body.id}}' in it is replaced by a value of the result.
    #[arg(long, value_name = "TASK", requires = "url")]
    then: Option<String>,
    /// The trace that the call belongs to (W3C Trace Context). Default: the variable TRACEPARENT, as tracing tools for shells set it.
    #[arg(long, requires = "url")]
    traceparent: Option<String>,
    /// Any JSON, which the result repeats.
    #[arg(long, value_name = "JSON", requires = "url")]
    meta: Option<String>,
}

impl TaskOptions {
    /// The task that these options describe. JSON is kept byte for byte as it was typed.
    pub fn task(&self, url: &str) -> anyhow::Result<String> {
        let inherited = || std::env::var("TRACEPARENT").ok().filter(|context| !context.is_empty());
        let traceparent = self.traceparent.clone().or_else(inherited);
        let texts = [
            ("id", &self.id),
            ("method", &self.method),
            ("body_base64", &self.body_base64),
            ("idempotency_key", &self.idempotency_key),
            ("cache_key", &self.cache_key),
            ("cache_scope", &self.cache_scope),
            ("tenant", &self.tenant),
            ("on_break", &self.on_break),
            ("reply_to", &self.reply_to),
            ("callback_url", &self.callback_url),
            ("traceparent", &traceparent),
        ];
        let numbers = [
            ("timeout_ms", self.timeout_ms),
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("redirects", self.redirects.map(u64::from)),
            ("ttl_ms", self.ttl_ms),
            ("expires_at_ms", self.expires_at_ms),
            ("delay_ms", self.delay_ms),
            ("run_at_ms", self.run_at_ms),
            ("cache_ttl_ms", self.cache_ttl_ms),
            ("result_ttl_ms", self.result_ttl_ms),
        ];
        let mut task = Map::from_iter([("url".to_owned(), json!(url))]);
        task.extend(texts.iter().filter_map(|(name, text)| Some(((*name).to_owned(), json!(text.as_ref()?)))));
        task.extend(numbers.iter().filter_map(|(name, number)| Some(((*name).to_owned(), json!((*number)?)))));
        let mut put = |name: &str, value: Value| task.insert(name.to_owned(), value);
        if self.once {
            put("effect", json!("once"));
        }
        if self.stream {
            put("stream", json!(true));
        }
        if let Some(attempts) = self.max_attempts {
            put("retry", json!({ "max_attempts": attempts }));
        }
        if let Some(text) = &self.body_text {
            put("body_text", json!(read_text("--body-text", text)?));
        }
        if !self.headers.is_empty() {
            put("headers", json!(headers(&self.headers)?));
        }
        if !self.parts.is_empty() {
            put("parts", self.parts.iter().map(|part| typed_part(part)).collect::<anyhow::Result<_>>()?);
        }
        let mut task = Value::Object(task).to_string();
        for (name, json) in self.json_fields()? {
            add_field(&mut task, name, &json);
        }
        Ok(task)
    }

    /// The fields that are typed as JSON, or become JSON whose order counts.
    fn json_fields(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        let mut fields = Vec::new();
        if !self.form.is_empty() {
            fields.push(("form", form(&self.form)?));
        }
        for (field, option, typed) in
            [("ok_when", "--ok-when", &self.ok_when), ("retry_when", "--retry-when", &self.retry_when)]
        {
            if let Some(typed) = typed {
                fields.push((field, condition(field, typed).context(option)?));
            }
        }
        if !self.limits.is_empty() {
            fields.push(("limit", limits(&self.limits)?));
        }
        if let Some(body) = &self.body {
            let body = read_text("--body", body)?;
            check_json(&body).context("--body is not JSON: use --body-text for other text")?;
            fields.push(("body", body));
        }
        let whole = [
            ("retry", &self.retry, "--retry is not JSON: use an object such as '{\"max_attempts\": 3}'"),
            ("then", &self.then, "--then is not JSON: use a whole task"),
            ("meta", &self.meta, "--meta is not JSON: quote a text, as in '\"text\"'"),
        ];
        for (field, typed, error) in whole {
            if let Some(typed) = typed {
                check_json(typed).context(error)?;
                fields.push((field, typed.clone()));
            }
        }
        Ok(fields)
    }
}

fn check_json(typed: &str) -> serde_json::Result<()> {
    serde_json::from_str::<&RawValue>(typed).map(drop)
}

/// What an option says, or the file that it names behind an @.
fn read_text(option: &str, typed: &str) -> anyhow::Result<String> {
    match typed.strip_prefix('@') {
        None => Ok(typed.to_owned()),
        Some("-") => std::io::read_to_string(std::io::stdin()).with_context(|| format!("{option} @-")),
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("{option} @{path}")),
    }
}

/// Limits as they are typed: names, or JSON.
fn limits(typed: &[String]) -> anyhow::Result<String> {
    let one = |limit: &String| {
        if limit.trim_start().starts_with('{') {
            check_json(limit).with_context(|| format!("--limit {limit}: use a name, or JSON with one"))?;
            return Ok(limit.clone());
        }
        Ok(json!(limit).to_string())
    };
    let all = typed.iter().map(one).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(format!("[{}]", all.join(",")))
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
    let mut all = BTreeMap::new();
    for header in typed {
        let (name, value) =
            header.split_once(':').with_context(|| format!("--header {header:?}: use 'Name: value'"))?;
        let earlier = all.insert(name.trim().to_owned(), value.trim().to_owned());
        ensure!(earlier.is_none(), "--header {:?} is given twice", name.trim());
    }
    Ok(all)
}
