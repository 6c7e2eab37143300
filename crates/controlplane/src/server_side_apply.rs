//! What does an object look like after `manager` applies its whole intent (server-side apply)?
//!
//! The steps are those of structured-merge-diff's `Updater.Apply`: merge the intent over the live object; prune what
//! this manager applied before, applies no longer and nobody else owns; refuse (or, forced, take over) fields of
//! others that would change.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::api_error::ApiError;
use crate::comparison::difference;
use crate::field_set::{FieldSet, Step, at, item_step, schema_at};
use crate::managed_fields::{Entry, Operation, decode, encode, stamp, strip_bookkeeping};
use crate::schema::{ListKind, Schema};

/// The merged object, its managed fields already updated; equal to `live` when nothing changed but a timestamp.
pub(crate) fn apply(
    live: &Value,
    intent: &Value,
    schema: &Schema,
    applier: Entry,
    force: bool,
    now: Timestamp,
    owned_part: impl Fn(&mut FieldSet),
) -> Result<Value, ApiError> {
    debug_assert_eq!(applier.operation, Operation::Apply, "only appliers apply");
    let mut entries = decode(live);
    let previous = entries
        .iter()
        .position(|e| e.same_manager(&applier))
        .map(|index| entries.remove(index));

    let mut intended = FieldSet::of(intent, Some(schema));
    strip_bookkeeping(&mut intended);
    owned_part(&mut intended);

    let mut merged = merge(Some(live), intent, Some(schema));
    if let Some(previous) = &previous {
        let mut owned = intended.clone();
        entries.iter().for_each(|entry| owned.union(&entry.fields));
        prune(&mut merged, &previous.fields, &owned, Some(schema));
    }

    let mut diff = difference(live, &merged, schema);
    strip_bookkeeping(&mut diff.changed);
    let mut conflicts = Vec::new();
    for entry in &mut entries {
        let conflicting = entry.fields.intersection(&diff.changed);
        if conflicting.is_empty() {
            continue;
        }
        if force {
            entry.fields.subtract(&conflicting);
        } else {
            conflicts.extend(
                conflicting
                    .paths()
                    .into_iter()
                    .map(|path| (entry.shown(), path)),
            );
        }
    }
    if !conflicts.is_empty() {
        return Err(ApiError::apply_conflict(&conflicts));
    }
    entries.iter_mut().for_each(|entry| {
        entry.fields.subtract(&diff.removed);
    });
    let unchanged = previous
        .as_ref()
        .is_some_and(|p| p.fields == intended && p.api_version == applier.api_version);
    let time = match previous.and_then(|p| p.time) {
        Some(time) if unchanged => time,
        _ => stamp(now),
    };
    entries.push(Entry {
        fields: intended,
        time: Some(time),
        ..applier
    });
    encode(&mut merged, entries);
    Ok(merged)
}

/// The intent laid over the live value.
fn merge(live: Option<&Value>, intent: &Value, schema: Option<&Schema>) -> Value {
    match (live, intent) {
        (Some(Value::Object(live)), Value::Object(intent))
            if !schema.is_some_and(|s| s.atomic_map) =>
        {
            let mut out = live.clone();
            for (name, value) in intent {
                let child = schema.and_then(|s| s.child(name)).map(AsRef::as_ref);
                out.insert(name.clone(), merge(live.get(name), value, child));
            }
            Value::Object(out)
        }
        (None, Value::Object(intent)) => {
            let child = |name: &str| schema.and_then(|s| s.child(name)).map(AsRef::as_ref);
            let fields = intent
                .iter()
                .map(|(name, value)| (name.clone(), merge(None, value, child(name))));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        (Some(Value::Array(live)), Value::Array(intent)) => match schema {
            Some(schema) if schema.list != ListKind::Atomic => {
                Value::Array(merge_list(live, intent, schema))
            }
            _ => Value::Array(intent.clone()),
        },
        _ => intent.clone(),
    }
}

/// Items of a keyed list: the live order is kept, applied items that are new come after the item they follow in the
/// intent (or at the end), as recent API servers do.
fn merge_list(live: &[Value], intent: &[Value], schema: &Schema) -> Vec<Value> {
    let step = |item: &Value| item_step(item, Some(schema));
    let mut out: Vec<Value> = live.to_vec();
    let mut after: Option<usize> = None;
    for item in intent {
        let found = out.iter().position(|existing| step(existing) == step(item));
        let index = match found {
            Some(index) => {
                out[index] = merge(Some(&out[index]), item, schema.items.as_deref());
                index
            }
            None => {
                let index = after.map_or(out.len(), |a| a + 1);
                out.insert(index, item.clone());
                index
            }
        };
        after = Some(index);
    }
    out
}

/// Removes from `value` what `last` held and `owned` (everybody's current fields) does not.
fn prune(value: &mut Value, last: &FieldSet, owned: &FieldSet, schema: Option<&Schema>) {
    for (step, child) in &last.children {
        if at(value, step, schema).is_none() {
            continue;
        }
        // A field above a member goes with its last member; a list item only when it was itself applied.
        let removable = child.member || matches!(step, Step::Field(_));
        match owned.children.get(step) {
            None if removable => remove(value, step, schema),
            still => {
                let nobody = FieldSet::default();
                if let Some(inner) = at_mut(value, step, schema) {
                    prune(
                        inner,
                        child,
                        still.unwrap_or(&nobody),
                        schema_at(schema, step),
                    );
                }
            }
        }
    }
}

fn remove(value: &mut Value, step: &Step, schema: Option<&Schema>) {
    match (value, step) {
        (Value::Object(map), Step::Field(name)) => {
            map.remove(name);
        }
        (Value::Array(items), Step::Key(_) | Step::Value(_)) => {
            items.retain(|item| item_step(item, schema).as_ref() != Some(step));
        }
        _ => {}
    }
}

fn at_mut<'v>(value: &'v mut Value, step: &Step, schema: Option<&Schema>) -> Option<&'v mut Value> {
    match step {
        Step::Field(name) => value.get_mut(name),
        Step::Key(_) | Step::Value(_) => value
            .as_array_mut()?
            .iter_mut()
            .find(|item| item_step(item, schema).as_ref() == Some(step)),
    }
}
