//! What a task sends: JSON, text, bytes, a form, or the parts of an upload.

use base64::Engine as _;
use http::{HeaderMap, HeaderValue, header};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use url::form_urlencoded;

use super::InvalidTask;

/// The most parts of an upload.
const MAX_PARTS: usize = 1_000;

/// The fields of a task that make its body. At most one is set.
#[derive(Debug, Default)]
pub(super) struct BodyFields<'a> {
    pub(super) json: Option<&'a RawValue>,
    pub(super) text: Option<String>,
    pub(super) base64: Option<&'a str>,
    pub(super) form: Option<Form>,
    pub(super) parts: Option<Vec<RawPart>>,
}

/// The fields of a form in the order in which they were written. A value is text, a number, a boolean, or a list of these.
#[derive(Debug)]
pub struct Form(Vec<(String, Box<RawValue>)>);

/// A value of a form, for the schema.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code, reason = "a description of what `Form` accepts")]
pub(super) enum FormValue {
    /// One value.
    One(FormText),
    /// The field once for each value.
    Many(Vec<FormText>),
}

/// A single value of a form, for the schema.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code, reason = "a description of what `Form` accepts")]
pub(super) enum FormText {
    /// Text.
    Text(String),
    /// A number, sent as it is written.
    Number(f64),
    /// `true` or `false`.
    Bool(bool),
}

/// One part of an upload (RFC 7578).
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Part"))]
pub struct RawPart {
    /// The name of the field.
    pub name: String,
    /// Its contents as text.
    pub text: Option<String>,
    /// Its contents in base64, instead of `text`.
    pub base64: Option<String>,
    /// The name of the file.
    pub filename: Option<String>,
    /// The content type. Default: `application/octet-stream` for base64, `text/plain; charset=utf-8` for text with a filename, else none.
    #[serde(rename = "type")]
    pub content_type: Option<String>,
}

impl BodyFields<'_> {
    /// The bytes to send, whose content type is added to the headers; `None` for no body.
    pub(super) fn encode(self, headers: &mut HeaderMap) -> Result<Option<Vec<u8>>, InvalidTask> {
        let (bytes, content_type) = match self {
            Self { json: None, text: None, base64: None, form: None, parts: None } => return Ok(None),
            Self { json: Some(json), text: None, base64: None, form: None, parts: None } => {
                (json.get().as_bytes().to_vec(), HeaderValue::from_static("application/json"))
            }
            Self { json: None, text: Some(text), base64: None, form: None, parts: None } => {
                (text.into_bytes(), HeaderValue::from_static("text/plain; charset=utf-8"))
            }
            Self { json: None, text: None, base64: Some(base64), form: None, parts: None } => {
                let bytes = decode_base64(base64).map_err(InvalidTask::Base64)?;
                (bytes, HeaderValue::from_static("application/octet-stream"))
            }
            Self { json: None, text: None, base64: None, form: Some(form), parts: None } => {
                (form.encode()?.into_bytes(), HeaderValue::from_static("application/x-www-form-urlencoded"))
            }
            Self { json: None, text: None, base64: None, form: None, parts: Some(parts) } => {
                if headers.contains_key(header::CONTENT_TYPE) {
                    return Err(InvalidTask::ContentTypeOfParts);
                }
                multipart(&parts)?
            }
            _ => return Err(InvalidTask::SeveralBodies),
        };
        headers.entry(header::CONTENT_TYPE).or_insert(content_type);
        Ok(Some(bytes))
    }
}

