//! `Retry-After` and the headers of rate limits, as every vendor writes them.

use std::sync::OnceLock;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use redial_core::Task;
use redial_worker::fuzz::{self, MAX_RESET, MAX_WAIT, Outcome};

use crate::bound::bounded;

/// Hosts whose headers are known, and one that is not.
const HOSTS: [&str; 8] = [
    "api.openai.com",
    "api.anthropic.com",
    "openrouter.ai",
    "api.github.com",
    "generativelanguage.googleapis.com",
    "api.stripe.com",
    "x.openai.azure.com",
    "api.example.com",
];
const STATUSES: [u16; 6] = [429, 503, 200, 403, 413, 500];

/// The first byte chooses host and status. A line is a wait; one that begins with `{` and what follows it is the body.
pub fn retry_after(bytes: &[u8]) {
    let Some((choice, text)) = bytes.split_first() else { return };
    let mut headers = HeaderMap::new();
    let body_at = text.iter().position(|byte| *byte == b'{').unwrap_or(text.len());
    for (n, line) in text[..body_at].split(|byte| *byte == b'\n').take(20).enumerate() {
        let name = if n % 3 == 2 { "retry-after-ms" } else { "retry-after" };
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(name, value);
        }
    }
    check(*choice, headers, text[body_at..].to_vec());
}

/// The first byte chooses host and status. A line is a header; an empty name repeats the last one.
pub fn rate_headers(bytes: &[u8]) {
    let Some((choice, text)) = bytes.split_first() else { return };
    let mut headers = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n').take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(line[colon + 1..].trim_ascii()));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    check(*choice, headers, Vec::new());
}

/// Waits are positive, resets are believed up to a bound, and what is planned is neither too early nor without end.
fn check(choice: u8, headers: HeaderMap, body: Vec<u8>) {
    static TASKS: OnceLock<Vec<Task>> = OnceLock::new();
    let tasks = TASKS.get_or_init(|| {
        let task = |host| Task::parse(format!(r#"{{"url":"https://{host}/"}}"#).as_bytes(), 1_000).unwrap();
        HOSTS.map(task).into()
    });
    let at = usize::from(choice);
    let (host, task) = (HOSTS[at % HOSTS.len()], &tasks[at % HOSTS.len()]);
    let response = fuzz::response(STATUSES[at / HOSTS.len() % STATUSES.len()], headers, body);
    let advice = bounded("reading", || fuzz::advice(&response, host)).unwrap();
    assert!(advice.wait.is_none_or(|wait| !wait.is_zero()), "{advice:?}");
    assert!(advice.limits.exhausted_for.is_none_or(|reset| !reset.is_zero() && reset <= MAX_RESET), "{advice:?}");
    for left in [advice.limits.requests, advice.limits.tokens].into_iter().flatten() {
        assert!(left.is_finite() && left >= 1.0, "{advice:?}");
    }
    assert!(advice.ignored.as_ref().is_none_or(|why| why.len() < 1_000), "{advice:?}");
    match bounded("deciding", || fuzz::outcome(task, &Ok(response))).unwrap() {
        Outcome::Retry { wait, .. } => {
            let stated = advice.wait.unwrap_or_default();
            assert!(wait >= stated, "{wait:?} is earlier than {stated:?}");
            // The longest wait that is stated, or the longest backoff, with a fifth more.
            let longest = MAX_WAIT.max(task.retry.cap).mul_f64(1.2) + Duration::from_millis(1);
            assert!(wait <= longest, "{wait:?} is planned");
        }
        Outcome::Dead { error, .. } => assert!(!error.is_empty()),
        Outcome::Complete => {}
    }
}
