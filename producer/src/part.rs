//! The parts of an upload.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// A part of an upload: a field of a form, or a file.
///
/// ```
/// use redial::{Call, Part};
///
/// let call = Call::post("https://api.example.com/v1/files")
///     .part(Part::text("purpose", "batch"))
///     .part(Part::bytes("file", b"{}\n").filename("requests.jsonl").content_type("application/jsonl"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[must_use = "a part does nothing until it is added to a call"]
pub struct Part {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
}

impl Part {
    /// A field with text.
    pub fn text(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: Some(text.into()), base64: None, filename: None, content_type: None }
    }

    /// A field with bytes, sent as `application/octet-stream` unless [`Part::content_type`] is set.
    pub fn bytes(name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        let base64 = Some(STANDARD.encode(bytes));
        Self { name: name.into(), text: None, base64, filename: None, content_type: None }
    }

    /// The name of the file.
    pub fn filename(mut self, filename: impl Into<String>) -> Self {
        self.filename = Some(filename.into());
        self
    }

    /// The content type.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }
}
