//! The JSONPaths of a chain, filled in with an answer: the next task before the first line break, the answer after it.

use std::collections::BTreeSet;

use redial_core::protocol::follow_ups::follow_ups;
use redial_core::protocol::result::Body;
use redial_core::protocol::task::MAX_BYTES;
use redial_core::{Status, Task, TaskId, TaskResult, UnixMs};
use serde_json::Value;

use crate::bound::bounded;

/// Fields that Redial sets in the next task.
const SET: [&str; 4] = ["id", "enqueued_at_ms", "tenant", "then_error"];

/// Values of an answer take the place of paths, and never more than that.
pub fn run(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (then, answer) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    let task = [br#"{"id":"a","url":"http://h/","ok_when":{"path":"$"},"then":"#, then, b"}"].concat();
    let Ok(task) = bounded("parsing", || Task::parse(&task, MAX_BYTES)) else { return };
    let Ok(then) = serde_json::from_slice::<Value>(then) else { return };
    let mut result = TaskResult::new(TaskId::new("a").ok(), Status::Ok, UnixMs(7));
    result.set_body(Body::new(answer.to_vec(), Some("application/json")));
    let next = bounded("filling in", || follow_ups(&task, &result, MAX_BYTES));
    if then.is_null() {
        assert!(next.is_empty(), "{next:?}");
        return;
    }
    let [next] = next.as_slice() else { panic!("{} tasks follow", next.len()) };
    assert!(next.len() <= MAX_BYTES, "{} bytes", next.len());
    // A path may find something that is JSON, but no value of serde_json.
    let Ok(next) = serde_json::from_str::<Value>(next) else { panic!("the next task is not JSON: {next}") };
    let fields = |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    let added: BTreeSet<String> = fields(&next).difference(&fields(&then)).cloned().collect();
    assert!(added.iter().all(|field| SET.contains(&field.as_str())), "an answer added {added:?}");
    let is_filled = next.get("then_error").is_none();
    let before_path = |url: &str| url.split("{{").next().map(str::to_owned);
    if let (Some(given), Some(url), true) =
        (then["url"].as_str().and_then(before_path), next["url"].as_str(), is_filled)
    {
        assert!(url.starts_with(&given), "{url:?} does not begin with {given:?}");
    }
    let text = next.to_string();
    if let Err(refused) = bounded("parsing the next task", || Task::parse(text.as_bytes(), text.len())) {
        assert!(!refused.to_string().is_empty());
    }
}
