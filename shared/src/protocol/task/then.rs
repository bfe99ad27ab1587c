//! A chain: the task that is pushed when this one is complete, with values taken from its result.
//!
//! In the strings of `then`, `{{path}}` is replaced by what a JSONPath (RFC 9535) finds in the result, such as
//! `{{$.body.choices[0].text}}`. A string that consists of a single path becomes the value itself, whatever its type. Inside a longer
//! string the value is inserted as text, and in `url` percent-encoded. Everything else in `then` is kept byte for byte, including
//! braces without a `$`, which prompts may contain. A nested `then` is left alone until its own turn comes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use serde_json::value::RawValue;

pub use super::error::{InvalidThen, PathError};
use super::error::{MAX_FILTERS, MAX_LENGTH, MAX_PATHS};
use super::path::{BoundedPath, Searched};
use super::{InvalidTask, RawTask, Task, TaskDefaults};
use crate::{TaskId, TaskResult};

/// What is percent-encoded in a URL: everything except the unreserved characters of RFC 3986.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Where the values come from that take the place of paths.
trait Values {
    /// Writes what a path finds as JSON.
    fn write(&mut self, path: &str, to: &mut Filled) -> Result<(), PathError>;
}

/// Checks a chain, as far as that is possible without a result. Each of its tasks is looked at once.
pub(super) fn check(then: &RawValue) -> Result<(), InvalidThen> {
    let (mut link, mut unknown) = (then, Unknown::default());
    for _ in 0..MAX_LENGTH {
        let fields: Fields<'_> = serde_json::from_str(link.get()).map_err(|_| InvalidThen::NotAnObject)?;
        // It is a part of a task, and nothing is filled in yet.
        let (_, has_paths) = fill_fields(&fields, &mut unknown, usize::MAX).map_err(InvalidThen::Path)?;
        if !fields.contains_key("url") {
            return Err(InvalidThen::NoUrl);
        }
        if fields.contains_key("callback_of") {
            return Err(InvalidThen::Task(InvalidTask::ForgedDelivery));
        }
        if fields.contains_key("tenant") {
            return Err(InvalidThen::Tenant);
        }
        if !has_paths {
            // Complete as it is, so it is checked as a task.
            let defaults = TaskDefaults::default();
            let parsed = RawTask::parse(link.get().as_bytes());
            let checked = parsed.and_then(|(raw, unknown)| Task::check_alone(raw, unknown, |_| &defaults));
            checked.map_err(InvalidThen::Task)?;
        }
        match fields.get("then").filter(|next| next.get() != "null") {
            Some(next) => link = next,
            None => return Ok(()),
        }
    }
    Err(InvalidThen::TooLong)
}

/// No result yet: paths are only checked.
#[derive(Default)]
struct Unknown {
    /// The filters of all paths so far.
    filters: usize,
}

impl Values for Unknown {
    fn write(&mut self, path: &str, to: &mut Filled) -> Result<(), PathError> {
        self.filters += BoundedPath::parse(path)?.filters();
        if self.filters > MAX_FILTERS {
            return Err(PathError::TooManyFilters);
        }
        to.push("\"\"")
    }
}

impl Values for Searched<'_> {
    fn write(&mut self, path: &str, to: &mut Filled) -> Result<(), PathError> {
        let found = self.find(&BoundedPath::parse(path)?)?;
        match found.as_slice() {
            [value] => to.push_json(value),
            values => to.push_json(&values),
        }
    }
}

/// A text of bounded size, as it is filled in.
#[derive(Debug)]
struct Filled {
    text: String,
    paths: usize,
    /// How many bytes were written so far, also those that were moved elsewhere.
    bytes: usize,
    /// The most that there may be.
    limit: usize,
}

impl Filled {
    fn new(bytes: usize, limit: usize) -> Self {
        Self { text: String::new(), paths: 0, bytes, limit }
    }

    fn push(&mut self, text: &str) -> Result<(), PathError> {
        self.bytes += text.len();
        if self.bytes > self.limit {
            return Err(PathError::TooLarge);
        }
        self.text.push_str(text);
        Ok(())
    }

