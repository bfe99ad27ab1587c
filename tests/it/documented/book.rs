//! The book is built by mdBook and its spelling checked by codespell, where this machine can install them; elsewhere the test says SKIPPED.

use tokio::process::Command;

use super::pages::{all, root};
use crate::drop_in::install::{self, run};

const TOOLS: &str = "tests/it/documented/tools";
/// Words that are spelled as they should be.
const KNOWN_WORDS: &str = "crate,ser,edn,anull,fo,nd,ro,te";

#[tokio::test]
async fn the_book_is_built_without_a_warning() {
    let Some(tools) = install::python_tools(TOOLS).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut mdbook = Command::new(tools.join("venv/bin/mdbook"));
    mdbook.arg("build").arg(root().join("docs")).arg("--dest-dir").arg(folder.path());
    let ended = run(&mut mdbook).await.unwrap();
    let said = ended.stdout + &ended.stderr;
    assert!(ended.success && !said.contains("WARN") && !said.contains("ERROR"), "{said}");
    for page in ["index.html", "tutorial.html", "recipes.html", "migration.html", "protocol.html"] {
        assert!(folder.path().join(page).is_file(), "the book has no {page}");
    }
}

#[tokio::test]
async fn the_docs_have_no_misspelled_word() {
    let Some(tools) = install::python_tools(TOOLS).await else { return };
    let mut codespell = Command::new(tools.join("venv/bin/codespell"));
    codespell.args(["--ignore-words-list", KNOWN_WORDS, "--builtin", "clear,rare"]).args(all()).current_dir(root());
    let ended = run(&mut codespell).await.unwrap();
    assert!(ended.success, "{}{}", ended.stdout, ended.stderr);
}
