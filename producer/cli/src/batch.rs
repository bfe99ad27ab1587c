//! `redial batch`

mod answer;
mod base_url;
mod elements;
mod encoding;
mod format;
pub mod fuzz;
mod input;
mod journal;
mod line;
mod line_set;
mod list;
mod options;
mod progress;
mod run;
mod source;
mod template;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand as _};
use redial::{Queue, TaskId};

use input::Input;
use journal::{Fingerprint, Journal, JournalState, Totals, beside};
use options::LineOptions;
use progress::ProgressReporter;
use run::RunOutcome;
use source::InputFile;

use crate::output::{self, Output};

/// What `redial batch` is to do.
#[derive(Debug)]
pub enum BatchArgs {
    List,
    Run(Box<RunArgs>),
}

#[derive(Debug, clap::Subcommand)]
enum BatchCommand {
    /// List the batches of the last day in all queues, with their progress. To run a file named list, write ./list.
    List,
}

/// Make a call for every line of a file. A batch that was stopped resumes where it left off.
///
/// If it is stopped or killed at any moment, run the same command again: it loses no line, and repeats none that is finished.
///
/// Exit codes: 0 every line has an answer; 1 an error, or stopped; 2 wrong usage; 4 some lines failed, and the error file says why.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The input file: one call per line, in UTF-8; - for standard input.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The output file for successful answers, one per line; - for standard output, and then the batch cannot be resumed.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// The output file for failed and invalid lines. Default: OUT.errors, or standard output if that is the output.
    #[arg(long, value_name = "ERR")]
    errors: Option<PathBuf>,
    #[command(flatten)]
    lines: LineOptions,
    /// The maximum number of calls on the queue at a time.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    window: u64,
    /// Write answers in the order of the input lines.
    #[arg(long)]
    ordered: bool,
    /// Run the failed and invalid lines of a finished batch again, and no others. Their error lines are replaced.
    #[arg(long)]
    retry_failed: bool,
}

/// The exit code if some lines failed.
const SOME_FAILED: u8 = 4;

