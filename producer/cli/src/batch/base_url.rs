//! The base URL of a batch, and how the path of a line is joined to it: never to another origin, nor out of the base's own path.

use anyhow::{Context as _, ensure};
use url::{Position, Url};

/// Why the path of a line cannot be joined to the base URL.
#[derive(Debug, thiserror::Error)]
pub enum PathOfLineError {
    #[error("`url` {0:?} is not a path: begin it with one \"/\", as in \"/v1/chat/completions\"")]
    NotAPath(String),
    #[error("`url` {0:?} contains a space, a control character, a backslash or a \"#\": percent-encode it")]
    Character(String),
    #[error("`url` {0:?} leaves the path of the base URL: remove its \"..\"")]
    LeavesBase(String),
    #[error("`url` {path:?}: {cause}")]
    Unparsable { path: String, cause: url::ParseError },
}

/// An absolute URL that the paths of lines are appended to. Its query, if it has one, is part of every joined URL.
#[derive(Debug)]
pub struct BaseUrl {
    url: Url,
    /// Its path without the last slash.
    path: String,
}

impl BaseUrl {
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let wrong = || format!("--base-url {text:?}: use an absolute URL such as https://api.openai.com");
        let url = Url::parse(text).with_context(wrong)?;
        ensure!(matches!(url.scheme(), "http" | "https"), wrong());
        ensure!(url.fragment().is_none(), "--base-url {text:?}: remove the part from the \"#\" on");
        let path = url.path().trim_end_matches('/').to_owned();
        Ok(Self { url, path })
    }

    /// The URL of a line's path, which may have a query of its own: it follows the query of the base.
    pub fn join(&self, line: &str) -> Result<String, PathOfLineError> {
        if line.contains(|next: char| next.is_control() || next.is_whitespace() || matches!(next, '\\' | '#')) {
            return Err(PathOfLineError::Character(line.to_owned()));
        }
        if !line.starts_with('/') || line.starts_with("//") {
            return Err(PathOfLineError::NotAPath(line.to_owned()));
        }
        let (path, query) = line.split_once('?').map_or((line, None), |(path, query)| (path, Some(query)));
        // Base URLs are commonly written both with and without the version.
        let base =
            if path.starts_with("/v1/") { self.path.strip_suffix("/v1").unwrap_or(&self.path) } else { &self.path };
        let mut text = format!("{}{base}{path}", &self.url[..Position::BeforePath]);
        for (query, mark) in [self.url.query(), query].into_iter().flatten().zip(['?', '&']) {
            text.push(mark);
            text.push_str(query);
        }
        let joined = Url::parse(&text).map_err(|cause| PathOfLineError::Unparsable { path: line.to_owned(), cause })?;
        if !self.contains(&joined) || hides_dots(path) {
            return Err(PathOfLineError::LeavesBase(line.to_owned()));
        }
        Ok(joined.into())
    }

    /// Whether a URL has this origin and login, and is below this path.
    fn contains(&self, joined: &Url) -> bool {
        let below = joined.path().strip_prefix(&self.path).is_some_and(|rest| rest.starts_with('/'));
        below && joined[..Position::BeforePath] == self.url[..Position::BeforePath]
    }
}

/// Whether a path has a `..` next to an encoded slash, which servers may resolve although URL parsers do not.
fn hides_dots(path: &str) -> bool {
    let path = path.to_ascii_lowercase().replace("%2e", ".");
    path.contains("..") && (path.contains("%2f") || path.contains("%5c"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_at_the_origin_and_below_the_path_of_its_base() -> anyhow::Result<()> {
        let azure = "https://r.openai.azure.com/openai/deployments/d?api-version=2024-10-21";
        for (base, path, joined) in [
            ("https://h", "/v1/x", "https://h/v1/x"),
            ("https://h/v1", "/v1/x", "https://h/v1/x"),
            ("https://h/v1/", "/x", "https://h/v1/x"),
            ("http://h:81/api/v1", "/v1/x?a=1", "http://h:81/api/v1/x?a=1"),
            ("https://u:p@h/", "/x@y:z", "https://u:p@h/x@y:z"),
            ("https://h", "/../x", "https://h/x"),
            ("https://h", "/http://evil/x", "https://h/http://evil/x"),
            (azure, "/chat", "https://r.openai.azure.com/openai/deployments/d/chat?api-version=2024-10-21"),
            (azure, "/chat?a=%26", "https://r.openai.azure.com/openai/deployments/d/chat?api-version=2024-10-21&a=%26"),
        ] {
            assert_eq!(BaseUrl::parse(base)?.join(path)?, joined);
        }
        let base = BaseUrl::parse("https://h/openai")?;
        for path in [
            "",
            "x",
            "@evil/x",
            ".evil/x",
            ":81/x",
            "//evil/x",
            "\\\\evil/x",
            "/\\evil/x",
            "/\t/evil",
            "\t//evil/x",
            "https://evil/x",
            "http:evil",
            "/a b",
            "/a\n",
            "/x#y",
            "/..",
            "/../x",
            "/a/../../x",
            "/%2e%2E/x",
            "/.%2e/x",
            "/..%2fx",
            "/a%2F..%5cx",
            "?x",
            "#",
        ] {
            assert!(base.join(path).is_err(), "{path:?} becomes {:?}", base.join(path));
        }
        for base in ["api.openai.com", "ftp://h", "https://h/#x", "/v1", ""] {
            assert!(BaseUrl::parse(base).is_err(), "{base:?}");
        }
        Ok(())
    }
}
