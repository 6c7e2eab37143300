//! Are files and functions small enough to be read at one sitting?

use crate::{assert_none, read, tracked};

const MAX_FILE_LINES: usize = 1_000;
const MAX_MAIN_LINES: usize = 30;
const MAX_FUNCTION_LINES: usize = 70;

/// Generated code, which nobody reads from top to bottom.
const GENERATED: &[&str] = &["crates/rpc/src/gen/"];

/// Functions past the limit: one flat list of steps or one literal each; to be split when they are next touched.
const LONG_FUNCTIONS: &[(&str, &str)] = &[];

/// Programs that are one script, outside the workspace.
const SCRIPTS: &[&str] = &["crates/rpc/codegen/src/main.rs"];

/// The `(name, first line, lines)` of every function in rustfmt-formatted text: a `fn` line up to the closing
/// brace at the same indentation.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        let Some(name) = function_name(body) else {
            continue;
        };
        if body.trim_end().ends_with(';') || body.trim_end().ends_with('}') {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let declaration_only = format!("{});", " ".repeat(indent));
        for (end, line) in lines.iter().enumerate().skip(at + 1) {
            if *line == close {
                found.push((name, at + 1, end - at + 1));
                break;
            }
            if line.starts_with(&declaration_only) {
                break;
            }
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "fn")?;
    let modifiers = [
        "pub",
        "pub(crate)",
        "pub(super)",
        "async",
        "const",
        "unsafe",
        "extern",
        "\"C\"",
    ];
    if !words[..at]
        .iter()
        .all(|word| modifiers.contains(word) || word.starts_with("pub("))
    {
        return None;
    }
    let name: String = words
        .get(at + 1)?
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

fn violations(path: &str, text: &str) -> Vec<String> {
    if GENERATED.iter().any(|folder| path.starts_with(folder)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_FILE_LINES {
        found.push(format!(
            "{path} has {lines} lines, at most {MAX_FILE_LINES}: split it by step, key or invariant"
        ));
    }
    if path.ends_with("src/main.rs") && !SCRIPTS.contains(&path) && lines > MAX_MAIN_LINES {
        found.push(format!(
            "{path} has {lines} lines, a main.rs at most {MAX_MAIN_LINES}"
        ));
    }
    for (name, at, length) in functions(text) {
        if length > MAX_FUNCTION_LINES && !LONG_FUNCTIONS.contains(&(path, name.as_str())) {
            found.push(format!(
                "{path}:{at}: fn {name} has {length} lines, at most {MAX_FUNCTION_LINES}"
            ));
        }
    }
    found
}

#[test]
fn files_and_functions_are_small() {
    let found: Vec<String> = tracked(&[".rs"])
        .iter()
        .flat_map(|path| violations(&path.to_string_lossy(), &read(path)))
        .collect();
    assert_none("sizes", &found);
}

#[test]
fn a_long_file_and_a_long_function_are_reported() {
    let long_function = format!(
        "impl X {{\n    pub fn far(\n        &self,\n    ) {{\n{}    }}\n}}\n",
        "        x();\n".repeat(70)
    );
    assert_eq!(violations("broker/src/a.rs", &long_function).len(), 1);
    let long_file = "// x\n".repeat(1_001);
    assert_eq!(violations("broker/src/a.rs", &long_file).len(), 1);
    assert_eq!(
        violations("crates/cli/src/main.rs", &"// x\n".repeat(31)).len(),
        1
    );
    assert_eq!(
        violations("crates/cli/src/main.rs", "fn main() {\n}\n").len(),
        0
    );
}