/// Derived, arguments and a command in their place would not do: the arguments are required without the command alone.
impl FromArgMatches for BatchArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        if matches.subcommand().is_some() {
            let BatchCommand::List = BatchCommand::from_arg_matches(matches)?;
            return Ok(Self::List);
        }
        RunArgs::from_arg_matches(matches).map(|run| Self::Run(Box::new(run)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for BatchArgs {
    fn augment_args(command: Command) -> Command {
        let command = BatchCommand::augment_subcommands(RunArgs::augment_args(command));
        command.args_conflicts_with_subcommands(true).subcommand_negates_reqs(true)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl BatchArgs {
    pub async fn run(self, prefix: &str, queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::List => list::list(queue, output).await,
            Self::Run(run) => run.run(prefix, queue, output).await,
        }
    }
}

impl RunArgs {
    async fn run(self, prefix: &str, queue: &Queue, output: Output) -> anyhow::Result<ExitCode> {
        // Everything is checked before the first file is written.
        let (rules, answers) = self.lines.rules(&self.input)?;
        self.check_files()?;
        let input = InputFile::open(&self.input, &self.folder())?;
        Input::open(&input, &rules)?;
        let state = JournalState {
            batch: TaskId::random().as_str().replace('-', ""),
            input: Fingerprint::read(input.rewind()?)?,
            queue: queue.name().to_string(),
            prefix: prefix.to_owned(),
            format: self.lines.description(&self.input)?,
            errors: self.errors.clone().unwrap_or_else(|| beside(&self.output, ".errors")),
            finished: None,
            failed: Vec::new(),
            round: None,
        };
        let mut is_retry = self.retry_failed;
        loop {
            let mut journal = self.journal(state.clone(), is_retry)?;
            is_retry = false;
            if let Some(totals) = journal.state.finished {
                output::complain(&format!("{} was finished before: nothing to do", self.output.display()));
                return self.report(totals, output);
            }
            let batch = redial_core::queue::batch::Batch::new(queue.clone(), &journal.state.batch);
            let lines = Input::open(&input, &rules)?;
            let progress = ProgressReporter::new(queue.clone(), &journal.state.batch, &self.output_name());
            let run = run::Run::new(&batch, &mut journal, lines, answers, self.window, self.ordered, progress)?.run();
            match run.await.with_context(|| format!("stopped{}", self.how_to_resume()))? {
                RunOutcome::Done => {
                    batch.end().await?;
                    journal.finish()?;
                    return self.report(journal.totals, output);
                }
                RunOutcome::Stopped => {
                    let Totals { ok, failed, bad, .. } = journal.totals;
                    output::complain(&format!(
                        "stopped: {} lines are finished; calls on the queue go on{}",
                        ok + failed + bad,
                        self.how_to_resume()
                    ));
                    return Ok(ExitCode::FAILURE);
                }
                RunOutcome::CheckpointLost if self.is_stdout() => {
                    bail!("stopped: Redis has lost some of the tasks; a batch into standard output cannot be resumed")
                }
                RunOutcome::CheckpointLost => output::complain("Redis has lost some of the tasks: pushing them again"),
            }
        }
    }

    fn journal(&self, fresh: JournalState, is_retry: bool) -> anyhow::Result<Journal> {
        if self.is_stdout() {
            return Journal::to_stdout(fresh, self.errors.as_deref());
        }
        Journal::open(&self.output, fresh, is_retry)
    }

    /// Refuses files that would overwrite each other.
    fn check_files(&self) -> anyhow::Result<()> {
        ensure!(
            !self.is_stdout() || !self.retry_failed,
            "--retry-failed needs an output file: standard output does not say what failed"
        );
        let same =
            |a: &Path, b: &Path| a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
        let files = [Some(&self.input), Some(&self.output).filter(|_| !self.is_stdout()), self.errors.as_ref()];
        for (at, file) in files.iter().enumerate() {
            for other in files.iter().skip(at + 1) {
                if let (Some(file), Some(other)) = (file, other) {
                    ensure!(
                        !same(file, other),
                        "{} is used twice: input, output and errors are three files",
                        other.display()
                    );
                }
            }
        }
        Ok(())
    }

    /// What the batch is called where it is listed.
    fn output_name(&self) -> String {
        self.output.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn is_stdout(&self) -> bool {
        self.output == Path::new("-")
    }

    /// Where a copy of the input may be kept while the batch runs.
    fn folder(&self) -> PathBuf {
        let folder = self.output.parent().filter(|folder| !folder.as_os_str().is_empty());
        if self.is_stdout() { std::env::temp_dir() } else { folder.unwrap_or(Path::new(".")).to_owned() }
    }

    fn how_to_resume(&self) -> &'static str {
        if self.is_stdout() {
            return "; a batch into standard output cannot be resumed";
        }
        ", and answers are kept for a week; run the same command again to resume"
    }

    fn report(&self, totals: Totals, output: Output) -> anyhow::Result<ExitCode> {
        let Totals { ok, failed, bad, retries } = totals;
        let is_failed = failed + bad > 0;
        let errors = self.errors.clone().or_else(|| (!self.is_stdout()).then(|| beside(&self.output, ".errors")));
        let errors = errors.filter(|_| is_failed).map(|path| path.display().to_string());
        let mut json = serde_json::json!(totals);
        let mut text = format!("{ok} lines answered, {failed} failed, {bad} invalid; {retries} retries");
        if let Some(path) = errors {
            text = format!("{text}; {path} says why lines failed");
            json["errors"] = path.into();
        }
        match output {
            // Standard output holds the answers.
            Output::Json if self.is_stdout() => output::complain(&json.to_string()),
            Output::Text if self.is_stdout() => output::complain(&text),
            _ => output.print(|| text, || json)?,
        }
        Ok(if is_failed { ExitCode::from(SOME_FAILED) } else { ExitCode::SUCCESS })
    }
}
