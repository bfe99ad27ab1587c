//! A chain: the task that is pushed when this one is complete, with values taken from its result.
//!
//! In the strings of `then`, `{{path}}` is replaced by what a JSONPath (RFC 9535) finds in the result, such as
//! `{{$.body.choices[0].text}}`. A string that consists of a single path becomes the value itself, whatever its type. Inside a longer
//! string the value is inserted as text, and in `url` percent-encoded. Everything else in `then` is kept byte for byte, including
//! braces without a `$`, which prompts may contain. A nested `then` is left alone until its own turn comes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use serde_json_path::JsonPath;

use super::error::MAX_LENGTH;
pub use super::error::{InvalidThen, PathError};
use super::{MAX_BYTES, Task};
use crate::{TaskId, TaskResult};

/// What is percent-encoded in a URL: everything except the unreserved characters of RFC 3986.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Checks a chain, as far as that is possible without a result.
pub(super) fn check(then: &RawValue) -> Result<(), InvalidThen> {
    let mut link = then;
    for _ in 0..MAX_LENGTH {
        let fields: Fields<'_> = serde_json::from_str(link.get()).map_err(|_| InvalidThen::NotAnObject)?;
        let (_, has_paths) =
            fill_fields(&fields, &mut |path| parse(path).map(|_| json!(""))).map_err(InvalidThen::Path)?;
        if !fields.contains_key("url") {
            return Err(InvalidThen::NoUrl);
        }
        if !has_paths {
            // Complete as it is, so it is checked as a task, the rest of the chain included.
            let task = Task::parse(link.get().as_bytes(), MAX_BYTES);
            return task.map(|_| ()).map_err(|error| InvalidThen::Task(error.cause));
        }
        match fields.get("then") {
            Some(next) => link = next,
            None => return Ok(()),
        }
    }
    Err(InvalidThen::TooLong)
}

/// The task that follows the task `id` with this result. One that cannot be made is pushed all the same and says why: it becomes
/// a dead letter.
pub(in crate::protocol) fn fill(then: &RawValue, id: &TaskId, result: &TaskResult) -> String {
    try_fill(then, id, result).unwrap_or_else(|error| {
        let fields: Option<Fields<'_>> = serde_json::from_str(then.get()).ok();
        let own_id = fields.and_then(|fields| serde_json::from_str::<String>(fields.get("id")?.get()).ok());
        let id = own_id.and_then(|id| TaskId::new(&id).ok()).unwrap_or_else(|| follow_up_id(id, "then"));
        json!({"id": id, "url": "http://then.invalid/", "then_error": error.to_string()}).to_string()
    })
}

fn try_fill(then: &RawValue, id: &TaskId, result: &TaskResult) -> Result<String, PathError> {
    let unreadable = |error: serde_json::Error| PathError::Unreadable(error.to_string());
    let result = serde_json::to_value(result).map_err(unreadable)?;
    let fields: Fields<'_> = serde_json::from_str(then.get()).map_err(unreadable)?;
    let (mut filled, _) = fill_fields(&fields, &mut |path| look_up(path, &result))?;
    filled.entry("id".into()).or_insert_with(|| json!(follow_up_id(id, "then")).to_string());
    filled.entry("enqueued_at_ms".into()).or_insert_with(|| result["finished_at_ms"].to_string());
    Ok(object(&filled))
}

fn object(fields: &BTreeMap<String, String>) -> String {
    let members: Vec<String> = fields.iter().map(|(name, json)| format!("{}:{json}", json!(name))).collect();
    format!("{{{}}}", members.join(","))
}

/// Fills in all fields except `then`. Returns them, and whether there was anything to fill in.
fn fill_fields(
    fields: &Fields<'_>,
    look_up: &mut impl FnMut(&str) -> Result<Value, PathError>,
) -> Result<(BTreeMap<String, String>, bool), PathError> {
    let mut has_paths = false;
    let mut filled = BTreeMap::new();
    for (name, value) in fields {
        let json = if name == "then" {
            Cow::Borrowed(value.get())
        } else {
            fill_strings(value.get(), name == "url", look_up)?
        };
        has_paths |= matches!(json, Cow::Owned(_));
        filled.insert(name.clone(), json.into_owned());
    }
    Ok((filled, has_paths))
}

/// Fills in the strings of a JSON text that contain paths; the rest is kept as it is.
fn fill_strings<'a>(
    json: &'a str,
    in_url: bool,
    look_up: &mut impl FnMut(&str) -> Result<Value, PathError>,
) -> Result<Cow<'a, str>, PathError> {
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

