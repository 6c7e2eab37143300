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

/// Words in backquotes that look like paths of this repository, with what follows `::` in them.
fn quoted(text: &str) -> Vec<(String, Option<String>)> {
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
            let (path, item) = word
                .split_once("::")
                .map_or((word, None), |(path, item)| (path, Some(item.to_owned())));
            (path.trim_end_matches('/').to_owned(), item)
        })
        .collect()
}

/// Functions that a document names as `path::function` and that are not there.
fn missing_functions(text: &str, source: impl Fn(&str) -> String) -> Vec<String> {
    quoted(text)
        .into_iter()
        .filter_map(|(path, item)| Some((path, item?)))
        .filter(|(path, item)| !source(path).contains(&format!("fn {item}(")))
        .map(|(path, item)| format!("{path}::{item}"))
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
        for (target, _) in quoted(&text) {
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
fn documents_name_tests_that_exist() {
    let mut found = Vec::new();
    for path in tracked(&[".md"]) {
        let missing = missing_functions(&read(&path), |source| {
            std::fs::read_to_string(root().join(source)).unwrap_or_default()
        });
        let told = missing.into_iter();
        found.extend(
            told.map(|name| format!("{}: names {name}, which does not exist", path.display())),
        );
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
    let text = "in `broker/src/nothing.rs::f` and `cargo`";
    let path = "broker/src/nothing.rs".to_owned();
    assert_eq!(quoted(text), [(path, Some("f".to_owned()))]);
    let missing = missing_functions(text, |_| "fn fg() {}".to_owned());
    assert_eq!(missing, ["broker/src/nothing.rs::f"]);
    assert!(missing_functions(text, |_| "fn f() {}".to_owned()).is_empty());
}
