//! What do the YAML files of a folder ask for, and what is wrong with them?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use config::yaml::{Document, YamlError, documents};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;

const DEFAULT_NAMESPACE: &str = "default";
/// Folders below the manifest folder that are read; deeper ones are taken for a mistake.
const DEEPEST: usize = 4;

/// What identifies an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    /// The API's name for the kind.
    pub(crate) fn resource(&self) -> ApiResource {
        let (group, version) = self
            .api_version
            .split_once('/')
            .unwrap_or(("", &self.api_version));
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &self.kind))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// One object that a file asks for.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) key: Key,
    pub(crate) document: Document,
    pub(crate) value: Value,
}

impl Manifest {
    /// The object as it is applied.
    ///
    /// # Errors
    /// It is no Kubernetes object.
    pub(crate) fn object(&self) -> anyhow::Result<DynamicObject> {
        serde_json::from_value(self.value.clone())
            .with_context(|| format!("{}: not an object", self.document.file()))
    }

    /// `FILE:LINE` of the value at a field path such as `spec.pools[0].name`, or of the object.
    pub(crate) fn place(&self, field: &str) -> String {
        let path: Vec<&str> = parts(field).collect();
        match self.document.line_of(&path) {
            Some(line) => format!("{}:{line}", self.document.file()),
            None => self.document.file().to_owned(),
        }
    }

    /// The value at a field path.
    pub(crate) fn at(&self, field: &str) -> Option<&Value> {
        parts(field).try_fold(&self.value, |value, part| match value {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            _ => value.get(part),
        })
    }
}

fn parts(field: &str) -> impl Iterator<Item = &str> {
    field.split(['.', '[', ']']).filter(|part| !part.is_empty())
}

/// The content of a folder.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    pub(crate) manifests: BTreeMap<Key, Manifest>,
    /// One line each, with file and line.
    pub(crate) problems: Vec<String>,
    /// Files that could not be read as a whole: what they gave before stays.
    pub(crate) broken: Vec<String>,
    pub(crate) files: usize,
}

/// Reads every `.yaml`, `.yml` and `.json` below `dir`.
///
/// # Errors
/// The folder itself cannot be read.
pub(crate) fn load(dir: &Path) -> anyhow::Result<Folder> {
    let mut folder = Folder::default();
    for path in files(dir, 0)? {
        folder.files += 1;
        let file = path
            .strip_prefix(dir)
            .unwrap_or(&path)
            .display()
            .to_string();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                folder
                    .problems
                    .push(format!("{file}: failed to read: {error}"));
                folder.broken.push(file);
                continue;
            }
        };
        for document in documents(&file, &text) {
            folder.add(document);
        }
    }
    Ok(folder)
}

impl Folder {
    fn add(&mut self, document: Document) {
        match parse(document) {
            Ok(Some(manifest)) => match self.manifests.get(&manifest.key) {
                Some(first) => self.problems.push(format!(
                    "{}: {} is already defined in {}: remove one of the two",
                    manifest.place("metadata.name"),
                    manifest.key,
                    first.place("metadata.name")
                )),
                None => {
                    self.manifests.insert(manifest.key.clone(), manifest);
                }
            },
            Ok(None) => {}
            Err(error) => {
                self.problems.push(error.to_string());
                self.broken.push(error.file);
            }
        }
    }
}

fn files(dir: &Path, depth: usize) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)
        .with_context(|| format!("failed to read the folder {}", dir.display()))?
    {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() && depth < DEEPEST {
            found.extend(files(&path, depth + 1)?);
        } else if path.extension().is_some_and(|extension| {
            ["yaml", "yml", "json"]
                .iter()
                .any(|known| extension == *known)
        }) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// `None` for a document without content.
fn parse(document: Document) -> Result<Option<Manifest>, YamlError> {
    let mut value: Value = document.parse()?;
    if value.is_null() {
        return Ok(None);
    }
    let missing = |field: &[&str], what: &str| {
        let line = document.line_of(field).or_else(|| document.line_of(&[]));
        YamlError::at(
            document.file(),
            line,
            format!("{} is missing: {what}", field.join(".")),
        )
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let api_version = text(&value["apiVersion"])
        .ok_or_else(|| missing(&["apiVersion"], "want for example tidemark.dev/v1alpha1"))?;
    let kind =
        text(&value["kind"]).ok_or_else(|| missing(&["kind"], "want for example KafkaTopic"))?;
    let name = text(&value["metadata"]["name"])
        .ok_or_else(|| missing(&["metadata", "name"], "every object needs a name"))?;
    let namespace =
        text(&value["metadata"]["namespace"]).unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    value["metadata"]["namespace"] = Value::String(namespace.clone());
    Ok(Some(Manifest {
        key: Key {
            api_version,
            kind,
            namespace,
            name,
        },
        document,
        value,
    }))
}

/// What changed between two versions of an object: `spec.partitions 6 -> 12`.
pub(crate) fn differences(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let inner = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                differences(&inner, &before[key], &after[key], found);
            }
        }
        _ if before == after => {}
        (Value::Null, _) => found.push(format!("{path} = {after}")),
        (_, Value::Null) => found.push(format!("{path} removed")),
        _ => found.push(format!("{path} {before} -> {after}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> Folder {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        load(dir.path()).unwrap()
    }

    const TOPIC: &str = "apiVersion: tidemark.dev/v1alpha1\nkind: KafkaTopic\nmetadata:\n  name: orders\nspec:\n  partitions: 3\n";

    #[test]
    fn a_twin_is_reported_with_both_places_and_the_first_stays() {
        let folder = folder(&[("a.yaml", TOPIC), ("b.yaml", TOPIC)]);
        assert_eq!(folder.manifests.len(), 1);
        assert_eq!(
            folder.problems,
            [
                "b.yaml:4: KafkaTopic default/orders is already defined in a.yaml:4: remove one of the two"
            ]
        );
    }

    #[test]
    fn a_file_that_does_not_parse_is_reported_with_its_line_and_the_others_are_read() {
        let folder = folder(&[
            ("a.yaml", TOPIC),
            (
                "tab.yaml",
                "apiVersion: v1\nkind: X\nmetadata:\n\tname: y\n",
            ),
            ("half.yaml", "kind: X\n"),
        ]);
        assert_eq!(folder.manifests.len(), 1);
        assert_eq!(folder.problems.len(), 2, "{:?}", folder.problems);
        assert!(
            folder
                .problems
                .iter()
                .any(|problem| problem.contains("tab.yaml:4")),
            "{:?}",
            folder.problems
        );
        assert!(
            folder
                .problems
                .iter()
                .any(|problem| problem.contains("half.yaml")
                    && problem.contains("apiVersion is missing"))
        );
        assert_eq!(folder.broken.len(), 2);
    }

    #[test]
    fn a_field_is_found_at_its_line() {
        let folder = folder(&[("a.yaml", TOPIC)]);
        let manifest = folder.manifests.values().next().unwrap();
        assert_eq!(manifest.place("spec.partitions"), "a.yaml:6");
    }

    #[test]
    fn differences_name_the_field_and_both_values() {
        let mut found = Vec::new();
        differences(
            "",
            &serde_json::json!({"a": {"b": 1, "c": 2}}),
            &serde_json::json!({"a": {"b": 3, "d": 4}}),
            &mut found,
        );
        found.sort();
        assert_eq!(found, ["a.b 1 -> 3", "a.c removed", "a.d = 4"]);
    }
}
