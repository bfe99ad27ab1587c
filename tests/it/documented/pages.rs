//! The pages of the documentation, and the fenced blocks in them.

use std::path::{Path, PathBuf};

/// Pages outside of `docs/`.
const OUTSIDE: [&str; 4] = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"];
/// Folders whose folders have a README.
const WITH_READMES: [&str; 2] = ["examples", "producer"];

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn text(page: &str) -> String {
    std::fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

pub fn is_page(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|end| end == "md")
}

/// The README and the pages of the book, by their paths.
pub fn readme_and_book() -> Vec<String> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|file| file.unwrap().file_name());
    let docs = docs.map(|name| format!("docs/{}", name.to_string_lossy()));
    let mut pages: Vec<String> = docs.filter(|page| is_page(page)).collect();
    pages.push("README.md".to_owned());
    pages.sort();
    pages
}

/// These and every other page that is written for people.
pub fn all() -> Vec<String> {
    let mut pages = readme_and_book();
    pages.extend(OUTSIDE.iter().filter(|page| **page != "README.md").map(|page| (*page).to_owned()));
    for folder in WITH_READMES {
        let inner = std::fs::read_dir(root().join(folder)).unwrap().map(|file| file.unwrap().file_name());
        pages.extend(inner.map(|name| format!("{folder}/{}/README.md", name.to_string_lossy())));
    }
    pages.retain(|page| root().join(page).is_file());
    pages
}

/// What stands between two fences.
#[derive(Debug)]
pub struct Block {
    pub page: String,
    /// Of its first fence, from 1.
    pub line: usize,
    pub language: String,
    pub text: String,
}

impl Block {
    /// Where it is, for messages.
    pub fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }
}

/// The blocks of the README and the book in one language, or in all.
pub fn blocks(language: Option<&str>) -> Vec<Block> {
    let mut all = Vec::new();
    for page in readme_and_book() {
        let mut open: Option<Block> = None;
        for (n, line) in text(&page).lines().enumerate() {
            match (line.strip_prefix("```"), &mut open) {
                (Some(language), None) => {
                    let (language, text) = (language.to_owned(), String::new());
                    open = Some(Block { page: page.clone(), line: n + 1, language, text });
                }
                (Some(_), Some(_)) => all.extend(open.take()),
                (None, Some(block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{page}: a fence is not closed");
    }
    all.retain(|block| language.is_none_or(|language| block.language == language));
    all
}
