//! Redacting credentials in what is printed.

use redial_core::protocol::credentials;
use serde_json::Value;

/// A task as JSON, with the values of headers that carry credentials, logins in URLs, and secret query parameters redacted. `None` if
/// it is not JSON.
pub fn task(raw: &[u8]) -> Option<Value> {
    let mut task: Value = serde_json::from_slice(raw).ok()?;
    redact(&mut task);
    Some(task)
}

/// Redacts a parsed task and the rest of its chain.
fn redact(task: &mut Value) {
    if let Some(headers) = task.get_mut("headers").and_then(Value::as_object_mut) {
        for (name, value) in headers {
            if credentials::is_secret(name) {
                *value = "[redacted]".into();
            }
        }
    }
    for field in ["url", "callback_url"] {
        if let Some(Value::String(text)) = task.get_mut(field) {
            *text = url(text);
        }
    }
    if let Some(then) = task.get_mut("then") {
        redact(then);
    }
}

/// A URL as it is written, with its login and the values of secret query parameters redacted.
fn url(text: &str) -> String {
    let mut text = text.to_owned();
    if let Some((scheme, rest)) = text.split_once("://")
        && let Some((_, host)) = rest.split_once('@').filter(|(login, _)| !login.contains(['/', '?', '#']))
    {
        text = format!("{scheme}://[redacted]@{host}");
    }
    let Some((path, query)) = text.split_once('?') else { return text };
    let parameter = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if credentials::is_secret_parameter(name) => format!("{name}=[redacted]"),
        _ => pair.to_owned(),
    };
    format!("{path}?{}", query.split('&').map(parameter).collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_redacted_and_nothing_else() {
        let raw =
            br#"{"url":"https://u:p@h/a@b?q=1&api_key=k","headers":{"Authorization":"Bearer x","X-Api-Key":"k","Accept":"*/*"}}"#;
        let shown = task(raw).map(|task| task.to_string()).unwrap_or_default();
        assert_eq!(
            shown,
            r#"{"headers":{"Accept":"*/*","Authorization":"[redacted]","X-Api-Key":"[redacted]"},"url":"https://[redacted]@h/a@b?q=1&api_key=[redacted]"}"#
        );
        let chain = task(br#"{"then":{"then":{"headers":{"Authorization":"Bearer x"}}}}"#).map(|task| task.to_string());
        assert!(chain.is_some_and(|chain| chain.contains("[redacted]") && !chain.contains("Bearer")));
        assert_eq!(task(b"junk"), None);
    }
}
