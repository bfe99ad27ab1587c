//! Hiding credentials in what is shown.
//!
//! Of a task's headers only those that are known to be harmless are shown, because any other may be what some service calls its key.
//! A body is shown: it is what a call says, and Redial cannot know which part of it is a secret.

use serde_json::{Map, Value};

use crate::protocol::credentials;

/// What stands in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// The fields of a task that contain a URL.
const URLS: [&str; 2] = ["url", "callback_url"];

/// A task as JSON, with the values of its headers, logins in URLs, and secret query parameters redacted, also in the tasks that follow it.
/// `None` if it is not a JSON object: then nothing tells where its secrets are.
pub fn task(raw: &[u8]) -> Option<Value> {
    let Ok(Value::Object(mut task)) = serde_json::from_slice(raw) else { return None };
    redact(&mut task);
    Some(Value::Object(task))
}

/// Redacts a parsed task and the rest of its chain. What has another type than the protocol's is redacted as a whole.
fn redact(task: &mut Map<String, Value>) {
    for (field, value) in task {
        match (field.as_str(), &mut *value) {
            (_, Value::Null) => {}
            ("headers", Value::Object(headers)) => {
                let shown = |(name, value): (String, Value)| {
                    let value = if credentials::is_harmless(&name) { value } else { REDACTED.into() };
                    (header_name(&name), value)
                };
                *headers = std::mem::take(headers).into_iter().map(shown).collect();
            }
            ("then", Value::Object(then)) => redact(then),
            (name, Value::String(text)) if URLS.contains(&name) => *text = url(text),
            ("headers" | "then" | "url" | "callback_url", _) => *value = REDACTED.into(),
            // A field that the protocol does not have may be a header in the wrong place.
            (name, _) if credentials::is_secret(name) => *value = REDACTED.into(),
            _ => {}
        }
    }
}

/// A URL as it is written, with its login, the values of secret query parameters, and its fragment redacted. It need not be valid.
pub fn url(text: &str) -> String {
    // A fragment is never sent, and OAuth puts tokens into it.
    let (text, fragment) = text.split_once('#').map_or((text, ""), |(text, _)| (text, "#[redacted]"));
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    let mut shown = login(path);
    if let Some(query) = query {
        let parameter = |pair: &str| match pair.split_once('=') {
            Some((name, _)) if is_secret_parameter(&decoded(name)) => format!("{name}={REDACTED}"),
            _ => pair.to_owned(),
        };
        shown.push('?');
        shown.push_str(&query.split('&').map(parameter).collect::<Vec<_>>().join("&"));
    }
    shown + fragment
}

/// Whether the value of a query parameter must not be shown: also what OAuth (RFC 6749) and single sign-on pass on in URLs.
fn is_secret_parameter(name: &str) -> bool {
    let of_login = ["state", "ticket", "samlresponse", "nonce", "otp"];
    credentials::is_secret_parameter(name) || of_login.contains(&name.to_ascii_lowercase().as_str())
}

/// A name as the server reads it: `api%5Fkey` is `api_key`.
fn decoded(name: &str) -> String {
    let pairs = url::form_urlencoded::parse(name.as_bytes());
    pairs.map(|(name, _)| name.into_owned()).next().unwrap_or_default()
}

/// A URL up to its query, with its login redacted: everything between the scheme and the last `@` of the authority. Parsers take any number
/// of slashes and backslashes for the two (WHATWG URL, section 4.4).
fn login(path: &str) -> String {
    let Some((scheme, rest)) = path.split_once(':') else { return path.to_owned() };
    let slashes = rest.len() - rest.trim_start_matches(['/', '\\']).len();
    let (slashes, rest) = rest.split_at(slashes);
    let end = rest.find(['/', '\\']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}:{slashes}{REDACTED}@{host}{path}"),
        None => format!("{scheme}:{slashes}{authority}{path}"),
    }
}

/// What a message shows of the invalid name of a header: a whole header line may stand there.
pub fn header_name(name: &str) -> String {
    name.split_once(':').map_or_else(|| name.to_owned(), |(name, _)| format!("{name}: {REDACTED}"))
}

/// The message of a JSON parser without the values that it quotes, one of which may be a secret in the wrong place: `invalid type: string
/// "Bearer x", expected a map` becomes `invalid type: string, expected a map`.
pub fn parser_message(message: &str) -> String {
    let Some((before, value)) = message.split_once("string \"") else { return message.to_owned() };
    // The value may contain what ends it, so its last possible end counts.
    let after = value.rsplit_once("\", expected").map_or(String::new(), |(_, after)| format!(", expected{after}"));
    format!("{before}string{after}")
}

