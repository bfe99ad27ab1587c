//! The headers of a task, one a line: `Name: value`.

use std::collections::BTreeMap;

use http::HeaderMap;
use redial_core::Task;
use redial_core::protocol::credentials::is_harmless;
use redial_core::protocol::task::{MAX_BYTES, MAX_HEADERS};
use redial_core::shown::redact;
use serde_json::json;

use crate::bound::bounded;

/// Headers that a task must not have: they belong to the connection.
const FORBIDDEN: [&str; 10] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "proxy-authorization",
    "keep-alive",
];

/// Headers that are accepted arrive as they are, one for one, and those that may be secret are shown nowhere.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.split('\n').filter_map(|line| line.split_once(": "));
    let given: BTreeMap<String, String> = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let raw = json!({"url": "http://h/", "headers": given}).to_string();
    let Ok(task) = bounded("parsing", || Task::parse(raw.as_bytes(), MAX_BYTES)) else { return };
    assert_eq!(task.headers.len(), given.len());
    assert!(given.len() <= MAX_HEADERS);
    for name in FORBIDDEN {
        assert!(!task.headers.contains_key(name), "{name} was accepted");
    }
    arrive_one_for_one(&task.headers);
    hide(&given, &raw);
    for (name, value) in &task.headers {
        assert!(is_harmless(name.as_str()) || value.is_sensitive(), "a log would show {name}");
    }
}

/// A server that parses the head of the request sees these headers, and no others.
fn arrive_one_for_one(headers: &HeaderMap) {
    let mut head = b"GET / HTTP/1.1\r\n".to_vec();
    for (name, value) in headers {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    let mut seen = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut seen);
    let parsed = request.parse(&head).unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&head)));
    assert_eq!(parsed, httparse::Status::Complete(head.len()), "{:?}", String::from_utf8_lossy(&head));
    let sent: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes().trim_ascii())).collect();
    let seen: Vec<_> = request.headers.iter().map(|header| (header.name, header.value.trim_ascii())).collect();
    assert_eq!(sent, seen);
}

/// `redial list` shows no value of a header that may be a secret.
fn hide(given: &BTreeMap<String, String>, raw: &str) {
    let shown = redact::task(raw.as_bytes()).expect("the task is valid");
    for (name, value) in given.iter().filter(|(name, value)| !is_harmless(name) && value.len() > 12) {
        assert_ne!(shown["headers"][name], json!(value), "{name} is shown");
    }
}
