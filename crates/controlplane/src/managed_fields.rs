//! Who owns which field of an object, and how does that list change with each kind of write?

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::comparison::difference;
use crate::field_set::FieldSet;
use crate::kinds::Kind;
use crate::schema::Schema;

/// How a manager writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Apply,
    Update,
}

/// One entry of `metadata.managedFields`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) manager: String,
    pub(crate) operation: Operation,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
    pub(crate) time: Option<String>,
    pub(crate) fields: FieldSet,
}

impl Entry {
    /// Whether two entries are the same manager; appliers keep their identity across versions.
    pub(crate) fn same_manager(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// As conflict messages name the owner.
    pub(crate) fn shown(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text = format!("{text} with subresource {:?}", self.subresource);
        }
        if self.operation == Operation::Update {
            text = format!("{text} using {}", self.api_version);
        }
        text
    }
}

/// Reads `metadata.managedFields`.
pub(crate) fn decode(object: &Value) -> Vec<Entry> {
    let entries = object
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    entries
        .map(|entry| {
            let text = |key: &str| {
                entry
                    .get(key)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            Entry {
                manager: text("manager"),
                operation: if text("operation") == "Apply" {
                    Operation::Apply
                } else {
                    Operation::Update
                },
                api_version: text("apiVersion"),
                subresource: text("subresource"),
                time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
                fields: FieldSet::from_wire(entry.get("fieldsV1").unwrap_or(&Value::Null)),
            }
        })
        .collect()
}

/// Writes `metadata.managedFields`; appliers first, then by time, as the API server sorts them.
pub(crate) fn encode(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    entries.sort_by(|a, b| {
        let rank = |e: &Entry| {
            let apply_first = e.operation == Operation::Update;
            (
                apply_first,
                e.time.clone(),
                e.manager.clone(),
                e.api_version.clone(),
                e.subresource.clone(),
            )
        };
        rank(a).cmp(&rank(b))
    });
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    if entries.is_empty() {
        metadata.remove("managedFields");
        return;
    }
    let wire: Vec<Value> = entries
        .into_iter()
        .map(|entry| {
            let mut value = json!({
                "manager": entry.manager,
                "operation": if entry.operation == Operation::Apply { "Apply" } else { "Update" },
                "apiVersion": entry.api_version,
                "fieldsType": "FieldsV1",
                "fieldsV1": entry.fields.to_wire(),
            });
            if let Some(time) = entry.time {
                value["time"] = json!(time);
            }
            if !entry.subresource.is_empty() {
                value["subresource"] = json!(entry.subresource);
            }
            value
        })
        .collect();
    metadata.insert("managedFields".to_owned(), Value::Array(wire));
}

/// Paths nobody owns: identity and bookkeeping.
pub(crate) fn strip_bookkeeping(set: &mut FieldSet) {
    for path in [
        &["apiVersion"][..],
        &["kind"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "deletionTimestamp"],
        &["metadata", "deletionGracePeriodSeconds"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ] {
        set.remove_path(path);
    }
    if let Some(metadata) = set
        .children
        .get_mut(&crate::field_set::Step::Field("metadata".to_owned()))
    {
        metadata.member = false;
        if metadata.is_empty() {
            set.remove_path(&["metadata"]);
        }
    }
}

/// Records a create, replace or patch: the writer owns what it changed, and nobody owns what is gone.
pub(crate) fn record_update(
    old: Option<&Value>,
    new: &mut Value,
    schema: &Schema,
    writer: Entry,
    now: Timestamp,
    owned_part: impl Fn(&mut FieldSet),
) {
    let mut entries = decode(old.unwrap_or(new));
    let empty = json!({});
    let mut diff = difference(old.unwrap_or(&empty), new, schema);
    strip_bookkeeping(&mut diff.changed);
    strip_bookkeeping(&mut diff.removed);
    owned_part(&mut diff.changed);
    for entry in entries.iter_mut().filter(|e| !e.same_manager(&writer)) {
        entry.fields.subtract(&diff.changed);
        entry.fields.subtract(&diff.removed);
    }
    let existing = entries.iter().position(|e| e.same_manager(&writer));
    let mut mine = match existing {
        Some(index) => entries.remove(index),
        None => writer,
    };
    let before = mine.fields.clone();
    mine.fields.subtract(&diff.removed);
    mine.fields.union(&diff.changed);
    if mine.fields != before || mine.time.is_none() {
        mine.time = Some(stamp(now));
    }
    entries.push(mine);
    encode(new, entries);
}

/// RFC 3339 with whole seconds, as `metav1.Time` is written.
pub(crate) fn stamp(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A writer owns only what its endpoint can write: status there, everything else here.
pub(crate) fn keep_own_part(set: &mut FieldSet, kind: &Kind, subresource: &str) {
    if subresource == "status" {
        set.retain_top(|name| name == "status");
    } else if kind.status {
        set.retain_top(|name| name != "status");
    }
}
