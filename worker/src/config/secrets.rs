//! Reads the secrets that the settings name and do not contain, and remembers in which files they are.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// Reads secrets from files and from the environment.
pub struct SecretReader<'a> {
    var: &'a dyn Fn(&str) -> Option<String>,
    files: RefCell<BTreeSet<PathBuf>>,
}

impl<'a> SecretReader<'a> {
    /// Takes the environment from `var`.
    pub fn new(var: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { var, files: RefCell::default() }
    }

    /// Replaces `${NAME}` by the environment variable and `${file:/path}` by the file's contents, without the newlines at its end.
    ///
    /// # Errors
    /// A variable is not set, a file cannot be read or is empty, or a brace is missing.
    pub fn fill(&self, text: &str) -> anyhow::Result<String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').context("a ${ has no }")?;
            filled.push_str(before);
            if let Some(path) = name.strip_prefix("file:") {
                let secret = String::from_utf8(self.file(Path::new(path))?);
                let secret = secret.ok().with_context(|| format!("the file {path} is not UTF-8"))?;
                filled.push_str(secret.trim_end_matches(['\r', '\n']));
            } else {
                let secret = (self.var)(name).with_context(|| format!("the environment variable {name} is not set"))?;
                filled.push_str(&secret);
            }
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// Whether an environment variable is set, and not empty.
    pub fn has_variable(&self, name: &str) -> bool {
        (self.var)(name).is_some_and(|value| !value.is_empty())
    }

    /// The contents of a file.
    ///
    /// # Errors
    /// It cannot be read, or is empty, as a file is that is just being written.
    pub fn file(&self, path: &Path) -> anyhow::Result<Vec<u8>> {
        self.files.borrow_mut().insert(path.to_owned());
        let contents = std::fs::read(path).with_context(|| format!("cannot read the file {}", path.display()))?;
        ensure!(!contents.trim_ascii().is_empty(), "the file {} is empty", path.display());
        Ok(contents)
    }

    /// The files that were read, or should have been.
    pub fn into_files(self) -> Vec<PathBuf> {
        self.files.into_inner().into_iter().collect()
    }
}