    /// Stops as soon as there is too much, so that a value that was found many times over does not fill the memory.
    fn push_json(&mut self, value: &impl serde::Serialize) -> Result<(), PathError> {
        // It fails only for want of room: keys are strings, and every value was JSON.
        serde_json::to_writer(&mut *self, value).map_err(|_| PathError::TooLarge)
    }

    fn count_path(&mut self) -> Result<(), PathError> {
        self.paths += 1;
        if self.paths > MAX_PATHS { Err(PathError::TooMany) } else { Ok(()) }
    }
}

impl std::io::Write for Filled {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = std::str::from_utf8(bytes).map_err(std::io::Error::other)?;
        self.push(text).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The task that follows the task `id` with this result, of at most `max_bytes`. One that cannot be made is pushed all the same and says why: it becomes
/// a dead letter.
pub(in crate::protocol) fn fill(
    then: &RawValue,
    id: &TaskId,
    tenant: Option<&str>,
    result: &TaskResult,
    max_bytes: usize,
) -> String {
    try_fill(then, id, tenant, result, max_bytes).unwrap_or_else(|error| {
        let fields: Option<Fields<'_>> = serde_json::from_str(then.get()).ok();
        let own_id = fields.and_then(|fields| serde_json::from_str::<String>(fields.get("id")?.get()).ok());
        let id = own_id.and_then(|id| TaskId::new(&id).ok()).unwrap_or_else(|| follow_up_id(id, "then"));
        json!({"id": id, "url": "http://then.invalid/", "then_error": error.to_string()}).to_string()
    })
}

fn try_fill(
    then: &RawValue,
    id: &TaskId,
    tenant: Option<&str>,
    result: &TaskResult,
    max_bytes: usize,
) -> Result<String, PathError> {
    let unreadable = |error: serde_json::Error| PathError::Unreadable(error.to_string());
    let result = serde_json::to_value(result).map_err(unreadable)?;
    let fields: Fields<'_> = serde_json::from_str(then.get()).map_err(unreadable)?;
    let (mut filled, _) = fill_fields(&fields, &mut Searched::new(&result), max_bytes)?;
    filled.entry("id".into()).or_insert_with(|| json!(follow_up_id(id, "then")).to_string());
    filled.entry("enqueued_at_ms".into()).or_insert_with(|| result["finished_at_ms"].to_string());
    filled.extend(tenant.map(|tenant| ("tenant".to_owned(), json!(tenant).to_string())));
    let task = object(&filled);
    if task.len() <= max_bytes {
        return Ok(task);
    }
    let largest = filled.into_iter().max_by_key(|(_, json)| json.len());
    let field = largest.map(|(field, _)| field).unwrap_or_default();
    Err(PathError::FieldTooLarge { field, limit: max_bytes })
}

fn object(fields: &BTreeMap<String, String>) -> String {
    let members: Vec<String> = fields.iter().map(|(name, json)| format!("{}:{json}", json!(name))).collect();
    format!("{{{}}}", members.join(","))
}

/// Fills in all fields except `then`, with at most `limit` bytes. Returns them, and whether there was anything to fill in.
fn fill_fields(
    fields: &Fields<'_>,
    values: &mut impl Values,
    limit: usize,
) -> Result<(BTreeMap<String, String>, bool), PathError> {
    let mut all = BTreeMap::new();
    let mut filled = Filled::new(0, limit);
    for (name, value) in fields {
        let json = if name == "then" {
            Cow::Borrowed(value.get())
        } else {
            fill_strings(value.get(), name == "url", values, &mut filled).map_err(|error| match error {
                PathError::TooLarge => PathError::FieldTooLarge { field: name.clone(), limit },
                error => error,
            })?
        };
        all.insert(name.clone(), json.into_owned());
    }
    Ok((all, filled.paths > 0))
}

/// Fills in the strings of a JSON text that contain paths; the rest is kept as it is.
fn fill_strings<'a>(
    json: &'a str,
    in_url: bool,
    values: &mut impl Values,
    filled: &mut Filled,
) -> Result<Cow<'a, str>, PathError> {
    let paths_before = filled.paths;
    let mut rest = json;
    while let Some(start) = rest.find('"') {
        let (before, string) = rest.split_at(start);
        let (string, after) = string.split_at(end_of_string(string));
        filled.push(before)?;
        let is_name = after.trim_start().starts_with(':');
        let text: Option<String> = serde_json::from_str(string).ok();
        match text.filter(|text| !is_name && split_at_path(text).is_some()) {
            Some(text) => fill_text(&text, in_url, values, filled)?,
            None => filled.push(string)?,
        }
        rest = after;
    }
    filled.push(rest)?;
    let text = std::mem::take(&mut filled.text);
    Ok(if filled.paths > paths_before { Cow::Owned(text) } else { Cow::Borrowed(json) })
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

