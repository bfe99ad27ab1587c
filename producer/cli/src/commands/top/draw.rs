//! How the screen looks. Whatever is said by a colour is said by a word too.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

use super::panes::Pane;
use super::screen::{LetterList, Overlay, Screen};
use super::table::{PaneColumn, PaneOrder, PaneRow, PaneTable, span, wrapped};
use crate::output::{self, Tint};

const HELP: [&str; 18] = [
    "redial top shows the fleet, live.",
    "",
    "Tab, Right   the next pane            Shift-Tab, Left   the one before",
    "1 to 7       a pane: queues, upstreams, why work waits, workers, limits,",
    "             dead letters, batches",
    "Up, Down     the row before or after (also k, j); PgUp, PgDn, Home, End",
    "s            sort by the next column  r                 the other way round",
    "p            pause or resume the queue of this row; it asks first",
    "Enter        open the dead letters of this row, and then one of them",
    "Esc          back",
    "?            this help",
    "q, Ctrl-C    quit",
    "",
    "RATE/S of a queue is how many of its tasks end in a second. An upstream fails",
    "if fewer than 90 % of its answers are good. Latencies and rates of upstreams",
    "are those of the last minute. A free slot is what tasks wait for that no",
    "worker has claimed yet.",
    "Any key closes this.",
];

/// How a pane is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct PaneLook {
    pub is_focused: bool,
    pub cursor: Option<usize>,
    pub order: Option<PaneOrder>,
    pub has_colour: bool,
}

/// Draws all of it.
pub fn screen(screen: &Screen, area: Rect, buffer: &mut Buffer) {
    if area.height < 4 || area.width < 20 {
        buffer.set_stringn(0, 0, "the terminal is too small", area.width.into(), Style::new());
        return;
    }
    top_line(screen, area, buffer);
    bottom_line(screen, area, buffer);
    let inner = Rect { y: area.y + 1, height: area.height - 2, ..area };
    match &screen.overlay {
        Some(Overlay::Help) => lines(HELP.iter().map(|line| (*line).to_owned()), 0, inner, buffer),
        Some(Overlay::LetterList(list)) => letter_list(screen, list, inner, buffer),
        Some(Overlay::Letter { text, scroll, .. }) => {
            let rows = text.iter().flat_map(|line| wrapped(line, inner.width.into()));
            lines(rows, *scroll, inner, buffer);
        }
        Some(Overlay::ConfirmPause { .. }) | None => panes(screen, inner, buffer),
    }
}

fn panes(screen: &Screen, area: Rect, buffer: &mut Buffer) {
    let tables = Pane::ALL.map(|pane| screen.table(pane));
    let Some(rows) =
        tables.iter().map(|table| table.as_ref().map(|(table, _)| table.rows.len())).collect::<Option<Vec<_>>>()
    else {
        buffer.set_stringn(area.x, area.y, "Reading the numbers...", area.width.into(), Style::new());
        return;
    };
    let focus = Pane::ALL.iter().position(|pane| *pane == screen.focus()).unwrap_or(0);
    let mut y = area.y;
    for ((one, table), height) in Pane::ALL.into_iter().zip(tables).zip(heights(&rows, focus, area.height)) {
        let Some((table, cursor)) = table else { continue };
        let is_focused = one == screen.focus();
        let look = PaneLook {
            is_focused,
            cursor: is_focused.then_some(cursor),
            order: is_focused.then(|| screen.order(one)),
            has_colour: screen.has_colour,
        };
        pane(&table, one, &look, Rect { y, height, ..area }, buffer);
        y += height;
    }
}

/// How many lines each pane gets: its title, and what it shows under a line of column names. The one in focus gets the most.
fn heights(rows: &[usize], focus: usize, total: u16) -> Vec<u16> {
    let panes = rows.len();
    let mut heights = vec![0_u16; panes];
    let mut left = usize::from(total);
    let needs: Vec<usize> = rows.iter().map(|rows| if *rows == 0 { 1 } else { rows + 2 }).collect();
    let mut give = |pane: usize, lines: usize| {
        let missing = needs[pane].saturating_sub(usize::from(heights[pane]));
        let given = lines.min(missing).min(left);
        left -= given;
        heights[pane] += u16::try_from(given).unwrap_or(0);
        (given, left)
    };
    let from_focus = || (0..panes).map(|pane| (focus + pane) % panes);
    // The names of columns are of use only above a row.
    give(focus, 3);
    for pane in from_focus().skip(1) {
        give(pane, 1);
    }
    for pane in from_focus().skip(1) {
        if give(pane, 0).1 >= 2 {
            give(pane, 2);
        }
    }
    let (_, rest) = give(focus, 0);
    give(focus, rest / 2);
    while from_focus().map(|pane| give(pane, 1).0).sum::<usize>() > 0 {}
    heights
}

