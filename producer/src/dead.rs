//! `redial dead`

use std::process::ExitCode;

use redial::Queue;
use redial::dead::DeadLetter;
use serde_json::{Value, json};

use crate::{output, redact};

#[derive(Debug, clap::Subcommand)]
pub enum Dead {
    /// List dead letters, oldest first: when, why, which.
    List {
        /// Only those with this reason, as in attempts_exhausted.
        #[arg(long)]
        reason: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Put dead letters back on the queue, as if they had just been pushed.
    Replay(Which),
    /// Delete dead letters for good.
    Drop(Which),
}

#[derive(Debug, clap::Args)]
pub struct Which {
    /// Ids, or serials as `dead list --json` shows them.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    names: Vec<String>,
    /// All dead letters of the queue.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Replay,
    Drop,
}

impl Dead {
    pub async fn run(self, queue: &Queue, json: bool) -> anyhow::Result<ExitCode> {
        match self {
            Self::List { reason, limit } => list(queue, reason.as_deref(), limit, json).await,
            Self::Replay(which) => which.each(queue, Act::Replay).await,
            Self::Drop(which) => which.each(queue, Act::Drop).await,
        }
    }
}

async fn list(queue: &Queue, reason: Option<&str>, limit: usize, json: bool) -> anyhow::Result<ExitCode> {
    let (mut skip, mut shown) = (0, 0);
    while shown < limit {
        let page = queue.dead_page(skip).await?;
        if page.is_empty() {
            break;
        }
        skip += page.len();
        let wanted = page.iter().filter(|letter| reason.is_none_or(|reason| reason_of(letter) == reason));
        for letter in wanted.take(limit - shown) {
            output::line(&if json { as_json(letter).to_string() } else { as_text(letter) })?;
            shown += 1;
        }
    }
    if shown == 0 && !json {
        output::complain(&format!("no dead letters in queue {}", queue.name()));
    }
    Ok(ExitCode::SUCCESS)
}

fn as_text(letter: &DeadLetter) -> String {
    let id = letter.id().map_or(letter.serial.as_str(), |id| id.as_str());
    let tries = letter.result.attempts.len();
    let error = letter.result.error.as_deref().unwrap_or_default();
    format!("{}  {:<20} {id}  {tries} attempts  {error}", utc(letter.at.0), reason_of(letter))
}

fn as_json(letter: &DeadLetter) -> Value {
    let task = redact::task(&letter.raw);
    let as_text = task.is_none().then(|| String::from_utf8_lossy(&letter.raw).into_owned());
    json!({
        "id": letter.id(),
        "serial": letter.serial,
        "at_ms": letter.at,
        "reason": letter.reason(),
        "error": letter.result.error,
        "http_status": letter.result.http_status,
        "attempts": letter.result.attempts,
        "task": task,
        "task_text": as_text,
        "bytes": letter.raw.len(),
    })
}

fn reason_of(letter: &DeadLetter) -> &'static str {
    letter.reason().map_or("unknown", |reason| reason.as_str())
}

/// A time as people read it, in UTC.
fn utc(ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
    humantime::format_rfc3339_seconds(at).to_string()
}

impl Which {
    async fn each(self, queue: &Queue, act: Act) -> anyhow::Result<ExitCode> {
        let (mut done, mut skip) = (0_usize, 0);
        let mut found: Vec<bool> = vec![false; self.names.len()];
        // Letters that die meanwhile come after the last page of now: with --all they would be replayed for ever.
        let until = queue.counts().await?.dead;
        let mut seen = 0;
        while seen < until {
            let page = queue.dead_page(skip).await?;
            if page.is_empty() {
                break;
            }
            for letter in page.iter().take(usize::try_from(until - seen).unwrap_or(usize::MAX)) {
                seen += 1;
                let name = self.names.iter().position(|name| letter.is(name));
                if !self.all && name.is_none() {
                    skip += 1;
                    continue;
                }
                if let Some(name) = name {
                    found[name] = true;
                }
                let acted = match act {
                    Act::Replay => queue.replay(letter).await?,
                    Act::Drop => queue.drop_dead(letter).await?,
                };
                done += usize::from(acted);
            }
        }
        self.report(queue, act, done, &found)
    }

    fn report(&self, queue: &Queue, act: Act, done: usize, found: &[bool]) -> anyhow::Result<ExitCode> {
        let said = match act {
            Act::Replay => "put back on the queue",
            Act::Drop => "deleted",
        };
        let letters = if done == 1 { "letter" } else { "letters" };
        output::line(&format!("{done} dead {letters} of queue {} {said}", queue.name()))?;
        let missing = self.names.iter().zip(found).filter(|(_, found)| !**found);
        let mut code = ExitCode::SUCCESS;
        for (name, _) in missing {
            output::complain(&format!("{name}: no dead letter of that id or serial in queue {}", queue.name()));
            code = ExitCode::from(crate::NOT_THERE);
        }
        Ok(code)
    }
}
