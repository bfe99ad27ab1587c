//! Where a batch reads its lines: a file, or standard input kept in a file, since a batch reads its input more than once.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use redial_core::private_files;
use redial_core::protocol::task;

use super::elements::Elements;
use super::encoding::{MARK, utf16};
use super::line::LineError;

/// An open input.
#[derive(Debug)]
pub struct InputFile {
    file: File,
    name: String,
}

impl InputFile {
    /// Opens an input; `-` is standard input. What cannot be read twice is copied to a file in `folder` that has no name, so that
    /// nothing remains of it.
    pub fn open(path: &Path, folder: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            let file = copy_of(&mut io::stdin().lock(), folder)?;
            return Self { file, name: "standard input".into() }.into_utf8(folder);
        }
        let name = path.display().to_string();
        let mut file = File::open(path).with_context(|| name.clone())?;
        let kind = file.metadata()?.file_type();
        if kind.is_dir() {
            bail!("{name} is a folder");
        }
        if !kind.is_file() {
            file = copy_of(&mut file, folder)?;
        }
        Self { file, name }.into_utf8(folder)
    }

    /// The same as UTF-8: a text in UTF-16 is converted into a file that has no name.
    fn into_utf8(self, folder: &Path) -> anyhow::Result<Self> {
        let mut start = Vec::new();
        self.rewind()?.take(4).read_to_end(&mut start)?;
        let Some(encoding) = utf16(&start, &self.name)? else { return Ok(self) };
        let mut converted = nameless(folder)?;
        encoding.convert(&mut self.rewind()?, &mut converted).with_context(|| self.name.clone())?;
        Ok(Self { file: converted, name: self.name })
    }

    /// The input from its first byte.
    pub fn rewind(&self) -> anyhow::Result<File> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }

    /// The input from its first byte of text.
    fn text(&self) -> anyhow::Result<File> {
        let mut file = self.rewind()?;
        let mut start = Vec::new();
        file.by_ref().take(MARK.len() as u64).read_to_end(&mut start)?;
        let skipped = if start == MARK.as_bytes() { MARK.len() as u64 } else { 0 };
        file.seek(SeekFrom::Start(skipped))?;
        Ok(file)
    }
}

fn copy_of(from: &mut impl Read, folder: &Path) -> anyhow::Result<File> {
    let mut copy = nameless(folder)?;
    io::copy(from, &mut copy).context("copying the input")?;
    Ok(copy)
}

/// A new file of which nothing remains.
fn nameless(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join(format!(".redial-input-{}", redial::TaskId::random().as_str()));
    let file = private_files::open(&path, OpenOptions::new().create_new(true).read(true).write(true));
    let file = file.with_context(|| format!("{}", path.display()))?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// What one line of the input holds.
#[derive(Debug)]
pub enum Row {
    Text(Vec<u8>),
    Cells(csv::StringRecord),
}

/// The number and the contents of a line, or why it cannot be read; `None` at the end.
pub type NumberedRow = Option<(u64, Result<Row, LineError>)>;

/// An input that is being read.
pub enum InputReader {
    Lines {
        file: BufReader<File>,
        number: u64,
    },
    Elements(Elements<BufReader<File>>),
    /// `last`: the number of the row before, or of the line with the names.
    Csv {
        reader: Box<csv::Reader<File>>,
        columns: usize,
        start: u64,
        last: u64,
    },
}

const BUFFER_BYTES: usize = 1 << 16;

impl InputReader {
    pub fn lines(input: &InputFile) -> anyhow::Result<Self> {
        Ok(Self::Lines { file: BufReader::with_capacity(BUFFER_BYTES, input.text()?), number: 0 })
    }

    /// One array of requests, or else lines. The array is read to its end first, so that one that is cut off starts no calls.
    pub fn array_or_lines(input: &InputFile) -> anyhow::Result<Self> {
        let find = || Elements::find(BufReader::with_capacity(BUFFER_BYTES, input.text()?));
        let check = || -> anyhow::Result<bool> {
            let Some(mut elements) = find()? else { return Ok(false) };
            while elements.next()?.is_some() {}
            Ok(true)
        };
        match check() {
            Ok(true) => find()?.map_or_else(|| Self::lines(input), |elements| Ok(Self::Elements(elements))),
            Ok(false) => Self::lines(input),
            Err(error) => Err(error).with_context(|| input.name.clone()),
        }
    }

    /// A table, and the names of its columns.
    pub fn csv(input: &InputFile) -> anyhow::Result<(Self, Vec<String>)> {
        let mut text = input.text()?;
        let start = text.stream_position()?;
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text);
        let columns = reader.headers().context("the first line, with the column names")?;
        let columns: Vec<String> = columns.iter().map(str::to_owned).collect();
        Ok((Self::Csv { reader: Box::new(reader), columns: columns.len(), start, last: 1 }, columns))
    }

    /// The next line that is not blank.
    pub fn next(&mut self) -> anyhow::Result<NumberedRow> {
        match self {
            Self::Lines { file, number } => next_line(file, number),
            Self::Elements(elements) => {
                let element = elements.next()?;
                Ok(element.map(|(number, text)| (number, text.map(Row::Text).ok_or(LineError::TooLong))))
            }
            Self::Csv { reader, columns, start, last } => next_row(reader, *columns, *start, last),
        }
    }
}

fn next_line(file: &mut BufReader<File>, number: &mut u64) -> anyhow::Result<NumberedRow> {
    loop {
        let mut line = Vec::new();
        let max_bytes = task::MAX_BYTES as u64 + 2;
        if file.by_ref().take(max_bytes).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        *number += 1;
        if line.last() != Some(&b'\n') && line.len() as u64 == max_bytes {
            file.skip_until(b'\n')?;
            return Ok(Some((*number, Err(LineError::TooLong))));
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Some((*number, Ok(Row::Text(line)))));
        }
    }
}

fn next_row(reader: &mut csv::Reader<File>, columns: usize, start: u64, last: &mut u64) -> anyhow::Result<NumberedRow> {
    let mut row = csv::StringRecord::new();
    let before = reader.position().clone();
    let read = reader.read_record(&mut row);
    let mut number = || -> io::Result<u64> {
        // A lone CR ends a row as well, and is not counted as a line.
        *last = first_line_after(reader.get_ref(), start + before.byte(), before.line())?.max(*last + 1);
        Ok(*last)
    };
    match read {
        Ok(false) => Ok(None),
        Ok(true) if row.len() == columns => Ok(Some((number()?, Ok(Row::Cells(row))))),
        Ok(true) => Ok(Some((number()?, Err(LineError::Columns { found: row.len(), expected: columns })))),
        Err(error) if error.is_io_error() => Err(error.into()),
        Err(error) => Ok(Some((number()?, Err(error.into())))),
    }
}

/// The line of the first byte at or after `at` that ends no line: a row is read up to the CR of a CRLF, and blank lines come before
/// the next.
fn first_line_after(file: &File, mut at: u64, mut line: u64) -> io::Result<u64> {
    let mut part = [0; 64];
    loop {
        let count = file.read_at(&mut part, at)?;
        let ends = part[..count].iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
        let (ends, lines) = ends.fold((0, 0), |(ends, lines), byte| (ends + 1, lines + u64::from(*byte == b'\n')));
        line += lines;
        if count == 0 || ends < count {
            return Ok(line);
        }
        at += count as u64;
    }
}
