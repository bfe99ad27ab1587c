//! Judges a response by more than its status: by the conditions of the task and of its upstream, and by errors inside a stream of events.

use std::borrow::Cow;

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

    /// Whether a response with this status can be a good one, so that its body may be passed on before it is complete.
    pub fn may_be_good(&self, status: u16) -> bool {
        let is_retried = self.retry.is_some_and(|retry| retry.path().is_none() && retry.has_status(status));
        (200..300).contains(&status) && !is_retried && self.ok.is_none_or(|ok| ok.has_status(status))
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
        let looks_inside = [self.ok, self.retry].into_iter().flatten().any(|condition| condition.path().is_some());
        let body = Body::new(response, looks_inside);
        if let Some(retry) = self.retry.filter(|retry| retry.has_status(response.status)) {
            if retry.path().is_none() {
                return again("retry_when holds", None, None);
            }
            // What cannot be looked at in time does not hold.
            if let Ok(Some(found)) = retry.find(body.documents()) {
                return again("retry_when holds", retry.path(), Some(&found));
            }
        }
        if is_good_stream(response)
            && let Some(judgement) = self.error_event(&body)
        {
            return judgement;
        }
        match self.ok {
            Some(ok) if ok.has_status(response.status) => Self::hold(ok, &body, is_good_status),
            Some(_) if is_good_status => Judgement::Bad("ok_when does not list this status".to_owned()),
            _ => Judgement::ByStatus,
        }
    }

    /// Whether `ok_when` holds for a response whose status it allows.
    fn hold(ok: &Condition, body: &Body<'_>, is_good_status: bool) -> Judgement {
        let Some(path) = ok.path() else { return Judgement::Good };
        match ok.find(body.documents()) {
            Ok(Some(_)) => Judgement::Good,
            _ if !is_good_status => Judgement::ByStatus,
            // The page of a proxy or of a maintenance, most likely.
            Ok(None) if body.documents().next().is_none() => {
                again("the body is not JSON, in which ok_when looks for", Some(path), None)
            }
            Ok(None) => Judgement::Bad(format!("ok_when finds nothing at {path}")),
            Err(error) => Judgement::Bad(format!("ok_when: {error}")),
        }
    }

    /// An event named `error`, or one whose data has an error where the preset says.
    fn error_event(&self, body: &Body<'_>) -> Option<Judgement> {
        for event in events(&body.text) {
            let document: Option<Value> = serde_json::from_str(&event.data).ok();
            if event.name == "error" {
                let data = document.unwrap_or_else(|| event.data.into_owned().into());
                return Some(again("the stream contains an error event", None, Some(&data)));
            }
            let Some(document) = document else { continue };
            let errors = self.preset.event_error_paths.iter().flat_map(|path| path.query(&document).all());
            if errors.into_iter().any(|error| !error.is_null()) {
                return Some(again("the stream contains an error", None, Some(&document)));
            }
        }
        None
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

/// Whether a response is a stream of server-sent events.
pub fn is_event_stream(response: &Response) -> bool {
    let content_type = response.headers.get(http::header::CONTENT_TYPE).map(|value| value.as_bytes());
    let essence = content_type.and_then(|value| value.split(|byte| *byte == b';').next());
    essence.is_some_and(|essence| essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

/// Reads the data of each event of a stream that is JSON, parsed one at a time.
pub fn read_events<T>(response: &Response, read: impl FnOnce(&mut dyn Iterator<Item = Value>) -> T) -> T {
    let text = String::from_utf8_lossy(json::without_mark(&response.body));
    read(&mut events(&text).filter_map(|event| serde_json::from_str(&event.data).ok()))
}

/// A body as conditions see it: one JSON document, or the data of each event that is JSON.
struct Body<'a> {
    /// Of a stream.
    text: Cow<'a, str>,
    /// Of a body that is no stream.
    json: Option<Value>,
}

impl<'a> Body<'a> {
    fn new(response: &'a Response, is_parsed: bool) -> Self {
        let body = json::without_mark(&response.body);
        let is_stream = is_event_stream(response);
        let json = (is_parsed && !is_stream).then(|| serde_json::from_slice(body).ok()).flatten();
        Self { text: if is_stream { String::from_utf8_lossy(body) } else { "".into() }, json }
    }

    /// Those of a stream are parsed one at a time: all of them may be many times as large as the stream.
    fn documents(&self) -> impl Iterator<Item = Cow<'_, Value>> {
        let of_events = events(&self.text).filter_map(|event| serde_json::from_str(&event.data).ok().map(Cow::Owned));
        self.json.iter().map(Cow::Borrowed).chain(of_events)
    }
}

/// A server-sent event.
#[derive(Debug, Default, PartialEq)]
struct Event<'a> {
    name: &'a str,
    data: Cow<'a, str>,
}

/// The events of a stream, as the HTML Standard reads them (section 9.2.6). One that is cut off counts too: it may be the error.
fn events(text: &str) -> impl Iterator<Item = Event<'_>> {
    let mut lines = text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'));
    std::iter::from_fn(move || {
        let mut event = None::<Event<'_>>;
        for line in lines.by_ref() {
            if line.is_empty() {
                if event.is_some() {
                    break;
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            let event = event.get_or_insert_default();
            match field {
                "event" => event.name = value,
                "data" if event.data.is_empty() => event.data = value.into(),
                "data" => {
                    let data = event.data.to_mut();
                    data.push('\n');
                    data.push_str(value);
                }
                _ => {}
            }
        }
        event
    })
}
