//! The canonical form of a JSON text, to tell whether two calls are the same.
//!
//! It follows RFC 8785: members sorted by name, no white space, strings escaped in one way. Unlike the RFC, which rounds numbers to
//! doubles, it keeps their exact value: otherwise two ids above 2^53 that differ by one would be the same call.

use serde_json::value::RawValue;

use crate::protocol::json;

/// The canonical form; `None` if the text is not JSON, or nests too deep.
pub(crate) fn canonical(text: &str) -> Option<String> {
    if json::too_deep(text.as_bytes()) {
        return None;
    }
    // Validated once; from here on every byte is where the grammar allows it.
    serde_json::from_str::<&RawValue>(text).ok()?;
    let mut walk = Walk { text, at: 0 };
    let mut out = String::with_capacity(text.len());
    walk.value(&mut out)?;
    Some(out)
}

struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    fn value(&mut self, out: &mut String) -> Option<()> {
        match self.peek()? {
            b'{' => self.object(out),
            b'[' => self.array(out),
            b'"' => {
                out.push_str(&spell(self.string()?));
                Some(())
            }
            b'-' | b'0'..=b'9' => {
                let number = self.word();
                out.push_str(&exact(number));
                Some(())
            }
            _ => {
                out.push_str(self.word());
                Some(())
            }
        }
    }

    fn array(&mut self, out: &mut String) -> Option<()> {
        self.at += 1;
        out.push('[');
        let mut first = true;
        while self.peek()? != b']' {
            if !first {
                self.at += 1; // the comma
                out.push(',');
            }
            first = false;
            self.value(out)?;
        }
        self.at += 1;
        out.push(']');
        Some(())
    }

    fn object(&mut self, out: &mut String) -> Option<()> {
        self.at += 1;
        // Each with its name in UTF-16 code units, which is the RFC's sort order.
        let mut members: Vec<(Vec<u16>, String)> = Vec::new();
        while self.peek()? != b'}' {
            if !members.is_empty() {
                self.at += 1; // the comma
                self.peek()?;
            }
            let name = self.string()?;
            let decoded = serde_json::from_str::<String>(name).unwrap_or_else(|_| name.to_owned());
            let mut member = spell(name).into_owned();
            self.peek()?;
            self.at += 1; // the colon
            member.push(':');
            self.value(&mut member)?;
            members.push((decoded.encode_utf16().collect(), member));
        }
        self.at += 1;
        // Stable: the order of duplicate names may matter to the upstream.
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        out.push('{');
        for (n, (_, member)) in members.iter().enumerate() {
            if n > 0 {
                out.push(',');
            }
            out.push_str(member);
        }
        out.push('}');
        Some(())
    }

    /// Skips white space and returns the next byte.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
        self.text.as_bytes().get(self.at).copied()
    }

    /// A string as it is written, quotes included.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at;
        let mut escaped = false;
        let length = self.text.as_bytes()[start + 1..].iter().position(|byte| match byte {
            _ if escaped => {
                escaped = false;
                false
            }
            b'\\' => {
                escaped = true;
                false
            }
            byte => *byte == b'"',
        })?;
        self.at = start + 1 + length + 1;
        self.text.get(start..self.at)
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> &'a str {
        let start = self.at;
        let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}');
        let rest = &self.text.as_bytes()[start..];
        self.at = start + rest.iter().position(ends).unwrap_or(rest.len());
        &self.text[start..self.at]
    }
}

/// A string escaped as RFC 8785 section 3.2.2.2 requires, which is also what serde_json writes. A lone surrogate, which a Rust
/// string cannot represent, is kept as written: no other string is written that way.
fn spell(quoted: &str) -> std::borrow::Cow<'_, str> {
    if !quoted.contains('\\') {
        return quoted.into();
    }
    let decoded = serde_json::from_str::<String>(quoted);
    decoded.and_then(|text| serde_json::to_string(&text)).map_or(quoted.into(), Into::into)
}

/// A number's exact value: its digits without leading and trailing zeros, and the power of ten to multiply them by.
fn exact(number: &str) -> String {
    let (sign, rest) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0').trim_end_matches('0');
    if digits.is_empty() {
        return "0".into();
    }
    let zeros = all.len() - all.trim_end_matches('0').len();
    // A task has about a million bytes, so neither count comes near the bounds of i64.
    let shift = i64::try_from(zeros).unwrap_or(0) - i64::try_from(fraction.len()).unwrap_or(0);
    match exponent.parse::<i64>().ok().and_then(|exponent| exponent.checked_add(shift)) {
        Some(0) => format!("{sign}{digits}"),
        Some(exponent) => format!("{sign}{digits}e{exponent}"),
        // The exponent overflows i64: only an identical text counts as the same number.
        None => number.to_owned(),
    }
}

#[cfg(test)]
mod tests;
