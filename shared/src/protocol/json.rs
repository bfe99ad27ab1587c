//! What serde_json leaves open: how deep a document may nest, and which content types declare JSON.

/// The maximum nesting of arrays and objects in a task or an answer: serde_json's default, so that readers of a result can parse
/// it.
pub(crate) const MAX_DEPTH: usize = 128;

/// Whether the brackets of a JSON text nest deeper than [`MAX_DEPTH`]. One pass, no recursion; the text need not be valid.
pub(crate) fn too_deep(json: &[u8]) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The mark at the start of a UTF-8 text that some programs write. RFC 8259 section 8.1 lets parsers of JSON ignore it.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// A JSON text without the byte order mark before it.
pub fn without_mark(json: &[u8]) -> &[u8] {
    json.strip_prefix(MARK).unwrap_or(json)
}

/// Whether a content type declares JSON: `application/json`, `text/json`, or `...+json` (RFC 6839).
pub(crate) fn is_declared_by(content_type: Option<&str>) -> bool {
    content_type.and_then(|value| value.split(';').next()).is_some_and(|essence| {
        let essence = essence.trim().to_ascii_lowercase();
        matches!(essence.as_str(), "application/json" | "text/json") || essence.ends_with("+json")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_inside_strings_do_not_count() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(!too_deep(nested(128).as_bytes()));
        assert!(too_deep(nested(129).as_bytes()));
        assert!(!too_deep(format!("\"{}\\\"[\"", "[".repeat(500)).as_bytes()));
        assert!(!too_deep("[]".repeat(500).as_bytes()));
    }
}
