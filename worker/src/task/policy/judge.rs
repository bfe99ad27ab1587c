//! Judges a response by more than its status: by the conditions of the task and of its upstream, and by errors inside a stream of events.

use redial_core::protocol::json;
use redial_core::protocol::task::Condition;
use serde_json::Value;

use crate::http::presets::Preset;
use crate::http::types::Response;

/// How many bytes of what was found a message quotes.
const MAX_QUOTED: usize = 200;
/// The longest body of which the error is kept for a closer look, as for an error with another status.
const MAX_ERROR_BODY: usize = 32 << 10;

/// What a response is besides its status.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Judgement {
    /// Nothing else: its status decides.
    #[default]
    ByStatus,
    /// Good, whatever its status.
    Good,
    /// One after which to try again.
    Retry {
        /// Why.
        why: String,
        /// Where its error may state a code or a wait.
        error: Option<Value>,
    },
    /// Not good, and final.
    Bad(String),
}

/// What a response is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Criteria<'a> {
    ok: Option<&'a Condition>,
    retry: Option<&'a Condition>,
    preset: &'a Preset,
}

impl<'a> Criteria<'a> {
    /// The conditions of a task, or else those of its upstream.
    pub fn new(ok: Option<&'a Condition>, retry: Option<&'a Condition>, preset: &'a Preset) -> Self {
        Self { ok: ok.or(preset.ok_when.as_ref()), retry: retry.or(preset.retry_when.as_ref()), preset }
    }

    /// Whether there is more to judge a response by than its status.
    pub fn apply_to(&self, response: &Response) -> bool {
        self.ok.is_some() || self.retry.is_some() || is_good_stream(response)
    }

    /// How much work it is to judge a response, in bytes of a body of which only one value is looked for.
    pub fn bytes_to_judge(&self, response: &Response) -> usize {
        let is_costly = [self.ok, self.retry].into_iter().flatten().any(Condition::is_costly);
        if is_costly { usize::MAX } else { response.body.len() }
    }

    /// Judges a response. Pure, but it may take a while if the body is large.
    ///
    /// `retry_when` comes first, then an error in a stream of events, then `ok_when`.
    pub fn judge(&self, response: &Response) -> Judgement {
        if !self.apply_to(response) {
            return Judgement::ByStatus;
        }
        let is_good_status = (200..300).contains(&response.status);
        let mut body = Body::new(response);
        if let Some(retry) = self.retry.filter(|retry| retry.has_status(response.status)) {
            match retry.find(body.documents_for(retry)) {
                Ok(Some(found)) => return again("retry_when holds", retry.path(), Some(found)),
                Ok(None) if retry.path().is_none() => return again("retry_when holds", None, None),
                // What cannot be looked at in time does not hold.
                Ok(None) | Err(_) => {}
            }
        }
        if is_good_stream(response)
            && let Some(judgement) = self.error_event(&mut body)
        {
            return judgement;
        }
        match self.ok {
            Some(ok) if ok.has_status(response.status) => Self::hold(ok, &mut body, is_good_status),
            Some(_) if is_good_status => Judgement::Bad("ok_when does not list this status".to_owned()),
            _ => Judgement::ByStatus,
        }
    }

    /// Whether `ok_when` holds for a response whose status it allows.
    fn hold(ok: &Condition, body: &mut Body<'_>, is_good_status: bool) -> Judgement {
        let Some(path) = ok.path() else { return Judgement::Good };
        let documents = body.documents();
        match ok.find(documents) {
            Ok(Some(_)) => Judgement::Good,
            _ if !is_good_status => Judgement::ByStatus,
            // The page of a proxy or of a maintenance, most likely.
            Ok(None) if documents.is_empty() => {
                again("the body is not JSON, in which ok_when looks for", Some(path), None)
            }
            Ok(None) => Judgement::Bad(format!("ok_when finds nothing at {path}")),
            Err(error) => Judgement::Bad(format!("ok_when: {error}")),
        }
    }

