//! What serde_json leaves open: how deep a document may nest, which content types declare JSON, and that an object is not an array.

use std::io;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

/// The maximum nesting of arrays and objects in a task or an answer: serde_json's default, so that readers of a result can parse
/// it.
pub(crate) const MAX_DEPTH: usize = 128;

/// Whether the brackets of a JSON text nest deeper than [`MAX_DEPTH`]. One pass, no recursion; the text need not be valid.
pub(crate) fn too_deep(json: &[u8]) -> bool {
    // Most have fewer brackets than that, which is quickly counted.
    if memchr::memchr2_iter(b'[', b'{', json).nth(MAX_DEPTH).is_none() {
        return false;
    }
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
        let essence = essence.trim().as_bytes();
        let is = |name: &str| essence.eq_ignore_ascii_case(name.as_bytes());
        let has_suffix = || essence.last_chunk::<5>().is_some_and(|end| end.eq_ignore_ascii_case(b"+json"));
        is("application/json") || is("text/json") || has_suffix()
    })
}

/// An optional object, for `deserialize_with`. Types that derive `Deserialize` would also take an array of their fields in order.
pub(crate) fn optional_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(from)?.map(|object| object.0))
}

/// An optional list of objects, for the same.
pub(crate) fn optional_objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let objects = Option::<Vec<Object<T>>>::deserialize(from)?;
    Ok(objects.map(|objects| objects.into_iter().map(|object| object.0).collect()))
}

/// An object, for the same.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    T::deserialize(FromObject(from, PhantomData))
}

/// Writes a value as JSON that is about this long.
///
/// # Errors
/// Those of its `Serialize`.
pub(crate) fn to_string(value: &impl Serialize, capacity: usize) -> serde_json::Result<String> {
    let mut buffer = Buffer(Vec::with_capacity(capacity));
    serde_json::to_writer(&mut buffer, value)?;
    String::from_utf8(buffer.0).map_err(serde::ser::Error::custom)
}

/// serde_json writes the signs between keys and values one at a time, and to push a byte is much cheaper than a copy of any length.
struct Buffer(Vec<u8>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match bytes {
            [byte] => self.0.push(*byte),
            bytes => self.0.extend_from_slice(bytes),
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        object(from).map(Self)
    }
}

/// Whatever a type asks for, it gets the members of an object.
struct FromObject<'de, D>(D, PhantomData<&'de ()>);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for FromObject<'de, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.0.deserialize_map(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
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
