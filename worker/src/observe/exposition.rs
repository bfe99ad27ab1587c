//! The formats of `/metrics`: OpenMetrics for those who accept it, with exemplars, and the text format of Prometheus for all others.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// How an exemplar begins, behind the value of a sample. In the value of a label its quote would be escaped.
const EXEMPLAR: &str = " # {trace_id=\"";

/// A format of `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpositionFormat {
    OpenMetrics,
    PlainText,
}

impl ExpositionFormat {
    /// What a request accepts.
    pub fn accepted(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut types = accepted.flat_map(|value| value.split(','));
        let is_open = |one: &str| {
            let essence = one.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("application/openmetrics-text")
        };
        if types.any(is_open) { Self::OpenMetrics } else { Self::PlainText }
    }

    /// Its value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::PlainText => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// What is said in OpenMetrics, in this format.
    pub fn render(self, text: String) -> String {
        match self {
            Self::OpenMetrics => text,
            Self::PlainText => plain(&text),
        }
    }
}

/// In plain text a counter is named as its samples are, and there are neither exemplars nor an end.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let is_counter = lines.peek().is_some_and(|next| next.starts_with("# TYPE ") && next.ends_with(" counter"));
            match help.split_once(' ').filter(|_| is_counter) {
                Some((name, meaning)) => push(&mut plain, &["# HELP ", name, "_total ", meaning]),
                None => push(&mut plain, &[line]),
            }
        } else if let Some(name) = line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" counter")) {
            push(&mut plain, &["# TYPE ", name, "_total counter"]);
        } else if line != "# EOF" && !line.starts_with("# UNIT ") {
            push(&mut plain, &[line.rsplit_once(EXEMPLAR).map_or(line, |(sample, _)| sample)]);
        }
    }
    plain
}

fn push(text: &mut String, parts: &[&str]) {
    for part in parts {
        text.push_str(part);
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn plain_text_names_counters_as_their_samples_and_has_no_exemplars() {
        let open = concat!(
            "# HELP a Calls.\n# TYPE a counter\na_total{q=\"x # {trace_id=\\\"\"} 3\n",
            "# HELP b_seconds How long.\n# TYPE b_seconds histogram\n# UNIT b_seconds seconds\n",
            "b_seconds_bucket{le=\"1.0\"} 2 # {trace_id=\"ab\"} 0.5\nb_seconds_count 2\n# EOF\n"
        );
        let expected = concat!(
            "# HELP a_total Calls.\n# TYPE a_total counter\na_total{q=\"x # {trace_id=\\\"\"} 3\n",
            "# HELP b_seconds How long.\n# TYPE b_seconds histogram\n",
            "b_seconds_bucket{le=\"1.0\"} 2\nb_seconds_count 2\n"
        );
        assert_eq!(ExpositionFormat::PlainText.render(open.to_owned()), expected);
        assert_eq!(ExpositionFormat::OpenMetrics.render(open.to_owned()), open);
    }

    #[test]
    fn open_metrics_is_for_those_who_accept_it() {
        let accepted = |value: &'static str| {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))]);
            ExpositionFormat::accepted(&headers)
        };
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(accepted(prometheus), ExpositionFormat::OpenMetrics);
        for plain in ["text/plain", "*/*", "text/html, application/xml"] {
            assert_eq!(accepted(plain), ExpositionFormat::PlainText, "{plain}");
        }
        assert_eq!(ExpositionFormat::accepted(&HeaderMap::new()), ExpositionFormat::PlainText);
    }
}
