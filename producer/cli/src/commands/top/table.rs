//! Rows and columns, and how both are sorted and written.

use std::cmp::Ordering;

use ratatui::text::Span;
use redial_core::{QueueName, UnixMs};
use serde_json::{Value, json};

use crate::output::{self, Tint};

/// A column of a pane.
#[derive(Debug, Clone, Copy)]
pub struct PaneColumn {
    pub name: &'static str,
    /// In characters; 0: what the others leave.
    pub width: u16,
    pub is_right: bool,
}

/// What a cell says.
#[derive(Debug, Clone)]
pub struct PaneCell {
    pub text: String,
    pub tint: Option<Tint>,
    /// What it is sorted by, if that is not its text.
    number: Option<f64>,
}

/// What an action on a row is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowSubject {
    Nothing,
    Queue { name: QueueName, is_paused: bool },
    Letters { queue: QueueName, reason: String, upstream: String },
}

/// A row of a pane.
#[derive(Debug, Clone)]
pub struct PaneRow {
    pub cells: Vec<PaneCell>,
    pub subject: RowSubject,
}

/// What a pane shows.
#[derive(Debug)]
pub struct PaneTable {
    pub columns: &'static [PaneColumn],
    pub rows: Vec<PaneRow>,
    /// What stands beside the title.
    pub note: String,
}

/// By which column rows are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaneOrder {
    pub column: usize,
    pub is_descending: bool,
}

/// A column of texts.
pub const fn left(name: &'static str, width: u16) -> PaneColumn {
    PaneColumn { name, width, is_right: false }
}

/// A column of numbers.
pub const fn right(name: &'static str, width: u16) -> PaneColumn {
    PaneColumn { name, width, is_right: true }
}

impl PaneCell {
    /// A text, which may be chosen by anyone.
    pub fn text(text: &str) -> Self {
        Self { text: output::escaped(text), tint: None, number: None }
    }

    /// A number that is written in another way.
    pub fn number(number: f64, text: String) -> Self {
        Self { text, tint: None, number: Some(number) }
    }

    #[expect(clippy::cast_precision_loss, reason = "it is sorted by, not counted with")]
    pub fn count(count: u64) -> Self {
        Self::number(count as f64, short_count(count))
    }

    /// How long ago something was.
    #[expect(clippy::cast_precision_loss, reason = "it is sorted by, not counted with")]
    pub fn age(now: UnixMs, at: UnixMs) -> Self {
        let ms = now.since(at);
        Self::number(ms as f64, span(ms))
    }

    /// The same as bad news, if it is.
    #[must_use]
    pub fn bad_if(mut self, is_bad: bool) -> Self {
        if is_bad {
            self.tint = Some(Tint::Bad);
        }
        self
    }

    fn to_json(&self) -> Value {
        self.number.map_or_else(|| json!(self.text), |number| json!(number))
    }
}

impl PaneRow {
    pub fn new(cells: Vec<PaneCell>) -> Self {
        Self { cells, subject: RowSubject::Nothing }
    }

    /// What tells it apart from the others of its pane: its texts.
    pub fn identity(&self) -> String {
        let texts: Vec<&str> =
            self.cells.iter().filter(|cell| cell.number.is_none()).map(|cell| cell.text.as_str()).collect();
        texts.join("\n")
    }

    /// As programs read it: a field for each column.
    pub fn to_json(&self, columns: &[PaneColumn]) -> Value {
        let fields = columns.iter().zip(&self.cells);
        Value::Object(fields.map(|(column, cell)| (column.name.to_lowercase(), cell.to_json())).collect())
    }
}

impl PaneOrder {
    /// Sorts rows; those that are equal in this column by their texts.
    pub fn sort(self, rows: &mut [PaneRow]) {
        rows.sort_by(|one, other| {
            let order = match (one.cells.get(self.column), other.cells.get(self.column)) {
                (Some(one), Some(other)) => compare(one, other),
                _ => Ordering::Equal,
            };
            let order = if self.is_descending { order.reverse() } else { order };
            order.then_with(|| one.identity().cmp(&other.identity()))
        });
    }
}

fn compare(one: &PaneCell, other: &PaneCell) -> Ordering {
    match (one.number, other.number) {
        (Some(one), Some(other)) => one.total_cmp(&other),
        _ => one.text.cmp(&other.text),
    }
}

/// A count in at most five characters.
#[expect(clippy::cast_precision_loss, reason = "it is rounded anyhow")]
fn short_count(count: u64) -> String {
    match count {
        0..100_000 => count.to_string(),
        100_000..1_000_000 => format!("{}k", count / 1_000),
        1_000_000..100_000_000 => format!("{:.1}M", count as f64 / 1e6),
        _ => format!("{}M", count / 1_000_000),
    }
}

/// A time in at most five characters.
#[expect(clippy::cast_precision_loss, reason = "it is rounded anyhow")]
pub fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..10_000 => format!("{:.1}s", ms as f64 / 1e3),
        10_000..120_000 => format!("{}s", ms / 1_000),
        120_000..7_200_000 => format!("{}m", ms / 60_000),
        7_200_000..172_800_000 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}

/// A line in pieces of at most this width.
pub fn wrapped(line: &str, width: usize) -> Vec<String> {
    let (mut pieces, mut piece, mut used) = (Vec::new(), String::new(), 0);
    for c in line.chars() {
        let wide = Span::raw(c.to_string()).width();
        if used + wide > width {
            pieces.push(std::mem::take(&mut piece));
            used = 0;
        }
        piece.push(c);
        used += wide;
    }
    pieces.push(piece);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_times_are_short_whatever_they_are() {
        for (count, expected) in [
            (0, "0"),
            (99_999, "99999"),
            (100_000, "100k"),
            (1_234_567, "1.2M"),
            (99_900_000, "99.9M"),
            (123_456_789, "123M"),
        ] {
            assert_eq!(short_count(count), expected);
        }
        for (ms, expected) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_500, "1.5s"),
            (59_000, "59s"),
            (300_000, "5m"),
            (7_200_000, "2h"),
            (200_000_000, "2d"),
        ] {
            assert_eq!(span(ms), expected);
        }
    }

    #[test]
    fn rows_are_sorted_by_numbers_and_texts_and_equal_ones_always_alike() {
        let row = |name: &str, tasks| PaneRow::new(vec![PaneCell::text(name), PaneCell::count(tasks)]);
        let sorted = |column, is_descending| {
            let mut rows = vec![row("b", 100_000), row("c", 9), row("a", 9)];
            PaneOrder { column, is_descending }.sort(&mut rows);
            rows.iter().map(|row| row.cells[0].text.clone()).collect::<Vec<_>>().concat()
        };
        assert_eq!((sorted(0, false), sorted(0, true)), ("abc".into(), "cba".into()));
        assert_eq!((sorted(1, false), sorted(1, true)), ("acb".into(), "bac".into()));
    }

    #[test]
    fn long_lines_are_wrapped_by_the_width_of_their_characters() {
        assert_eq!(wrapped("abcde", 2), ["ab", "cd", "e"]);
        assert_eq!(wrapped("世界x", 4), ["世界", "x"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