/// Draws a pane: a line with its title, the names of the columns, and as many rows as there is room for.
pub fn pane(table: &PaneTable, pane: Pane, look: &PaneLook, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    let marker = if look.is_focused { '>' } else { ' ' };
    let order = look.order.map_or_else(String::new, |PaneOrder { column, is_descending }| {
        let way = if is_descending { "falling" } else { "rising" };
        format!("  by {}, {way}", table.columns.get(column).map_or("", |column| column.name))
    });
    let note = if table.rows.is_empty() { pane.empty() } else { &table.note };
    let title = format!("{marker}{} ({}){order}  {note}", pane.title(), table.rows.len());
    let style = Style::new().add_modifier(Modifier::BOLD);
    buffer.set_stringn(area.x, area.y, &title, area.width.into(), style);
    if table.rows.is_empty() || area.height < 2 {
        return;
    }
    let widths = widths(table.columns, area.width);
    header(table.columns, &widths, Rect { y: area.y + 1, height: 1, ..area }, look, buffer);
    let room = usize::from(area.height - 2);
    // The cursor stays in sight.
    let first = look.cursor.map_or(0, |cursor| (cursor + 1).saturating_sub(room));
    for ((line, row), y) in table.rows.iter().enumerate().skip(first).take(room).zip(area.y + 2..) {
        let style =
            if look.cursor == Some(line) { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        buffer.set_style(Rect { y, height: 1, ..area }, style);
        row_cells(row, table.columns, &widths, (area.x, y), look.has_colour, buffer);
    }
}

fn header(columns: &[PaneColumn], widths: &[usize], area: Rect, look: &PaneLook, buffer: &mut Buffer) {
    let mut x = usize::from(area.x);
    for (at, (column, width)) in columns.iter().zip(widths).enumerate() {
        let is_order = look.order.is_some_and(|order| order.column == at);
        let style = Style::new().add_modifier(if is_order { Modifier::UNDERLINED } else { Modifier::DIM });
        put(column.name, *column, *width, (x, area.y), style, buffer);
        x += width + 1;
    }
}

fn row_cells(
    row: &PaneRow,
    columns: &[PaneColumn],
    widths: &[usize],
    (x, y): (u16, u16),
    has_colour: bool,
    buffer: &mut Buffer,
) {
    let mut x = usize::from(x);
    for ((cell, column), width) in row.cells.iter().zip(columns).zip(widths) {
        put(&cell.text, *column, *width, (x, y), style_of(cell.tint, has_colour), buffer);
        x += width + 1;
    }
}

fn put(text: &str, column: PaneColumn, width: usize, (x, y): (usize, u16), style: Style, buffer: &mut Buffer) {
    let before = if column.is_right { width.saturating_sub(Span::raw(text).width()) } else { 0 };
    let Ok(x) = u16::try_from(x + before) else { return };
    if x < buffer.area.right() {
        buffer.set_stringn(x, y, text, width - before, style);
    }
}

fn style_of(tint: Option<Tint>, has_colour: bool) -> Style {
    match tint {
        Some(Tint::Bad) if has_colour => Style::new().fg(Color::Red),
        Some(Tint::Bad) => Style::new().add_modifier(Modifier::BOLD),
        Some(Tint::Good) if has_colour => Style::new().fg(Color::Green),
        _ => Style::new(),
    }
}

/// How wide the columns are; the one without a width gets what is left, and at least twelve characters.
fn widths(columns: &[PaneColumn], total: u16) -> Vec<usize> {
    let fixed: usize = columns.iter().map(|column| usize::from(column.width)).sum();
    let rest = usize::from(total).saturating_sub(fixed + columns.len().saturating_sub(1)).max(12);
    columns.iter().map(|column| if column.width == 0 { rest } else { column.width.into() }).collect()
}

fn top_line(screen: &Screen, area: Rect, buffer: &mut Buffer) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let seen = screen.frame.as_ref().map(|frame| clock(frame.now.0));
    if let Some(error) = &screen.lost {
        let since = seen.map_or_else(String::new, |seen| format!(", last seen {seen}"));
        let text = format!("Redis is away{since}; trying again: {error}");
        let style = if screen.has_colour { bold.fg(Color::Red) } else { bold.add_modifier(Modifier::REVERSED) };
        buffer.set_stringn(area.x, area.y, text, area.width.into(), style);
        return;
    }
    let Some((frame, seen)) = screen.frame.as_ref().zip(seen) else {
        buffer.set_stringn(area.x, area.y, "redial top", area.width.into(), bold);
        return;
    };
    let sum = |count: fn(&super::observe::ObservedQueue) -> u64| frame.queues.iter().map(count).sum::<u64>();
    let text = format!(
        "redial top  {:.1} tasks/s  {} waiting  {} active  {} dead",
        frame.queues.iter().map(|queue| queue.rate).sum::<f64>(),
        sum(|queue| queue.at.waiting),
        sum(|queue| queue.at.active),
        sum(|queue| queue.at.dead),
    );
    buffer.set_stringn(area.x, area.y, text, area.width.into(), bold);
    let x = area.right().saturating_sub(u16::try_from(seen.len()).unwrap_or(0));
    buffer.set_stringn(x, area.y, &seen, seen.len(), bold);
}

