//! A task with placeholders for the columns of a row: `{{name}}`, `{{name?}}` for one that may be absent, `{{*}}` for the whole row.
//! Those that begin with `$` are left for chains: `{{$.body.id}}`.

use std::borrow::Cow;

use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Why a template cannot be used, or a row does not fit it.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("the template has an empty {{{{}}}}: put the name of a column in it")]
    EmptyPlaceholder,
    #[error("the template is not JSON, even with its columns filled in: {0}")]
    NotJson(serde_json::Error),
    #[error("there is no column {0:?}; {{{{{0}?}}}} may be absent")]
    NoColumn(String),
}

/// A value of a row, as it is written there. No number is ever converted, so each keeps all its digits and its spelling.
#[derive(Debug, Clone)]
pub enum RowValue<'a> {
    /// A cell of a table.
    Cell(Cow<'a, str>),
    /// A JSON value.
    Json(Cow<'a, str>),
}

impl RowValue<'_> {
    /// As a JSON value. A cell that is a number, `true`, `false` or `null` is used as such, any other is a string.
    pub fn as_json(&self) -> Cow<'_, str> {
        match self {
            Self::Json(json) => json.as_ref().into(),
            Self::Cell(text) => match serde_json::from_str::<&RawValue>(text) {
                Ok(value) if !value.get().starts_with(['"', '{', '[']) => value.get().into(),
                _ => json!(text).to_string().into(),
            },
        }
    }

    /// As the inside of a JSON string.
    fn in_string(&self) -> String {
        let quoted = match self {
            Self::Json(json) if json.starts_with('"') => json.to_string(),
            Self::Json(text) | Self::Cell(text) => json!(text).to_string(),
        };
        quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
    }

    /// As the id of a line: text or a number, as it stands. `None` for an empty text and for any other value.
    pub fn as_id(&self) -> Option<String> {
        let id = match self {
            Self::Cell(text) => text.to_string(),
            Self::Json(json) if json.starts_with('"') => serde_json::from_str(json).ok()?,
            Self::Json(json) if json.starts_with(['{', '[', 'n']) => return None,
            Self::Json(json) => json.to_string(),
        };
        Some(id).filter(|id| !id.is_empty())
    }
}

/// A template, split at its placeholders.
#[derive(Debug)]
pub struct Template {
    /// Text, and the placeholder after it.
    parts: Vec<(String, Placeholder)>,
    rest: String,
}

#[derive(Debug)]
struct Placeholder {
    column: String,
    /// Whether it is inside a JSON string: then the value is inserted as text, otherwise as JSON.
    is_quoted: bool,
}

/// The placeholder of the whole row.
pub const WHOLE_ROW: &str = "*";

