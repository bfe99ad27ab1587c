//! A batch on its way: a window of lines on the queue, answers off one list, flushed and forgotten.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use redial_core::queue::batch::{Batch, PUSH};
use redial_core::{Error, Status};

use super::answer;
use super::input::{Format, Input};
use super::journal::Journal;

/// How long Redis may be away before the batch stops.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a lost reply is looked for.
const LOOK: Duration = Duration::from_secs(5);
/// Answers are made durable at least this often, by time, number and bytes.
const FLUSH: (Duration, usize, usize) = (Duration::from_millis(250), 5_000, 4 << 20);
/// How many answers are taken off the list at a time, and the most bytes of tasks pushed at once.
const TAKE: usize = 200;
/// While there are fewer, more are let come together: a round trip for each would cost the whole fleet more.
const LET_COME: Duration = Duration::from_millis(5);
const PUSH_BYTES: usize = 1 << 20;

/// How a run ended.
pub enum End {
    Done,
    /// By Ctrl-C or SIGTERM.
    Stopped,
    /// Redis has lost writes, so the mark went back: go on as after a kill.
    WentBack,
}

/// A line on the queue, or answered and not its turn to be written.
struct Pending {
    name: Option<String>,
    answer: Option<String>,
}

/// What the totals need to know of a result.
#[derive(serde::Deserialize)]
struct Brief {
    status: Status,
    attempts: Vec<serde::de::IgnoredAny>,
}

pub struct Run<'a> {
    batch: &'a Batch,
    journal: &'a mut Journal,
    input: Input,
    is_openai: bool,
    window: usize,
    is_ordered: bool,
    pending: BTreeMap<u64, Pending>,
    mark: u64,
    flushed: Instant,
    is_read: bool,
    bar: ProgressBar,
}

