//! `redial cache`

use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use redial_core::memo::{MemoKey, Memos};
use redial_core::protocol::task::{self, Task};
use redial_core::{Queue, UnixMs};
use serde_json::json;

use crate::output;

/// Answers that are kept: by `cache_ttl_ms`, or under an idempotency key.
#[derive(Debug, clap::Subcommand)]
pub enum Cache {
    /// Print the answer that is kept for a call; exit code 3 when none is.
    Get(Call),
    /// Drop it, so that the next such call is made. A call in flight goes on.
    Drop(Call),
}

/// Which call: a task as it is pushed. Credentials count, so give the same headers; those that a worker adds by itself can't
/// be known here.
#[derive(Debug, clap::Args)]
pub struct Call {
    /// The task as JSON.
    #[arg(value_name = "TASK", required_unless_present = "hash")]
    task: Option<String>,
    /// The answer held under the task's idempotency key, instead of the cached one.
    #[arg(long)]
    idempotency: bool,
    /// The memo's hash, as it stands in its key in Redis and in dead letters, instead of a task.
    #[arg(long, conflicts_with_all = ["task", "idempotency"])]
    hash: Option<String>,
}

impl Cache {
    pub async fn run(self, queue: &Queue, as_json: bool) -> anyhow::Result<ExitCode> {
        let memos = queue.db().memos();
        match self {
            Self::Get(call) => get(&memos, &call.hash()?, as_json).await,
            Self::Drop(call) => {
                if memos.forget(&call.hash()?).await? {
                    output::line(if as_json { "{\"dropped\":true}" } else { "dropped: the next such call is made" })?;
                    return Ok(ExitCode::SUCCESS);
                }
                output::complain("nothing is kept for this call: there is nothing to drop");
                Ok(ExitCode::from(crate::NOT_THERE))
            }
        }
    }
}

async fn get(memos: &Memos, hash: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    let is_led = memos.is_led(hash).await?;
    let Some((kept, until)) = memos.get(hash).await?.filter(|(_, until)| *until > UnixMs::local_now()) else {
        let why =
            if is_led { "it is being made now, or waits to be tried again" } else { "never made, or its time is over" };
        output::complain(&format!("nothing is kept for this call: {why}"));
        return Ok(ExitCode::from(crate::NOT_THERE));
    };
    let answer = kept.result.to_line();
    if as_json {
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        let memo = json!({"hash": hash, "kept_until_ms": until, "in_flight": is_led, "answer": answer});
        output::line(&memo.to_string())?;
    } else {
        output::line(&answer)?;
        output::complain(&format!("kept until {}, memo {hash}", output::utc(until.0)));
    }
    Ok(ExitCode::SUCCESS)
}

impl Call {
    fn hash(&self) -> anyhow::Result<String> {
        if let Some(hash) = &self.hash {
            let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            return is_hash
                .then(|| hash.to_lowercase())
                .with_context(|| format!("{hash:?} is no hash: give its 64 hex digits"));
        }
        let raw = self.task.as_deref().unwrap_or_default();
        let task = Task::parse(raw.as_bytes(), task::MAX_BYTES).map_err(|refusal| anyhow!(refusal.error))?;
        let none_added = http::HeaderMap::new();
        if self.idempotency {
            let key = MemoKey::idempotency(&task, &none_added).context("the task has no `idempotency_key`")?;
            return Ok(key.hash);
        }
        Ok(MemoKey::cache(&task, &none_added).hash)
    }
}
