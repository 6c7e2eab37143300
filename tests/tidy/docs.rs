//! Do the documents name files and folders that exist, and stay within their length?

use crate::{assert_none, read, root, tracked};
use std::path::Path;

const MAX_ARCHITECTURE_LINES: usize = 300;

/// Relative Markdown link targets of a document.
fn links(text: &str) -> Vec<String> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split('#').next().unwrap_or_default().to_owned())
        .filter(|target| {
            !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:")
        })
        .collect()
}

/// Words in backquotes that look like paths of this repository.
fn quoted_paths(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| {
            [
                "broker/",
                "operator/",
                "crates/",
                "tests/",
                "docs/",
                "examples/",
                "bench/",
                "crds/",
                ".ci/",
            ]
            .iter()
            .any(|folder| word.starts_with(folder))
        })
        .filter(|word| !word.contains(['*', '<', '{', ' ', '\n', '…']))
        .map(|word| {
            word.split("::")
                .next()
                .unwrap_or_default()
                .trim_end_matches('/')
                .to_owned()
        })
        .collect()
}

#[test]
fn documents_name_files_that_exist() {
    let mut found = Vec::new();
    for path in tracked(&[".md"]) {
        let text = read(&path);
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        for target in links(&text) {
            if !root().join(&folder).join(&target).exists() {
                found.push(format!(
                    "{}: link to {target}, which does not exist",
                    path.display()
                ));
            }
        }
        for target in quoted_paths(&text) {
            if !root().join(&target).exists() {
                found.push(format!(
                    "{}: names {target}, which does not exist",
                    path.display()
                ));
            }
        }
    }
    assert_none("documents", &found);
}

#[test]
fn the_architecture_stays_a_map() {
    let lines = read(Path::new("ARCHITECTURE.md")).lines().count();
    assert!(
        lines <= MAX_ARCHITECTURE_LINES,
        "ARCHITECTURE.md has {lines} lines, at most {MAX_ARCHITECTURE_LINES}"
    );
}

#[test]
fn a_dead_link_and_a_dead_path_are_seen() {
    assert_eq!(
        links("see [x](docs/none.md#part) and [y](https://example.org)"),
        ["docs/none.md"]
    );
    assert_eq!(
        quoted_paths("in `broker/src/nothing.rs::f` and `cargo`"),
        ["broker/src/nothing.rs"]
    );
}
