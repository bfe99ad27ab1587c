//! What is shown now, and what a key does.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use redial_core::queue::dead::DeadLetter;
use redial_core::queue::dead_page::{DeadLetterFilter, DeadLetterSummary};
use redial_core::queue::dead_search::DeadLetterPage;
use redial_core::{QueueName, UnixMs, shown};

use super::observe::{FleetFrame, ObservedLetters};
use super::panes::Pane;
use super::table::{PaneOrder, PaneTable, RowSubject, wrapped};
use crate::output;

/// By how many rows the page keys move.
const PAGE_ROWS: usize = 10;

/// The state of the screen.
#[derive(Debug)]
pub struct Screen {
    pub frame: Option<FleetFrame>,
    pub letters: ObservedLetters,
    /// Why there are no newer numbers.
    pub lost: Option<String>,
    /// What became of the last action.
    pub notice: String,
    pub overlay: Option<Overlay>,
    pub has_colour: bool,
    /// Columns and lines of the terminal.
    pub size: (u16, u16),
    focus: usize,
    views: [PaneView; Pane::ALL.len()],
}

/// How a pane is looked at.
#[derive(Debug, Clone)]
struct PaneView {
    order: PaneOrder,
    cursor: usize,
    /// The row under the cursor, which it follows when rows move.
    chosen: Option<String>,
}

/// What lies over the panes.
#[derive(Debug)]
pub enum Overlay {
    Help,
    ConfirmPause { queue: QueueName, pause: bool },
    LetterList(LetterList),
    Letter { list: LetterList, text: Vec<String>, scroll: usize },
}

/// The dead letters of a group.
#[derive(Debug, Clone)]
pub struct LetterList {
    pub queue: QueueName,
    pub filter: DeadLetterFilter,
    /// `None` until they have been read.
    pub letters: Option<Vec<DeadLetterSummary>>,
    pub cursor: usize,
}

/// What Redis has to be asked for because of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScreenAction {
    Quit,
    SetPaused { queue: QueueName, pause: bool },
    ListLetters { queue: QueueName, filter: DeadLetterFilter },
    OpenLetter { queue: QueueName, at: UnixMs, serial: String },
}

/// What Redis answered.
#[derive(Debug)]
pub enum ScreenNews {
    Frame(Result<Box<FleetFrame>, String>),
    Letters(ObservedLetters),
    LetterList(DeadLetterPage),
    Letter(Option<Box<DeadLetter>>),
    /// What became of an action.
    Notice(String),
}

impl Screen {
    pub fn new(has_colour: bool) -> Self {
        let views = Pane::ALL.map(|pane| PaneView { order: pane.order(), cursor: 0, chosen: None });
        let (letters, notice) = (Vec::new(), String::new());
        Self { frame: None, letters, lost: None, notice, overlay: None, has_colour, size: (80, 24), focus: 0, views }
    }

    pub fn focus(&self) -> Pane {
        Pane::ALL[self.focus]
    }

    pub fn order(&self, pane: Pane) -> PaneOrder {
        self.views[position(pane)].order
    }

    /// What a pane shows, and where its cursor is.
    pub fn table(&self, pane: Pane) -> Option<(PaneTable, usize)> {
        let view = &self.views[position(pane)];
        let table = pane.table(self.frame.as_ref()?, &self.letters, view.order);
        let followed = view.chosen.as_ref().and_then(|id| table.rows.iter().position(|row| row.identity() == *id));
        let cursor = followed.unwrap_or(view.cursor).min(table.rows.len().saturating_sub(1));
        Some((table, cursor))
    }

    /// Takes in what Redis answered.
    pub fn take(&mut self, news: ScreenNews) {
        match news {
            ScreenNews::Frame(Ok(frame)) => {
                if self.lost.take().is_some() {
                    self.notice = "connected again".into();
                }
                self.frame = Some(*frame);
            }
            ScreenNews::Frame(Err(error)) => self.lost = Some(output::escaped(&error)),
            ScreenNews::Letters(letters) => self.letters = letters,
            ScreenNews::LetterList(page) => {
                if let Some(Overlay::LetterList(list)) = &mut self.overlay {
                    list.letters = Some(page.letters);
                }
            }
            ScreenNews::Letter(None) => self.notice = "the letter is gone: replayed or dropped".into(),
            ScreenNews::Letter(Some(letter)) => {
                // Only if it is still waited for.
                if let Some(Overlay::LetterList(list)) =
                    self.overlay.take_if(|overlay| matches!(overlay, Overlay::LetterList(_)))
                {
                    self.overlay = Some(Overlay::Letter { list, text: letter_text(&letter), scroll: 0 });
                }
            }
            ScreenNews::Notice(notice) => self.notice = notice,
        }
    }

