//! One frame as plain text, or as JSON.

use std::io::{self, IsTerminal as _};

use ratatui::buffer::Buffer;
use ratatui::crossterm::terminal::size;
use ratatui::layout::Rect;
use serde_json::{Map, Value, json};

use super::draw;
use super::observe::FleetObserver;
use super::panes::Pane;
use crate::output::{self, Output};

/// The width of a frame that is not on a terminal.
const WIDTH: u16 = 110;
/// How many rows of a pane are printed.
const MAX_ROWS: usize = 200;

/// Prints all panes, one below the other.
pub async fn print(mut observer: FleetObserver, format: Output) -> anyhow::Result<()> {
    let frame = observer.frame().await?;
    let letters = observer.letter_counter().count(frame.dead()).await?;
    let tables = Pane::ALL.map(|pane| (pane, pane.table(&frame, &letters, pane.order())));
    if format == Output::Json {
        let mut json = Map::from_iter([("now_ms".to_owned(), json!(frame.now))]);
        for (pane, table) in &tables {
            let rows: Vec<Value> = table.rows.iter().map(|row| row.to_json(table.columns)).collect();
            json.insert(pane.title().to_lowercase().replace(' ', "_"), json!(rows));
        }
        output::json_line(&Value::Object(json).to_string())?;
        return Ok(());
    }
    let width = if io::stdout().is_terminal() { size().map_or(WIDTH, |(columns, _)| columns.max(80)) } else { WIDTH };
    for (pane, mut table) in tables {
        let hidden = table.rows.len().saturating_sub(MAX_ROWS);
        table.rows.truncate(MAX_ROWS);
        let height = 2 + u16::try_from(table.rows.len()).unwrap_or(0);
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        draw::pane(&table, pane, &draw::PaneLook::default(), buffer.area, &mut buffer);
        for row in buffer.content().chunks(usize::from(width)) {
            let text: String = row.iter().map(|cell| cell.symbol()).collect();
            output::line(text.trim_end())?;
        }
        if hidden > 0 {
            output::line(&format!("and {hidden} more"))?;
        }
        output::line("")?;
    }
    Ok(())
}
