//! Do files carry names that say something, and does each say what question it answers?

use crate::{assert_none, read, tracked};

const BANNED: &[&str] = &[
    "utils", "util", "helpers", "helper", "common", "misc", "manager2", "stuff", "base",
];

fn violations(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in path.trim_end_matches(".rs").split('/') {
        if BANNED.contains(&part) {
            found.push(format!(
                "{path}: the name {part:?} says nothing: name it after what it decides or does"
            ));
        }
    }
    if !text.starts_with("//!") && !path.contains("/gen/") && !text.starts_with("// @generated") {
        found.push(format!("{path}: the first line must be a `//!` sentence that says what question the file answers"));
    }
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.starts_with("#[ignore") {
            found.push(format!(
                "{path}:{}: #[ignore]: a test that does not run is none",
                at + 1
            ));
        }
        if line.starts_with("fn test_") || line.starts_with("async fn test_") {
            found.push(format!(
                "{path}:{}: a test's name is a sentence without `test_`",
                at + 1
            ));
        }
    }
    found
}

#[test]
fn names_say_something() {
    let found: Vec<String> = tracked(&[".rs"])
        .iter()
        .flat_map(|path| violations(&path.to_string_lossy(), &read(path)))
        .collect();
    assert_none("names", &found);
}

#[test]
fn an_empty_name_and_an_ignored_test_are_reported() {
    assert_eq!(violations("broker/src/utils.rs", "//! What?\n").len(), 1);
    assert_eq!(violations("broker/src/log.rs", "use x;\n").len(), 1);
    let ignored = format!("//! What?\n{}[ignore]\nfn t() {{}}\n", '#');
    assert_eq!(violations("broker/src/log.rs", &ignored).len(), 1);
    assert_eq!(
        violations("broker/src/log.rs", "//! What?\nfn test_x() {}\n").len(),
        1
    );
}