    /// What a key does.
    pub fn key(&mut self, key: KeyEvent) -> Option<ScreenAction> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(ScreenAction::Quit);
        }
        self.notice.clear();
        match self.overlay.take() {
            None => self.key_on_panes(key.code),
            // Any key closes it.
            Some(Overlay::Help) => None,
            Some(Overlay::ConfirmPause { queue, pause }) => {
                if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                    return Some(ScreenAction::SetPaused { queue, pause });
                }
                self.notice = "nothing was changed".into();
                None
            }
            Some(Overlay::LetterList(list)) => self.key_on_letters(key.code, list),
            Some(Overlay::Letter { list, text, scroll }) => {
                let scroll = match key.code {
                    KeyCode::Esc | KeyCode::Char('q') | KeyCode::Enter | KeyCode::Backspace => {
                        self.overlay = Some(Overlay::LetterList(list));
                        return None;
                    }
                    code => moved(scroll, code, self.last_scroll(&text)).unwrap_or(scroll),
                };
                self.overlay = Some(Overlay::Letter { list, text, scroll });
                None
            }
        }
    }

    /// How far a text can be scrolled: until its end is the last line between the first and the last of the screen.
    fn last_scroll(&self, text: &[String]) -> usize {
        let (columns, lines) = self.size;
        let rows: usize = text.iter().map(|line| wrapped(line, columns.into()).len()).sum();
        rows.saturating_sub(usize::from(lines).saturating_sub(2))
    }

    fn key_on_panes(&mut self, code: KeyCode) -> Option<ScreenAction> {
        let panes = Pane::ALL.len();
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(ScreenAction::Quit),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.overlay = Some(Overlay::Help),
            KeyCode::Tab | KeyCode::Right => self.focus = (self.focus + 1) % panes,
            KeyCode::BackTab | KeyCode::Left => self.focus = (self.focus + panes - 1) % panes,
            KeyCode::Char(digit @ '1'..='9') => {
                let wanted = digit as usize - '1' as usize;
                self.focus = if wanted < panes { wanted } else { self.focus };
            }
            KeyCode::Char('s') => {
                let (columns, order) = (self.focus().columns(), &mut self.views[self.focus].order);
                let column = (order.column + 1) % columns.len();
                // Numbers from the largest, texts from the first.
                *order = PaneOrder { column, is_descending: columns[column].is_right };
            }
            KeyCode::Char('r') => {
                let order = &mut self.views[self.focus].order;
                order.is_descending = !order.is_descending;
            }
            KeyCode::Char('p') => self.ask_to_pause(),
            KeyCode::Enter => return self.open_letters(),
            code => self.move_cursor(code),
        }
        None
    }

    fn move_cursor(&mut self, code: KeyCode) {
        let Some((table, cursor)) = self.table(self.focus()) else { return };
        let Some(cursor) = moved(cursor, code, table.rows.len().saturating_sub(1)) else { return };
        let chosen = table.rows.get(cursor).map(super::table::PaneRow::identity);
        let view = &mut self.views[self.focus];
        (view.cursor, view.chosen) = (cursor, chosen);
    }

    /// What the row under the cursor is about.
    fn subject(&self) -> RowSubject {
        let row = self
            .table(self.focus())
            .and_then(|(mut table, cursor)| (cursor < table.rows.len()).then(|| table.rows.swap_remove(cursor)));
        row.map_or(RowSubject::Nothing, |row| row.subject)
    }

    fn ask_to_pause(&mut self) {
        match self.subject() {
            RowSubject::Queue { name, is_paused } => {
                self.overlay = Some(Overlay::ConfirmPause { queue: name, pause: !is_paused });
            }
            _ => self.notice = "choose a queue in the pane Queues to pause or resume it".into(),
        }
    }

    fn open_letters(&mut self) -> Option<ScreenAction> {
        let RowSubject::Letters { queue, reason, upstream } = self.subject() else {
            self.notice = "choose a row in the pane Dead letters to open its letters".into();
            return None;
        };
        let filter = DeadLetterFilter { reason: Some(reason), upstream: Some(upstream), text: None };
        let list = LetterList { queue: queue.clone(), filter: filter.clone(), letters: None, cursor: 0 };
        self.overlay = Some(Overlay::LetterList(list));
        Some(ScreenAction::ListLetters { queue, filter })
    }

    fn key_on_letters(&mut self, code: KeyCode, mut list: LetterList) -> Option<ScreenAction> {
        if matches!(code, KeyCode::Esc | KeyCode::Char('q') | KeyCode::Backspace) {
            return None;
        }
        let letters = list.letters.as_deref().unwrap_or_default();
        let action = match code {
            KeyCode::Enter => letters.get(list.cursor).map(|letter| ScreenAction::OpenLetter {
                queue: list.queue.clone(),
                at: letter.at,
                serial: letter.serial.clone(),
            }),
            code => {
                list.cursor = moved(list.cursor, code, letters.len().saturating_sub(1)).unwrap_or(list.cursor);
                None
            }
        };
        self.overlay = Some(Overlay::LetterList(list));
        action
    }
}