    /// An event named `error`, or one whose data has an error where the preset says.
    fn error_event(&self, body: &mut Body<'_>) -> Option<Judgement> {
        if let Some(data) = body.error_event() {
            return Some(again("the stream contains an error event", None, Some(&data)));
        }
        let documents = body.documents();
        let has_error = |document: &&Value| {
            let found = self.preset.event_error_paths.iter().flat_map(|path| path.query(document).all());
            found.into_iter().any(|error| !error.is_null())
        };
        let document = documents.iter().find(has_error)?;
        Some(again("the stream contains an error", None, Some(document)))
    }
}

fn again(why: &str, path: Option<&str>, found: Option<&Value>) -> Judgement {
    let mut why = why.to_owned();
    if let Some(path) = path {
        why = format!("{why}: {path}");
    }
    let mut quote = Quote::default();
    let is_short = found.is_some_and(|found| serde_json::to_writer(&mut quote, found).is_ok());
    if found.is_some() {
        why = format!("{why}: {}", String::from_utf8_lossy(&quote.start));
    }
    Judgement::Retry { why, error: found.filter(|_| is_short).cloned() }
}

/// The start of a JSON text, which may be long.
#[derive(Default)]
struct Quote {
    start: Vec<u8>,
    bytes: usize,
}

impl std::io::Write for Quote {
    fn write(&mut self, json: &[u8]) -> std::io::Result<usize> {
        self.bytes += json.len();
        let room = MAX_QUOTED - self.start.len();
        self.start.extend(json.iter().take(room));
        if self.bytes > MAX_ERROR_BODY { Err(std::io::ErrorKind::WriteZero.into()) } else { Ok(json.len()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn is_good_stream(response: &Response) -> bool {
    (200..300).contains(&response.status) && is_event_stream(response)
}

fn is_event_stream(response: &Response) -> bool {
    let content_type = response.headers.get(http::header::CONTENT_TYPE).map(|value| value.as_bytes());
    let essence = content_type.and_then(|value| value.split(|byte| *byte == b';').next());
    essence.is_some_and(|essence| essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

/// A body as conditions see it: one JSON document, or the data of each event that is JSON. Parsed when it is first needed.
struct Body<'a> {
    response: &'a Response,
    is_stream: bool,
    documents: Option<Vec<Value>>,
}

impl<'a> Body<'a> {
    fn new(response: &'a Response) -> Self {
        Self { response, is_stream: is_event_stream(response), documents: None }
    }

    fn documents_for(&mut self, condition: &Condition) -> &[Value] {
        if condition.path().is_some() { self.documents() } else { &[] }
    }

    fn documents(&mut self) -> &[Value] {
        let (response, is_stream) = (self.response, self.is_stream);
        self.documents.get_or_insert_with(|| {
            if is_stream {
                return events(&response.body).filter_map(|event| serde_json::from_str(&event.data).ok()).collect();
            }
            serde_json::from_slice(json::without_mark(&response.body)).into_iter().collect()
        })
    }

    /// The data of the first event named `error`.
    fn error_event(&self) -> Option<Value> {
        let event = events(&self.response.body).find(|event| event.name == "error")?;
        Some(serde_json::from_str(&event.data).unwrap_or(Value::String(event.data)))
    }
}

/// A server-sent event.
#[derive(Debug, Default, PartialEq)]
struct Event {
    name: String,
    data: String,
}

/// The events of a stream, as the HTML Standard reads them (section 9.2.6). One that is cut off counts too: it may be the error.
fn events(body: &[u8]) -> impl Iterator<Item = Event> {
    let text = String::from_utf8_lossy(json::without_mark(body)).replace("\r\n", "\n").replace('\r', "\n");
    let mut lines = text.split('\n').map(str::to_owned).collect::<Vec<_>>().into_iter();
    std::iter::from_fn(move || {
        let mut event = None::<Event>;
        for line in lines.by_ref() {
            if line.is_empty() {
                if event.is_some() {
                    break;
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            let event = event.get_or_insert_default();
            match field {
                "event" => value.clone_into(&mut event.name),
                "data" => {
                    if !event.data.is_empty() {
                        event.data.push('\n');
                    }
                    event.data.push_str(value);
                }
                _ => {}
            }
        }
        event
    })
}
