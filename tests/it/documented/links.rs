//! Every link in the documentation leads somewhere: to a file, to a heading of a page, and within the book to a page of the book.

use std::path::Path;

use super::pages::{all, is_page, root, text};

/// How pages of the book link to files that are not pages of it.
const REPOSITORY: &str = "https://github.com/redial-project/redial";

/// A page without its blocks, and without code in its lines.
fn prose(page: &str) -> String {
    let mut in_block = false;
    let mut prose = String::new();
    for line in text(page).lines() {
        let is_fence = line.starts_with("```");
        in_block ^= is_fence;
        if !in_block && !is_fence {
            prose.extend(line.split('`').step_by(2));
            prose.push('\n');
        }
    }
    prose
}

/// The targets of the links and images of a page.
fn links(page: &str) -> Vec<String> {
    let prose = prose(page);
    prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// The names by which a page's headings are linked to.
fn anchors(page: &str) -> Vec<String> {
    let mut in_block = false;
    let mut anchors = Vec::new();
    for line in text(page).lines() {
        in_block ^= line.starts_with("```");
        if in_block || !line.starts_with('#') {
            continue;
        }
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        anchors.push(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    anchors
}

/// What is wrong with a link, if anything is.
fn fault(page: &str, link: &str) -> Option<String> {
    let (target, anchor) = link.split_once('#').map_or((link, None), |(target, anchor)| (target, Some(anchor)));
    let path = match target.strip_prefix(REPOSITORY) {
        // Its front page is the README.
        Some("") => "README.md".to_owned(),
        Some(inside) => inside.strip_prefix("/blob/main/").or_else(|| inside.strip_prefix("/tree/main/"))?.to_owned(),
        None if target.starts_with("http") || target.starts_with("mailto:") => return None,
        None if target.is_empty() => page.to_owned(),
        None => {
            let folder = Path::new(page).parent().unwrap_or(Path::new(""));
            let joined = root().join(folder).join(target);
            let Ok(found) = joined.canonicalize() else { return Some("no such file".to_owned()) };
            let inside = found.strip_prefix(root().canonicalize().unwrap()).ok()?.to_string_lossy().into_owned();
            if page.starts_with("docs/") && !inside.starts_with("docs/") {
                return Some(format!("it leaves the book: link to {REPOSITORY}/blob/main/{inside}"));
            }
            inside
        }
    };
    if !root().join(&path).exists() {
        return Some("no such file in the repository".to_owned());
    }
    let anchor = anchor?;
    (is_page(&path) && !anchors(&path).iter().any(|known| known == anchor))
        .then(|| format!("{path} has no such heading"))
}

#[test]
fn every_link_in_the_docs_leads_to_a_file_and_a_heading() {
    let (mut faults, mut checked) = (Vec::new(), 0);
    for page in all() {
        for link in links(&page) {
            checked += 1;
            faults.extend(fault(&page, &link).map(|fault| format!("{page}: {link}: {fault}")));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(checked > 200, "only {checked} links found: has the form of the pages changed?");
}

#[test]
fn the_book_has_every_page_once() {
    let listed = links("docs/SUMMARY.md");
    let mut pages: Vec<String> =
        all().iter().filter_map(|page| page.strip_prefix("docs/")).map(str::to_owned).collect();
    pages.retain(|page| page != "SUMMARY.md");
    let mut sorted = listed;
    sorted.sort();
    assert_eq!(sorted, pages, "docs/SUMMARY.md");
}
