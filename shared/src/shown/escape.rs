//! Escaping what a terminal obeys.
//!
//! Control characters move the cursor, erase what stands above, set the title or add lines (C0, DEL, and C1, ECMA-48); line and paragraph
//! separators add lines in some programs; bidirectional controls reorder what is read (Unicode Standard Annex 9, CVE-2021-42574); tag and
//! interlinear characters are invisible.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

/// Whether a character can be shown as it is.
fn is_safe(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// How an unsafe character is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EscapeForm {
    /// `\u{1b}`, in text for people.
    Text,
    /// `\u001b`, inside strings of JSON.
    Json,
}

impl EscapeForm {
    fn push(self, text: &mut String, c: char) {
        // Writing to a string cannot fail.
        let _ = match self {
            Self::Text => write!(text, "{}", c.escape_unicode()),
            Self::Json => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(text, "\\u{unit:04x}")),
        };
    }
}

/// A text in which control characters are escaped.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_safe) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_safe(c) { shown.push(c) } else { EscapeForm::Text.push(&mut shown, c) }
    }
    shown.into()
}

/// JSON with the same meaning, on one line, in which control characters are escaped: those of strings as JSON escapes them, and spaces in
/// place of those between values.
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    if json.chars().all(is_safe) {
        return json.into();
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match c {
            // In valid JSON they stand only between values.
            '\n' | '\r' | '\t' => shown.push(' '),
            c if is_safe(c) => shown.push(c),
            c => EscapeForm::Json.push(&mut shown, c),
        }
    }
    shown.into()
}

/// A line in which control characters are escaped, but not the sequences that set a colour: for lines whose fields are escaped already.
pub fn escaped_but_colours(line: &str, form: EscapeForm) -> String {
    let mut shown = String::with_capacity(line.len() + 16);
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let colour = colour_at(rest);
        let length = if colour > 0 { colour } else { c.len_utf8() };
        let (taken, after) = rest.split_at(length);
        if colour > 0 || is_safe(c) {
            shown.push_str(taken);
        } else {
            form.push(&mut shown, c);
        }
        rest = after;
    }
    shown
}

/// Writes lines of a log: each write is one line, whatever stands in its fields.
#[derive(Debug)]
pub struct LogWriter<W> {
    inner: W,
    form: EscapeForm,
    /// Whether the log's own colours are left as they are. `tracing` itself escapes those in fields.
    colours: bool,
}

impl<W> LogWriter<W> {
    /// Writes to `inner`.
    pub fn new(inner: W, form: EscapeForm, colours: bool) -> Self {
        Self { inner, form, colours }
    }

    fn line<'a>(&self, body: &'a str) -> Cow<'a, str> {
        match self.form {
            _ if body.chars().all(is_safe) => body.into(),
            form if self.colours => escaped_but_colours(body, form).into(),
            EscapeForm::Text => escaped(body),
            EscapeForm::Json => escaped_json(body),
        }
    }
}

/// The length of the sequence that sets a colour at the beginning of a text, or 0: `ESC [`, digits and semicolons, `m`.
fn colour_at(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\u{1b}[") else { return 0 };
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(parameters.len());
    if parameters.get(end..).is_some_and(|rest| rest.starts_with('m')) { 2 + end + 1 } else { 0 }
}

impl<W: io::Write> io::Write for LogWriter<W> {
    /// Writes all of the line, with the line feed at its end.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let body = text.strip_suffix('\n').unwrap_or(&text);
        match self.line(body) {
            Cow::Borrowed(_) => self.inner.write_all(text.as_bytes())?,
            Cow::Owned(shown) => {
                let end = text.get(body.len()..).unwrap_or_default();
                self.inner.write_all((shown + end).as_bytes())?;
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let hostile: String = (0..=0x10_ffff).filter_map(char::from_u32).filter(|c| !is_safe(*c)).collect();
        assert!(hostile.contains(['\u{0}', '\n', '\u{1b}', '\u{7f}', '\u{9b}', '\u{2028}', '\u{202e}', '\u{2066}']));
        assert!(escaped(&hostile).chars().all(|c| is_safe(c) && c.is_ascii()));
        assert_eq!(escaped("a\u{1b}[2J\nb\u{9b}"), "a\\u{1b}[2J\\u{a}b\\u{9b}");
        for plain in ["", "plain", "Grüße, 世界, שלום, 👩‍👧"] {
            assert!(matches!(escaped(plain), Cow::Borrowed(same) if same == plain), "{plain}");
        }
    }

    #[test]
    fn json_means_the_same_after_it_is_escaped() -> Result<(), serde_json::Error> {
        let value = serde_json::json!({"a\u{9b}": "x\u{1b}\u{7f}\u{202e}\u{e0041}\u{2028}", "b": [1, "ü"]});
        for json in [value.to_string(), format!("{value:#}")] {
            let shown = escaped_json(&json);
            assert!(shown.chars().all(is_safe), "{shown}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown)?, value);
        }
        Ok(())
    }

    #[test]
    fn an_event_stays_one_line_of_the_log() -> io::Result<()> {
        let written = |form, colours, line: &str| {
            let mut out = Vec::new();
            LogWriter::new(&mut out, form, colours).write_all(line.as_bytes())?;
            io::Result::Ok(String::from_utf8_lossy(&out).into_owned())
        };
        let forged = "WARN error=x\nINFO all is well\u{1b}[2J\u{9b}1m\n";
        let text = written(EscapeForm::Text, false, forged)?;
        assert_eq!(text, "WARN error=x\\u{a}INFO all is well\\u{1b}[2J\\u{9b}1m\n");
        let json = written(EscapeForm::Json, false, "{\"a\":\"\u{9b}\u{202e}\"}\n")?;
        assert_eq!(json, "{\"a\":\"\\u009b\\u202e\"}\n");
        let coloured = "\u{1b}[2m2026\u{1b}[0m \u{1b}[33m WARN\u{1b}[0m \u{1b}[2Jx\n";
        let expected = "\u{1b}[2m2026\u{1b}[0m \u{1b}[33m WARN\u{1b}[0m \\u{1b}[2Jx\n";
        assert_eq!(written(EscapeForm::Text, true, coloured)?, expected);
        assert_eq!(written(EscapeForm::Text, false, "plain\n")?, "plain\n");
        Ok(())
    }
}
