//! Where a response states what its call took of a limit.

use redial_core::protocol::task::{Usage, number_at};
use serde_json::{Map, Value};

/// Where well-known APIs state the tokens of a call. The first format whose first number is there counts; its other numbers are added.
///
/// - OpenAI, chat completions, responses and embeddings (<https://platform.openai.com/docs/api-reference>), and the many APIs that are
///   compatible with it
/// - Amazon Bedrock, Converse (<https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html>)
/// - Gemini (<https://ai.google.dev/api/generate-content#UsageMetadata>)
/// - Anthropic, also through Bedrock: tokens read from its cache do not count (<https://platform.claude.com/docs/en/api/rate-limits>)
/// - Cohere, version 2 and version 1 (<https://docs.cohere.com/reference/chat>)
const TOKEN_FORMATS: [&[&str]; 6] = [
    &["usage.total_tokens"],
    &["usage.totalTokens"],
    &["usageMetadata.totalTokenCount"],
    &["usage.input_tokens", "usage.output_tokens", "usage.cache_creation_input_tokens"],
    &["usage.tokens.input_tokens", "usage.tokens.output_tokens"],
    &["meta.tokens.input_tokens", "meta.tokens.output_tokens"],
];

/// Where the responses under a limit state what the calls took.
#[derive(Debug, Clone, PartialEq)]
pub enum UsageSource {
    /// Nowhere: a call takes its cost.
    None,
    /// Where the task or the configuration says.
    Stated(Usage),
    /// Where well-known APIs state the tokens.
    KnownFormats,
}

impl UsageSource {
    /// What is stated counts. Otherwise a limit whose calls have a cost is taken for one of tokens, unless it has another unit.
    pub fn new(stated: Option<Usage>, has_cost: bool, unit: Option<&str>) -> Self {
        match stated {
            Some(usage) if usage.is_nowhere() => Self::None,
            Some(usage) => Self::Stated(usage),
            None if has_cost && unit.is_none_or(|unit| unit == "tokens") => Self::KnownFormats,
            None => Self::None,
        }
    }

    /// Whether responses state it anywhere.
    pub fn is_stated(&self) -> bool {
        *self != Self::None
    }

    /// What a response states.
    pub fn read(&self, answer: &Value) -> Option<f64> {
        match self {
            Self::None => None,
            Self::Stated(usage) => usage.read(answer),
            Self::KnownFormats => TOKEN_FORMATS.iter().find_map(|format| {
                let (first, others) = format.split_first()?;
                let others: f64 = others.iter().filter_map(|path| number_at(answer, path)).sum();
                Some(number_at(answer, first)? + others)
            }),
        }
    }

    /// What the events of a stream state: each number as it was stated last. OpenAI states all of them in the last event, with
    /// `stream_options.include_usage`, and its responses in `response`; Anthropic those of the input in `message` of the first event, and
    /// those of the output so far in later ones.
    pub fn read_events(&self, events: impl Iterator<Item = Value>) -> Option<f64> {
        match self {
            Self::None => None,
            Self::Stated(usage) => events.filter_map(|event| usage.read(&event)).last(),
            Self::KnownFormats => {
                let mut stated = Map::new();
                events.for_each(|event| collect_usage(&mut stated, &event));
                self.read(&Value::Object(stated))
            }
        }
    }
}

/// Adds what an event states to what earlier ones did.
pub fn collect_usage(stated: &mut Map<String, Value>, event: &Value) {
    for part in [event.get("message"), event.get("response"), Some(event)].into_iter().flatten() {
        for name in ["usage", "usageMetadata", "meta"] {
            let Some(Value::Object(found)) = part.get(name) else { continue };
            let known = stated.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(known) = known {
                known.extend(found.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_tokens_of_well_known_apis_are_found_without_any_setting() {
        let source = UsageSource::new(None, true, None);
        for (api, answer, expected) in [
            ("OpenAI chat", json!({"usage": {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}}), 21.0),
            (
                "OpenAI responses",
                json!({"usage": {"input_tokens": 36, "output_tokens": 87, "total_tokens": 123}}),
                123.0,
            ),
            ("Bedrock Converse", json!({"usage": {"inputTokens": 30, "outputTokens": 628, "totalTokens": 658}}), 658.0),
            (
                "Gemini",
                json!({"usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 40, "totalTokenCount": 60}}),
                60.0,
            ),
            (
                "Anthropic",
                json!({"usage": {"input_tokens": 10, "output_tokens": 25, "cache_read_input_tokens": 900, "cache_creation_input_tokens": 7}}),
                42.0,
            ),
            (
                "Anthropic, no cache",
                json!({"usage": {"input_tokens": 10, "output_tokens": 25, "cache_creation_input_tokens": null}}),
                35.0,
            ),
            (
                "Cohere v2",
                json!({"usage": {"billed_units": {"input_tokens": 5}, "tokens": {"input_tokens": 71, "output_tokens": 418}}}),
                489.0,
            ),
            ("Cohere v1", json!({"meta": {"tokens": {"input_tokens": 3, "output_tokens": 4}}}), 7.0),
        ] {
            assert_eq!(source.read(&answer), Some(expected), "{api}");
        }
        assert_eq!(source.read(&json!({"usage": "none"})), None);
    }

    #[test]
    fn the_last_numbers_of_a_stream_count() {
        let chunk = json!({"choices": [{"delta": {"content": "a"}}], "usage": null});
        let events = [
            chunk.clone(),
            chunk,
            json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}}),
        ];
        let read = |source: UsageSource, events: &[Value]| source.read_events(events.iter().cloned());
        let known = || UsageSource::new(None, true, None);
        assert_eq!(read(known(), &events), Some(21.0), "OpenAI chat");
        assert_eq!(read(known(), &events[..2]), None);
        let completed = json!({"type": "response.completed", "response": {"usage": {"total_tokens": 123}}});
        assert_eq!(
            read(known(), &[json!({"type": "response.created", "response": {"usage": null}}), completed]),
            Some(123.0)
        );
        let anthropic = [
            json!({"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}}),
            json!({"type": "content_block_delta", "delta": {"text": "a"}}),
            json!({"type": "message_delta", "usage": {"output_tokens": 10}}),
            json!({"type": "message_delta", "usage": {"output_tokens": 15}}),
        ];
        assert_eq!(read(known(), &anthropic), Some(40.0), "Anthropic");
        let stated = UsageSource::new(Some(Usage::from("usage.output_tokens")), true, None);
        assert_eq!(read(stated, &anthropic), Some(15.0));
    }

    #[test]
    fn what_is_stated_counts_and_without_a_cost_nothing_is_assumed() {
        let answer = json!({"usage": {"total_tokens": 5, "other": 7}});
        let read = |stated: Option<&str>, has_cost, unit| {
            UsageSource::new(stated.map(Usage::from), has_cost, unit).read(&answer)
        };
        assert_eq!(read(Some("usage.other"), true, None), Some(7.0));
        assert_eq!(read(Some("usage.other"), true, Some("usd")), Some(7.0));
        assert_eq!(read(Some(""), true, None), None);
        assert_eq!(read(None, false, None), None);
        assert_eq!(read(None, true, Some("tokens")), Some(5.0));
        assert_eq!(read(None, true, Some("usd")), None, "five tokens are not five dollars");
    }
}
