//! `redial cache`

use std::process::ExitCode;

use anyhow::Context as _;
use redial_core::memo::{MemoKey, Memos};
use redial_core::protocol::task::{self, Task};
use redial_core::{Queue, UnixMs};
use serde_json::json;

use crate::output::{self, Output};

/// Answers that are stored because of `cache_ttl_ms` or an idempotency key.
#[derive(Debug, clap::Subcommand)]
pub enum CacheCommand {
    /// Print the answer that is stored for a call; exit code 3 if there is none.
    Get(StoredCallArgs),
    /// Delete the stored answer, so that the call is made again. A call in flight goes on.
    Drop(StoredCallArgs),
}

/// The call: a task as it is pushed. Credentials are part of a call's identity, so include the same headers. Headers that workers add
/// themselves are not known here.
#[derive(Debug, clap::Args)]
pub struct StoredCallArgs {
    /// The task as JSON.
    #[arg(value_name = "TASK", required_unless_present = "hash")]
    task: Option<String>,
    /// Use the answer stored under the task's idempotency key instead of the cached one.
    #[arg(long)]
    idempotency: bool,
    /// The memo's hash, as in its key in Redis and in dead letters, instead of a task.
    #[arg(long, conflicts_with_all = ["task", "idempotency"])]
    hash: Option<String>,
}

impl CacheCommand {
    pub async fn run(self, queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
        let memos = queue.db().memos();
        match self {
            Self::Get(call) => get(&memos, queue.db().now().await?, &call.hash()?, output).await,
            Self::Drop(call) => {
                if memos.forget(&call.hash()?).await? {
                    output.print(|| "deleted: the next such call is made".into(), || json!({"dropped": true}))?;
                    return Ok(ExitCode::SUCCESS);
                }
                output::complain("no answer is stored for this call: nothing to delete");
                Ok(ExitCode::from(super::NOT_FOUND))
            }
        }
    }
}

async fn get(memos: &Memos, now: UnixMs, hash: &str, output: Output) -> anyhow::Result<ExitCode> {
    let is_led = memos.is_led(hash).await?;
    let Some((kept, until)) = memos.get(hash).await?.filter(|(_, until)| *until > now) else {
        let why =
            if is_led { "it is in flight, or waits for a retry" } else { "it was never made, or its answer expired" };
        output::complain(&format!("no answer is stored for this call: {why}"));
        return Ok(ExitCode::from(super::NOT_FOUND));
    };
    let answer = kept.result.to_line();
    match output {
        Output::Text => {
            output::json_line(&answer)?;
            output::complain(&format!("kept until {}, memo {hash}", output::utc(until.0)));
        }
        Output::Json => {
            let answer: serde_json::Value = serde_json::from_str(&answer)?;
            let memo = json!({"hash": hash, "kept_until_ms": until, "in_flight": is_led, "answer": answer});
            output::json_line(&memo.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl StoredCallArgs {
    fn hash(&self) -> anyhow::Result<String> {
        if let Some(hash) = &self.hash {
            let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            return is_hash
                .then(|| hash.to_lowercase())
                .with_context(|| format!("{hash:?} is not a valid hash: use its 64 hex digits"));
        }
        let raw = self.task.as_deref().unwrap_or_default();
        let task = Task::parse(raw.as_bytes(), task::MAX_BYTES)?;
        let no_added_headers = http::HeaderMap::new();
        if self.idempotency {
            let key = MemoKey::idempotency(&task, &no_added_headers).context("the task has no `idempotency_key`")?;
            return Ok(key.hash);
        }
        Ok(MemoKey::cache(&task, &no_added_headers).hash)
    }
}
