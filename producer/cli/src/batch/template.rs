//! A task with placeholders for the columns of a row: `{{name}}`. Those that begin with `$` are left for chains: `{{$.body.id}}`.

use serde_json::Value;

/// Why a template cannot be used, or a row does not fit it.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("the template has an empty {{{{}}}}: put the name of a column in it")]
    EmptyPlaceholder,
    #[error("the template is not JSON, even with its columns filled in: {0}")]
    NotJson(serde_json::Error),
    #[error("there is no column {0:?}")]
    NoColumn(String),
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
        let sample = template.fill(|_| Some(Value::from(0)))?;
        serde_json::from_str::<Value>(&sample).map_err(TemplateError::NotJson)?;
        Ok(template)
    }

    /// The template with a row's values filled in.
    pub fn fill(&self, value_of: impl Fn(&str) -> Option<Value>) -> Result<String, TemplateError> {
        let mut filled = String::new();
        for (text, placeholder) in &self.parts {
            let value =
                value_of(&placeholder.column).ok_or_else(|| TemplateError::NoColumn(placeholder.column.clone()))?;
            filled.push_str(text);
            if !placeholder.is_quoted {
                filled.push_str(&value.to_string());
                continue;
            }
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let quoted = Value::from(text).to_string();
            // The quotes are part of the template.
            filled.push_str(quoted.get(1..quoted.len() - 1).unwrap_or_default());
        }
        filled.push_str(&self.rest);
        Ok(filled)
    }
}

/// The JSON value of a CSV cell: a number, `true`, `false` or `null` as such, anything else as a string.
pub fn cell(text: &str) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(value) if !value.is_array() && !value.is_object() && !value.is_string() => value,
        _ => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_inserted_as_text_inside_quotes_and_as_json_outside() -> anyhow::Result<()> {
        let template = Template::parse(r#"{"url":"http://h/{{ a }}","body":{"a":{{a}},"t":"\"{{a}}"}}"#)?;
        let filled = template.fill(|_| Some(Value::from("x\"\n")))?;
        assert_eq!(filled, r#"{"url":"http://h/x\"\n","body":{"a":"x\"\n","t":"\"x\"\n"}}"#);
        assert_eq!(template.fill(|_| Some(cell("7")))?, r#"{"url":"http://h/7","body":{"a":7,"t":"\"7"}}"#);
        assert!(template.fill(|_| None).is_err_and(|error| error.to_string().contains("\"a\"")));
        let chain = Template::parse(r#"{"then":{"url":"http://h/{{a}}/{{$.body.id}}"}}"#)?;
        assert_eq!(chain.fill(|_| Some(cell("7")))?, r#"{"then":{"url":"http://h/7/{{$.body.id}}"}}"#);
        assert!(Template::parse("{{{a}}").is_err());
        Ok(())
    }
}
