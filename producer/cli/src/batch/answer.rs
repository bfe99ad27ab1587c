//! Formatting an answer: as Redial's result, or as a line of the OpenAI Batch output.

use std::borrow::Cow;
use std::collections::BTreeMap;

use redial_core::{Status, TaskResult};
use serde_json::{Value, json};

/// How a result written by a worker begins. One that begins like this need not be parsed.
const RESULT_START: &str = "{\"id\":\"";

/// The id of a result.
pub fn id_of(text: &str) -> Option<Cow<'_, str>> {
    #[derive(serde::Deserialize)]
    struct Id {
        id: String,
    }
    if let Some((id, _)) =
        text.strip_prefix(RESULT_START).and_then(|rest| rest.split_once('"')).filter(|(id, _)| !id.contains('\\'))
    {
        return Some(id.into());
    }
    serde_json::from_str(text).ok().map(|Id { id }| id.into())
}

/// A result in Redial's format, with the producer's id and the number of the line.
pub fn redial_line(line: u64, task: &str, name: Option<&str>, text: &str) -> anyhow::Result<String> {
    let after_id = text
        .strip_prefix(RESULT_START)
        .and_then(|rest| rest.strip_prefix(task))
        .and_then(|rest| rest.strip_prefix('"'));
    if let Some(after_id) = after_id {
        return Ok(format!("{{\"line\":{line},\"id\":{}{after_id}", json!(name.unwrap_or(task))));
    }
    let mut fields: BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_str(text)?;
    if let Some(name) = name {
        fields.insert("id".into(), serde_json::value::RawValue::from_string(json!(name).to_string())?);
    }
    let fields = serde_json::to_string(&fields)?;
    Ok(format!("{{\"line\":{line},{}", fields.strip_prefix('{').unwrap_or("}")))
}

/// A result in the format of OpenAI Batch, for the output file or the error file.
pub fn openai_line(task: &str, name: Option<&str>, result: &TaskResult) -> String {
    let answered = result.status == Status::Ok || result.attempts.last().is_some_and(|last| last.http_status.is_some());
    let status = result.http_status.filter(|_| answered);
    let body = || -> String {
        match (&result.body, &result.body_text, &result.body_base64) {
            (Some(body), ..) => body.get().replace(['\n', '\r'], " "),
            (_, Some(text), _) | (_, _, Some(text)) => json!(text).to_string(),
            _ => "null".into(),
        }
    };
    let response = status.map_or("null".into(), |status| {
        let request_id = result.headers.as_ref().and_then(|headers| headers.get("x-request-id"));
        let request_id = json!(request_id.map_or(task, |id| id.as_str()));
        format!("{{\"status_code\":{status},\"request_id\":{request_id},\"body\":{}}}", body())
    });
    let error = if status.is_some() {
        Value::Null
    } else {
        json!({"code": result.reason.map_or("unknown", |reason| reason.as_str()), "message": result.error})
    };
    format!("{{\"id\":\"batch_req_{task}\",\"custom_id\":{},\"response\":{response},\"error\":{error}}}", json!(name))
}

/// The error line for an invalid input line, in either format.
pub fn invalid_line(line: u64, name: Option<&str>, error: &str, is_openai: bool) -> String {
    let message = format!("line {line}: {error}");
    if is_openai {
        let error = json!({"code": "invalid_line", "message": message});
        return json!({"id": format!("batch_req_line_{line}"), "custom_id": name, "response": null, "error": error})
            .to_string();
    }
    json!({"line": line, "id": name, "status": "dead", "reason": "invalid_task", "error": message}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_keeps_its_bytes_after_the_added_line_and_id() -> anyhow::Result<()> {
        let usual = r#"{"id":"b-7","status":"ok","body":{"n": 1.0}}"#;
        assert_eq!(
            redial_line(7, "b-7", Some("a\"b"), usual)?,
            r#"{"line":7,"id":"a\"b","status":"ok","body":{"n": 1.0}}"#
        );
        assert_eq!(redial_line(7, "b-7", None, usual)?, format!("{{\"line\":7,{}", &usual[1..]));
        let other = r#"{ "status":"ok", "id":"b-7","body":{"n": 1.0}}"#;
        for (text, id) in [(usual, "b-7"), (other, "b-7"), (r#"{"id":"a\"b"}"#, "a\"b"), (r#"{"id":"b-71"}"#, "b-71")] {
            assert_eq!(id_of(text).as_deref(), Some(id));
        }
        let value: Value = serde_json::from_str(&redial_line(7, "b-7", Some("a"), other)?)?;
        assert_eq!(value, json!({"line": 7, "id": "a", "status": "ok", "body": {"n": 1.0}}));
        assert!(
            redial_line(7, "b-7", None, r#"{"id":"b-71"}"#)?.contains("b-71"),
            "an id that only begins like the task's is not replaced"
        );
        Ok(())
    }
}
