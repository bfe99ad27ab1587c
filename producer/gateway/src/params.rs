//! What a request asks for besides its body: the query, and the preference to wait (RFC 7240).

use std::collections::HashMap;
use std::time::Duration;

use http::{HeaderMap, Uri};
use url::form_urlencoded;

use crate::problem::Problem;

/// The query and the preferences of a request about tasks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TaskParams {
    /// The queue.
    pub queue: Option<String>,
    /// How long to wait for results.
    pub wait: Option<Duration>,
}

impl TaskParams {
    /// Reads them.
    ///
    /// # Errors
    /// A parameter is unknown, or invalid. An unknown preference is ignored, as the RFC asks.
    pub fn read(uri: &Uri, headers: &HeaderMap) -> Result<Self, Problem> {
        let mut params = Self { queue: None, wait: preferred_wait(headers) };
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            match &*name {
                "queue" => params.queue = Some(value.into_owned()),
                "wait" => {
                    let wait = seconds(&value);
                    params.wait = Some(wait.ok_or_else(|| {
                        Problem::invalid(format!(
                            "the parameter wait is {value:?}: use a number of seconds, such as 30"
                        ))
                    })?);
                }
                _ => {
                    let detail = format!("the parameter {name:?} is unknown: there are queue and wait");
                    return Err(Problem::invalid(detail));
                }
            }
        }
        Ok(params)
    }
}

/// The parameters of a query, of which there is a fixed list.
#[derive(Debug)]
pub(crate) struct Query(HashMap<String, String>);

impl Query {
    /// Reads them.
    ///
    /// # Errors
    /// A parameter is not among the known ones, or there twice.
    pub fn read(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let mut params = HashMap::new();
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            if !known.contains(&&*name) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Problem::invalid(format!("the parameter {name:?} is unknown: there are {known}")));
            }
            if params.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(Problem::invalid(format!("the parameter {name:?} is given twice")));
            }
        }
        Ok(Self(params))
    }

    /// A parameter that is not empty.
    pub fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// A parameter as it was given.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A whole number up to `max`.
    ///
    /// # Errors
    /// It is something else.
    pub fn number(&self, name: &str, default: usize, max: usize) -> Result<usize, Problem> {
        let Some(text) = self.0.get(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| *number <= max);
        number.ok_or_else(|| {
            Problem::invalid(format!("the parameter {name} is {text:?}: use a whole number from 0 to {max}"))
        })
    }
}

/// How far back a reader of events begins, by the parameter `since`.
///
/// # Errors
/// A parameter is unknown, or invalid.
pub(crate) fn since(uri: &Uri) -> Result<Option<Duration>, Problem> {
    let mut since = None;
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        if name != "since" {
            return Err(Problem::invalid(format!("the parameter {name:?} is unknown: there is since")));
        }
        let invalid =
            || Problem::invalid(format!("the parameter since is {value:?}: use a number of seconds, such as 60"));
        since = Some(seconds(&value).ok_or_else(invalid)?);
    }
    Ok(since)
}

fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    preferences.flat_map(|value| value.split([',', ';'])).find_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| seconds(value.trim().trim_matches('"')))?
    })
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &'static str, prefer: &'static str) -> Result<TaskParams, Problem> {
        let headers =
            HeaderMap::from_iter([(http::HeaderName::from_static("prefer"), http::HeaderValue::from_static(prefer))]);
        TaskParams::read(&Uri::from_static(uri), &headers)
    }

    #[test]
    fn a_wait_is_a_parameter_or_a_preference() {
        for (uri, prefer, wait_ms) in [
            ("/", "", None),
            ("/?wait=30", "", Some(30_000)),
            ("/?wait=0.5", "wait=9", Some(500)),
            ("/", "respond-async, wait=2", Some(2000)),
            ("/", "Wait=\"3\"; foo", Some(3000)),
            ("/", "wait=soon", None),
        ] {
            let params = read(uri, prefer).ok();
            assert_eq!(params.map(|params| params.wait), Some(wait_ms.map(Duration::from_millis)), "{uri} {prefer}");
        }
        assert_eq!(read("/?queue=a%2Fb", "").ok().and_then(|params| params.queue), Some("a/b".to_owned()));
        for uri in ["/?wait=soon", "/?wait=-1", "/?wiat=30"] {
            assert!(read(uri, "").is_err(), "{uri}");
        }
    }
}
