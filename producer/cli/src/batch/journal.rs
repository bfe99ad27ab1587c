//! What a batch has finished, on disk: the two output files, and next to them the state that lets it resume.
//!
//! A flush first makes the answers durable and then records them in the journal. When the batch resumes, it truncates the output files
//! to the last record; the answers after it come again from Redis, which deletes an answer only after it has been recorded.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

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
}

/// Identifies the contents of an input file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub bytes: u64,
    pub lines: u64,
    pub fnv: u64,
}

impl Fingerprint {
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let mut file = File::open(path).with_context(|| format!("{}", path.display()))?;
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
}

/// The files of a batch, locked by one process at a time.
pub struct Journal {
    pub state: JournalState,
    pub totals: Totals,
    out: File,
    errors: File,
    records: File,
    lengths: (u64, u64),
    done: Vec<u64>,
    /// What the next flush writes.
    new_out: Vec<u8>,
    new_errors: Vec<u8>,
    new_lines: Vec<u64>,
    paths: (PathBuf, PathBuf),
}

/// The path with a suffix added to the file name.
pub fn beside(out: &Path, ending: &str) -> PathBuf {
    let mut path = out.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

impl Journal {
    /// Resumes the batch whose answers are in `out`, or begins it with the state `fresh`.
    pub fn open(out: &Path, fresh: JournalState) -> anyhow::Result<Self> {
        let paths = (beside(out, ".redial-state"), beside(out, ".redial-done"));
        let append = |path: &Path| {
            let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
            file.with_context(|| format!("{}", path.display()))
        };
        let has_state = paths.0.exists();
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
        let records = append(&paths.1)?;
        lock(&records).with_context(|| format!("{} is in use by another process", out.display()))?;
        // The process that held the lock until now may have written it.
        let has_state = paths.0.exists();
        let state = if has_state { saved_state(&paths.0, &fresh)? } else { fresh };
        if !has_state {
            // Before the output files are created: output files without a state belong to something else.
            write_state(&paths.0, &state)?;
        }
        let mut journal = Self {
            totals: state.finished.unwrap_or_default(),
            out: append(out)?,
            errors: append(&state.errors)?,
            records,
            lengths: (0, 0),
            done: Vec::new(),
            new_out: Vec::new(),
            new_errors: Vec::new(),
            new_lines: Vec::new(),
            paths,
            state,
        };
        // The new files' directory entries must survive a crash of the machine before anything in the files counts.
        for path in [out, &journal.state.errors] {
            sync_folder_of(path)?;
        }
        if journal.state.finished.is_some() {
            std::fs::remove_file(&journal.paths.1)?;
        } else {
            journal.read_records()?;
        }
        Ok(journal)
    }

    fn read_records(&mut self) -> anyhow::Result<()> {
        let (mut reader, mut whole) = (BufReader::new(&self.records), 0);
        let mut done = Vec::new();
        loop {
            let mut line = Vec::new();
            whole += match reader.read_until(b'\n', &mut line)? {
                count if line.last() == Some(&b'\n') => count as u64,
                _ => break, // The end, or a record that was cut off by a kill.
            };
            let Ok(record) = serde_json::from_slice::<Record>(&line) else {
                bail!("{} is damaged: it does not say what is finished", self.paths.1.display());
            };
            self.lengths = (record.out, record.errors);
            self.totals = record.totals;
            done.extend(record.lines);
        }
        for line in done {
            self.mark(line);
        }
        let files = [(&mut self.records, whole), (&mut self.out, self.lengths.0), (&mut self.errors, self.lengths.1)];
        for (file, length) in files {
            ensure!(
                file.metadata()?.len() >= length,
                "an output file is shorter than it was: the batch cannot be resumed"
            );
            file.set_len(length)?;
            file.seek(SeekFrom::Start(length))?;
        }
        Ok(())
    }

    /// Whether a line is finished, on disk or with the next flush.
    pub fn is_done(&self, line: u64) -> bool {
        let (word, bit) = bit_of(line);
        self.done.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn mark(&mut self, line: u64) {
        let (word, bit) = bit_of(line);
        if self.done.len() <= word {
            self.done.resize(word + 1, 0);
        }
        self.done[word] |= bit;
    }

    /// Adds the answer of a line, to be written by the next flush.
    pub fn add(&mut self, line: u64, text: &str, is_error: bool) {
        let to = if is_error { &mut self.new_errors } else { &mut self.new_out };
        to.extend_from_slice(text.as_bytes());
        to.push(b'\n');
        self.new_lines.push(line);
        self.mark(line);
    }

    /// How many answers and bytes the next flush writes.
    pub fn unwritten(&self) -> (usize, usize) {
        (self.new_lines.len(), self.new_out.len() + self.new_errors.len())
    }

    /// Makes added answers durable, and returns their lines: Redis may delete these answers now.
    pub fn flush(&mut self) -> anyhow::Result<Vec<u64>> {
        let lines = std::mem::take(&mut self.new_lines);
        if lines.is_empty() {
            return Ok(lines);
        }
        let files = [
            (&mut self.out, &mut self.new_out, &mut self.lengths.0),
            (&mut self.errors, &mut self.new_errors, &mut self.lengths.1),
        ];
        for (file, new, length) in files {
            if new.is_empty() {
                continue;
            }
            file.write_all(new)?;
            file.sync_data()?;
            *length += new.len() as u64;
            new.clear();
        }
        let record = Record { out: self.lengths.0, errors: self.lengths.1, totals: self.totals, lines };
        let mut text = serde_json::to_vec(&record)?;
        text.push(b'\n');
        self.records.write_all(&text)?;
        self.records.sync_data()?;
        Ok(record.lines)
    }

    /// Records that the batch is finished, and removes the journal.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.state.finished = Some(self.totals);
        write_state(&self.paths.0, &self.state)?;
        Ok(std::fs::remove_file(&self.paths.1)?)
    }
}

fn write_state(path: &Path, state: &JournalState) -> anyhow::Result<()> {
    let new = beside(path, ".new");
    let mut file = File::create(&new)?;
    file.write_all(serde_json::to_string(state)?.as_bytes())?;
    file.sync_data()?;
    std::fs::rename(&new, path)?;
    sync_folder_of(path)
}

fn sync_folder_of(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok(File::open(folder.unwrap_or(Path::new(".")))?.sync_data()?)
}

fn bit_of(line: u64) -> (usize, u64) {
    (usize::try_from(line / 64).unwrap_or(usize::MAX - 1), 1 << (line % 64))
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
    let state: JournalState =
        serde_json::from_slice(&std::fs::read(path)?).with_context(|| format!("{}", path.display()))?;
    let same = JournalState { batch: state.batch.clone(), finished: state.finished, ..fresh.clone() };
    ensure!(
        same == state,
        "{} belongs to a batch with another input, queue or format: run its command again, use another output, or delete it to start over",
        path.display()
    );
    Ok(state)
}
