//! How does a JSON schema document become a [`Schema`] tree?

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::core_tables;
use super::value_rules::ValueRules;
use super::{Additional, JsonType, ListKind, Schema};
use crate::cel::NodeRules;

/// A schema this control plane cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A `$ref` that names no definition.
    #[error("failed to resolve schema reference {0:?}")]
    UnknownReference(String),
    /// A `pattern` that is not a regular expression.
    #[error("failed to compile pattern {pattern:?} at {path}: {reason}")]
    BadPattern {
        /// Where in the schema.
        path: String,
        /// The pattern as written.
        pattern: String,
        /// What the regex engine says.
        reason: String,
    },
    /// A CEL rule that does not compile.
    #[error("failed to compile CEL rule at {path}: {reason}")]
    BadRule {
        /// Where in the schema.
        path: String,
        /// What the CEL compiler says.
        reason: String,
    },
    /// Deeper than anything Kubernetes serves; guards the recursion.
    #[error("schema is nested deeper than {0} levels at {1}")]
    TooDeep(usize, String),
}

/// No structural schema of a served kind comes near this depth (a pod template is about 15 deep).
const MAX_DEPTH: usize = 64;

/// Reads schema documents; shares one node per definition, so that a pod template costs its nodes once.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    definitions: Option<&'a Map<String, Value>>,
    shared: HashMap<String, Arc<Schema>>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(definitions: Option<&'a Map<String, Value>>) -> Self {
        Self {
            definitions,
            shared: HashMap::new(),
        }
    }

    /// The tree of `document`; `path` is only for error texts.
    pub(crate) fn read(
        &mut self,
        document: &Value,
        path: &str,
        depth: usize,
    ) -> Result<Arc<Schema>, SchemaError> {
        if depth > MAX_DEPTH {
            return Err(SchemaError::TooDeep(MAX_DEPTH, path.to_owned()));
        }
        if let Some(reference) = document.get("$ref").and_then(Value::as_str) {
            return self.reference(reference, path, depth);
        }
        Ok(Arc::new(self.node(document, path, depth)?))
    }

    fn reference(
        &mut self,
        reference: &str,
        path: &str,
        depth: usize,
    ) -> Result<Arc<Schema>, SchemaError> {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        if let Some(known) = self.shared.get(name) {
            return Ok(Arc::clone(known));
        }
        let unknown = || SchemaError::UnknownReference(reference.to_owned());
        let document = self
            .definitions
            .and_then(|d| d.get(name))
            .ok_or_else(unknown)?;
        let mut node = self.node(document, path, depth + 1)?;
        core_tables::complete(name, &mut node);
        let node = Arc::new(node);
        self.shared.insert(name.to_owned(), Arc::clone(&node));
        Ok(node)
    }

    fn node(&mut self, document: &Value, path: &str, depth: usize) -> Result<Schema, SchemaError> {
        let flag = |key: &str| document.get(key).and_then(Value::as_bool).unwrap_or(false);
        let mut schema = Schema {
            json_type: json_type(document),
            int_or_string: flag("x-kubernetes-int-or-string"),
            nullable: flag("nullable"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            atomic_map: document
                .get("x-kubernetes-map-type")
                .and_then(Value::as_str)
                == Some("atomic"),
            list: list_kind(document),
            default: document.get("default").filter(|d| !d.is_null()).cloned(),
            rules: self.value_rules(document, path, depth)?,
            ..Schema::default()
        };
        for (name, child) in object(document, "properties") {
            let child = self.read(child, &super::child_path(path, name), depth + 1)?;
            schema.properties.insert(name.clone(), child);
        }
        if let Some(items) = document.get("items") {
            schema.items = Some(self.read(items, &format!("{path}[]"), depth + 1)?);
        }
        schema.additional = match document.get("additionalProperties") {
            Some(Value::Bool(true)) => Additional::Any,
            Some(values @ Value::Object(_)) => {
                Additional::Values(self.read(values, &format!("{path}.*"), depth + 1)?)
            }
            _ => Additional::None,
        };
        let strings = document
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        schema.required = strings
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        schema.cel = NodeRules::compile(document, path)?.map(Arc::new);
        Ok(schema)
    }

    fn value_rules(
        &mut self,
        document: &Value,
        path: &str,
        depth: usize,
    ) -> Result<ValueRules, SchemaError> {
        let count = |key: &str| document.get(key).and_then(Value::as_u64);
        let number = |key: &str| document.get(key).and_then(Value::as_f64);
        let flag = |key: &str| document.get(key).and_then(Value::as_bool).unwrap_or(false);
        let pattern = match document.get("pattern").and_then(Value::as_str) {
            None => None,
            Some(pattern) => {
                let regex = regex::Regex::new(pattern).map_err(|e| SchemaError::BadPattern {
                    path: path.to_owned(),
                    pattern: pattern.to_owned(),
                    reason: e.to_string(),
                })?;
                Some((pattern.to_owned(), regex))
            }
        };
        Ok(ValueRules {
            enumeration: document
                .get("enum")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default(),
            pattern,
            format: document
                .get("format")
                .and_then(Value::as_str)
                .map(str::to_owned),
            minimum: number("minimum").map(|n| (n, flag("exclusiveMinimum"))),
            maximum: number("maximum").map(|n| (n, flag("exclusiveMaximum"))),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            unique_items: flag("uniqueItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            all_of: self.branches(document, "allOf", path, depth)?,
            any_of: self.branches(document, "anyOf", path, depth)?,
            one_of: self.branches(document, "oneOf", path, depth)?,
            not: match document.get("not") {
                Some(not) => Some(Box::new(self.node(not, path, depth + 1)?)),
                None => None,
            },
        })
    }

    fn branches(
        &mut self,
        document: &Value,
        key: &str,
        path: &str,
        depth: usize,
    ) -> Result<Vec<Schema>, SchemaError> {
        let branches = document
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        branches
            .map(|branch| self.node(branch, path, depth + 1))
            .collect()
    }
}

fn object<'v>(document: &'v Value, key: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    document
        .get(key)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

fn json_type(document: &Value) -> Option<JsonType> {
    match document.get("type").and_then(Value::as_str)? {
        "object" => Some(JsonType::Object),
        "array" => Some(JsonType::Array),
        "string" => Some(JsonType::String),
        "integer" => Some(JsonType::Integer),
        "number" => Some(JsonType::Number),
        "boolean" => Some(JsonType::Boolean),
        _ => None,
    }
}

fn list_kind(document: &Value) -> ListKind {
    match document
        .get("x-kubernetes-list-type")
        .and_then(Value::as_str)
    {
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = document
                .get("x-kubernetes-list-map-keys")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            ListKind::Map(keys.filter_map(Value::as_str).map(str::to_owned).collect())
        }
        _ => ListKind::Atomic,
    }
}
