//! A chain: the task that follows when this one is complete, with values taken from its result.
//!
//! In the strings of `then`, `{{path}}` stands for what a JSONPath (RFC 9535) finds in the result, as `{{$.body.choices[0].text}}`. A
//! string that is nothing but one path becomes the value itself, of whatever type; within a longer string it is put in as text, and
//! in `url` percent-encoded. All else of `then` stays byte for byte, also braces without a `$`, as prompts may have them. A `then` inside
//! of it is left alone: its turn comes later.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use serde_json_path::JsonPath;

use super::follow_ups;
use super::task::{MAX_BYTES, Task};
use crate::{TaskId, TaskResult};

/// The most tasks of a chain.
const MAX_LENGTH: usize = 20;
/// What is percent-encoded in a URL: all but RFC 3986's unreserved characters.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Checks a chain, as far as that goes without a result.
pub(super) fn check(then: &RawValue) -> Result<(), String> {
    let mut given = then;
    for _ in 0..MAX_LENGTH {
        let wrong = |why: String| format!("`then`: {why}");
        let fields: Fields<'_> =
            serde_json::from_str(given.get()).map_err(|_| wrong("it is no JSON object: give a task".into()))?;
        let after = fields.get("then").copied();
        let has_paths = fill_fields(&fields, &mut |path| parse(path).map(|_| json!(""))).map_err(wrong)?.1;
        if !fields.contains_key("url") {
            return Err(wrong("missing field `url`".into()));
        }
        if !has_paths {
            return Task::parse(given.get().as_bytes(), MAX_BYTES).map(|_| ()).map_err(|refusal| wrong(refusal.error));
        }
        match after {
            Some(after) => given = after,
            None => return Ok(()),
        }
    }
    Err(format!("`then` is {MAX_LENGTH} tasks deep or more: split the chain"))
}

/// The task that follows on the task `id` with this result. One that can't be made is pushed all the same, and says why: it ends
/// as a dead letter.
pub(super) fn fill(then: &RawValue, id: &TaskId, result: &TaskResult) -> String {
    let filled =
        serde_json::to_value(result).map_err(|error| format!("the result can't be read: {error}")).and_then(|result| {
            let fields: Fields<'_> = serde_json::from_str(then.get()).map_err(|error| error.to_string())?;
            let mut filled = fill_fields(&fields, &mut |path| look_up(path, &result))?.0;
            filled.entry("id".into()).or_insert_with(|| json!(follow_ups::follow_up_id(id, "then")).to_string());
            filled.entry("enqueued_at_ms".into()).or_insert_with(|| result["finished_at_ms"].to_string());
            Ok(object(&filled))
        });
    filled.unwrap_or_else(|error| {
        let given: Option<Fields<'_>> = serde_json::from_str(then.get()).ok();
        let own = given.as_ref().and_then(|given| serde_json::from_str::<String>(given.get("id")?.get()).ok());
        let own = own.and_then(|own| TaskId::new(&own).ok()).unwrap_or_else(|| follow_ups::follow_up_id(id, "then"));
        json!({"id": own, "url": "http://then.invalid/", "then_error": error}).to_string()
    })
}

fn object(fields: &BTreeMap<String, String>) -> String {
    let members: Vec<String> = fields.iter().map(|(name, json)| format!("{}:{json}", json!(name))).collect();
    format!("{{{}}}", members.join(","))
}

/// Fills in all fields but `then`. Returns them, and whether there was anything to fill in.
fn fill_fields(
    fields: &Fields<'_>,
    look_up: &mut impl FnMut(&str) -> Result<Value, String>,
) -> Result<(BTreeMap<String, String>, bool), String> {
    let mut has_paths = false;
    let mut filled = BTreeMap::new();
    for (name, given) in fields {
        let json = if name == "then" {
            Cow::Borrowed(given.get())
        } else {
            fill_strings(given.get(), name == "url", look_up)?
        };
        has_paths |= matches!(json, Cow::Owned(_));
        filled.insert(name.clone(), json.into_owned());
    }
    Ok((filled, has_paths))
}

