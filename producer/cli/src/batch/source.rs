//! Where a batch reads its lines: a file, or standard input kept in a file, since a batch reads its input more than once.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use redial_core::protocol::task;

use super::elements::Elements;
use super::line::LineError;

/// The mark at the start of a UTF-8 file that some programs write.
const MARK: &str = "\u{feff}";

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
            return Ok(Self { file: copy_of(&mut io::stdin().lock(), folder)?, name: "standard input".into() });
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
        Ok(Self { file, name })
    }

    /// The input from its first byte.
    pub fn rewind(&self) -> anyhow::Result<File> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }

    /// The input from its first byte of text, after checking that it may be UTF-8.
    fn text(&self) -> anyhow::Result<File> {
        let mut file = self.rewind()?;
        let mut start = Vec::new();
        file.by_ref().take(4).read_to_end(&mut start)?;
        if let Some(encoding) = other_encoding(&start) {
            let name = &self.name;
            bail!("{name} is {encoding}, not UTF-8: convert it, as in `iconv -f {encoding} -t UTF-8 IN > IN.utf8`");
        }
        let skipped = if start.starts_with(MARK.as_bytes()) { MARK.len() as u64 } else { 0 };
        file.seek(SeekFrom::Start(skipped))?;
        Ok(file)
    }
}

fn copy_of(from: &mut impl Read, folder: &Path) -> anyhow::Result<File> {
    let path = folder.join(format!(".redial-input-{}", redial::TaskId::random().as_str()));
    let copy = OpenOptions::new().create_new(true).read(true).write(true).open(&path);
    let mut copy = copy.with_context(|| format!("{}", path.display()))?;
    std::fs::remove_file(&path)?;
    io::copy(from, &mut copy).context("copying the input")?;
    Ok(copy)
}

/// The encoding of a text that is not UTF-8, by its first bytes: the mark, or the zeros beside the first ASCII character.
fn other_encoding(start: &[u8]) -> Option<&'static str> {
    Some(match start {
        [0xff, 0xfe, 0, 0] | [0, 0, 0xfe, 0xff] => "UTF-32",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16",
        [0, 0, 0, _] => "UTF-32BE",
        [_, 0, 0, 0] => "UTF-32LE",
        [0, _, ..] => "UTF-16BE",
        [_, 0, ..] => "UTF-16LE",
        _ => return None,
    })
}

/// A text file without its mark.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
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
    Lines { file: BufReader<File>, number: u64 },
    Elements(Elements<BufReader<File>>),
    Csv { reader: Box<csv::Reader<File>>, columns: usize, start: u64 },
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
        Ok((Self::Csv { reader: Box::new(reader), columns: columns.len(), start }, columns))
    }

    /// The next line that is not blank.
    pub fn next(&mut self) -> anyhow::Result<NumberedRow> {
        match self {
            Self::Lines { file, number } => next_line(file, number),
            Self::Elements(elements) => {
                let element = elements.next()?;
                Ok(element.map(|(number, text)| (number, text.map(Row::Text).ok_or(LineError::TooLong))))
            }
            Self::Csv { reader, columns, start } => next_row(reader, *columns, *start),
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

fn next_row(reader: &mut csv::Reader<File>, columns: usize, start: u64) -> anyhow::Result<NumberedRow> {
    let mut row = csv::StringRecord::new();
    let before = reader.position().clone();
    let read = reader.read_record(&mut row);
    let number = || first_line_after(reader.get_ref(), start + before.byte(), before.line());
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
