//! Running a batch: push a window of lines, take answers from one list, write them to disk, delete them from Redis.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use redial_core::queue::batch::{Batch, MAX_PUSH};
use redial_core::queue::batch_progress::BatchState;
use redial_core::{Error, Status};

use super::answer::{self, AnswerFormat, AnsweredLine};
use super::input::Input;
use super::journal::{Journal, LineEnding};
use super::progress::ProgressReporter;

/// How long Redis may be unavailable before the batch stops.
const MAX_OUTAGE: Duration = Duration::from_secs(60);
/// How often lost replies are searched for.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Answers are made durable at the latest after this long,
const FLUSH_INTERVAL: Duration = Duration::from_millis(250);
/// or when there are this many,
const MAX_UNFLUSHED: usize = 5_000;
/// or when they have this many bytes.
const MAX_UNFLUSHED_BYTES: usize = 4 << 20;
/// How many answers are taken from the list at a time.
const MAX_TAKEN: usize = 200;
/// How long to let answers accumulate when there are fewer: a round trip for each would cost the whole fleet more.
const ACCUMULATION_TIME: Duration = Duration::from_millis(5);
/// The maximum number of bytes of tasks that are pushed at once.
const MAX_PUSH_BYTES: usize = 1 << 20;

/// How a run ended.
pub enum RunOutcome {
    Done,
    /// By Ctrl-C or SIGTERM.
    Stopped,
    /// Redis has lost writes, the checkpoint among them: resume as after a kill.
    CheckpointLost,
}

/// A line that is on the queue, or has its answer but cannot be written yet.
struct Pending {
    id: Option<String>,
    answer: Option<String>,
}

/// The parts of a result that the totals need.
#[derive(serde::Deserialize)]
struct Brief {
    status: Status,
    attempts: Vec<serde::de::IgnoredAny>,
}

pub struct Run<'a> {
    batch: &'a Batch,
    journal: &'a mut Journal,
    input: Input<'a>,
    answers: AnswerFormat,
    window: usize,
    is_ordered: bool,
    pending: BTreeMap<u64, Pending>,
    checkpoint: u64,
    flushed: Instant,
    is_read: bool,
    bar: ProgressBar,
    progress: ProgressReporter,
}