/// The time of day.
fn clock(ms: u64) -> String {
    let utc = output::utc(ms);
    format!("{} UTC", utc.get(11..19).unwrap_or(&utc))
}

fn bottom_line(screen: &Screen, area: Rect, buffer: &mut Buffer) {
    let (text, style) = match &screen.overlay {
        Some(Overlay::ConfirmPause { queue, pause: true }) => {
            (format!("Pause the queue {queue}? Workers finish what they hold. y/n"), Modifier::REVERSED)
        }
        Some(Overlay::ConfirmPause { queue, pause: false }) => {
            (format!("Resume the queue {queue}? Workers claim from it again within 2 s. y/n"), Modifier::REVERSED)
        }
        _ if !screen.notice.is_empty() => (output::escaped(&screen.notice), Modifier::BOLD),
        Some(Overlay::Help) => ("any key: back".to_owned(), Modifier::DIM),
        Some(Overlay::LetterList(_)) => ("Up, Down: choose  Enter: open  Esc: back".to_owned(), Modifier::DIM),
        Some(Overlay::Letter { .. }) => ("Up, Down: scroll  Esc: back".to_owned(), Modifier::DIM),
        None => ("?: help  Tab: pane  s: sort  p: pause  Enter: dead letters  q: quit".to_owned(), Modifier::DIM),
    };
    let y = area.bottom() - 1;
    buffer.set_stringn(area.x, y, text, area.width.into(), Style::new().add_modifier(style));
}

fn letter_list(screen: &Screen, list: &LetterList, area: Rect, buffer: &mut Buffer) {
    let of = |part: &Option<String>| output::escaped(part.as_deref().unwrap_or_default());
    let title = format!("Dead letters of {}: {} at {}", list.queue, of(&list.filter.reason), of(&list.filter.upstream));
    buffer.set_stringn(area.x, area.y, title, area.width.into(), Style::new().add_modifier(Modifier::BOLD));
    let below = Rect { y: area.y + 1, height: area.height - 1, ..area };
    let Some(letters) = &list.letters else {
        return lines(["Reading them...".to_owned()].into_iter(), 0, below, buffer);
    };
    if letters.is_empty() {
        return lines(
            ["none of the newest letters: they were replayed or dropped".to_owned()].into_iter(),
            0,
            below,
            buffer,
        );
    }
    let now = screen.frame.as_ref().map(|frame| frame.now);
    let first = (list.cursor + 1).saturating_sub(usize::from(below.height));
    for ((at, letter), y) in letters.iter().enumerate().skip(first).take(below.height.into()).zip(below.y..) {
        let ago = now.map_or_else(String::new, |now| span(now.since(letter.at)));
        let id = output::escaped(letter.id.as_deref().unwrap_or(&letter.serial));
        let text = format!("{ago:>6}  {id}  {}", output::escaped(&letter.error));
        let style = if at == list.cursor { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        buffer.set_style(Rect { y, height: 1, ..below }, style);
        buffer.set_stringn(below.x, y, text, below.width.into(), style);
    }
}

fn lines(lines: impl Iterator<Item = String>, skip: usize, area: Rect, buffer: &mut Buffer) {
    for (line, y) in lines.skip(skip).take(area.height.into()).zip(area.y..) {
        buffer.set_stringn(area.x, y, line, area.width.into(), Style::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panes_share_the_screen_and_the_one_in_focus_gets_the_most() {
        for (rows, focus, total, expected) in [
            // All that there is fits.
            (vec![1, 0, 2], 0, 22, vec![3, 1, 4]),
            (vec![100, 100, 100], 1, 22, vec![5, 12, 5]),
            // One row of each, then only titles, then only the one in focus.
            (vec![9, 9, 9], 2, 9, vec![3, 3, 3]),
            (vec![9, 9, 9], 2, 5, vec![1, 1, 3]),
            (vec![9, 9, 9], 0, 2, vec![2, 0, 0]),
        ] {
            let heights = heights(&rows, focus, total);
            assert_eq!(heights, expected, "{rows:?} {focus} {total}");
        }
    }
}
