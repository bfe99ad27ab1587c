//! What makes a response a good one (`ok_when`), or one after which to try again (`retry_when`).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::InvalidTask;
use super::error::PathError;
use super::path::{BUDGET, BoundedPath, Searched};

/// The most statuses in a condition.
const MAX_STATUSES: usize = 100;

/// A condition as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Condition"))]
pub struct RawCondition {
    /// The statuses that the response may have. Default 200 to 299.
    #[cfg_attr(feature = "schema", schemars(inner(range(min = 200, max = 999))))]
    pub status: Option<Vec<u16>>,
    /// A JSONPath (RFC 9535) that must find a value in the body other than `null`, `false`, `0`, `""`, `[]` and `{}`.
    pub path: Option<String>,
}

/// A condition on a response: on its status, on its body, or on both.
#[derive(Debug, Clone)]
pub struct Condition {
    statuses: Option<Vec<u16>>,
    path: Option<BoundedPath>,
}

impl RawCondition {
    /// Checks a condition, which is the field of that name.
    ///
    /// # Errors
    /// It has neither a status nor a path, or one that is invalid.
    pub fn check(self, field: &'static str) -> Result<Condition, InvalidTask> {
        let invalid = |why: String| InvalidTask::Condition { field, why };
        let Self { status, path } = self;
        if status.is_none() && path.is_none() {
            return Err(invalid("has neither `status` nor `path`: use at least one".into()));
        }
        for status in status.iter().flatten() {
            if !(200..1000).contains(status) {
                return Err(invalid(format!("has the status {status}: use 200 to 999")));
            }
        }
        if let Some(count) = status.as_ref().map(Vec::len).filter(|count| *count > MAX_STATUSES) {
            return Err(invalid(format!("has {count} statuses: at most {MAX_STATUSES} are allowed")));
        }
        let path = path.as_deref().map(BoundedPath::parse).transpose().map_err(|error| {
            invalid(match error {
                PathError::Syntax { path, why } => {
                    format!("has the path {path:?}, which is not a JSONPath such as \"$.error\": {why}")
                }
                PathError::TooComplex { path, why } => {
                    format!("has the path \"{path}...\", which is too complex: {why}")
                }
                error => error.to_string(),
            })
        })?;
        Ok(Condition { statuses: status, path })
    }
}

impl Condition {
    /// Whether a response may have this status.
    pub fn has_status(&self, status: u16) -> bool {
        self.statuses.as_ref().map_or((200..300).contains(&status), |statuses| statuses.contains(&status))
    }

    /// The path that has to find something in the body, if there is one.
    pub fn path(&self) -> Option<&str> {
        self.path.as_ref().map(BoundedPath::as_str)
    }

    /// Whether the path may visit the values of even a small body so often that it takes a while.
    pub fn is_costly(&self) -> bool {
        self.path.as_ref().is_some_and(BoundedPath::is_costly)
    }

    /// The first of these documents in which the path finds something; without a path, the first of all.
    ///
    /// # Errors
    /// It would take too long to look.
    pub fn find<'a>(
        &self,
        documents: impl IntoIterator<Item = Cow<'a, Value>>,
    ) -> Result<Option<Cow<'a, Value>>, PathError> {
        let mut budget = BUDGET;
        for document in documents {
            let Some(path) = &self.path else { return Ok(Some(document)) };
            let mut searched = Searched::within(&document, budget);
            let finds = match searched.find(path) {
                Ok(found) => found.iter().any(|value| is_something(value)),
                Err(PathError::NotFound(_)) => false,
                Err(error) => return Err(error),
            };
            budget = searched.budget();
            if finds {
                return Ok(Some(document));
            }
        }
        Ok(None)
    }

    /// The condition as a text, the same for equal conditions only.
    pub(crate) fn identity(&self) -> String {
        format!("{:?} {:?}", self.statuses, self.path())
    }
}

/// Whether a value says anything: `"error": null`, `"errors": []` and `"ok": false` do not.
fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn condition(json: &Value) -> Result<Condition, InvalidTask> {
        let raw: RawCondition = serde_json::from_value(json.clone()).unwrap_or_default();
        raw.check("ok_when")
    }

    #[test]
    fn a_path_finds_what_says_something() -> Result<(), Box<dyn std::error::Error>> {
        for (path, body, finds) in [
            ("$.error", json!({"error": {"code": 1}}), true),
            ("$.error", json!({"error": "x"}), true),
            ("$.error", json!({"error": null}), false),
            ("$.error", json!({"error": ""}), false),
            ("$.error", json!({"error": {}}), false),
            ("$.errors", json!({"errors": []}), false),
            ("$.errcode", json!({"errcode": 0}), false),
            ("$.errcode", json!({"errcode": 40001}), true),
            ("$.ok", json!({"ok": false}), false),
            ("$.ok", json!({"ok": true}), true),
            ("$.error", json!([1]), false),
            ("$.items[*].error", json!({"items": [{}, {"error": null}, {"error": 1}]}), true),
            ("$[?$.state == 'done']", json!({"state": "done"}), true),
            ("$[?$.state == 'done']", json!({"state": "running", "other": "done"}), false),
        ] {
            let found = condition(&json!({"path": path}))?.find([Cow::Borrowed(&body)])?.is_some();
            assert_eq!(found, finds, "{path} in {body}");
        }
        let documents = [json!({"n": 1}), json!({"error": 2}), json!({"error": 3})];
        let found = condition(&json!({"path": "$.error"}))?.find(documents.iter().map(Cow::Borrowed))?;
        assert_eq!(found.as_deref(), Some(&documents[1]));
        Ok(())
    }

    #[test]
    fn a_status_is_2xx_unless_the_condition_lists_others() -> Result<(), InvalidTask> {
        let by_path = condition(&json!({"path": "$.a"}))?;
        assert!(by_path.has_status(200) && by_path.has_status(299) && !by_path.has_status(404));
        let listed = condition(&json!({"status": [200, 404]}))?;
        assert!(listed.has_status(404) && !listed.has_status(201));
        assert!(!condition(&json!({"status": []}))?.has_status(200));
        Ok(())
    }

    #[test]
    fn an_invalid_condition_is_described() {
        for (given, says) in [
            (json!({}), "neither `status` nor `path`"),
            (json!({"status": [100]}), "the status 100"),
            (json!({"status": vec![200; 101]}), "101 statuses"),
            (json!({"path": "error"}), "not a JSONPath"),
            (json!({"path": ""}), "not a JSONPath"),
            (json!({"path": format!("$.{}", "a".repeat(2_000))}), "too complex"),
        ] {
            let refused = condition(&given).map(|_| ()).map_err(|why| why.to_string());
            assert!(
                refused.as_ref().is_err_and(|why| why.starts_with("`ok_when`") && why.contains(says)),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_search_is_bounded_over_all_documents() -> Result<(), InvalidTask> {
        let slow = condition(&json!({"path": "$..a..b..c"}))?;
        let document = (0..100).fold(json!(1), |inner, _| json!([inner, {"a": 1}]));
        let documents = std::iter::repeat_n(Cow::Owned(document), 2_000);
        assert!(matches!(slow.find(documents), Err(PathError::TooSlow(_))));
        Ok(())
    }
}