impl Form {
    /// `application/x-www-form-urlencoded`, by the URL Standard.
    fn encode(self) -> Result<String, InvalidTask> {
        let mut encoded = form_urlencoded::Serializer::new(String::new());
        for (name, value) in self.0 {
            let values: Vec<&RawValue> = if value.get().starts_with('[') {
                serde_json::from_str(value.get()).map_err(|_| InvalidTask::FormValue(name.clone()))?
            } else {
                vec![&value]
            };
            for value in values {
                match value.get().as_bytes() {
                    b"null" => {}
                    [b'{' | b'[', ..] => return Err(InvalidTask::FormValue(name)),
                    [b'"', ..] => {
                        let text: String =
                            serde_json::from_str(value.get()).map_err(|_| InvalidTask::FormValue(name.clone()))?;
                        encoded.append_pair(&name, &text);
                    }
                    // A number or a boolean, as it is written.
                    _ => {
                        encoded.append_pair(&name, value.get());
                    }
                }
            }
        }
        Ok(encoded.finish())
    }
}

impl<'de> Deserialize<'de> for Form {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Form;

            fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                to.write_str("an object of form fields")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Form, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Form(fields))
            }
        }
        from.deserialize_map(Fields)
    }
}

/// The body of `multipart/form-data` (RFC 7578), and its content type.
///
/// The boundary is made of a hash of the parts: the same on every attempt and after a crash, so that an upstream that compares the
/// bytes of repeated calls finds them equal. For a part to contain it, the parts would have to contain their own hash.
fn multipart(parts: &[RawPart]) -> Result<(Vec<u8>, HeaderValue), InvalidTask> {
    let invalid = |index: usize, why: &str| InvalidTask::Part { index, why: why.to_owned() };
    if !(1..=MAX_PARTS).contains(&parts.len()) {
        return Err(InvalidTask::PartCount { count: parts.len(), limit: MAX_PARTS });
    }
    let mut encoded: Vec<(String, Vec<u8>)> = Vec::with_capacity(parts.len());
    let mut hash = Sha256::new();
    for (index, part) in parts.iter().enumerate() {
        let contents = match (&part.text, &part.base64) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(base64)) => decode_base64(base64)
                .map_err(|why| invalid(index, &format!("has `base64` that cannot be decoded: {why}")))?,
            (Some(_), Some(_)) => return Err(invalid(index, "has both `text` and `base64`: use one of them")),
            (None, None) => return Err(invalid(index, "has neither `text` nor `base64`: use one of them")),
        };
        let content_type = match (part.content_type.as_deref(), &part.filename) {
            (Some(given), _) if given.is_empty() || HeaderValue::from_str(given).is_err() => {
                return Err(invalid(index, "has a `type` that is not a valid header value"));
            }
            (Some(given), _) => Some(given),
            (None, _) if part.base64.is_some() => Some("application/octet-stream"),
            (None, Some(_)) => Some("text/plain; charset=utf-8"),
            (None, None) => None,
        };
        let mut head = format!("Content-Disposition: form-data; name=\"{}\"", quotable(&part.name));
        if let Some(filename) = &part.filename {
            head = format!("{head}; filename=\"{}\"", quotable(filename));
        }
        if let Some(content_type) = content_type {
            head = format!("{head}\r\nContent-Type: {content_type}");
        }
        for piece in [head.as_bytes(), &contents] {
            hash.update((piece.len() as u64).to_le_bytes());
            hash.update(piece);
        }
        encoded.push((head, contents));
    }
    let digest = hash.finalize();
    let boundary = digest.iter().take(16).fold("redial-".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    let mut body = Vec::with_capacity(encoded.iter().map(|(head, contents)| head.len() + contents.len() + 60).sum());
    for (head, contents) in &encoded {
        body.extend_from_slice(format!("--{boundary}\r\n{head}\r\n\r\n").as_bytes());
        body.extend_from_slice(contents);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let content_type = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"))
        .map_err(|_| InvalidTask::ContentTypeOfParts)?;
    Ok((body, content_type))
}

/// A name between double quotes, as the HTML Standard escapes it and browsers send it.
fn quotable(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

fn decode_base64(text: &str) -> Result<Vec<u8>, String> {
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    LENIENT.decode(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Task;

    fn sent(fields: &str) -> Result<(String, String), String> {
        let raw = format!(r#"{{"url":"http://h/",{fields}}}"#);
        let task = Task::parse(raw.as_bytes(), 1 << 20).map_err(|error| error.to_string())?;
        let content_type =
            task.headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let body = String::from_utf8_lossy(&task.body.unwrap_or_default()).into_owned();
        Ok((content_type.unwrap_or_default().into_owned(), body))
    }

    #[test]
    fn a_form_is_urlencoded_in_its_own_order_and_with_its_own_numbers() -> Result<(), String> {
        let form = r#""form":{"z":"a b&c=ü","n":1.10,"big":12345678901234567890123,"yes":true,"no":null,"l":["x",2,null],"e":""}"#;
        let (content_type, body) = sent(form)?;
        assert_eq!(content_type, "application/x-www-form-urlencoded");
        assert_eq!(body, "z=a+b%26c%3D%C3%BC&n=1.10&big=12345678901234567890123&yes=true&l=x&l=2&e=");
        assert_eq!(sent(r#""form":{}"#)?.1, "");
        assert_eq!(sent(r#""form":{"a":1},"headers":{"content-type":"x/y"}"#)?.0, "x/y");
        Ok(())
    }

    #[test]
    fn parts_are_a_multipart_body_whose_boundary_depends_on_them_alone() -> Result<(), String> {
        let parts = r#""parts":[{"name":"purpose","text":"batch"},
            {"name":"file","filename":"a \"b\"\n.jsonl","type":"application/jsonl","base64":"e30K"},
            {"name":"note","filename":"n.txt","text":"grüß"},{"name":"raw","base64":"AA"}]"#;
        let (content_type, body) = sent(parts)?;
        let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap_or_default().to_owned();
        assert_eq!(boundary.len(), "redial-".len() + 32, "{content_type}");
        let expected = "--B\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
            --B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a %22b%22%0A.jsonl\"\r\n\
            Content-Type: application/jsonl\r\n\r\n{}\n\r\n\
            --B\r\nContent-Disposition: form-data; name=\"note\"; filename=\"n.txt\"\r\n\
            Content-Type: text/plain; charset=utf-8\r\n\r\ngrüß\r\n\
            --B\r\nContent-Disposition: form-data; name=\"raw\"\r\nContent-Type: application/octet-stream\r\n\r\n\0\r\n\
            --B--\r\n";
        assert_eq!(body, expected.replace("--B", &format!("--{boundary}")));
        assert_eq!(sent(parts)?.0, content_type, "the same each time");
        assert_ne!(sent(&parts.replace("batch", "other"))?.0, content_type);
        Ok(())
    }

    #[test]
    fn an_invalid_form_or_part_is_named() {
        for (fields, says) in [
            (r#""form":{"a":{"b":1}}"#, "`form` \"a\""),
            (r#""form":{"a":[[1]]}"#, "`form` \"a\""),
            (r#""form":[1]"#, "an object of form fields"),
            (r#""form":{},"body":1"#, "more than one of"),
            (r#""parts":[{"name":"a","text":""}],"form":{}"#, "more than one of"),
            (r#""parts":[]"#, "`parts` has 0"),
            (r#""parts":[{"text":"a"}]"#, "name"),
            (r#""parts":[{"name":"a","text":"a"},{"name":"b"}]"#, "`parts[1]` has neither"),
            (r#""parts":[{"name":"a","text":"a","base64":""}]"#, "`parts[0]` has both"),
            (r#""parts":[{"name":"a","base64":"!"}]"#, "`parts[0]` has `base64` that cannot"),
            (r#""parts":[{"name":"a","text":"","type":"a\nb"}]"#, "`parts[0]` has a `type`"),
            (r#""parts":[{"name":"a","text":""}],"headers":{"Content-Type":"multipart/form-data"}"#, "omit the header"),
        ] {
            let refused = sent(fields);
            assert!(refused.as_ref().is_err_and(|why| why.contains(says)), "{fields}: {refused:?}");
        }
    }
}
