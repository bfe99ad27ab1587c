//! What a batch has finished, on disk: the two files of answers, and beside them the state that lets it go on.
//!
//! A flush makes the answers durable first and notes them in the journal after; what stands behind the last note is cut off
//! when the batch goes on, and comes again from Redis, which is told to forget an answer only after its note.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

/// What is kept in `OUT.redial-state`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub batch: String,
    pub input: Fingerprint,
    pub queue: String,
    pub prefix: String,
    pub format: String,
    pub errors: PathBuf,
    pub finished: Option<Totals>,
}

/// By which an input is known again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub bytes: u64,
    pub lines: u64,
    pub fnv: u64,
}

impl Fingerprint {
    pub fn of(path: &Path) -> anyhow::Result<Self> {
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

/// How many lines came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub ok: u64,
    pub failed: u64,
    pub bad: u64,
    pub retries: u64,
}

/// A note of the journal: how long the files are with it, the totals, and which lines it adds.
#[derive(Serialize, Deserialize)]
struct Note {
    out: u64,
    errors: u64,
    totals: Totals,
    lines: Vec<u64>,
}

/// The files of a batch, held by one process at a time.
pub struct Journal {
    pub state: State,
    pub totals: Totals,
    out: File,
    errors: File,
    notes: File,
    lengths: (u64, u64),
    done: Vec<u64>,
    /// What the next flush will write.
    new_out: Vec<u8>,
    new_errors: Vec<u8>,
    new_lines: Vec<u64>,
    paths: (PathBuf, PathBuf),
}

/// The file of that name with an ending more.
pub fn beside(out: &Path, ending: &str) -> PathBuf {
    let mut path = out.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

impl Journal {
    /// Goes on with the batch whose answers are in `out`, or begins it. `fresh` is the state of one that begins.
    pub fn open(out: &Path, fresh: State) -> anyhow::Result<Self> {
        let paths = (beside(out, ".redial-state"), beside(out, ".redial-done"));
        let append = |path: &Path| {
            let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
            file.with_context(|| format!("{}", path.display()))
        };
        let has_state = paths.0.exists();
        ensure!(
            has_state || !out.exists(),
            "{} is there already and was not made by a batch that can go on: name another file, or move it away",
            out.display()
        );
        ensure!(
            has_state || !fresh.errors.exists(),
            "{} is there already: name another file with --errors, or move it away",
            fresh.errors.display()
        );
        let notes = append(&paths.1)?;
        lock(&notes).with_context(|| format!("{} is being worked on by another process", out.display()))?;
        // Whoever held the lock until now may have written it.
        let has_state = paths.0.exists();
        let state = if has_state { known(&paths.0, &fresh)? } else { fresh };
        if !has_state {
            // Before the files of answers: those that are there without it are somebody else's.
            write_state(&paths.0, &state)?;
        }
        let mut journal = Self {
            totals: state.finished.unwrap_or_default(),
            out: append(out)?,
            errors: append(&state.errors)?,
            notes,
            lengths: (0, 0),
            done: Vec::new(),
            new_out: Vec::new(),
            new_errors: Vec::new(),
            new_lines: Vec::new(),
            paths,
            state,
        };
        // The names of the new files outlast a crash of the machine before anything in them counts.
        for path in [out, &journal.state.errors] {
            sync_folder_of(path)?;
        }
        if journal.state.finished.is_some() {
            std::fs::remove_file(&journal.paths.1)?;
        } else {
            journal.read_notes()?;
        }
        Ok(journal)
    }

    fn read_notes(&mut self) -> anyhow::Result<()> {
        let (mut reader, mut whole) = (BufReader::new(&self.notes), 0);
        let mut done = Vec::new();
        loop {
            let mut line = Vec::new();
            whole += match reader.read_until(b'\n', &mut line)? {
                count if line.last() == Some(&b'\n') => count as u64,
                _ => break, // The end, or a note that a kill cut off.
            };
            let Ok(note) = serde_json::from_slice::<Note>(&line) else {
                bail!("{} is damaged: it can't be told what is finished", self.paths.1.display());
            };
            self.lengths = (note.out, note.errors);
            self.totals = note.totals;
            done.extend(note.lines);
        }
        for line in done {
            self.mark(line);
        }
        let files = [(&mut self.notes, whole), (&mut self.out, self.lengths.0), (&mut self.errors, self.lengths.1)];
        for (file, length) in files {
            ensure!(file.metadata()?.len() >= length, "a file of answers is shorter than it was: it can't go on");
            file.set_len(length)?;
            file.seek(SeekFrom::Start(length))?;
        }
        Ok(())
    }

    /// Whether a line is finished, on disk or about to be.
    pub fn is_done(&self, line: u64) -> bool {
        let (word, bit) = place(line);
        self.done.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn mark(&mut self, line: u64) {
        let (word, bit) = place(line);
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

    /// How many answers and how many bytes wait for a flush.
    pub fn unwritten(&self) -> (usize, usize) {
        (self.new_lines.len(), self.new_out.len() + self.new_errors.len())
    }

    /// Makes what was added durable, and returns its lines: Redis may forget their answers now.
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
        let note = Note { out: self.lengths.0, errors: self.lengths.1, totals: self.totals, lines };
        let mut text = serde_json::to_vec(&note)?;
        text.push(b'\n');
        self.notes.write_all(&text)?;
        self.notes.sync_data()?;
        Ok(note.lines)
    }

    /// Notes that all is finished; the journal is not needed any more.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.state.finished = Some(self.totals);
        write_state(&self.paths.0, &self.state)?;
        Ok(std::fs::remove_file(&self.paths.1)?)
    }
}

fn write_state(path: &Path, state: &State) -> anyhow::Result<()> {
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

fn place(line: u64) -> (usize, u64) {
    (usize::try_from(line / 64).unwrap_or(usize::MAX - 1), 1 << (line % 64))
}

/// Locks a file. One whose process was killed just now is not free at once.
fn lock(file: &File) -> Result<(), TryLockError> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if started.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

/// The state of a batch that was started before, if it is the same one.
fn known(path: &Path, fresh: &State) -> anyhow::Result<State> {
    let state: State = serde_json::from_slice(&std::fs::read(path)?).with_context(|| format!("{}", path.display()))?;
    let same = State { batch: state.batch.clone(), finished: state.finished, ..fresh.clone() };
    ensure!(
        same == state,
        "{} belongs to a batch of another input, queue or format: run its command again, name another output, or delete it to begin anew",
        path.display()
    );
    Ok(state)
}
