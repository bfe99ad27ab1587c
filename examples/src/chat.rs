//! An AI chat API as they are: mostly fine, sometimes busy, sometimes gone.
//!
//! What goes wrong is drawn from the prompt itself, so that every run has the same share of faults,
//! whatever the order of the calls, and no prompt fails so often that luck would decide the demo.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redial_tests::{Reply, Request};
use serde_json::{Value, json};

pub(crate) const PATH: &str = "/v1/chat/completions";
/// Longer prompts are refused for good, as they would not fit the model's context.
pub(crate) const MAX_CHARS: usize = 1_500;

const FASTEST_MS: f64 = 20.0;
const SLOWEST_MS: f64 = 400.0;

/// What it answers.
pub(crate) fn handler() -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let calls: Mutex<HashMap<u64, u32>> = Mutex::default();
    move |request| {
        let body = request.json();
        let Some(prompt) = prompt(&body) else {
            return refusal("messages[0].content is missing", "invalid_request");
        };
        let draw = Draw::of(prompt);
        let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        let before = calls.entry(draw.0).or_default();
        *before += 1;
        answer(request, prompt, &draw, *before).after(draw.latency())
    }
}

fn answer(request: &Request, prompt: &str, draw: &Draw, call: u32) -> Reply {
    if request.route() != PATH {
        return Reply::status(404);
    }
    if prompt.chars().count() > MAX_CHARS {
        let message = format!("This model takes at most {MAX_CHARS} characters.");
        return refusal(&message, "context_length_exceeded");
    }
    match (call, draw.percent()) {
        (1, 0..10) | (2, 0..3) => error(503, "The engine is overloaded.", "overloaded"),
        (1, 10..15) => error(429, "Rate limit reached.", "rate_limited").header("retry-after", "1"),
        (1, 15..18) => Reply::reset(),
        _ => Reply::ok().json(&completion(request, prompt)),
    }
}

/// A stand-in says what it is; everything else has the shape of the real thing.
fn completion(request: &Request, prompt: &str) -> Value {
    let words = prompt.split_whitespace().count();
    json!({
        "id": format!("chatcmpl-{}", request.nth),
        "object": "chat.completion",
        "created": request.unix_ms / 1000,
        "model": "stand-in-1",
        "choices": [{
            "index": 0,
            "message": {
                "role": "assistant",
                "content": format!("A model's answer would stand here. It read {words} words."),
            },
            "finish_reason": "stop",
        }],
        "usage": {"prompt_tokens": words * 4 / 3, "completion_tokens": 12, "total_tokens": words * 4 / 3 + 12},
    })
}

/// A prompt whose first two calls are answered with 503.
pub(crate) fn prompt_that_fails_twice() -> Option<String> {
    let mut prompts = (2..1_000).map(|n| format!("Why is the sky blue? Give {n} reasons."));
    prompts.find(|prompt| Draw::of(prompt).percent() < 3)
}

fn refusal(message: &str, code: &str) -> Reply {
    error(400, message, code)
}

fn error(status: u16, message: &str, code: &str) -> Reply {
    Reply::status(status).json(&json!({"error": {"message": message, "code": code}}))
}

fn prompt(body: &Value) -> Option<&str> {
    body["messages"][0]["content"].as_str()
}

/// A number that belongs to a prompt, and what follows from it.
struct Draw(u64);

impl Draw {
    fn of(prompt: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        prompt.hash(&mut hasher);
        Self(hasher.finish())
    }

    fn percent(&self) -> u64 {
        self.0 % 100
    }

    /// Most answers are quick, a few are slow: the square bends an even draw that way.
    fn latency(&self) -> Duration {
        let even = f64::from((self.0 >> 32) as u32) / f64::from(u32::MAX);
        Duration::from_secs_f64((FASTEST_MS + (SLOWEST_MS - FASTEST_MS) * even * even) / 1000.0)
    }
}
