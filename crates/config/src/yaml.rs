//! How is YAML read with the file and line of each mistake, and written?
//!
//! Reading goes through serde-saphyr, which knows where everything stands; writing through serde_yaml. Nothing
//! else in the workspace names either of the two.

use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};

/// YAML that could not be read, with where in which file. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", Place(.file, *.line, *.column))]
pub struct YamlError {
    /// The file's name as the caller gave it.
    pub file: String,
    /// Line of the file, if known.
    pub line: Option<usize>,
    /// Column of that line, if known.
    pub column: Option<usize>,
    /// What is wrong there.
    pub message: String,
}

impl YamlError {
    /// A mistake in `file` at `line`.
    pub fn at(file: impl Into<String>, line: Option<usize>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line,
            column: None,
            message: message.into(),
        }
    }
}

struct Place<'a>(&'a str, Option<usize>, Option<usize>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)?;
        if let Some(line) = self.1 {
            write!(f, ":{line}")?;
        }
        if let (Some(_), Some(column)) = (self.1, self.2) {
            write!(f, ":{column}")?;
        }
        Ok(())
    }
}

/// One document of a YAML file.
#[derive(Debug, Clone)]
pub struct Document {
    file: String,
    first_line: usize,
    text: String,
}

impl Document {
    /// The whole of `text` as one document.
    pub fn whole(file: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            first_line: 1,
            text: text.into(),
        }
    }

    /// The file the document stands in.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Line of the file at which the document's text begins.
    #[must_use]
    pub const fn first_line(&self) -> usize {
        self.first_line
    }

    /// The document's text, without the `---` around it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reads the document into `T`.
    ///
    /// # Errors
    /// [`YamlError`] with the file's own line for bad YAML and for what `T` does not accept.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, YamlError> {
        if let Some(line) = tab_indented_line(&self.text) {
            return Err(YamlError::at(
                self.file.as_str(),
                Some(self.first_line + line),
                "a tab is used for indentation, which YAML does not allow: use spaces",
            ));
        }
        serde_saphyr::from_str(&self.text).map_err(|error| self.error(&error))
    }

    /// Line of the file where the value at `path` (map keys, or sequence indexes in digits) is written; the line of
    /// the nearest enclosing value where the path ends early.
    #[must_use]
    pub fn line_of(&self, path: &[&str]) -> Option<usize> {
        let root: serde_saphyr::Spanned<Node> = serde_saphyr::from_str(&self.text).ok()?;
        let mut line = root.referenced.line();
        let mut node = root.value;
        for segment in path {
            let Some((at, next)) = node.child(segment) else {
                break;
            };
            line = at;
            node = next;
        }
        let line = usize::try_from(line).ok()?;
        Some(self.first_line + line.max(1) - 1)
    }

    fn error(&self, error: &serde_saphyr::Error) -> YamlError {
        let error = error.without_snippet();
        let rendered = error.render_with_options(serde_saphyr::render_options! {
            snippets: serde_saphyr::SnippetMode::Off,
        });
        let location = error.location();
        let message = match rendered.rfind(" at line ") {
            Some(end) if location.is_some() => rendered[..end].to_owned(),
            _ => rendered,
        };
        let number = |n: u64| usize::try_from(n).ok().filter(|n| *n > 0);
        YamlError {
            file: self.file.clone(),
            line: location
                .and_then(|at| number(at.line()))
                .map(|line| self.first_line + line - 1),
            column: location.and_then(|at| number(at.column())),
            message,
        }
    }
}

/// The documents of a file that hold more than comments and blank lines, in order.
///
/// A line that begins with `---` or `...` at column 1 is a document marker wherever it stands: YAML forbids it
/// inside block and quoted scalars (YAML 1.2.2, rule `c-forbidden`).
#[must_use]
pub fn documents(file: &str, text: &str) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Vec::new();
    let mut current = Document {
        file: file.to_owned(),
        first_line: 1,
        text: String::new(),
    };
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        let marker = ["---", "..."].into_iter().find(|marker| {
            bare.strip_prefix(marker)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
        });
        let Some(marker) = marker else {
            current.text.push_str(line);
            continue;
        };
        let next = Document {
            file: file.to_owned(),
            first_line: index + 1,
            // What follows on the marker's own line belongs to the document; the spaces keep its column.
            text: format!("   {}", &line[marker.len()..]),
        };
        found.push(std::mem::replace(&mut current, next));
    }
    found.push(current);
    found.retain(|document| {
        document.text.lines().any(|line| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with('#') && !line.starts_with('%')
        })
    });
    found
}

/// Reads `text`, the content of `file`, which must hold one document.
///
/// # Errors
/// [`YamlError`] with file and line.
pub fn from_str<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, YamlError> {
    Document::whole(file, text).parse()
}

