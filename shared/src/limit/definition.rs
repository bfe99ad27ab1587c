//! The definition of a limit as Redis stores it, for scripts to read: `<rate> <per_ms> <burst> <concurrency> <unit>`, with `-` for none.
//! Without a unit it ends before that.

use std::fmt::{self, Write as _};

use crate::protocol::task::Limit;

/// The definition of a limit in the form that scripts read.
pub fn definition(limit: &Limit) -> String {
    let mut text = String::with_capacity(32);
    push_or_dash(&mut text, limit.rate);
    push_or_dash(&mut text, Some(limit.per_ms.unwrap_or(1000)));
    push_or_dash(&mut text, limit.burst);
    push_or_dash(&mut text, limit.concurrency);
    match &limit.unit {
        Some(unit) => text.push_str(unit),
        None => text.truncate(text.len() - 1),
    }
    text
}

/// Appends a number, or `-` for none, and a space.
fn push_or_dash(text: &mut String, number: Option<impl fmt::Display>) {
    let _ = match number {
        Some(number) => write!(text, "{number} "),
        None => write!(text, "- "),
    };
}

/// Parses the definition of the limit `name` as Redis stores it; `None` if it is empty.
pub(super) fn parse_definition(name: &str, definition: &str) -> Option<Limit> {
    let mut words = definition.split(' ').filter(|word| !word.is_empty()).peekable();
    words.peek()?;
    let mut word = || words.next().unwrap_or_default();
    Some(Limit {
        rate: word().parse().ok(),
        per_ms: word().parse().ok(),
        burst: word().parse().ok(),
        concurrency: word().parse().ok(),
        unit: Some(word().to_owned()).filter(|unit| !unit.is_empty()),
        ..Limit::named(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_survives_being_stored() {
        for (limit, text) in [
            (Limit { rate: Some(0.00012), per_ms: Some(86_400_000), ..Limit::named("a") }, "0.00012 86400000 - -"),
            (
                Limit {
                    rate: Some(20.0),
                    per_ms: Some(1_000),
                    burst: Some(2.5),
                    concurrency: Some(3),
                    unit: Some("usd".into()),
                    ..Limit::named("a")
                },
                "20 1000 2.5 3 usd",
            ),
            (Limit { concurrency: Some(3), per_ms: Some(1_000), ..Limit::named("a") }, "- 1000 - 3"),
        ] {
            assert_eq!(definition(&limit), text);
            assert_eq!(parse_definition("a", text), Some(limit));
        }
        assert_eq!(parse_definition("a", ""), None);
    }
}
