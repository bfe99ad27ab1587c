//! A task with places for the columns of a row: `{{name}}`. What begins with `$` is no column but a chain's, `{{$.body.id}}`.

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// A template, taken apart at its places.
#[derive(Debug)]
pub struct Template {
    /// Text, and the place after it.
    parts: Vec<(String, Place)>,
    rest: String,
}

#[derive(Debug)]
struct Place {
    column: String,
    /// Whether it stands inside a JSON string: then the value goes in as text, else as JSON.
    is_quoted: bool,
}

impl Template {
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let (mut parts, mut before, mut rest) = (Vec::new(), String::new(), text);
        let (mut is_quoted, mut is_escaped) = (false, false);
        while let Some(next) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("{{")
                && let Some((name, after)) = after.split_once("}}")
                && !name.contains(['"', '{', '\n'])
                && !name.trim_start().starts_with('$')
            {
                let column = name.trim().to_owned();
                ensure!(!column.is_empty(), "the template has an empty {{{{}}}}: name a column in it");
                parts.push((std::mem::take(&mut before), Place { column, is_quoted }));
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
        serde_json::from_str::<Value>(&sample).context("the template is no JSON, also with its columns filled in")?;
        Ok(template)
    }

    /// The template with a row's values in it.
    pub fn fill(&self, value_of: impl Fn(&str) -> Option<Value>) -> anyhow::Result<String> {
        let mut filled = String::new();
        for (text, place) in &self.parts {
            let value = value_of(&place.column).with_context(|| format!("there is no column {:?}", place.column))?;
            filled.push_str(text);
            if !place.is_quoted {
                filled.push_str(&value.to_string());
                continue;
            }
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let quoted = Value::from(text).to_string();
            // Its own quotes stand in the template.
            filled.push_str(quoted.get(1..quoted.len() - 1).unwrap_or_default());
        }
        filled.push_str(&self.rest);
        Ok(filled)
    }
}

/// A cell of a CSV file where JSON is wanted: a number, `true`, `false` or `null` as such, else a string.
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
    fn values_go_in_as_text_inside_quotes_and_as_json_outside() -> anyhow::Result<()> {
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
