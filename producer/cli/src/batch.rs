//! `redial batch`

mod answer;
mod input;
mod journal;
mod run;
mod template;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use redial::{Queue, TaskId};

use input::Format;
use journal::{Fingerprint, Journal, JournalState, Totals, beside};
use run::RunOutcome;
use template::Template;

use crate::commands::enqueue::headers;
use crate::output::{self, Output};

/// Make a call for every line of a file. A batch that was stopped resumes where it left off.
///
/// If it is stopped or killed at any moment, run the same command again: it loses no line, and repeats none that is finished.
///
/// Exit codes: 0 every line has an answer; 1 an error, or stopped; 2 wrong usage; 4 some lines failed, and the error file says why.
#[derive(Debug, clap::Args)]
pub struct BatchArgs {
    /// The input file: one call per line.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The output file for successful answers, one per line.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// The output file for failed and invalid lines. Default: OUT.errors.
    #[arg(long, value_name = "ERR")]
    errors: Option<PathBuf>,
    /// The format of the input. Default: csv for a file *.csv, jsonl with --template, openai with --base-url, else redial.
    #[arg(long)]
    format: Option<FormatName>,
    /// The base of the `url` of OpenAI Batch lines, such as https://api.openai.com.
    #[arg(long)]
    base_url: Option<String>,
    /// A header for every OpenAI Batch line. It is stored in Redis, so let the worker add secrets instead.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// A task as JSON, with {{column}} in place of a row's value.
    #[arg(long, value_name = "TASK.json")]
    template: Option<PathBuf>,
    /// The maximum number of calls on the queue at a time.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    window: u64,
    /// Write answers in the order of the input lines.
    #[arg(long)]
    ordered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormatName {
    Redial,
    Openai,
    Csv,
    Jsonl,
}

/// The exit code if some lines failed.
const SOME_FAILED: u8 = 4;

impl BatchArgs {
    pub async fn run(self, prefix: &str, queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
        let state = JournalState {
            batch: TaskId::random().as_str().replace('-', ""),
            input: Fingerprint::read(&self.input)?,
            queue: queue.name().to_string(),
            prefix: prefix.to_owned(),
            format: self.format_description()?,
            errors: self.errors.clone().unwrap_or_else(|| beside(&self.output, ".errors")),
            finished: None,
        };
        loop {
            let mut journal = Journal::open(&self.output, state.clone())?;
            if let Some(totals) = journal.state.finished {
                output::complain(&format!("{} was finished before: nothing to do", self.output.display()));
                return report(totals, output);
            }
            let batch = redial_core::queue::batch::Batch::new(queue.clone(), &journal.state.batch);
            let run =
                run::Run::new(&batch, &mut journal, self.format()?, &self.input, self.window, self.ordered)?.run();
            match run.await.context("stopped; run the same command again to resume")? {
                RunOutcome::Done => {
                    batch.end().await?;
                    journal.finish()?;
                    return report(journal.totals, output);
                }
                RunOutcome::Stopped => {
                    let Totals { ok, failed, bad, .. } = journal.totals;
                    output::complain(&format!(
                        "stopped: {} lines are finished; calls on the queue go on, and their answers are kept for a week; run the same command again to resume",
                        ok + failed + bad
                    ));
                    return Ok(ExitCode::FAILURE);
                }
                RunOutcome::CheckpointLost => output::complain("Redis has lost some of the tasks: pushing them again"),
            }
        }
    }

    fn format_name(&self) -> FormatName {
        let is_csv = self.input.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
        self.format.unwrap_or(match (is_csv, &self.template, &self.base_url) {
            (true, ..) => FormatName::Csv,
            (_, Some(_), _) => FormatName::Jsonl,
            (_, _, Some(_)) => FormatName::Openai,
            _ => FormatName::Redial,
        })
    }

    fn format(&self) -> anyhow::Result<Format> {
        let template = || {
            let path = self.template.as_ref().context("rows need a --template: a task that contains {{column}}")?;
            let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
            Template::parse(&text).with_context(|| format!("{}", path.display()))
        };
        Ok(match self.format_name() {
            FormatName::Redial => Format::Redial,
            FormatName::Openai => Format::OpenAi {
                base_url: self.base_url.clone().context("the OpenAI Batch format needs a --base-url")?,
                headers: headers(&self.headers)?,
            },
            FormatName::Csv => Format::Csv(template()?),
            FormatName::Jsonl => Format::Jsonl(template()?),
        })
    }

    /// The format and its options, without headers, which may contain secrets. If it changes, it is another batch.
    fn format_description(&self) -> anyhow::Result<String> {
        let template = self.template.as_deref().map(Fingerprint::read).transpose()?;
        let template = template.map_or(0, |print| print.fnv);
        Ok(format!("{:?} {} {template:x}", self.format_name(), self.base_url.as_deref().unwrap_or("-")))
    }
}

fn report(totals: Totals, output: Output) -> anyhow::Result<ExitCode> {
    let Totals { ok, failed, bad, retries } = totals;
    output.print(
        || format!("{ok} lines answered, {failed} failed, {bad} invalid; {retries} retries"),
        || serde_json::json!(totals),
    )?;
    Ok(if failed + bad > 0 { ExitCode::from(SOME_FAILED) } else { ExitCode::SUCCESS })
}
