//! Which fields differ between two versions of an object?
//!
//! The rules are those of structured-merge-diff's comparison. A field that one version lacks is added or removed by its
//! own path, together with everything in it; a leaf that both have is changed when its values differ; a container that
//! both have only through its contents. Containers that are empty on both sides are leaves, so that `null` and `{}`
//! stay apart.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::field_set::{FieldSet, Step, at, item_step, schema_at};
use crate::schema::{ListKind, Schema};

/// The members that differ between two versions of an object.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// Added or changed.
    pub(crate) changed: FieldSet,
    pub(crate) removed: FieldSet,
}

/// Compares two versions field by field.
pub(crate) fn difference(old: &Value, new: &Value, schema: &Schema) -> Difference {
    compare(Some(old), Some(new), Some(schema))
}

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Leaf,
    KeyedList,
    Map,
}

impl Form {
    /// `None` for null and for nothing, which take the form of the other side.
    fn of(value: Option<&Value>, schema: Option<&Schema>) -> Option<Self> {
        match value? {
            Value::Null => None,
            Value::Object(_) if !schema.is_some_and(|s| s.atomic_map) => Some(Self::Map),
            Value::Array(_) if schema.is_some_and(|s| s.list != ListKind::Atomic) => {
                Some(Self::KeyedList)
            }
            Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_) => Some(Self::Leaf),
        }
    }
}

fn compare(old: Option<&Value>, new: Option<&Value>, schema: Option<&Schema>) -> Difference {
    let mut found = Difference::default();
    let (before, after) = (Form::of(old, schema), Form::of(new, schema));
    let second = after.filter(|form| Some(*form) != before);
    let mut leaf = before.is_none() && after.is_none();
    for form in before.into_iter().chain(second) {
        leaf |= form == Form::Leaf || (is_empty(old) && is_empty(new));
        for step in steps(form, old, new, schema) {
            let child = compare(
                field(old, &step, schema),
                field(new, &step, schema),
                schema_at(schema, &step),
            );
            if !child.changed.is_empty() {
                found.changed.children.insert(step.clone(), child.changed);
            }
            if !child.removed.is_empty() {
                found.removed.children.insert(step, child.removed);
            }
        }
    }
    found.changed.member = old.is_none() || (new.is_some() && leaf && old != new);
    found.removed.member = new.is_none();
    found
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => false,
        Some(Value::Null) | None => true,
    }
}

/// The steps that lead from a container to the contents of either version.
fn steps(
    form: Form,
    old: Option<&Value>,
    new: Option<&Value>,
    schema: Option<&Schema>,
) -> BTreeSet<Step> {
    let both = [old, new].into_iter().flatten();
    match form {
        Form::Leaf => BTreeSet::new(),
        Form::KeyedList => both
            .filter_map(Value::as_array)
            .flatten()
            .filter_map(|item| item_step(item, schema))
            .collect(),
        Form::Map => {
            let written = both.filter_map(Value::as_object).flat_map(|map| map.keys());
            let held = schema.into_iter().flat_map(|s| &s.properties);
            let held = held.filter_map(|(name, child)| child.zero.as_ref().map(|_| name));
            written.chain(held).cloned().map(Step::Field).collect()
        }
    }
}

/// The value a step leads to; a field that the API server's type always holds is there even when nothing is written.
fn field<'v>(
    value: Option<&'v Value>,
    step: &Step,
    schema: Option<&'v Schema>,
) -> Option<&'v Value> {
    let value = value?;
    let zero = || match step {
        Step::Field(name) if value.is_object() => schema?.child(name)?.zero.as_ref(),
        Step::Field(_) | Step::Key(_) | Step::Value(_) => None,
    };
    at(value, step, schema).or_else(zero)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `a`: a struct, `b`: a pointer to one, `l`: a list by key, `m`: a map, `n`: a number that is always written.
    fn schema() -> Schema {
        let document = json!({"type": "object", "properties": {
            "a": {"type": "object", "properties": {"x": {"type": "integer"}}},
            "b": {"type": "object", "properties": {"x": {"type": "integer"}}},
            "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                  "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
            "m": {"type": "object", "additionalProperties": {"type": "string"}},
            "n": {"type": "integer"}}});
        let read = crate::schema::parse::Reader::new(None).read(&document, "", 0);
        let mut schema = std::sync::Arc::unwrap_or_clone(read.expect("a schema"));
        for (name, zero) in [("a", json!({})), ("n", json!(0))] {
            let node = schema.properties.get_mut(name).expect("declared above");
            std::sync::Arc::make_mut(node).zero = Some(zero);
        }
        schema
    }

    #[track_caller]
    fn check(old: Value, new: Value, changed: Value, removed: Value) {
        let found = difference(&old, &new, &schema());
        assert_eq!(found.changed.to_wire(), changed, "changed");
        assert_eq!(found.removed.to_wire(), removed, "removed");
    }

    #[test]
    fn a_struct_that_is_always_there_is_not_added_but_a_pointer_is() {
        check(
            json!({}),
            json!({"a": {"x": 1}, "b": {"x": 1}}),
            json!({"f:a": {"f:x": {}}, "f:b": {".": {}, "f:x": {}}}),
            json!({}),
        );
        check(
            json!({"a": {"x": 1}, "b": {"x": 1}}),
            json!({}),
            json!({}),
            json!({"f:a": {"f:x": {}}, "f:b": {".": {}, "f:x": {}}}),
        );
    }

    #[test]
    fn a_zero_that_was_never_written_is_no_change() {
        check(json!({}), json!({"n": 0, "a": {}}), json!({}), json!({}));
        check(json!({}), json!({"n": 1}), json!({"f:n": {}}), json!({}));
    }

    #[test]
    fn containers_of_both_versions_change_through_their_contents() {
        check(
            json!({"l": [{"k": "p", "v": 1}, {"k": "q"}], "m": {"s": "1", "t": "1"}}),
            json!({"l": [{"k": "p", "v": 2}, {"k": "r"}], "m": {"s": "1", "u": "1"}}),
            json!({"f:l": {"k:{\"k\":\"p\"}": {"f:v": {}}, "k:{\"k\":\"r\"}": {".": {}, "f:k": {}}}, "f:m": {"f:u": {}}}),
            json!({"f:l": {"k:{\"k\":\"q\"}": {".": {}, "f:k": {}}}, "f:m": {"f:t": {}}}),
        );
    }

    #[test]
    fn empty_containers_are_leaves() {
        check(
            json!({"m": null}),
            json!({"m": {}, "l": []}),
            json!({"f:m": {}, "f:l": {}}),
            json!({}),
        );
        check(
            json!({"m": {}}),
            json!({"m": {"s": "1"}}),
            json!({"f:m": {"f:s": {}}}),
            json!({}),
        );
    }

    #[test]
    fn a_value_that_changes_its_form_is_changed_and_its_contents_are_gone() {
        check(
            json!({"free": {"x": 1}}),
            json!({"free": 1}),
            json!({"f:free": {}}),
            json!({"f:free": {"f:x": {}}}),
        );
    }
}
