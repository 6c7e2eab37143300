//! May we ship every dependency under Apache-2.0?

use crate::{assert_none, metadata};

/// Licences that may be combined into an Apache-2.0 binary.
const ACCEPTED: &[&str] = &[
    "Apache-2.0",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CC0-1.0",
    "Unlicense",
    "BSL-1.0",
    "MPL-2.0",
    "MPL-2.0+",
    "0BSD",
    "CDLA-Permissive-2.0",
    "Apache-2.0 WITH LLVM-exception",
];

/// Whether an SPDX expression can be met by accepted licences.
fn acceptable(expression: &str) -> bool {
    expression.replace('/', " OR ").split(" AND ").all(|all| {
        all.trim_matches(['(', ')', ' '])
            .split(" OR ")
            .any(|any| ACCEPTED.contains(&any.trim_matches(['(', ')', ' '])))
    })
}

#[test]
fn every_dependency_has_an_accepted_licence() {
    let metadata = metadata();
    let found: Vec<String> = metadata["packages"]
        .as_array()
        .expect("an array")
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(acceptable))
        .map(|package| {
            format!(
                "{} {}: {}",
                package["name"], package["version"], package["license"]
            )
        })
        .collect();
    assert_none("licences", &found);
}

#[test]
fn a_copyleft_licence_is_refused() {
    assert!(acceptable("MIT OR Apache-2.0"));
    assert!(acceptable("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(acceptable("GPL-3.0 OR MIT"));
    assert!(!acceptable("GPL-3.0-only"));
    assert!(!acceptable("MIT AND GPL-3.0"));
}
