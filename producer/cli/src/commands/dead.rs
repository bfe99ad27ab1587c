//! `redial dead`

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use redial_core::queue::dead::DeadLetter;
use redial_core::queue::dead_page::DeadLetterSummary;
use redial_core::queue::dead_walk::{DeadLetterWalk, LetterAction, LetterOutcome};
use redial_core::shown;
use redial_core::{Queue, Reason};
use serde_json::json;

use crate::output::{self, Output, Tint};

#[derive(Debug, clap::Subcommand)]
pub enum DeadCommand {
    /// List dead letters, oldest first: time, reason and id.
    List {
        /// Only those with this reason, such as attempts_exhausted.
        #[arg(long, value_parser = known_reason)]
        reason: Option<String>,
        /// The maximum number to list.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Print dead letters in full: result, attempts and task, with credentials redacted.
    Show {
        /// Ids, or serials as `dead list --json` shows them.
        #[arg(value_name = "ID", required = true)]
        names: Vec<String>,
        /// Only the producer's bytes, exactly, including credentials. On a terminal, control characters in them are escaped.
        #[arg(long)]
        raw: bool,
    },
    /// Put dead letters back on the queue, as if they had just been pushed. A failure that is stored under their idempotency key is
    /// deleted, so that the call is made again.
    Replay {
        #[command(flatten)]
        which: LettersArgs,
        /// Also replay those with an idempotency key that died more than a day ago: their upstream may have forgotten the key and act a
        /// second time.
        #[arg(long)]
        forgotten_keys: bool,
    },
    /// Delete dead letters for good. All of a queue are deleted only after a confirmation.
    Drop {
        #[command(flatten)]
        which: LettersArgs,
        /// Do not ask before all are deleted.
        #[arg(long)]
        yes: bool,
    },
    /// Delete old dead letters for good.
    Purge {
        /// Those that died longer ago than this, such as 30d, 12h or 0s.
        #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
        older_than: Duration,
        /// Only those with this reason.
        #[arg(long, value_parser = known_reason)]
        reason: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
pub struct LettersArgs {
    /// Ids, or serials as `dead list --json` shows them.
    #[arg(value_name = "ID", required_unless_present_any = ["all", "reason"], conflicts_with_all = ["all", "reason"])]
    names: Vec<String>,
    /// All dead letters of the queue.
    #[arg(long)]
    all: bool,
    /// All that have this reason, such as attempts_exhausted.
    #[arg(long, value_parser = known_reason)]
    reason: Option<String>,
}

/// Refuses a reason that no dead letter can have, which would otherwise look like a queue without letters.
fn known_reason(typed: &str) -> Result<String, String> {
    if typed != UNKNOWN_REASON {
        serde_json::from_value::<Reason>(json!(typed)).map_err(|error| error.to_string())?;
    }
    Ok(typed.to_owned())
}

/// The reason of a letter that Redial did not write.
const UNKNOWN_REASON: &str = "unknown";

impl DeadCommand {
    pub async fn run(self, queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::List { reason, limit } => list(queue, reason.as_deref(), limit, output).await,
            Self::Show { names, raw } => show(queue, &names, raw, output).await,
            Self::Replay { which, forgotten_keys } => {
                which.apply(queue, LetterAction::Replay { forgotten_keys }, output).await
            }
            Self::Drop { which, yes } => {
                if which.all && which.reason.is_none() && !yes {
                    confirm(queue).await?;
                }
                which.apply(queue, LetterAction::Drop, output).await
            }
            Self::Purge { older_than, reason } => purge(queue, older_than, reason.as_deref(), output).await,
        }
    }
}

/// Asks whether all dead letters are to be deleted; their producers' bytes are nowhere else.
async fn confirm(queue: &Queue) -> anyhow::Result<()> {
    let (dead, name) = (queue.counts().await?.dead, queue.name());
    ensure!(io::stdin().is_terminal(), "this deletes all {dead} dead letters of queue {name} for good: add --yes");
    eprint!("Delete all {dead} dead letters of queue {name} for good? [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "nothing was deleted");
    Ok(())
}

async fn list(queue: &Queue, reason: Option<&str>, limit: usize, output: Output) -> anyhow::Result<ExitCode> {
    let (mut skip, mut shown) = (0, 0);
    while shown < limit {
        let page = queue.dead_page(skip).await?;
        if page.is_empty() {
            break;
        }
        skip += page.len();
        let wanted = page.iter().filter(|letter| reason.is_none_or(|reason| reason_of(letter) == reason));
        for letter in wanted.take(limit - shown) {
            output.print(|| to_text(letter), || shown::json::dead_letter(letter))?;
            shown += 1;
        }
    }
    if shown == 0 {
        output.note(|| format!("no dead letters in queue {}", queue.name()));
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(queue: &Queue, names: &[String], raw: bool, output: Output) -> anyhow::Result<ExitCode> {
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
            } else {
                show_redacted(letter, output)?;
            }
        }
    }
    Ok(complain_of_missing(queue, names, &found))
}

fn show_redacted(letter: &DeadLetter, output: Output) -> anyhow::Result<()> {
    let json = shown::json::dead_letter(letter);
    let is_unreadable = json["task"].is_null();
    match output {
        Output::Text => output::pretty_json(&json)?,
        Output::Json => output::json_line(&json.to_string())?,
    }
    if is_unreadable {
        output.note(|| {
            "the task is not a JSON object, so nothing tells where its credentials are: --raw prints it with them"
                .into()
        });
    }
    Ok(())
}

async fn purge(queue: &Queue, age: Duration, reason: Option<&str>, output: Output) -> anyhow::Result<ExitCode> {
    // Redis's clock, as that is the one by which they died.
    let before = queue.db().now().await?.0.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let (mut done, mut walk) = (0, DeadLetterWalk::begin(queue).await?);
    while let Some(letter) = walk.next().await? {
        if letter.at.0 >= before {
            // The oldest of each partition come first.
            walk.leave_rest();
        } else if reason.is_some_and(|reason| reason_of_summary(&letter) != reason) {
            walk.leave();
        } else if walk.act(&letter, LetterAction::Drop).await? == LetterOutcome::Done {
            done += 1;
        }
    }
    report_count(queue, "deleted", done, output)?;
    Ok(ExitCode::SUCCESS)
}

fn report_count(queue: &Queue, outcome: &str, done: usize, output: Output) -> anyhow::Result<()> {
    let letters = if done == 1 { "letter" } else { "letters" };
    Ok(output.print(
        || format!("{done} dead {letters} of queue {} {outcome}", queue.name()),
        || json!({"queue": queue.name().as_str(), "done": done, "what": outcome}),
    )?)
}

fn complain_of_missing(queue: &Queue, names: &[String], found: &[bool]) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for (name, _) in names.iter().zip(found).filter(|(_, found)| !**found) {
        output::complain(&format!("{name}: no dead letter with this id or serial in queue {}", queue.name()));
        code = ExitCode::from(super::NOT_FOUND);
    }
    code
}

fn to_text(letter: &DeadLetter) -> String {
    let id = output::escaped(letter.id().map_or(letter.serial.as_str(), |id| id.as_str()));
    let tries = letter.result.attempts.len();
    let error = output::escaped(letter.result.error.as_deref().unwrap_or_default());
    let reason = output::paint(&format!("{:<20}", reason_of(letter)), Tint::Bad);
    format!("{}  {reason} {id}  {tries} attempts  {error}", output::utc(letter.at.0))
}

fn reason_of(letter: &DeadLetter) -> &'static str {
    letter.reason().map_or(UNKNOWN_REASON, |reason| reason.as_str())
}