impl<'a> Run<'a> {
    pub fn new(
        batch: &'a Batch,
        journal: &'a mut Journal,
        format: Format,
        input: &Path,
        window: u64,
        is_ordered: bool,
    ) -> anyhow::Result<Self> {
        // Drawn on a terminal alone.
        let bar = ProgressBar::new(journal.state.input.lines);
        bar.set_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} {per_sec}, {eta} left{msg}")?);
        Ok(Self {
            is_openai: matches!(format, Format::OpenAi { .. }),
            input: Input::open(input, format)?,
            window: usize::try_from(window)?,
            pending: BTreeMap::new(),
            mark: 0,
            flushed: Instant::now(),
            is_read: false,
            batch,
            journal,
            is_ordered,
            bar,
        })
    }

    pub async fn go(mut self) -> anyhow::Result<End> {
        let mut stop = Box::pin(stopped());
        let end = tokio::select! {
            end = self.work() => end,
            () = &mut stop => Ok(End::Stopped),
        };
        // What is here is worth keeping, however it ended.
        self.flush().await?;
        self.bar.finish_and_clear();
        end
    }

    async fn work(&mut self) -> anyhow::Result<End> {
        self.mark = patiently(async || self.batch.mark().await).await?;
        let mut looked: Option<Instant> = None;
        loop {
            while !self.is_read && self.pending.len() + self.chunk() <= self.window {
                if !self.push().await? {
                    return Ok(End::WentBack);
                }
                self.flush_when_due().await?;
            }
            // What was answered while nobody waited: its reply may be lost with the process that took it.
            if looked.is_none_or(|at| at.elapsed() > LOOK) {
                let waiting = self.pending.iter().filter(|(_, line)| line.answer.is_none()).map(|(number, _)| *number);
                let waiting: Vec<u64> = waiting.collect();
                for part in waiting.chunks(TAKE) {
                    let found = patiently(async || self.batch.results(part).await).await?;
                    self.take(found)?;
                    self.flush_when_due().await?;
                }
                if patiently(async || self.batch.mark().await).await? < self.mark {
                    return Ok(End::WentBack);
                }
                looked = Some(Instant::now());
            }
            self.flush_when_due().await?;
            if self.is_read && self.pending.is_empty() {
                self.flush().await?;
                return Ok(End::Done);
            }
            let mut answers = patiently(async || self.batch.take(TAKE).await).await?;
            if answers.is_empty() {
                self.flush().await?;
                answers.extend(patiently(async || self.batch.wait().await).await?);
            }
            let are_few = answers.len() < TAKE;
            self.take(answers)?;
            if are_few && !self.pending.is_empty() {
                tokio::time::sleep(LET_COME).await;
            }
        }
    }

    /// How many lines are pushed at once: few enough that a small window is never empty.
    fn chunk(&self) -> usize {
        (self.window / 4).clamp(1, PUSH)
    }

    /// Reads the next lines and pushes those that are not on the queue yet. `false`: the mark went back.
    async fn push(&mut self) -> anyhow::Result<bool> {
        let (mut tasks, mut last, mut bytes) = (Vec::new(), self.mark, 0);
        // So that a signal is heard while lines that are done go by.
        tokio::task::yield_now().await;
        let (room, mut read) = (self.chunk(), 0);
        for _ in 0..PUSH {
            if read >= room || bytes >= PUSH_BYTES {
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
            let id = self.batch.task_id(number)?;
            let made = line.call.and_then(|call| {
                let name = call.name.clone();
                let made = call.task(id.as_str(), self.batch.replies());
                made.map(|task| (name.clone(), task)).map_err(|error| (name, error.to_string()))
            });
            match made {
                Ok((name, task)) => {
                    self.pending.insert(number, Pending { name, answer: None });
                    if number > self.mark {
                        bytes += task.len();
                        last = number;
                        tasks.push(task);
                    }
                }
                Err((name, wrong)) => {
                    self.journal.totals.bad += 1;
                    let text = answer::of_bad(number, name.as_deref(), &wrong, self.is_openai);
                    self.journal.add(number, &text, true);
                }
            }
        }
        if tasks.is_empty() {
            return Ok(true);
        }
        let mark = patiently(async || self.batch.push(self.mark, last, &tasks).await).await?;
        // Another mark: Redis lost the last writes, or a copy of a push came late, from the process before this one.
        let is_pushed = mark == last;
        self.mark = last;
        Ok(is_pushed)
    }

    /// Takes answers in; one that came before is dropped.
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
        self.bar.set_position(totals.ok + totals.failed + totals.bad);
        self.bar.set_message(format!(", {} retries, {} errors", totals.retries, totals.failed + totals.bad));
        Ok(())
    }

    fn write(&mut self, number: u64) -> anyhow::Result<()> {
        let Some(Pending { name, answer: Some(text) }) = self.pending.remove(&number) else { return Ok(()) };
        let brief: Brief = serde_json::from_str(&text)?;
        let is_ok = brief.status == Status::Ok;
        self.journal.totals.ok += u64::from(is_ok);
        self.journal.totals.failed += u64::from(!is_ok);
        self.journal.totals.retries += brief.attempts.len().saturating_sub(1) as u64;
        let id = self.batch.task_id(number)?;
        let text = if self.is_openai {
            answer::of_openai(id.as_str(), name.as_deref(), &serde_json::from_str(&text)?)
        } else {
            answer::of_redial(number, id.as_str(), name.as_deref(), &text)?
        };
        self.journal.add(number, &text, !is_ok);
        Ok(())
    }

    async fn flush_when_due(&mut self) -> anyhow::Result<()> {
        let (answers, bytes) = self.journal.unwritten();
        if answers >= FLUSH.1 || bytes >= FLUSH.2 || (answers > 0 && self.flushed.elapsed() > FLUSH.0) {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        let lines = self.journal.flush()?;
        self.flushed = Instant::now();
        if !lines.is_empty() {
            // What is not deleted now goes by itself at the end of its time.
            let _ = self.batch.forget(&lines).await;
        }
        Ok(())
    }
}

/// Tries until Redis answers, for a while: a push sent twice is on the queue once, and an answer that was taken off and
/// lost on the way is found under its key.
async fn patiently<T>(mut act: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    let began = Instant::now();
    let mut wait = Duration::from_millis(50);
    loop {
        match act().await {
            Err(Error::Redis(_) | Error::Unreachable { .. }) if began.elapsed() < PATIENCE => {
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
