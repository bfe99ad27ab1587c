//! `redial batch`

mod answer;
mod input;
mod journal;
mod run;
mod template;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use redial_core::{Queue, TaskId};

use input::Format;
use journal::{Fingerprint, Journal, State, Totals, beside};
use run::End;
use template::Template;

use crate::commands::enqueue::headers;
use crate::output;

/// Make the call of every line of a file; goes on where it was when it was stopped.
///
/// Stopped or killed at any moment and started again with the same command, it loses no line and calls none that is finished again.
///
/// Exit codes: 0 every line is answered; 1 an error, or stopped; 2 wrong usage; 4 some lines failed, the error file says why.
#[derive(Debug, clap::Args)]
pub struct Batch {
    /// The file: one call a line.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Where good answers go, one a line.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Where failed and wrong lines go; default: OUT.errors.
    #[arg(long, value_name = "ERR")]
    errors: Option<PathBuf>,
    /// How the lines are written; default: csv for a file *.csv, jsonl with --template, openai with --base-url, else redial.
    #[arg(long)]
    format: Option<Name>,
    /// What the `url` of an OpenAI Batch line is put behind, as in https://api.openai.com.
    #[arg(long)]
    base_url: Option<String>,
    /// A header for every OpenAI Batch line. A secret in it stands in Redis: better let the worker add it.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// A task as JSON, with {{column}} where a row's value goes.
    #[arg(long, value_name = "TASK.json")]
    template: Option<PathBuf>,
    /// The most calls on the queue at a time.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    window: u64,
    /// Write answers in the order of the lines.
    #[arg(long)]
    ordered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    Redial,
    Openai,
    Csv,
    Jsonl,
}

/// The exit code for lines that failed.
const SOME_FAILED: u8 = 4;

impl Batch {
    pub async fn run(self, prefix: &str, queue: &Queue, json: bool) -> anyhow::Result<ExitCode> {
        let state = State {
            batch: TaskId::random().as_str().replace('-', ""),
            input: Fingerprint::of(&self.input)?,
            queue: queue.name().to_string(),
            prefix: prefix.to_owned(),
            format: self.described()?,
            errors: self.errors.clone().unwrap_or_else(|| beside(&self.output, ".errors")),
            finished: None,
        };
        loop {
            let mut journal = Journal::open(&self.output, state.clone())?;
            if let Some(totals) = journal.state.finished {
                output::complain(&format!("{} was finished before: nothing to do", self.output.display()));
                return report(totals, json);
            }
            let batch = redial_core::queue::batch::Batch::new(queue.clone(), &journal.state.batch);
            let end = run::Run::new(&batch, &mut journal, self.format()?, &self.input, self.window, self.ordered)?.go();
            match end.await.context("stopped; run the same command again to go on")? {
                End::Done => {
                    batch.end().await?;
                    journal.finish()?;
                    return report(journal.totals, json);
                }
                End::Stopped => {
                    let Totals { ok, failed, bad, .. } = journal.totals;
                    output::complain(&format!(
                        "stopped: {} lines are finished; what is on the queue goes on, and its answers are kept for a week; run the same command again to go on",
                        ok + failed + bad
                    ));
                    return Ok(ExitCode::FAILURE);
                }
                End::WentBack => output::complain("Redis has lost some of the tasks: pushing them again"),
            }
        }
    }

    fn name(&self) -> Name {
        let is_csv = self.input.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
        self.format.unwrap_or(match (is_csv, &self.template, &self.base_url) {
            (true, ..) => Name::Csv,
            (_, Some(_), _) => Name::Jsonl,
            (_, _, Some(_)) => Name::Openai,
            _ => Name::Redial,
        })
    }

    fn format(&self) -> anyhow::Result<Format> {
        let template = || {
            let path = self.template.as_ref().context("rows need a --template: a task with {{column}} in it")?;
            let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
            Template::parse(&text).with_context(|| format!("{}", path.display()))
        };
        Ok(match self.name() {
            Name::Redial => Format::Redial,
            Name::Openai => Format::OpenAi {
                base_url: self.base_url.clone().context("the OpenAI Batch format needs a --base-url")?,
                headers: headers(&self.headers)?,
            },
            Name::Csv => Format::Csv(template()?),
            Name::Jsonl => Format::Jsonl(template()?),
        })
    }

    /// The format and what belongs to it, but no header: those may hold secrets. Another one makes another batch.
    fn described(&self) -> anyhow::Result<String> {
        let template = self.template.as_deref().map(Fingerprint::of).transpose()?;
        let template = template.map_or(0, |print| print.fnv);
        Ok(format!("{:?} {} {template:x}", self.name(), self.base_url.as_deref().unwrap_or("-")))
    }
}

fn report(totals: Totals, json: bool) -> anyhow::Result<ExitCode> {
    let Totals { ok, failed, bad, retries } = totals;
    output::line(&if json {
        serde_json::to_string(&totals)?
    } else {
        format!("{ok} lines answered, {failed} failed, {bad} wrong; {retries} retries")
    })?;
    Ok(if failed + bad > 0 { ExitCode::from(SOME_FAILED) } else { ExitCode::SUCCESS })
}
