//! What a batch has finished, on disk: the two output files, and next to them the state that lets it resume. Only a batch that writes
//! to standard output has no state.
//!
//! A flush first makes the answers durable and then records them in the journal. When the batch resumes, it truncates the output files
//! to the last record; the answers after it come again from Redis, which deletes an answer only after it has been recorded.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use redial_core::private_files;
use serde::{Deserialize, Serialize};

use super::line_set::LineSet;
use crate::output;

/// The contents of `OUT.redial-state`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalState {
    pub batch: String,
    pub input: Fingerprint,
    pub queue: String,
    pub prefix: String,
    pub format: String,
    pub errors: PathBuf,
    pub finished: Option<Totals>,
    /// When it is finished: the lines that failed, as ranges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<(u64, u64)>,
    /// When its failed lines are run again: which, and what there was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<RetryRound>,
}

/// A round that runs only the lines that failed in the round before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryRound {
    lines: Vec<(u64, u64)>,
    /// The length of the output file before the round.
    out: u64,
    /// The totals without those lines.
    totals: Totals,
}

/// How a line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnding {
    Ok,
    Failed,
    Bad,
}

/// Identifies the contents of an input file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub bytes: u64,
    pub lines: u64,
    pub fnv: u64,
}

impl Fingerprint {
    pub fn read(mut file: File) -> anyhow::Result<Self> {
        let (mut bytes, mut lines, mut fnv) = (0, 0, 0xcbf2_9ce4_8422_2325_u64);
        let mut part = vec![0; 1 << 16];
        loop {
            let count = file.read(&mut part)?;
            if count == 0 {
                return Ok(Self { bytes, lines, fnv });
            }
            bytes += count as u64;
            for byte in &part[..count] {
                lines += u64::from(*byte == b'\n');
                fnv = (fnv ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
}

/// How many lines ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub ok: u64,
    pub failed: u64,
    pub bad: u64,
    pub retries: u64,
}

/// A record of the journal: the lengths of the output files, the totals, and the lines that it adds.
#[derive(Serialize, Deserialize)]
struct Record {
    out: u64,
    errors: u64,
    totals: Totals,
    lines: Vec<u64>,
    /// Those of the lines that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    failed: Vec<u64>,
}

/// An output file, or standard output.
struct OutputSink {
    file: Option<File>,
    length: u64,
    /// What the next flush writes.
    new: Vec<u8>,
}

impl OutputSink {
    fn new(file: Option<File>) -> Self {
        Self { file, length: 0, new: Vec::new() }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.new.is_empty() {
            return Ok(());
        }
        if let Some(file) = &mut self.file {
            file.write_all(&self.new)?;
            file.sync_data()?;
        } else {
            // Lines of JSON: the printer of bodies leaves their ends as they are.
            output::bytes(self.new.strip_suffix(b"\n").unwrap_or(&self.new))?;
        }
        self.length += self.new.len() as u64;
        self.new.clear();
        Ok(())
    }
}

/// The files of a batch, locked by one process at a time.
pub struct Journal {
    pub state: JournalState,
    pub totals: Totals,
    out: OutputSink,
    errors: OutputSink,
    /// `None` if the batch writes to standard output.
    files: Option<JournalFiles>,
    done: LineSet,
    failed: LineSet,
    new_lines: Vec<u64>,
    new_failed: Vec<u64>,
}

struct JournalFiles {
    records: File,
    state: PathBuf,
    done: PathBuf,
}

/// The path with a suffix added to the file name.
pub fn beside(out: &Path, ending: &str) -> PathBuf {
    let mut path = out.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

impl Journal {
    /// A batch whose answers go to standard output: it cannot be resumed. Failed lines go there as well unless they have a file.
    pub fn to_stdout(state: JournalState, errors: Option<&Path>) -> anyhow::Result<Self> {
        let create = |path: &Path| {
            let file = OpenOptions::new().create_new(true).write(true).open(path);
            file.with_context(|| format!("{}", path.display()))
        };
        Ok(Self::new(state, None, errors.map(create).transpose()?, None))
    }

    fn new(state: JournalState, out: Option<File>, errors: Option<File>, files: Option<JournalFiles>) -> Self {
        Self {
            totals: state.finished.unwrap_or_default(),
            out: OutputSink::new(out),
            errors: OutputSink::new(errors),
            files,
            done: LineSet::default(),
            failed: LineSet::default(),
            new_lines: Vec::new(),
            new_failed: Vec::new(),
            state,
        }
    }

    /// Resumes the batch whose answers are in `out`, or begins it with the state `fresh`. If it is finished and `is_retry`, begins a
    /// round with the lines that failed.
    pub fn open(out: &Path, fresh: JournalState, is_retry: bool) -> anyhow::Result<Self> {
        let (state_path, done) = (beside(out, ".redial-state"), beside(out, ".redial-done"));
        let append = |path: &Path| {
            let options = OpenOptions::new().create(true).truncate(false).read(true).write(true).clone();
            private_files::open(path, &options).with_context(|| format!("{}", path.display()))
        };
        let has_state = state_path.exists();
        ensure!(has_state || !is_retry, "{} belongs to no batch: run it without --retry-failed first", out.display());
        ensure!(
            has_state || !out.exists(),
            "{} exists already and does not belong to a batch that can be resumed: use another file, or move it away",
            out.display()
        );
        ensure!(
            has_state || !fresh.errors.exists(),
            "{} exists already: use another file with --errors, or move it away",
            fresh.errors.display()
        );
        let records = append(&done)?;
        lock(&records).with_context(|| format!("{} is in use by another process", out.display()))?;
        // The process that held the lock until now may have written it.
        let has_state = state_path.exists();
        let batch = fresh.batch.clone();
        let mut state = if has_state { saved_state(&state_path, &fresh)? } else { fresh };
        if !has_state {
            // Before the output files are created: output files without a state belong to something else.
            write_state(&state_path, &state)?;
        }
        let (out_file, errors) = (append(out)?, append(&state.errors)?);
        if is_retry && state.has_failed_lines() {
            // What a kill may have left of the round before, which the state says is finished.
            records.set_len(0)?;
            records.sync_data()?;
            state = state.next_round(batch, out_file.metadata()?.len())?;
            write_state(&state_path, &state)?;
        }
        let files = JournalFiles { records, state: state_path, done };
        let mut journal = Self::new(state, Some(out_file), Some(errors), Some(files));
        // The new files' directory entries must survive a crash of the machine before anything in the files counts.
        for path in [out, &journal.state.errors] {
            sync_folder_of(path)?;
        }
        journal.read_records()?;
        Ok(journal)
    }

    fn read_records(&mut self) -> anyhow::Result<()> {
        let Some(files) = &mut self.files else { return Ok(()) };
        if self.state.finished.is_some() {
            return Ok(std::fs::remove_file(&files.done)?);
        }
        if let Some(round) = &self.state.round {
            (self.out.length, self.totals) = (round.out, round.totals);
        }
        let (mut reader, mut whole) = (BufReader::new(&files.records), 0);
        loop {
            let mut line = Vec::new();
            whole += match reader.read_until(b'\n', &mut line)? {
                count if line.last() == Some(&b'\n') => count as u64,
                _ => break, // The end, or a record that was cut off by a kill.
            };
            let Ok(record) = serde_json::from_slice::<Record>(&line) else {
                bail!("{} is damaged: it does not say what is finished", files.done.display());
            };
            (self.out.length, self.errors.length, self.totals) = (record.out, record.errors, record.totals);
            record.lines.into_iter().for_each(|line| self.done.insert(line));
            record.failed.into_iter().for_each(|line| self.failed.insert(line));
        }
        let outputs = [&mut self.out, &mut self.errors];
        let outputs = outputs.into_iter().filter_map(|sink| sink.file.as_mut().map(|file| (file, sink.length)));
        for (file, length) in [(&mut files.records, whole)].into_iter().chain(outputs) {
            ensure!(
                file.metadata()?.len() >= length,
                "an output file is shorter than it was: the batch cannot be resumed"
            );
            file.set_len(length)?;
            file.seek(SeekFrom::Start(length))?;
        }
        Ok(())
    }

    /// Whether a line is finished, on disk or with the next flush, or is not part of this round.
    pub fn is_done(&self, line: u64) -> bool {
        self.done.contains(line) || self.state.round.as_ref().is_some_and(|round| !round.contains(line))
    }

    /// Adds the answer of a line, to be written by the next flush.
    pub fn add(&mut self, line: u64, text: &str, ending: LineEnding) {
        let (to, count) = match ending {
            LineEnding::Ok => (&mut self.out, &mut self.totals.ok),
            LineEnding::Failed => (&mut self.errors, &mut self.totals.failed),
            LineEnding::Bad => (&mut self.errors, &mut self.totals.bad),
        };
        *count += 1;
        to.new.extend_from_slice(text.as_bytes());
        to.new.push(b'\n');
        self.new_lines.push(line);
        self.done.insert(line);
        if ending != LineEnding::Ok {
            self.new_failed.push(line);
            self.failed.insert(line);
        }
    }

    /// How many answers and bytes the next flush writes.
    pub fn unwritten(&self) -> (usize, usize) {
        (self.new_lines.len(), self.out.new.len() + self.errors.new.len())
    }

    /// Makes added answers durable, and returns their lines: Redis may delete these answers now.
    pub fn flush(&mut self) -> anyhow::Result<Vec<u64>> {
        let (lines, failed) = (std::mem::take(&mut self.new_lines), std::mem::take(&mut self.new_failed));
        if lines.is_empty() {
            return Ok(lines);
        }
        self.out.flush()?;
        self.errors.flush()?;
        let record = Record { out: self.out.length, errors: self.errors.length, totals: self.totals, lines, failed };
        if let Some(files) = &mut self.files {
            let mut text = serde_json::to_vec(&record)?;
            text.push(b'\n');
            files.records.write_all(&text)?;
            files.records.sync_data()?;
        }
        Ok(record.lines)
    }

    /// Records that the batch is finished, and removes the journal.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let Some(files) = &self.files else { return Ok(()) };
        self.state.finished = Some(self.totals);
        self.state.failed = self.failed.ranges();
        self.state.round = None;
        write_state(&files.state, &self.state)?;
        Ok(std::fs::remove_file(&files.done)?)
    }
}

impl JournalState {
    fn has_failed_lines(&self) -> bool {
        self.finished.is_some_and(|totals| totals.failed + totals.bad > 0)
    }

    /// The state of the round that runs the failed lines of this finished one, as the batch `batch`.
    fn next_round(self, batch: String, out: u64) -> anyhow::Result<Self> {
        let totals = Totals { failed: 0, bad: 0, ..self.finished.unwrap_or_default() };
        ensure!(!self.failed.is_empty(), "the state does not say which lines failed: an older version wrote it");
        let round = RetryRound { lines: self.failed, out, totals };
        Ok(Self { batch, finished: None, failed: Vec::new(), round: Some(round), ..self })
    }
}

impl RetryRound {
    fn contains(&self, line: u64) -> bool {
        let after = self.lines.partition_point(|(first, _)| *first <= line);
        after.checked_sub(1).is_some_and(|at| line <= self.lines[at].1)
    }
}

fn write_state(path: &Path, state: &JournalState) -> anyhow::Result<()> {
    let new = beside(path, ".new");
    let mut file = private_files::replace(&new).with_context(|| format!("{}", new.display()))?;
    file.write_all(serde_json::to_string(state)?.as_bytes())?;
    file.sync_data()?;
    std::fs::rename(&new, path)?;
    sync_folder_of(path)
}

fn sync_folder_of(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok(File::open(folder.unwrap_or(Path::new(".")))?.sync_data()?)
}

/// Locks a file. The lock of a process that has just been killed takes a moment to be released.
fn lock(file: &File) -> Result<(), TryLockError> {
    const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if started.elapsed() < LOCK_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

/// The state of an earlier run, if it was the same batch.
fn saved_state(path: &Path, fresh: &JournalState) -> anyhow::Result<JournalState> {
    let read = private_files::open(path, OpenOptions::new().read(true)).and_then(io::read_to_string);
    let state: JournalState = serde_json::from_str(&read.with_context(|| format!("{}", path.display()))?)
        .with_context(|| format!("{}", path.display()))?;
    let same = JournalState {
        batch: state.batch.clone(),
        finished: state.finished,
        failed: state.failed.clone(),
        round: state.round.clone(),
        ..fresh.clone()
    };
    ensure!(
        same == state,
        "{} belongs to a batch with another input, queue or format: run its command again, use another output, or delete it to start over",
        path.display()
    );
    Ok(state)
}
