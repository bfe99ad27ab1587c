//! `redial enqueue`

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use redial::{Producer, Stamped, add_field, stamp};
use serde_json::{Map, Value, json};

use crate::output;

/// Tasks are pushed this many at a time.
const BATCH: usize = 1_000;

/// Put calls on the queue; prints the id of each.
///
/// Three ways: whole tasks as JSON; `-` to read tasks from standard input, one a line; or --url and what goes with it.
#[derive(Debug, clap::Args)]
pub struct Enqueue {
    /// Tasks as JSON, or - to read them from standard input, one a line.
    #[arg(value_name = "TASK", required_unless_present = "url", conflicts_with = "url")]
    tasks: Vec<String>,
    /// Where to call.
    #[arg(long)]
    url: Option<String>,
    /// GET, POST, ...; default: POST with a body, else GET.
    #[arg(short = 'X', long, requires = "url")]
    method: Option<String>,
    /// A request header, as in 'Accept: text/html'.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", requires = "url")]
    headers: Vec<String>,
    /// A JSON body.
    #[arg(short, long, requires = "url")]
    body: Option<String>,
    /// A text body.
    #[arg(long, requires = "url", conflicts_with = "body")]
    body_text: Option<String>,
    /// A name for the call.
    #[arg(long, requires = "url")]
    id: Option<String>,
    /// Sent as Idempotency-Key on every attempt; one call and one answer under it, for a day.
    #[arg(long, requires = "url")]
    idempotency_key: Option<String>,
    /// Share the answer with all who make the same call, and keep it so many milliseconds.
    #[arg(long, requires = "url")]
    cache_ttl_ms: Option<u64>,
    /// The most attempts.
    #[arg(long, requires = "url")]
    max_attempts: Option<u32>,
    /// No attempt before so many milliseconds have passed.
    #[arg(long, requires = "url")]
    delay_ms: Option<u64>,
    /// Never send it twice, unless it is certain that the upstream did not act: `"effect": "once"`.
    #[arg(long, requires = "url")]
    once: bool,
    /// Where the result is delivered, by a POST.
    #[arg(long, requires = "url")]
    callback_url: Option<String>,
    /// The task, as JSON, that is pushed when this one is complete; '{{$.body.id}}' in it stands for a value of the result.
    #[arg(long, value_name = "TASK", requires = "url")]
    then: Option<String>,
}

impl Enqueue {
    pub async fn run(self, producer: &Producer, json: bool) -> anyhow::Result<ExitCode> {
        if let Some(url) = &self.url {
            let task = self.task(url)?;
            return push(producer, &[stamp(&task)?], json).await;
        }
        if self.tasks == ["-"] {
            return from_stdin(producer, json).await;
        }
        let stamped = self.tasks.iter().map(|task| stamp(task)).collect::<Result<Vec<_>, _>>()?;
        push(producer, &stamped, json).await
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
        let mut task = Value::Object(task).to_string();
        let instead = ["--body is not JSON: use --body-text for other text", "--then is not JSON: give a whole task"];
        for ((field, given), wrong) in [("body", &self.body), ("then", &self.then)].into_iter().zip(instead) {
            if let Some(json) = given {
                let _: &serde_json::value::RawValue = serde_json::from_str(json).context(wrong)?;
                // As it was typed, byte for byte.
                add_field(&mut task, field, json);
            }
        }
        Ok(task)
    }
}

/// Headers as they are typed: 'Name: value'.
pub fn headers(typed: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |header: &String| {
        let (name, value) =
            header.split_once(':').with_context(|| format!("--header {header:?}: use 'Name: value'"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    typed.iter().map(pair).collect()
}

/// Checks every line before it is pushed; the first wrong one ends it, and says how many were pushed.
async fn from_stdin(producer: &Producer, json: bool) -> anyhow::Result<ExitCode> {
    let mut batch: Vec<Stamped> = Vec::with_capacity(BATCH);
    let mut pushed = 0_usize;
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line.with_context(|| format!("line {}", number + 1))?;
        if line.trim().is_empty() {
            continue;
        }
        match stamp(&line) {
            Ok(stamped) => batch.push(stamped),
            Err(error) => {
                push(producer, &batch, json).await?;
                pushed += batch.len();
                bail!("line {}: {error} ({pushed} tasks before it were pushed)", number + 1);
            }
        }
        if batch.len() == BATCH {
            push(producer, &batch, json).await?;
            pushed += batch.len();
            batch.clear();
        }
    }
    ensure!(pushed > 0 || !batch.is_empty(), "standard input holds no task: give one as JSON a line");
    push(producer, &batch, json).await
}

async fn push(producer: &Producer, tasks: &[Stamped], json: bool) -> anyhow::Result<ExitCode> {
    producer.push(tasks).await?;
    for task in tasks {
        let id = task.id.as_str();
        output::line(&if json { json!({ "id": id }).to_string() } else { id.to_owned() })?;
    }
    Ok(ExitCode::SUCCESS)
}
