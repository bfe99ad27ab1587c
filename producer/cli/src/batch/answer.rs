//! Formatting an answer: as Redial's result, or as a line of the output of a batch API.

use std::borrow::Cow;
use std::collections::BTreeMap;

use redial_core::{Reason, Status, TaskResult};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// How a result written by a worker begins. One that begins like this need not be parsed.
const RESULT_START: &str = "{\"id\":\"";

/// The format of the output and error files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerFormat {
    Redial,
    OpenAi,
    Anthropic,
    Gemini,
}

/// Which line of the input an answer belongs to.
#[derive(Debug, Clone, Copy)]
pub struct AnsweredLine<'a> {
    pub number: u64,
    /// The id of its task.
    pub task: &'a str,
    /// The producer's id.
    pub id: Option<&'a str>,
}

impl AnswerFormat {
    /// The output line for a result.
    pub fn answer(self, line: AnsweredLine, result: &str) -> anyhow::Result<String> {
        Ok(match self {
            Self::Redial => redial_line(line, result)?,
            Self::OpenAi => openai_line(line, &serde_json::from_str(result)?),
            Self::Anthropic => anthropic_line(line, &serde_json::from_str(result)?),
            Self::Gemini => gemini_line(line, &serde_json::from_str(result)?),
        })
    }

    /// The error line for an invalid input line.
    pub fn invalid(self, number: u64, id: Option<&str>, error: &str) -> String {
        let message = format!("line {number}: {error}");
        let line = match self {
            Self::Redial => {
                json!({"line": number, "id": id, "status": "dead", "reason": "invalid_task", "error": message})
            }
            Self::OpenAi => json!({"id": format!("batch_req_line_{number}"), "custom_id": id, "response": null,
                "error": {"code": "invalid_line", "message": message}}),
            Self::Anthropic => {
                json!({"custom_id": id, "result": anthropic_error("invalid_request_error", Some(&message))})
            }
            Self::Gemini => json!({"key": id, "error": gemini_error(Some(Reason::InvalidTask), Some(&message))}),
        };
        line.to_string()
    }
}

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
fn redial_line(AnsweredLine { number: line, task, id }: AnsweredLine, text: &str) -> anyhow::Result<String> {
    let after_id = text
        .strip_prefix(RESULT_START)
        .and_then(|rest| rest.strip_prefix(task))
        .and_then(|rest| rest.strip_prefix('"'));
    if let Some(after_id) = after_id {
        return Ok(format!("{{\"line\":{line},\"id\":{}{after_id}", json!(id.unwrap_or(task))));
    }
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text)?;
    if let Some(id) = id {
        fields.insert("id".into(), RawValue::from_string(json!(id).to_string())?);
    }
    let fields = serde_json::to_string(&fields)?;
    Ok(format!("{{\"line\":{line},{}", fields.strip_prefix('{').unwrap_or("}")))
}

/// The body of an answer as JSON on one line, byte for byte if it is JSON.
fn body_of(result: &TaskResult) -> String {
    match (&result.body, &result.body_text, &result.body_base64) {
        (Some(body), ..) => body.get().replace(['\n', '\r'], " "),
        (_, Some(text), _) | (_, _, Some(text)) => json!(text).to_string(),
        _ => "null".into(),
    }
}

/// A result in the format of OpenAI Batch, for the output file or the error file.
fn openai_line(AnsweredLine { task, id, .. }: AnsweredLine, result: &TaskResult) -> String {
    let answered = result.status == Status::Ok || result.attempts.last().is_some_and(|last| last.http_status.is_some());
    let status = result.http_status.filter(|_| answered);
    let response = status.map_or("null".into(), |status| {
        let request_id = result.headers.as_ref().and_then(|headers| headers.get("x-request-id"));
        let request_id = json!(request_id.map_or(task, |id| id.as_str()));
        format!("{{\"status_code\":{status},\"request_id\":{request_id},\"body\":{}}}", body_of(result))
    });
    let error = if status.is_some() {
        Value::Null
    } else {
        json!({"code": result.reason.map_or("unknown", |reason| reason.as_str()), "message": result.error})
    };
    format!("{{\"id\":\"batch_req_{task}\",\"custom_id\":{},\"response\":{response},\"error\":{error}}}", json!(id))
}