impl Template {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (mut parts, mut before, mut rest) = (Vec::new(), String::new(), text);
        let (mut is_quoted, mut is_escaped) = (false, false);
        while let Some(next) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("{{")
                && let Some((name, after)) = after.split_once("}}")
                && !name.contains(['"', '{', '\n'])
                && !name.trim_start().starts_with('$')
            {
                let column = name.trim().to_owned();
                if column.is_empty() {
                    return Err(TemplateError::EmptyPlaceholder);
                }
                parts.push((std::mem::take(&mut before), Placeholder { column, is_quoted }));
                rest = after;
                continue;
            }
            match next {
                _ if is_escaped => is_escaped = false,
                '\\' if is_quoted => is_escaped = true,
                '"' => is_quoted = !is_quoted,
                _ => {}
            }
            before.push(next);
            rest = &rest[next.len_utf8()..];
        }
        let template = Self { parts, rest: before };
        let sample = template.fill(|_| Some(RowValue::Json("0".into())))?;
        serde_json::from_str::<Value>(&sample).map_err(TemplateError::NotJson)?;
        Ok(template)
    }

    /// The columns that every row has to have.
    pub fn required_columns(&self) -> impl Iterator<Item = &str> {
        let columns = self.parts.iter().map(|(_, placeholder)| placeholder.column.as_str());
        columns.filter(|column| !column.ends_with('?') && *column != WHOLE_ROW)
    }

    /// The template with a row's values filled in.
    pub fn fill<'a>(&self, value_of: impl Fn(&str) -> Option<RowValue<'a>>) -> Result<String, TemplateError> {
        let mut filled = String::new();
        for (text, Placeholder { column, is_quoted }) in &self.parts {
            filled.push_str(text);
            // A column may itself have a name that ends in a question mark.
            let optional = column.strip_suffix('?').map(str::trim);
            let is_empty = |value: &RowValue| matches!(value, RowValue::Cell(text) if text.is_empty());
            let value = match (value_of(column), optional) {
                (None, Some(column)) => value_of(column).filter(|value| !is_empty(value)),
                (None, None) => return Err(TemplateError::NoColumn(column.clone())),
                (value, _) => value,
            };
            match (value, is_quoted) {
                (Some(value), true) => filled.push_str(&value.in_string()),
                (Some(value), false) => filled.push_str(&value.as_json()),
                (None, true) => {}
                (None, false) => filled.push_str("null"),
            }
        }
        filled.push_str(&self.rest);
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str, value: &RowValue) -> Result<String, TemplateError> {
        Template::parse(template)?.fill(|_| Some(value.clone()))
    }

    #[test]
    fn values_are_inserted_as_text_inside_quotes_and_as_json_outside() -> anyhow::Result<()> {
        let template = r#"{"url":"http://h/{{ a }}","body":{"a":{{a}},"t":"\"{{a}}"}}"#;
        let cell = |text: &'static str| RowValue::Cell(text.into());
        assert_eq!(fill(template, &cell("x\"\n"))?, r#"{"url":"http://h/x\"\n","body":{"a":"x\"\n","t":"\"x\"\n"}}"#);
        assert_eq!(fill(template, &cell("7"))?, r#"{"url":"http://h/7","body":{"a":7,"t":"\"7"}}"#);
        let missing = Template::parse(template)?.fill(|_| None);
        assert!(missing.is_err_and(|error| error.to_string().contains("\"a\"")));
        let chain = r#"{"then":{"url":"http://h/{{a}}/{{$.body.id}}"}}"#;
        assert_eq!(fill(chain, &cell("7"))?, r#"{"then":{"url":"http://h/7/{{$.body.id}}"}}"#);
        assert!(Template::parse("{{{a}}").is_err());
        Ok(())
    }

    #[test]
    fn every_value_keeps_its_spelling() -> anyhow::Result<()> {
        let template = r#"["{{a}}",{{a}}]"#;
        for number in ["1.10", "1e5", "0.1000", "-0", "1E+400", "123456789012345678901234567890", "true", "null"] {
            let expected = format!("[\"{number}\",{number}]");
            assert_eq!(fill(template, &RowValue::Cell(number.into()))?, expected);
            assert_eq!(fill(template, &RowValue::Json(number.into()))?, expected);
        }
        for text in ["007", "+1", "0x1", "1.", ".5", "NaN", "True", "", "[1]", "{}", "\\", "two\r\nlines"] {
            let quoted = json!(text);
            assert_eq!(fill(template, &RowValue::Cell(text.into()))?, format!("[{quoted},{quoted}]"));
        }
        assert_eq!(fill(template, &RowValue::Cell("\"x\"".into()))?, r#"["\"x\"","\"x\""]"#);
        let raw = RowValue::Json(r#""\ud83d\ude00\/""#.into());
        assert_eq!(fill(template, &raw)?, r#"["\ud83d\ude00\/","\ud83d\ude00\/"]"#);
        let raw = RowValue::Json(r#"{"z":1.0, "a":"\u0041"}"#.into());
        assert_eq!(fill(template, &raw)?, r#"["{\"z\":1.0, \"a\":\"\\u0041\"}",{"z":1.0, "a":"\u0041"}]"#);
        Ok(())
    }

    #[test]
    fn a_column_with_a_question_mark_may_be_absent() -> anyhow::Result<()> {
        let template = Template::parse(r#"["{{a?}}",{{ a ? }},"x{{b?}}"]"#)?;
        assert_eq!(template.fill(|_| None)?, r#"["",null,"x"]"#);
        assert_eq!(template.fill(|name| (name == "a").then(|| RowValue::Cell("".into())))?, r#"["",null,"x"]"#);
        assert_eq!(template.fill(|name| (name == "a").then(|| RowValue::Cell("1".into())))?, r#"["1",1,"x"]"#);
        assert_eq!(template.fill(|name| (name == "b?").then(|| RowValue::Cell("2".into())))?, r#"["",null,"x2"]"#);
        Ok(())
    }
}
