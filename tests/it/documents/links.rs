//! Every link, path and section that documents and comments name exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{between, files, root, text};

/// Folders of the repository that may hold documents.
const FOLDERS: [&str; 14] = [
    ".ci",
    "catalog",
    "clients",
    "crates",
    "deploy",
    "docker",
    "docs",
    "examples",
    "fuzz/corpus",
    "measurements",
    "migrations",
    "openapi",
    "src",
    "tests",
];

/// The files of the repository whose name ends so.
fn ending(extension: &str) -> Vec<PathBuf> {
    let top = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let below = FOLDERS.iter().flat_map(|folder| files(root().join(folder)));
    let all = top.filter(|path| path.is_file()).chain(below);
    all.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

/// The anchors of a document's headings, as they are made from their words.
fn anchors(document: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(document).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let words = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    words.map(|words| words.chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

/// Whether a link of `document` leads somewhere.
fn leads(document: &Path, link: &str) -> bool {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { document.to_owned() } else { document.with_file_name(path) };
    target.exists() && (anchor.is_empty() || anchors(&target).contains(anchor))
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let mut dead = Vec::new();
    for document in ending("md") {
        let text = std::fs::read_to_string(&document).unwrap();
        let links = between(&text, "](", ')').filter(|link| !link.contains("://"));
        let bad = links.filter(|link| !leads(&document, link));
        dead.extend(bad.map(|link| format!("{}: {link}", document.display())));
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

/// Whether `span` is meant as the path of a source or document: no pattern, no placeholder.
fn is_path(span: &str) -> bool {
    let named = [".rs", ".md", "/"].iter().any(|end| span.ends_with(end));
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "/_-.".contains(c);
    let is_readme = |part: &str| matches!(part, "README.md" | "ARCHITECTURE.md");
    named
        && span.contains('/')
        && span.split('/').all(|part| part.chars().all(plain) || is_readme(part))
}

#[test]
fn every_path_that_a_document_names_exists() {
    let roots = ["", "crates/core/src", "crates/lab/src", "src"].map(|folder| root().join(folder));
    let mut missing = Vec::new();
    for document in ending("md") {
        let text = std::fs::read_to_string(&document).unwrap();
        let spans = text.split('`').skip(1).step_by(2).filter(|span| is_path(span));
        let exists = |span: &&str| {
            let beside = document.parent().into_iter().chain(roots.iter().map(PathBuf::as_path));
            beside.into_iter().any(|root| root.join(span).exists())
        };
        let absent = spans.filter(|span| !exists(span));
        missing.extend(absent.map(|span| format!("{}: {span}", document.display())));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_section_of_the_cost_model_that_code_cites_exists() {
    let document = text("docs/cost-model.md");
    let sections: BTreeSet<&str> = between(&document, "\n## ", '.').collect();
    let mut wrong = Vec::new();
    for file in ending("rs") {
        let code = std::fs::read_to_string(&file).unwrap();
        let cited = code.split("`cost-model` §").skip(1);
        let cited = cited.map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap());
        let absent = cited.filter(|section| !section.is_empty() && !sections.contains(section));
        wrong.extend(absent.map(|section| format!("{}: §{section}", file.display())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
