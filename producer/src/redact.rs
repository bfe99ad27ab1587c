//! Keeps credentials off the screen.

use serde_json::Value;

/// Parts of the names of headers that carry credentials.
const SECRET: [&str; 8] = ["authorization", "cookie", "api-key", "apikey", "token", "secret", "password", "signature"];

/// A task for showing: as JSON, with the values of headers that carry credentials and the password of its URL taken out.
/// `None` when it is not JSON.
pub fn task(raw: &[u8]) -> Option<Value> {
    let mut task: Value = serde_json::from_slice(raw).ok()?;
    if let Some(headers) = task.get_mut("headers").and_then(Value::as_object_mut) {
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            if SECRET.iter().any(|part| name.contains(part)) {
                *value = "[redacted]".into();
            }
        }
    }
    for field in ["url", "callback_url"] {
        if let Some(Value::String(text)) = task.get_mut(field)
            && let Some((scheme, rest)) = text.split_once("://")
            && let Some((_, host)) = rest.split_once('@').filter(|(login, _)| !login.contains('/'))
        {
            *text = format!("{scheme}://[redacted]@{host}");
        }
    }
    Some(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_out_and_nothing_else() {
        let raw =
            br#"{"url":"https://u:p@h/a@b","headers":{"Authorization":"Bearer x","X-Api-Key":"k","Accept":"*/*"}}"#;
        let shown = task(raw).map(|task| task.to_string()).unwrap_or_default();
        assert_eq!(
            shown,
            r#"{"headers":{"Accept":"*/*","Authorization":"[redacted]","X-Api-Key":"[redacted]"},"url":"https://[redacted]@h/a@b"}"#
        );
        assert_eq!(task(b"junk"), None);
    }
}