/// Where the JSON string at the beginning of a text ends, its quotes included.
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
    look_up: &mut impl FnMut(&str) -> Result<Value, PathError>,
) -> Result<Value, PathError> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, after)) = split_at_path(rest) {
        let (path, after) = after.split_once("}}").ok_or_else(|| PathError::Unclosed(text.to_owned()))?;
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

/// The text before the braces of the next path, and the text after them.
fn split_at_path(text: &str) -> Option<(&str, &str)> {
    let opens = |(at, _): &(usize, &str)| text[at + 2..].trim_start().starts_with('$');
    let (at, braces) = text.match_indices("{{").find(opens)?;
    Some((&text[..at], &text[at + braces.len()..]))
}

fn parse(path: &str) -> Result<JsonPath, PathError> {
    JsonPath::parse(path).map_err(|error| PathError::Syntax { path: path.to_owned(), why: error.to_string() })
}

/// What a path finds: the value, or a list where it finds several.
fn look_up(path: &str, result: &Value) -> Result<Value, PathError> {
    match parse(path)?.query(result).all().as_slice() {
        [] => Err(PathError::NotFound(path.to_owned())),
        [value] => Ok((*value).clone()),
        values => Ok(Value::Array(values.iter().map(|value| (*value).clone()).collect())),
    }
}

/// The id of a follow-up that does not have one of its own.
pub(in crate::protocol) fn follow_up_id(id: &TaskId, kind: &str) -> TaskId {
    TaskId::new(&format!("{id}.{kind}")).unwrap_or_else(|_| TaskId::random())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::result::Body;
    use crate::{Status, UnixMs};

    fn filled(then: &str, body: &str) -> Result<Value, Box<dyn std::error::Error>> {
        let then: Box<RawValue> = serde_json::from_str(then)?;
        check(&then)?;
        let mut result = TaskResult::new(Some(TaskId::new("a")?), Status::Ok, UnixMs(7));
        result.set_body(Body::new(body.into(), Some("application/json")));
        Ok(serde_json::from_str(&fill(&then, &TaskId::new("a")?, &result))?)
    }

    #[test]
    fn values_of_the_result_take_the_place_of_paths() -> Result<(), Box<dyn std::error::Error>> {
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
        assert_eq!(
            next["url"], "http://h/x%2Fy%3Fz?q=a%20%22b%22%20%26%20%C3%BC",
            "a value cannot break out of its place"
        );
        assert_eq!((&next["id"], &next["enqueued_at_ms"]), (&json!("a.then"), &json!(7)));
        assert_eq!(next["then"]["url"], "{{$.body.next}}", "it is filled in when its own turn comes");
        Ok(())
    }

    #[test]
    fn text_without_a_path_is_kept_byte_for_byte() -> Result<(), Box<dyn std::error::Error>> {
        let then: Box<RawValue> =
            serde_json::from_str(r#"{"url":"{{$.body.u}}","body":{"n": 9007199254740993.10,"s":"\u00e9"}}"#)?;
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
    fn a_task_that_cannot_be_made_says_why() -> Result<(), Box<dyn std::error::Error>> {
        let next = filled(r#"{"id":"b","url":"http://h/","body":"{{$.body.no}}"}"#, "{}")?;
        assert_eq!(
            (&next["id"], &next["then_error"]),
            (&json!("b"), &json!("{{$.body.no}} finds nothing in the result"))
        );
        let refused = Task::parse(next.to_string().as_bytes(), 1_000);
        assert!(refused.is_err_and(|why| why.to_string().contains("finds nothing")));
        let deep = (0..30).fold(r#"{"url":"http://h/{{$.id}}"}"#.to_owned(), |then, _| {
            format!(r#"{{"url":"http://h/{{{{$.id}}}}","then":{then}}}"#)
        });
        for (then, says) in [
            ("[]", "not a JSON object"),
            (r#"{"body":1}"#, "missing field `url`"),
            (r#"{"url":"nowhere"}"#, "`then`: `url`"),
            (r#"{"url":"http://h/","body":"{{$body x}}"}"#, "not a JSONPath"),
            (r#"{"url":"http://h/","body":"{{$.x"}"#, "without the closing }}"),
            (r#"{"url":"http://h/{{$.id}}","then":{"url":"nowhere"}}"#, "`then`: `url`"),
            (deep.as_str(), "split the chain"),
        ] {
            let refused = filled(then, "{}");
            assert!(refused.as_ref().is_err_and(|why| why.to_string().contains(says)), "{then}: {refused:?}");
        }
        Ok(())
    }
}