/// Writes `value` as YAML.
///
/// # Errors
/// The message of what cannot be written as YAML (a map with maps as keys, for example).
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, YamlError> {
    serde_yaml::to_string(value)
        .map_err(|error| YamlError::at("(output)", None, format!("failed to write YAML: {error}")))
}

/// Index (from 0) of the first line outside of quotes whose indentation contains a tab.
fn tab_indented_line(text: &str) -> Option<usize> {
    let mut block_indent: Option<usize> = None;
    for (index, line) in text.lines().enumerate() {
        let body = line.trim_start_matches(' ');
        let indent = line.len() - body.len();
        if body.trim().is_empty() {
            continue;
        }
        if block_indent.is_some_and(|outer| indent > outer) {
            continue; // the content of a block scalar may hold tabs
        }
        block_indent = None;
        if body.starts_with('\t') && body.contains(':') {
            return Some(index);
        }
        let code = body.trim_end();
        let opens_block = code
            .rsplit_once([' ', ':'])
            .is_some_and(|(_, last)| last.starts_with(['|', '>']) && last.len() <= 3);
        if opens_block {
            block_indent = Some(indent);
        }
    }
    None
}

/// A value with the lines of its parts.
enum Node {
    Leaf,
    Sequence(Vec<(u64, Self)>),
    Map(Vec<(String, u64, Self)>),
}

impl Node {
    fn child(self, segment: &str) -> Option<(u64, Self)> {
        match self {
            Self::Leaf => None,
            Self::Sequence(items) => items.into_iter().nth(segment.parse().ok()?),
            Self::Map(entries) => entries
                .into_iter()
                .find(|(key, ..)| key == segment)
                .map(|(_, line, node)| (line, node)),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

macro_rules! leaf {
    ($($visit:ident($ty:ty)),*) => {
        $(fn $visit<E: serde::de::Error>(self, _: $ty) -> Result<Node, E> {
            Ok(Node::Leaf)
        })*
    };
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    leaf!(
        visit_bool(bool),
        visit_i64(i64),
        visit_u64(u64),
        visit_i128(i128),
        visit_u128(u128),
        visit_f64(f64),
        visit_str(&str),
        visit_bytes(&[u8])
    );

    fn visit_unit<E: serde::de::Error>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<serde_saphyr::Spanned<Node>>()? {
            items.push((item.referenced.line(), item.value));
        }
        Ok(Node::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<serde_saphyr::Spanned<String>>()? {
            entries.push((key.value, key.referenced.line(), map.next_value()?));
        }
        Ok(Node::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const FILE: &str = "# a comment\n---\nkind: A\nspec:\n  partitions: 6\n  list: [1, 2]\n--- # next\nkind: B\nspec:\n  text: |\n    a\n    --- b\n  more:\n  - x: 1\n    y: 2\n...\n# end\n";

    #[test]
    fn documents_are_split_and_keep_the_lines_of_the_file() {
        let found = documents("a.yaml", FILE);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].line_of(&["kind"]), Some(3));
        assert_eq!(found[0].line_of(&["spec", "partitions"]), Some(5));
        assert_eq!(found[0].line_of(&["spec", "absent", "x"]), Some(4));
        assert_eq!(found[1].line_of(&["spec", "more", "0", "y"]), Some(15));
        let b: BTreeMap<String, serde_yaml::Value> = found[1].parse().expect("valid");
        assert_eq!(b["kind"], "B");
    }

    #[test]
    fn a_mistake_in_the_second_document_names_the_line_of_the_file() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Kind {
            #[allow(dead_code, reason = "only read by serde")]
            kind: String,
        }
        let found = documents("a.yaml", "kind: A\n---\nkind: B\nkindd: C\n");
        let error = found[1].parse::<Kind>().expect_err("unknown field");
        assert!(
            error.to_string().starts_with("a.yaml:4:"),
            "wrong place in {error}"
        );
        assert!(error.message.contains("kindd"), "{error}");
        assert!(!error.message.contains("at line"), "{error}");
    }

    #[test]
    fn a_tab_is_named_as_the_mistake() {
        let error = from_str::<serde_yaml::Value>("t.yaml", "a:\n\tb: 1\n").expect_err("tab");
        assert_eq!(error.line, Some(2), "{error}");
        assert!(error.message.contains("tab"), "{error}");
        let fine = "a: |\n  x:\n  \ty: 1\nb: 2\n";
        from_str::<serde_yaml::Value>("t.yaml", fine).expect("tabs inside a block scalar are text");
    }

    #[test]
    fn comments_alone_are_no_document() {
        assert!(documents("a.yaml", "# only\n---\n\n# this\n").is_empty());
    }

    #[test]
    fn what_is_written_reads_back() {
        let value: BTreeMap<String, String> = [
            ("on".to_owned(), "yes".to_owned()),
            ("n".to_owned(), "1".to_owned()),
        ]
        .into();
        let text = to_string(&value).expect("plain map");
        assert_eq!(from_str::<BTreeMap<String, String>>("x", &text), Ok(value));
    }
}