/// Fills in the strings of a JSON text that have paths in them; the rest stays as it is.
fn fill_strings<'a>(
    json: &'a str,
    in_url: bool,
    look_up: &mut impl FnMut(&str) -> Result<Value, String>,
) -> Result<Cow<'a, str>, String> {
    let (mut filled, mut rest, mut has_paths) = (String::new(), json, false);
    while let Some(start) = rest.find('"') {
        let (before, string) = rest.split_at(start);
        let (string, after) = string.split_at(end_of_string(string));
        filled.push_str(before);
        let is_name = after.trim_start().starts_with(':');
        let text: Option<String> = serde_json::from_str(string).ok();
        match text.filter(|text| !is_name && split_at_path(text).is_some()) {
            Some(text) => {
                has_paths = true;
                filled.push_str(&fill_text(&text, in_url, look_up)?.to_string());
            }
            None => filled.push_str(string),
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(if has_paths { Cow::Owned(filled) } else { Cow::Borrowed(json) })
}

/// Where a JSON string at the beginning of a text ends, its quotes included.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    let closing = text.bytes().skip(1).position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    closing.map_or(text.len(), |at| at + 2)
}

fn fill_text(
    text: &str,
    in_url: bool,
    look_up: &mut impl FnMut(&str) -> Result<Value, String>,
) -> Result<Value, String> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, after)) = split_at_path(rest) {
        let (path, after) = after.split_once("}}").ok_or_else(|| format!("{text:?} has a {{{{ without its }}}}"))?;
        let value = look_up(path.trim())?;
        if before.is_empty() && filled.is_empty() && after.is_empty() {
            return Ok(value);
        }
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        filled.push_str(before);
        if in_url {
            filled.extend(utf8_percent_encode(&value, &RESERVED));
        } else {
            filled.push_str(&value);
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(Value::String(filled))
}

/// What is before the braces of the next path, and what is behind them.
fn split_at_path(text: &str) -> Option<(&str, &str)> {
    let opens = |(at, _): &(usize, &str)| text[at + 2..].trim_start().starts_with('$');
    let (at, braces) = text.match_indices("{{").find(opens)?;
    Some((&text[..at], &text[at + braces.len()..]))
}

fn parse(path: &str) -> Result<JsonPath, String> {
    JsonPath::parse(path).map_err(|error| format!("{{{{{path}}}}} is no JSONPath, as in {{{{$.body.text}}}}: {error}"))
}

/// What a path finds: the value, or where it may find several, a list of them.
fn look_up(path: &str, result: &Value) -> Result<Value, String> {
    match parse(path)?.query(result).all().as_slice() {
        [] => Err(format!("{{{{{path}}}}} finds nothing in the result")),
        [value] => Ok((*value).clone()),
        values => Ok(Value::Array(values.iter().map(|value| (*value).clone()).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::result::Body;
    use crate::{Status, UnixMs};

    fn filled(then: &str, body: &str) -> Result<Value, String> {
        let then: Box<RawValue> = serde_json::from_str(then).map_err(|error| error.to_string())?;
        check(&then)?;
        let mut result = TaskResult::new(Some(TaskId::new("a")?), Status::Ok, UnixMs(7));
        result.set_body(Body::new(body.into(), Some("application/json")));
        serde_json::from_str(&fill(&then, &TaskId::new("a")?, &result)).map_err(|error| error.to_string())
    }

    #[test]
    fn values_of_the_result_take_the_place_of_paths() -> Result<(), String> {
        let body = r#"{"text":"a \"b\" & ü","n":[1,2.5,{"x":null}],"id":"x/y?z"}"#;
        for (given, expected) in [
            (r#""{{$.body.text}}""#, json!("a \"b\" & ü")),
            (r#""{{ $.body.n }}""#, json!([1, 2.5, {"x": null}])),
            (
                r#"{"k":["{{$.body.n[0]}}","<{{$.body.n[0]}}|{{$.body.n}}>"]}"#,
                json!({"k": [1, "<1|[1,2.5,{\"x\":null}]>"]}),
            ),
            (r#""{{$.body.n[0,1]}}""#, json!([1, 2.5])),
            (r#""{{$.status}} {{$.finished_at_ms}}""#, json!("ok 7")),
            (r#"["{{name}}","{{name}} {{$.id}}"]"#, json!(["{{name}}", "{{name}} a"])),
            (r#"{"{{name}}":"\"{{$.id}}"}"#, json!({"{{name}}": "\"a"})),
        ] {
            let then = format!(r#"{{"url":"http://h/","body":{given}}}"#);
            assert_eq!(filled(&then, body)?["body"], expected, "{given}");
        }
        let then = r#"{"url":"http://h/{{$.body.id}}?q={{$.body.text}}","then":{"url":"{{$.body.next}}"}}"#;
        let next = filled(then, body)?;
        assert_eq!(next["url"], "http://h/x%2Fy%3Fz?q=a%20%22b%22%20%26%20%C3%BC", "no value breaks out of its place");
        assert_eq!((&next["id"], &next["enqueued_at_ms"]), (&json!("a.then"), &json!(7)));
        assert_eq!(next["then"]["url"], "{{$.body.next}}", "its turn comes later");
        Ok(())
    }

    #[test]
    fn what_has_no_path_stays_byte_for_byte() -> Result<(), String> {
        let then: Box<RawValue> =
            serde_json::from_str(r#"{"url":"{{$.body.u}}","body":{"n": 9007199254740993.10,"s":"\u00e9"}}"#)
                .map_err(|error| error.to_string())?;
        let mut result = TaskResult::new(Some(TaskId::new("a")?), Status::Ok, UnixMs(7));
        result.set_body(Body::new(br#"{"u":"http://h/"}"#.to_vec(), Some("application/json")));
        let next = fill(&then, &TaskId::new("a")?, &result);
        assert!(
            next.contains(r#"{"n": 9007199254740993.10,"s":"\u00e9"}"#) && next.contains(r#""url":"http://h/""#),
            "{next}"
        );
        Ok(())
    }

    #[test]
    fn what_can_not_be_made_says_why() -> Result<(), String> {
        let next = filled(r#"{"id":"b","url":"http://h/","body":"{{$.body.no}}"}"#, "{}")?;
        assert_eq!(
            (&next["id"], &next["then_error"]),
            (&json!("b"), &json!("{{$.body.no}} finds nothing in the result"))
        );
        let refused = Task::parse(next.to_string().as_bytes(), 1_000).map_err(|refusal| refusal.error);
        assert!(refused.is_err_and(|why| why.contains("finds nothing")));
        let deep = (0..30).fold(r#"{"url":"http://h/{{$.id}}"}"#.to_owned(), |then, _| {
            format!(r#"{{"url":"http://h/{{{{$.id}}}}","then":{then}}}"#)
        });
        for (then, says) in [
            ("[]", "no JSON object"),
            (r#"{"body":1}"#, "missing field `url`"),
            (r#"{"url":"nowhere"}"#, "`then`: `url`"),
            (r#"{"url":"http://h/","body":"{{$body x}}"}"#, "no JSONPath"),
            (r#"{"url":"http://h/","body":"{{$.x"}"#, "without its }}"),
            (r#"{"url":"http://h/{{$.id}}","then":{"url":"nowhere"}}"#, "`then`: `url`"),
            (deep.as_str(), "split the chain"),
        ] {
            let refused = filled(then, "{}");
            assert!(refused.as_ref().is_err_and(|why| why.contains(says)), "{then}: {refused:?}");
        }
        Ok(())
    }
}
