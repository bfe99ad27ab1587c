//! `redial dead`

use std::process::ExitCode;
use std::time::Duration;

use redial_core::queue::dead::DeadLetter;
use redial_core::{Queue, UnixMs};
use serde_json::{Value, json};

use crate::output::{self, Tint};
use crate::redact;

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
    /// Print dead letters whole: result, attempts and task, credentials taken out.
    Show {
        /// Ids, or serials as `dead list --json` shows them.
        #[arg(value_name = "ID", required = true)]
        names: Vec<String>,
        /// The producer's bytes alone, exactly, credentials included.
        #[arg(long)]
        raw: bool,
    },
    /// Put dead letters back on the queue, as if they had just been pushed. A failure that is held under their idempotency key
    /// is forgotten, so that the call is made again.
    Replay {
        #[command(flatten)]
        which: Which,
        /// Also those with an idempotency key that died more than a day ago: their upstream may have forgotten the key, and
        /// act a second time.
        #[arg(long)]
        forgotten_keys: bool,
    },
    /// Delete dead letters for good.
    Drop(Which),
    /// Delete old dead letters for good.
    Purge {
        /// Those that died longer ago than this, as in 30d, 12h or 0s.
        #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
        older_than: Duration,
        /// Only those with this reason.
        #[arg(long)]
        reason: Option<String>,
    },
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
    Replay { forgotten_keys: bool },
    Drop,
}

impl Dead {
    pub async fn run(self, queue: &Queue, json: bool) -> anyhow::Result<ExitCode> {
        match self {
            Self::List { reason, limit } => list(queue, reason.as_deref(), limit, json).await,
            Self::Show { names, raw } => show(queue, &names, raw, json).await,
            Self::Replay { which, forgotten_keys } => which.each(queue, Act::Replay { forgotten_keys }, json).await,
            Self::Drop(which) => which.each(queue, Act::Drop, json).await,
            Self::Purge { older_than, reason } => purge(queue, older_than, reason.as_deref(), json).await,
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

async fn show(queue: &Queue, names: &[String], raw: bool, json: bool) -> anyhow::Result<ExitCode> {
    let (mut skip, mut found) = (0, vec![false; names.len()]);
    loop {
        let page = queue.dead_page(skip).await?;
        if page.is_empty() {
            break;
        }
        skip += page.len();
        for letter in &page {
            let Some(name) = names.iter().position(|name| letter.is(name)) else { continue };
            found[name] = true;
            if raw {
                output::bytes(&letter.raw)?;
            } else if json {
                output::line(&as_json(letter).to_string())?;
            } else {
                output::line(&serde_json::to_string_pretty(&as_json(letter))?)?;
            }
        }
    }
    Ok(complain_of_missing(queue, names, &found))
}

async fn purge(queue: &Queue, age: Duration, reason: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let before = UnixMs::local_now().0.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let (mut done, mut skip) = (0, 0);
    'all: loop {
        let page = queue.dead_page(skip).await?;
        if page.is_empty() {
            break;
        }
        for letter in &page {
            // The oldest come first.
            if letter.at.0 >= before {
                break 'all;
            }
            if reason.is_some_and(|reason| reason_of(letter) != reason) {
                skip += 1;
            } else if queue.drop_dead(letter).await? {
                done += 1;
            } else if letter.serial.is_empty() {
                // What Redial has not written it does not delete.
                skip += 1;
            }
        }
    }
    say(queue, "deleted", done, json)?;
    Ok(ExitCode::SUCCESS)
}

fn say(queue: &Queue, said: &str, done: usize, json: bool) -> anyhow::Result<()> {
    let letters = if done == 1 { "letter" } else { "letters" };
    Ok(output::line(&if json {
        json!({"queue": queue.name().as_str(), "done": done, "what": said}).to_string()
    } else {
        format!("{done} dead {letters} of queue {} {said}", queue.name())
    })?)
}

fn complain_of_missing(queue: &Queue, names: &[String], found: &[bool]) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for (name, _) in names.iter().zip(found).filter(|(_, found)| !**found) {
        output::complain(&format!("{name}: no dead letter of that id or serial in queue {}", queue.name()));
        code = ExitCode::from(crate::NOT_THERE);
    }
    code
}

fn as_text(letter: &DeadLetter) -> String {
    let id = letter.id().map_or(letter.serial.as_str(), |id| id.as_str());
    let tries = letter.result.attempts.len();
    let error = letter.result.error.as_deref().unwrap_or_default();
    let reason = output::paint(&format!("{:<20}", reason_of(letter)), Tint::Bad);
    format!("{}  {reason} {id}  {tries} attempts  {error}", output::utc(letter.at.0))
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
        "memo": letter.memo,
        "task": task,
        "task_text": as_text,
        "bytes": letter.raw.len(),
    })
}

fn reason_of(letter: &DeadLetter) -> &'static str {
    letter.reason().map_or("unknown", |reason| reason.as_str())
}

/// Whether the upstream may have forgotten the letter's idempotency key: Stripe holds one for a day, and so do others.
fn is_past_its_key(letter: &DeadLetter) -> bool {
    letter.memo.is_some() && UnixMs::local_now().since(letter.at) > redial_core::memo::IDEMPOTENCY_TTL_MS
}

impl Which {
    async fn each(self, queue: &Queue, act: Act, json: bool) -> anyhow::Result<ExitCode> {
        let (mut done, mut skip, mut refused) = (0_usize, 0, false);
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
                    Act::Replay { forgotten_keys: false } if is_past_its_key(letter) => {
                        let name = letter.id().map_or(letter.serial.as_str(), |id| id.as_str());
                        output::complain(&format!(
                            "{name}: died more than a day ago; its upstream may have forgotten the idempotency key and act a second time: replay with --forgotten-keys if that does no harm"
                        ));
                        (skip, refused) = (skip + 1, true);
                        continue;
                    }
                    Act::Replay { .. } => queue.replay(letter).await?,
                    Act::Drop => queue.drop_dead(letter).await?,
                };
                done += usize::from(acted);
            }
        }
        let code = self.report(queue, act, done, &found, json)?;
        Ok(if refused { ExitCode::FAILURE } else { code })
    }

    fn report(&self, queue: &Queue, act: Act, done: usize, found: &[bool], json: bool) -> anyhow::Result<ExitCode> {
        let said = match act {
            Act::Replay { .. } => "put back on the queue",
            Act::Drop => "deleted",
        };
        say(queue, said, done, json)?;
        Ok(complain_of_missing(queue, &self.names, found))
    }
}
