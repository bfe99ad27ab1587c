//! How an answer is written: Redial's result, or a line of the OpenAI Batch output.

use std::borrow::Cow;
use std::collections::BTreeMap;

use redial_core::{Status, TaskResult};
use serde_json::{Value, json};

/// How a result begins as workers write it: what is taken from there need not be parsed.
const BEGINS: &str = "{\"id\":\"";

/// The id of a result.
pub fn id_of(text: &str) -> Option<Cow<'_, str>> {
    #[derive(serde::Deserialize)]
    struct Id {
        id: String,
    }
    if let Some((id, _)) =
        text.strip_prefix(BEGINS).and_then(|rest| rest.split_once('"')).filter(|(id, _)| !id.contains('\\'))
    {
        return Some(id.into());
    }
    serde_json::from_str(text).ok().map(|Id { id }| id.into())
}

/// The result of a line as Redial writes it, under its producer's name and with the number of its line.
pub fn of_redial(line: u64, task: &str, name: Option<&str>, text: &str) -> anyhow::Result<String> {
    let after_id =
        text.strip_prefix(BEGINS).and_then(|rest| rest.strip_prefix(task)).and_then(|rest| rest.strip_prefix('"'));
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

/// A line of the OpenAI Batch output, the error file's lines included.
pub fn of_openai(task: &str, name: Option<&str>, result: &TaskResult) -> String {
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

/// A line that is no call, in either format.
pub fn of_bad(line: u64, name: Option<&str>, wrong: &str, is_openai: bool) -> String {
    let wrong = format!("line {line}: {wrong}");
    if is_openai {
        let error = json!({"code": "invalid_line", "message": wrong});
        return json!({"id": format!("batch_req_line_{line}"), "custom_id": name, "response": null, "error": error})
            .to_string();
    }
    json!({"line": line, "id": name, "status": "dead", "reason": "invalid_task", "error": wrong}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_keeps_its_bytes_behind_its_line_and_name_however_it_is_spelled() -> anyhow::Result<()> {
        let usual = r#"{"id":"b-7","status":"ok","body":{"n": 1.0}}"#;
        assert_eq!(
            of_redial(7, "b-7", Some("a\"b"), usual)?,
            r#"{"line":7,"id":"a\"b","status":"ok","body":{"n": 1.0}}"#
        );
        assert_eq!(of_redial(7, "b-7", None, usual)?, format!("{{\"line\":7,{}", &usual[1..]));
        let other = r#"{ "status":"ok", "id":"b-7","body":{"n": 1.0}}"#;
        for (text, id) in [(usual, "b-7"), (other, "b-7"), (r#"{"id":"a\"b"}"#, "a\"b"), (r#"{"id":"b-71"}"#, "b-71")] {
            assert_eq!(id_of(text).as_deref(), Some(id));
        }
        let value: Value = serde_json::from_str(&of_redial(7, "b-7", Some("a"), other)?)?;
        assert_eq!(value, json!({"line": 7, "id": "a", "status": "ok", "body": {"n": 1.0}}));
        assert!(of_redial(7, "b-7", None, r#"{"id":"b-71"}"#)?.contains("b-71"), "no id but its own is taken for it");
        Ok(())
    }
}
