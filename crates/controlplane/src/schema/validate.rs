//! Does an object keep its schema? Types, required fields, value rules and list uniqueness.
//!
//! On an update, parts that did not change are not checked again ("ratcheting", GA in Kubernetes 1.33): an
//! object that was stored under an older schema can still be edited elsewhere.

use serde_json::{Value, json};

use super::{JsonType, ListKind, Schema, child_path, correlated};
use crate::api_error::FieldError;

impl Schema {
    /// Everything `value` breaks; `old` is the stored object of an update.
    pub(crate) fn validate(&self, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = Vec::new();
        self.validate_into(value, old, "", &mut errors);
        self.unique_lists(value, old, "", &mut errors);
        errors
    }

    pub(super) fn validate_into(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        errors: &mut Vec<FieldError>,
    ) {
        if old == Some(value) {
            return;
        }
        if value.is_null() {
            if !self.nullable && (self.json_type.is_some() || self.int_or_string) {
                errors.push(self.wrong_type(value, path));
            }
            return;
        }
        if !self.accepts_type(value) {
            errors.push(self.wrong_type(value, path));
            return;
        }
        self.rules.check(value, path, errors);
        match value {
            Value::Object(map) => {
                for name in self.required.iter().filter(|name| !map.contains_key(*name)) {
                    errors.push(FieldError::required(&child_path(path, name), ""));
                }
                for (name, child) in map {
                    if let Some(schema) = self.child(name) {
                        let old = old.and_then(|o| o.get(name));
                        schema.validate_into(child, old, &child_path(path, name), errors);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    for (index, item) in items.iter().enumerate() {
                        let old = correlated(&self.list, item, old);
                        schema.validate_into(item, old, &format!("{path}[{index}]"), errors);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn accepts_type(&self, value: &Value) -> bool {
        if self.int_or_string {
            return value.is_string() || value.is_i64() || value.is_u64();
        }
        match self.json_type {
            None => true,
            Some(JsonType::Object) => value.is_object(),
            Some(JsonType::Array) => value.is_array(),
            Some(JsonType::String) => value.is_string(),
            Some(JsonType::Boolean) => value.is_boolean(),
            Some(JsonType::Number) => value.is_number(),
            Some(JsonType::Integer) => is_integer(value),
        }
    }

    fn wrong_type(&self, value: &Value, path: &str) -> FieldError {
        let wanted = if self.int_or_string {
            "integer,string"
        } else {
            self.json_type.map_or("", JsonType::name)
        };
        let got = type_name(value);
        FieldError::type_invalid(
            path,
            &json!(got),
            &format!("{path} in body must be of type {wanted}: {got:?}"),
        )
    }

    fn unique_lists(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        errors: &mut Vec<FieldError>,
    ) {
        if old == Some(value) {
            return;
        }
        match value {
            Value::Object(map) => {
                for (name, child) in map {
                    if let Some(schema) = self.child(name) {
                        schema.unique_lists(
                            child,
                            old.and_then(|o| o.get(name)),
                            &child_path(path, name),
                            errors,
                        );
                    }
                }
            }
            Value::Array(items) => {
                let identity = |item: &Value| match &self.list {
                    ListKind::Atomic => None,
                    ListKind::Set => Some(item.clone()),
                    ListKind::Map(keys) => {
                        let pairs = keys
                            .iter()
                            .filter_map(|k| item.get(k).map(|v| (k.clone(), v.clone())));
                        Some(Value::Object(pairs.collect()))
                    }
                };
                let mut seen = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let here = format!("{path}[{index}]");
                    if let Some(identity) = identity(item) {
                        if seen.contains(&identity) {
                            errors.push(FieldError::duplicate(&here, &identity));
                        }
                        seen.push(identity);
                    }
                    if let Some(schema) = &self.items {
                        schema.unique_lists(item, correlated(&self.list, item, old), &here, errors);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Runs the CEL rules of every node; `old` correlates as in [`Schema::validate`].
    pub(crate) fn validate_cel(
        &self,
        evaluator: &crate::cel::Evaluator,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        errors: &mut Vec<FieldError>,
    ) {
        if value.is_null() {
            return;
        }
        if let Some(rules) = &self.cel {
            let type_name = self.json_type.map_or("", JsonType::name);
            rules.evaluate(evaluator, value, old, path, type_name, errors);
        }
        match value {
            Value::Object(map) => {
                for (name, child) in map {
                    if let Some(schema) = self.child(name) {
                        let old = old.and_then(|o| o.get(name));
                        schema.validate_cel(evaluator, child, old, &child_path(path, name), errors);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    for (index, item) in items.iter().enumerate() {
                        let old = correlated(&self.list, item, old);
                        schema.validate_cel(
                            evaluator,
                            item,
                            old,
                            &format!("{path}[{index}]"),
                            errors,
                        );
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|f| f.fract() == 0.0)
}

/// The type name kube-openapi prints for a JSON value.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_integer(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