/// The field `error` of an answer that is an object, which is how these APIs report errors.
fn error_of(result: &TaskResult) -> Option<Box<RawValue>> {
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(result.body.as_ref()?.get()).ok()?;
    fields.into_iter().find(|(name, value)| name == "error" && value.get().starts_with('{')).map(|(_, value)| value)
}

/// A result in the format of Anthropic's Message Batches.
fn anthropic_line(AnsweredLine { id, .. }: AnsweredLine, result: &TaskResult) -> String {
    let outcome = match result.reason {
        _ if result.status == Status::Ok => format!("{{\"type\":\"succeeded\",\"message\":{}}}", body_of(result)),
        Some(Reason::Cancelled) => json!({"type": "canceled"}).to_string(),
        Some(Reason::Expired) => json!({"type": "expired"}).to_string(),
        _ if error_of(result).is_some() => format!("{{\"type\":\"errored\",\"error\":{}}}", body_of(result)),
        _ => anthropic_error("api_error", result.error.as_deref()).to_string(),
    };
    format!("{{\"custom_id\":{},\"result\":{outcome}}}", json!(id))
}

fn anthropic_error(kind: &str, message: Option<&str>) -> Value {
    json!({"type": "errored", "error": {"type": "error", "error": {"type": kind, "message": message}}})
}

/// A result in the format of the Gemini Batch API.
fn gemini_line(AnsweredLine { id, .. }: AnsweredLine, result: &TaskResult) -> String {
    let outcome = if result.status == Status::Ok {
        format!("\"response\":{}", body_of(result))
    } else {
        let error = error_of(result).map(|error| error.get().replace(['\n', '\r'], " "));
        let error = error.unwrap_or_else(|| gemini_error(result.reason, result.error.as_deref()).to_string());
        format!("\"error\":{error}")
    };
    format!("{{\"key\":{},{outcome}}}", json!(id))
}

/// An error that the API did not report itself, with a code of google.rpc.Code.
fn gemini_error(reason: Option<Reason>, message: Option<&str>) -> Value {
    let (code, status) = match reason {
        Some(Reason::Cancelled) => (1, "CANCELLED"),
        Some(Reason::InvalidTask | Reason::TooLarge) => (3, "INVALID_ARGUMENT"),
        Some(Reason::Expired) => (4, "DEADLINE_EXCEEDED"),
        Some(Reason::OverBudget) => (8, "RESOURCE_EXHAUSTED"),
        Some(Reason::AttemptsExhausted) => (14, "UNAVAILABLE"),
        _ => (2, "UNKNOWN"),
    };
    json!({"code": code, "message": message, "status": status})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_keeps_its_bytes_after_the_added_line_and_id() -> anyhow::Result<()> {
        let redial_line = |task, id, text: &str| redial_line(AnsweredLine { number: 7, task, id }, text);
        let usual = r#"{"id":"b-7","status":"ok","body":{"n": 1.0}}"#;
        assert_eq!(
            redial_line("b-7", Some("a\"b"), usual)?,
            r#"{"line":7,"id":"a\"b","status":"ok","body":{"n": 1.0}}"#
        );
        assert_eq!(redial_line("b-7", None, usual)?, format!("{{\"line\":7,{}", &usual[1..]));
        let other = r#"{ "status":"ok", "id":"b-7","body":{"n": 1.0}}"#;
        for (text, id) in [(usual, "b-7"), (other, "b-7"), (r#"{"id":"a\"b"}"#, "a\"b"), (r#"{"id":"b-71"}"#, "b-71")] {
            assert_eq!(id_of(text).as_deref(), Some(id));
        }
        let value: Value = serde_json::from_str(&redial_line("b-7", Some("a"), other)?)?;
        assert_eq!(value, json!({"line": 7, "id": "a", "status": "ok", "body": {"n": 1.0}}));
        assert!(
            redial_line("b-7", None, r#"{"id":"b-71"}"#)?.contains("b-71"),
            "an id that only begins like the task's is not replaced"
        );
        Ok(())
    }
}