/// The message of a parser of settings, on one line, without the lines of the file that it quotes, where a secret may stand.
pub fn settings_message(message: &str) -> String {
    let is_quoted =
        |line: &&str| line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|');
    let said: Vec<&str> = message.lines().filter(|line| !is_quoted(line) && !line.trim().is_empty()).collect();
    parser_message(&said.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(raw: &[u8]) -> String {
        task(raw).map(|task| task.to_string()).unwrap_or_default()
    }

    #[test]
    fn credentials_are_redacted_and_nothing_else() {
        let raw = br#"{"url":"https://u:p@h/a@b?q=1&api_key=k","headers":{"Authorization":"Bearer x","X-Api-Key":"k","Accept":"*/*"}}"#;
        assert_eq!(
            shown(raw),
            r#"{"headers":{"Accept":"*/*","Authorization":"[redacted]","X-Api-Key":"[redacted]"},"url":"https://[redacted]@h/a@b?q=1&api_key=[redacted]"}"#
        );
        let chain =
            shown(br#"{"then":{"then":{"headers":{"Authorization":"Bearer x"},"callback_url":"http://a:b@h/"}}}"#);
        assert!(chain.contains("[redacted]@h/") && !chain.contains("Bearer") && !chain.contains("a:b"), "{chain}");
        assert_eq!(
            shown(br#"{"callback_url":null,"body":{"key":"shown"}}"#),
            r#"{"body":{"key":"shown"},"callback_url":null}"#
        );
    }

    #[test]
    fn a_message_about_settings_quotes_none_of_them() {
        let parsers = "TOML parse error at line 3, column 9\n  |\n3 | a = \"secret\n  |     ^\nunclosed string\n";
        assert_eq!(settings_message(parsers), "TOML parse error at line 3, column 9: unclosed string");
        let typed = "invalid type: string \"secret\", expected an integer for key `a`";
        assert_eq!(settings_message(typed), "invalid type: string, expected an integer for key `a`");
    }

    #[test]
    fn a_header_that_nobody_knows_is_redacted() {
        for name in
            ["X-Auth-Key", "Ocp-Apim-Subscription-Key", "X-User-Id", "X-Tenant", "X-Whatever", "author\\u0069zation"]
        {
            let task = shown(format!(r#"{{"headers":{{"{name}":"s3cret"}}}}"#).as_bytes());
            assert!(task.contains(REDACTED) && !task.contains("s3cret"), "{task}");
        }
    }

    #[test]
    fn what_is_in_the_wrong_place_or_of_the_wrong_type_is_redacted() {
        for raw in [
            r#"{"headers":[["Authorization","s3cret"]]}"#,
            r#"{"headers":"Authorization: s3cret"}"#,
            r#"{"headers":{"Authorization":["s3cret"]}}"#,
            r#"{"headers":{"Authorization: Bearer s3cret":"x"}}"#,
            r#"{"url":["http://u:s3cret@h/"]}"#,
            r#"{"then":"http://u:s3cret@h/"}"#,
            r#"{"authorization":"s3cret"}"#,
            r#"{"url":"http://u:s3cret@h/","timeout_ms":"x"}"#,
        ] {
            assert!(shown(raw.as_bytes()).contains(REDACTED) && !shown(raw.as_bytes()).contains("s3cret"), "{raw}");
        }
        for unreadable in
            [&b"junk s3cret"[..], b"\"http://u:s3cret@h/\"", b"[\"s3cret\"]", b"{\"url\":\"http://u:s3cret@h/\""]
        {
            assert_eq!(task(unreadable), None);
        }
    }

    #[test]
    fn a_url_is_redacted_as_servers_read_it() {
        for (written, expected) in [
            ("https://h/a?q=1#section", "https://h/a?q=1#[redacted]"),
            ("https://u:p@h:1/a", "https://[redacted]@h:1/a"),
            ("https://u:p@ss@h/", "https://[redacted]@h/"),
            ("https:\\\\u:p@h\\a", "https:\\\\[redacted]@h\\a"),
            ("https:u:p@h/a", "https:[redacted]@h/a"),
            ("https://h/?api%5Fkey=k&b=2", "https://h/?api%5Fkey=[redacted]&b=2"),
            ("https://h?key=a=b", "https://h?key=[redacted]"),
            (
                "https://h?code=c&State=s&sig=x&page=2",
                "https://h?code=[redacted]&State=[redacted]&sig=[redacted]&page=2",
            ),
            ("not a url", "not a url"),
            ("", ""),
        ] {
            assert_eq!(url(written), expected, "{written}");
        }
    }

    #[test]
    fn a_parsers_message_quotes_no_value() {
        for (message, expected) in [
            (
                "invalid type: string \"Bearer x\", expected a map at line 1",
                "invalid type: string, expected a map at line 1",
            ),
            ("invalid type: string \"a\", expected b\", expected a map", "invalid type: string, expected a map"),
            ("invalid type: integer `5`, expected a string", "invalid type: integer `5`, expected a string"),
            ("missing field `url`", "missing field `url`"),
        ] {
            assert_eq!(parser_message(message), expected);
        }
    }
}
