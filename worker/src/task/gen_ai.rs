//! What the span of an attempt says about a call of an AI API, by OpenTelemetry's conventions for generative AI
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/>): which model was asked, and how many tokens the call took. Neither the prompt
//! nor the answer.

use redial_core::Task;
use redial_core::protocol::task::number_at;
use redial_traces::KeyValue;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::heavy;
use super::policy::judge;
use crate::http::presets::Preset;
use crate::http::types::{AttemptResult, Response};
use crate::limit::usage;

/// The vendors of AI APIs, by the names of their presets, as the conventions call them.
const PROVIDERS: [(&str, &str); 9] = [
    ("openai", "openai"),
    ("azure_openai", "azure.ai.openai"),
    ("anthropic", "anthropic"),
    ("gemini", "gcp.gemini"),
    ("cohere", "cohere"),
    ("mistral", "mistral_ai"),
    ("groq", "groq"),
    ("openrouter", "openrouter"),
    ("bedrock", "aws.bedrock"),
];
/// Where responses state the tokens that went in and came out; the first one that is there counts.
const INPUT_TOKENS: [&str; 5] = [
    "usage.prompt_tokens",
    "usage.input_tokens",
    "usage.inputTokens",
    "usageMetadata.promptTokenCount",
    "usage.tokens.input_tokens",
];
const OUTPUT_TOKENS: [&str; 5] = [
    "usage.completion_tokens",
    "usage.output_tokens",
    "usage.outputTokens",
    "usageMetadata.candidatesTokenCount",
    "usage.tokens.output_tokens",
];
/// The longest name of a model that is recorded, in bytes.
const MAX_MODEL: usize = 200;

/// What is read of a request or a response, however large it is.
#[derive(Deserialize)]
struct Named {
    model: Option<String>,
}

/// The attributes of a call. None if the upstream is not known for an AI API.
pub async fn attributes(task: &Task, preset: &Preset, result: &AttemptResult) -> Vec<KeyValue> {
    let Some((_, provider)) = PROVIDERS.iter().find(|(vendor, _)| *vendor == preset.vendor) else { return Vec::new() };
    let mut attributes = vec![KeyValue::new("gen_ai.provider.name", *provider)];
    attributes.push(KeyValue::new("gen_ai.operation.name", operation(task.url.path())));
    if let Some(body) = &task.body {
        let model = heavy::work(body.len(), || model(body)).await;
        attributes.extend(model.map(|model| KeyValue::new("gen_ai.request.model", model)));
    }
    if let Ok(response) = result {
        attributes.extend(heavy::work(response.body.len(), || of_response(response)).await);
    }
    attributes
}

/// What is asked for, by the path.
fn operation(path: &str) -> &'static str {
    if path.contains("embed") {
        return "embeddings";
    }
    let chats = ["/chat", "/messages", "/responses", "/converse"];
    if path.ends_with("enerateContent") {
        "generate_content"
    } else if chats.iter().any(|part| path.contains(part)) {
        "chat"
    } else {
        "text_completion"
    }
}

fn model(body: &[u8]) -> Option<String> {
    let named: Named = serde_json::from_slice(body).ok()?;
    named.model.filter(|model| model.len() <= MAX_MODEL)
}

fn of_response(response: &Response) -> Vec<KeyValue> {
    let stated = if judge::is_event_stream(response) {
        let mut stated = Map::new();
        judge::read_events(response, |events| events.for_each(|event| usage::collect_usage(&mut stated, &event)));
        Value::Object(stated)
    } else {
        serde_json::from_slice(&response.body).unwrap_or_default()
    };
    let tokens = |paths: [&str; 5]| paths.iter().find_map(|path| number_at(&stated, path));
    let counts =
        [("gen_ai.usage.input_tokens", tokens(INPUT_TOKENS)), ("gen_ai.usage.output_tokens", tokens(OUTPUT_TOKENS))];
    let mut attributes: Vec<KeyValue> = Vec::new();
    for (name, count) in counts {
        // Whole numbers far below 2^53; of anything else the nearest one.
        #[expect(clippy::cast_possible_truncation)]
        attributes.extend(count.map(|count| KeyValue::new(name, count.round() as i64)));
    }
    let model = stated.get("model").and_then(Value::as_str).filter(|model| model.len() <= MAX_MODEL);
    attributes.extend(model.map(|model| KeyValue::new("gen_ai.response.model", model.to_owned())));
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_told_by_the_path() {
        for (path, expected) in [
            ("/v1/chat/completions", "chat"),
            ("/v1/messages", "chat"),
            ("/v1/embeddings", "embeddings"),
            ("/v1beta/models/gemini-pro:generateContent", "generate_content"),
            ("/v1/completions", "text_completion"),
        ] {
            assert_eq!(operation(path), expected, "{path}");
        }
    }
}