impl<'a> Run<'a> {
    pub fn new(
        batch: &'a Batch,
        journal: &'a mut Journal,
        input: Input<'a>,
        answers: AnswerFormat,
        window: u64,
        is_ordered: bool,
        progress: ProgressReporter,
    ) -> anyhow::Result<Self> {
        // It is only drawn on a terminal.
        let bar = ProgressBar::new(journal.state.input.lines);
        bar.set_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} {per_sec}, {eta} left{msg}")?);
        Ok(Self {
            input,
            answers,
            window: usize::try_from(window)?,
            pending: BTreeMap::new(),
            checkpoint: 0,
            flushed: Instant::now(),
            is_read: false,
            batch,
            journal,
            is_ordered,
            bar,
            progress,
        })
    }

    pub async fn run(mut self) -> anyhow::Result<RunOutcome> {
        let mut stop = Box::pin(stopped());
        let end = tokio::select! {
            end = self.work() => end,
            () = &mut stop => Ok(RunOutcome::Stopped),
        };
        // Keep what has arrived, however the run ended.
        self.flush().await?;
        self.bar.finish_and_clear();
        let state = match &end {
            Ok(RunOutcome::Done) => BatchState::Done,
            // It begins again at once.
            Ok(RunOutcome::CheckpointLost) => BatchState::Running,
            Ok(RunOutcome::Stopped) | Err(_) => BatchState::Stopped,
        };
        let lines = self.lines();
        self.progress.say(state, self.journal.totals, lines).await;
        end
    }

    /// How many lines there are, as far as is known.
    fn lines(&self) -> u64 {
        let known = self.finished() + self.pending.len() as u64;
        if self.is_read { known } else { self.journal.state.input.lines.max(known) }
    }

    fn finished(&self) -> u64 {
        let totals = self.journal.totals;
        totals.ok + totals.failed + totals.bad
    }

    async fn work(&mut self) -> anyhow::Result<RunOutcome> {
        self.checkpoint = retry_while_unavailable(async || self.batch.checkpoint().await).await?;
        let mut checked_at: Option<Instant> = None;
        loop {
            while !self.is_read && self.pending.len() + self.chunk() <= self.window {
                if !self.push().await? {
                    return Ok(RunOutcome::CheckpointLost);
                }
                self.flush_when_due().await?;
            }
            // Answers whose reply was lost, for example with a process that took it and was killed.
            if checked_at.is_none_or(|at| at.elapsed() > CHECK_INTERVAL) {
                let waiting = self.pending.iter().filter(|(_, line)| line.answer.is_none()).map(|(number, _)| *number);
                let waiting: Vec<u64> = waiting.collect();
                for part in waiting.chunks(MAX_TAKEN) {
                    let found = retry_while_unavailable(async || self.batch.results(part).await).await?;
                    self.take(found)?;
                    self.flush_when_due().await?;
                }
                if retry_while_unavailable(async || self.batch.checkpoint().await).await? < self.checkpoint {
                    return Ok(RunOutcome::CheckpointLost);
                }
                checked_at = Some(Instant::now());
            }
            self.flush_when_due().await?;
            let lines = self.lines();
            self.progress.say_when_due(self.journal.totals, lines).await;
            if self.is_read && self.pending.is_empty() {
                self.flush().await?;
                return Ok(RunOutcome::Done);
            }
            let mut answers = retry_while_unavailable(async || self.batch.take(MAX_TAKEN).await).await?;
            if answers.is_empty() {
                self.flush().await?;
                answers.extend(retry_while_unavailable(async || self.batch.wait().await).await?);
            }
            let are_few = answers.len() < MAX_TAKEN;
            self.take(answers)?;
            if are_few && !self.pending.is_empty() {
                tokio::time::sleep(ACCUMULATION_TIME).await;
            }
        }
    }

    /// How many lines are pushed at once: few enough that a small window does not run empty.
    fn chunk(&self) -> usize {
        (self.window / 4).clamp(1, MAX_PUSH)
    }

    /// Reads the next lines and pushes those that are not on the queue yet. Returns `false` if the checkpoint was lost.
    async fn push(&mut self) -> anyhow::Result<bool> {
        let (mut lines, mut tasks, mut last, mut bytes) = (Vec::new(), Vec::new(), self.checkpoint, 0);
        // So that signals are handled while finished lines are skipped.
        tokio::task::yield_now().await;
        let (chunk, mut read) = (self.chunk(), 0);
        let now = self.batch.now().await?;
        for _ in 0..MAX_PUSH {
            if read >= chunk || bytes >= MAX_PUSH_BYTES {
                break;
            }
            let Some(line) = self.input.next()? else {
                self.is_read = true;
                break;
            };
            let number = line.number;
            if self.journal.is_done(number) {
                continue;
            }
            read += 1;
            let task_id = self.batch.task_id(number)?;
            let task = match line.call {
                Ok(call) => match call.task(task_id.as_str(), self.batch.replies(), self.input.defaults(), now) {
                    Ok(task) => Ok((call.id, task)),
                    Err(error) => Err((call.id, error.to_string())),
                },
                Err(invalid) => Err((invalid.id, invalid.error.to_string())),
            };
            match task {
                Ok((id, task)) => {
                    self.pending.insert(number, Pending { id, answer: None });
                    if number > self.checkpoint {
                        bytes += task.len();
                        last = number;
                        lines.push(number);
                        tasks.push(task);
                    }
                }
                Err((id, error)) => {
                    let text = self.answers.invalid(number, id.as_deref(), &error);
                    self.journal.add(number, &text, LineEnding::Bad);
                }
            }
        }
        if tasks.is_empty() {
            return Ok(true);
        }
        let checkpoint = retry_while_unavailable(async || self.batch.push(last, &lines, &tasks).await).await?;
        // It differs if Redis lost the last writes, or if a delayed push by a previous process arrived.
        let is_pushed = checkpoint == last;
        self.checkpoint = last;
        Ok(is_pushed)
    }

    /// Accepts answers. Duplicates are dropped.
    fn take(&mut self, answers: Vec<String>) -> anyhow::Result<()> {
        for text in answers {
            let Some(number) = answer::id_of(&text).and_then(|id| self.batch.line_of(&id)) else { continue };
            let Some(line) = self.pending.get_mut(&number).filter(|line| line.answer.is_none()) else { continue };
            line.answer = Some(text);
            if !self.is_ordered {
                self.write(number)?;
            }
        }
        while self.is_ordered
            && let Some((number, Pending { answer: Some(_), .. })) = self.pending.first_key_value()
        {
            self.write(*number)?;
        }
        let totals = self.journal.totals;
        self.bar.set_position(self.finished());
        self.bar.set_message(format!(", {} retries, {} errors", totals.retries, totals.failed + totals.bad));
        Ok(())
    }

    fn write(&mut self, number: u64) -> anyhow::Result<()> {
        let Some(Pending { id, answer: Some(text) }) = self.pending.remove(&number) else { return Ok(()) };
        let brief: Brief = serde_json::from_str(&text)?;
        self.journal.totals.retries += brief.attempts.len().saturating_sub(1) as u64;
        let task = self.batch.task_id(number)?;
        let text = self.answers.answer(AnsweredLine { number, task: task.as_str(), id: id.as_deref() }, &text)?;
        self.journal.add(number, &text, if brief.status == Status::Ok { LineEnding::Ok } else { LineEnding::Failed });
        Ok(())
    }

    async fn flush_when_due(&mut self) -> anyhow::Result<()> {
        let (answers, bytes) = self.journal.unwritten();
        if answers >= MAX_UNFLUSHED
            || bytes >= MAX_UNFLUSHED_BYTES
            || (answers > 0 && self.flushed.elapsed() > FLUSH_INTERVAL)
        {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        let lines = self.journal.flush()?;
        self.flushed = Instant::now();
        if !lines.is_empty() {
            // Results that are not deleted now expire.
            let _ = self.batch.forget(&lines).await;
        }
        Ok(())
    }
}

/// Repeats an operation until Redis answers, for up to [`MAX_OUTAGE`]. This is safe: a push that is sent twice is on the queue once, and
/// an answer that was taken from the list but lost on the way is still under its key.
async fn retry_while_unavailable<T>(mut operation: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    let began = Instant::now();
    let mut wait = Duration::from_millis(50);
    loop {
        match operation().await {
            Err(error) if error.is_temporary() && began.elapsed() < MAX_OUTAGE => {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(2));
            }
            other => return other,
        }
    }
}

/// Ctrl-C or SIGTERM.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut term) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
    }
}