/// The same of a letter without its task.
fn reason_of_summary(letter: &DeadLetterSummary) -> &str {
    if letter.reason.is_empty() { UNKNOWN_REASON } else { &letter.reason }
}

impl LettersArgs {
    async fn apply(self, queue: &Queue, action: LetterAction, output: Output) -> anyhow::Result<ExitCode> {
        let (mut done, mut refused) = (0_usize, false);
        let mut found: Vec<bool> = vec![false; self.names.len()];
        // Only letters that are there now: with --all, tasks that die again meanwhile would be replayed forever.
        let mut walk = DeadLetterWalk::begin(queue).await?;
        while let Some(letter) = walk.next().await? {
            let is = |name: &String| letter.serial == *name || letter.id.as_ref() == Some(name);
            let name = self.names.iter().position(is);
            let is_wanted = match &self.reason {
                Some(reason) => reason_of_summary(&letter) == reason,
                None => self.all || name.is_some(),
            };
            if !is_wanted {
                walk.leave();
                continue;
            }
            if let Some(name) = name {
                found[name] = true;
            }
            match walk.act(&letter, action).await? {
                LetterOutcome::Done => done += 1,
                LetterOutcome::NotThere => {}
                LetterOutcome::KeyForgotten => {
                    let name = letter.id.as_ref().unwrap_or(&letter.serial);
                    output::complain(&format!(
                        "{name}: died more than a day ago; its upstream may have forgotten the idempotency key and act a second time: use --forgotten-keys if that does no harm"
                    ));
                    refused = true;
                }
            }
        }
        let code = self.report(queue, action, done, &found, output)?;
        Ok(if refused { ExitCode::FAILURE } else { code })
    }

    fn report(
        &self,
        queue: &Queue,
        action: LetterAction,
        done: usize,
        found: &[bool],
        output: Output,
    ) -> anyhow::Result<ExitCode> {
        let outcome = match action {
            LetterAction::Replay { .. } => "put back on the queue",
            LetterAction::Drop => "deleted",
        };
        report_count(queue, outcome, done, output)?;
        Ok(complain_of_missing(queue, &self.names, found))
    }
}
