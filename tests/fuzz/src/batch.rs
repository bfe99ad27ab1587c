//! The files of `redial batch`. The first byte chooses the form; in a table, the template stands before the first line break.

use std::cell::OnceCell;
use std::path::PathBuf;

use redial_cli::fuzz::{self, BASE, FORMS};
use redial_core::Task;
use redial_core::protocol::task::MAX_BYTES;
use serde_json::Value;
use tempfile::TempDir;

use crate::bound::bounded;

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

fn file() -> PathBuf {
    FOLDER.with(|folder| folder.get_or_init(|| tempfile::tempdir().unwrap()).path().join("in"))
}

/// Each line is a valid task that goes where the options say, or says what is wrong with it. Numbers rise.
pub fn run(bytes: &[u8]) {
    let Some((choice, text)) = bytes.split_first() else { return };
    let form = FORMS[usize::from(*choice) % FORMS.len()];
    let is_table = matches!(form, "csv" | "jsonl");
    let end = text.iter().position(|byte| *byte == b'\n').filter(|_| is_table).unwrap_or_default();
    let (template, rows) =
        (String::from_utf8_lossy(&text[..end]), if is_table { text.get(end + 1..) } else { Some(text) });
    let file = file();
    std::fs::write(&file, rows.unwrap_or_default()).unwrap();
    let lines = match bounded("reading", || fuzz::lines(&file, form, &template)) {
        Ok(lines) => lines,
        Err(refused) => {
            assert!(!refused.to_string().is_empty());
            return;
        }
    };
    let mut last = 0;
    for (number, line) in lines {
        assert!(number > last, "line {number} after line {last}");
        last = number;
        match line {
            Err(why) => assert!(!why.trim().is_empty(), "line {number} says nothing"),
            Ok(pushed) => is_right(&pushed, is_table || form == "redial"),
        }
    }
}

/// What is pushed is a task, replies to the batch, and stays below the base URL if its line has only a path.
fn is_right(pushed: &str, has_own_url: bool) {
    let task = Task::parse(pushed.as_bytes(), MAX_BYTES);
    // The id of a line is the journal's, and need not be one that a task may have.
    let Ok(task) = task else {
        let mut fields: Value = serde_json::from_str(pushed).unwrap_or_else(|error| panic!("{pushed}: {error}"));
        fields["id"] = "a".into();
        Task::parse(fields.to_string().as_bytes(), MAX_BYTES * 2).unwrap_or_else(|error| panic!("{pushed}: {error}"));
        return;
    };
    assert_eq!(task.reply_to.as_deref(), Some("answers:fuzz"));
    assert!(has_own_url || task.url.as_str().starts_with(BASE), "{} is not below {BASE}", task.url);
}