/// Writes a string with its paths filled in; or the value itself, if the string is a single path.
fn fill_text(text: &str, in_url: bool, values: &mut impl Values, filled: &mut Filled) -> Result<(), PathError> {
    let (mut inserted, mut rest) = (String::new(), text);
    while let Some((before, after)) = split_at_path(rest) {
        let (path, after) = after.split_once("}}").ok_or_else(|| PathError::Unclosed(text.to_owned()))?;
        filled.count_path()?;
        if before.is_empty() && inserted.is_empty() && after.is_empty() {
            return values.write(path.trim(), filled);
        }
        let mut value = Filled::new(filled.bytes + inserted.len(), filled.limit);
        values.write(path.trim(), &mut value)?;
        let value = serde_json::from_str(&value.text).unwrap_or(value.text);
        inserted.push_str(before);
        if in_url {
            inserted.extend(utf8_percent_encode(&value, &RESERVED));
        } else {
            inserted.push_str(&value);
        }
        rest = after;
    }
    inserted.push_str(rest);
    filled.push_json(&inserted)
}

/// The text before the braces of the next path, and the text after them.
fn split_at_path(text: &str) -> Option<(&str, &str)> {
    let opens = |(at, _): &(usize, &str)| text[at + 2..].trim_start().starts_with('$');
    let (at, braces) = text.match_indices("{{").find(opens)?;
    Some((&text[..at], &text[at + braces.len()..]))
}

/// The id of a follow-up that does not have one of its own.
pub(in crate::protocol) fn follow_up_id(id: &TaskId, kind: &str) -> TaskId {
    TaskId::new(&format!("{id}.{kind}")).unwrap_or_else(|_| TaskId::random())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::protocol::result::Body;
    use crate::{Status, UnixMs};

    fn filled(then: &str, body: &str) -> Result<Value, Box<dyn std::error::Error>> {
        let then: Box<RawValue> = serde_json::from_str(then)?;
        check(&then)?;
        let mut result = TaskResult::new(Some(TaskId::new("a")?), Status::Ok, UnixMs(7));
        result.set_body(Body::new(body.into(), Some("application/json")));
        Ok(serde_json::from_str(&fill(&then, &TaskId::new("a")?, None, &result, 10_000))?)
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
        let next = fill(&then, &TaskId::new("a")?, Some("acme"), &result, 10_000);
        assert!(next.contains(r#""tenant":"acme""#), "{next}");
        assert!(
            next.contains(r#"{"n": 9007199254740993.10,"s":"\u00e9"}"#) && next.contains(r#""url":"http://h/""#),
            "{next}"
        );
        Ok(())
    }

    #[test]
    fn a_task_grows_to_no_more_than_a_task_may_have() -> Result<(), Box<dyn std::error::Error>> {
        let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(6_000));
        let body = |given: &str| filled(&format!(r#"{{"id":"b","url":"http://h/","body":{given}}}"#), &large);
        assert_eq!(body(r#""{{$.body.text}}""#)?["then_error"], Value::Null);
        for given in [r#"["{{$.body.text}}","{{$.body.text}}"]"#, r#""{{$.body.text}} {{$.body.text}}""#] {
            let next = body(given)?;
            let says = "with `body` filled in, the task has more than 10000 bytes, which max_task_bytes allows";
            assert!(next["then_error"].as_str().is_some_and(|error| error.starts_with(says)), "{next}");
        }
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
            (r#"{"url":"http://h/","tenant":"{{$.body.t}}"}"#, "omit `tenant`"),
        ] {
            let refused = filled(then, "{}");
            assert!(refused.as_ref().is_err_and(|why| why.to_string().contains(says)), "{then}: {refused:?}");
        }
        Ok(())
    }
}