fn position(pane: Pane) -> usize {
    // Every pane is in the list.
    Pane::ALL.iter().position(|other| *other == pane).unwrap_or(0)
}

/// Where a key moves a cursor; `None` if it is not one that does.
fn moved(from: usize, code: KeyCode, last: usize) -> Option<usize> {
    let to = match code {
        KeyCode::Up | KeyCode::Char('k') => from.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => from.saturating_add(1),
        KeyCode::PageUp => from.saturating_sub(PAGE_ROWS),
        KeyCode::PageDown => from.saturating_add(PAGE_ROWS),
        KeyCode::Home | KeyCode::Char('g') => 0,
        KeyCode::End | KeyCode::Char('G') => last,
        _ => return None,
    };
    Some(to.min(last))
}

/// A letter in full, credentials redacted.
fn letter_text(letter: &DeadLetter) -> Vec<String> {
    let json = shown::json::dead_letter(letter);
    format!("{json:#}").lines().map(output::escaped).collect()
}

#[cfg(test)]
mod tests {
    use redial_core::queue::dead_groups::{CountedGroups, DeadLetterGroup};
    use redial_core::statistics::summary::{StatisticsSummary, StatisticsWindow};

    use super::*;

    fn screen() -> Result<Screen, Box<dyn std::error::Error>> {
        let (queue, now) = (QueueName::new("default")?, UnixMs(10_000));
        let statistics = StatisticsSummary::new(StatisticsWindow::Minute, now);
        let (queues, breakers, workers, limits) = Default::default();
        let frame = FleetFrame { now, queues, statistics, breakers, workers, limits };
        let group = |reason: &str, letters| DeadLetterGroup {
            reason: reason.into(),
            upstream: "api:443".into(),
            letters,
            oldest: now,
            newest: now,
        };
        let groups = CountedGroups::new(vec![group("rejected", 7), group("expired", 9)], 16, 16);
        let mut screen = Screen::new(false);
        screen.take(ScreenNews::Frame(Ok(Box::new(frame))));
        screen.take(ScreenNews::Letters(vec![(queue, groups)]));
        Ok(screen)
    }

    fn press(screen: &mut Screen, code: KeyCode) -> Option<ScreenAction> {
        screen.key(KeyEvent::from(code))
    }

    #[test]
    fn the_cursor_follows_its_row_when_rows_are_sorted_in_another_way() -> Result<(), Box<dyn std::error::Error>> {
        let mut screen = screen()?;
        press(&mut screen, KeyCode::Char('6'));
        assert_eq!(screen.focus(), Pane::DeadLetters);
        // The most letters come first.
        press(&mut screen, KeyCode::Down);
        let reason = |screen: &Screen| {
            let (table, cursor) = screen.table(Pane::DeadLetters)?;
            Some(table.rows.get(cursor)?.cells.first()?.text.clone())
        };
        assert_eq!(reason(&screen).as_deref(), Some("rejected"));
        press(&mut screen, KeyCode::Char('r'));
        assert_eq!(reason(&screen).as_deref(), Some("rejected"));
        let (_, cursor) = screen.table(Pane::DeadLetters).ok_or("no table")?;
        assert_eq!(cursor, 0);
        let opened = press(&mut screen, KeyCode::Enter);
        assert!(
            matches!(&opened, Some(ScreenAction::ListLetters { filter, .. }) if filter.reason.as_deref() == Some("rejected"))
        );
        // `q` closes what lies over the panes before it ends the program.
        assert_eq!(press(&mut screen, KeyCode::Char('q')), None);
        assert_eq!(press(&mut screen, KeyCode::Char('q')), Some(ScreenAction::Quit));
        Ok(())
    }

    #[test]
    fn every_key_is_safe_on_a_screen_without_numbers() {
        for code in "?hsrpqjkgGyn159\n".chars().map(KeyCode::Char).chain([
            KeyCode::Enter,
            KeyCode::Tab,
            KeyCode::BackTab,
            KeyCode::Up,
            KeyCode::Down,
            KeyCode::PageDown,
            KeyCode::End,
            KeyCode::Esc,
        ]) {
            let mut screen = Screen::new(true);
            let action = press(&mut screen, code);
            assert!(matches!(action, None | Some(ScreenAction::Quit)), "{code:?}: {action:?}");
        }
    }
}
