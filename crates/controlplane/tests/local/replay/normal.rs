//! What of an answer may differ between two runs, and is left out of the comparison?

use serde_json::{Value, json};

/// Identity and time differ in every run.
const VOLATILE: &[&str] = &[
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "time",
    "continue",
];

/// Deliberate deviations, as the crate's documentation lists them: no cluster IPs.
const NOT_OURS: &[&str] = &[
    "clusterIP",
    "clusterIPs",
    "ipFamilies",
    "ipFamilyPolicy",
    "f:clusterIP",
];

pub(crate) fn answer(code: u16, body: Value) -> Value {
    let mut value = json!({"code": code, "body": body});
    strip(&mut value);
    value
}

/// Go walks maps in random order: several causes, and managers of one second, come in any order.
fn unordered(map: &mut serde_json::Map<String, Value>) {
    let text = |value: &Value| value.to_string();
    if let Some(causes) = map.get_mut("causes").and_then(Value::as_array_mut) {
        causes.sort_by_key(text);
    }
    if let Some(managers) = map.get_mut("managedFields").and_then(Value::as_array_mut) {
        managers.sort_by_key(text);
    }
    if let Some(Value::String(message)) = map.get_mut("message") {
        let uid =
            regex::Regex::new("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").expect("a pattern");
        *message = uid.replace_all(message, "*").into_owned();
        if let Some((head, list)) = message.clone().split_once(": [") {
            let mut parts: Vec<&str> = list.trim_end_matches(']').split(", ").collect();
            parts.sort_unstable();
            *message = format!("{head}: [{}]", parts.join(", "));
        }
    }
}

/// Events are stored as core events: their managed fields name core's fields, and absent fields are absent.
fn as_events_differ(map: &mut serde_json::Map<String, Value>) {
    if map.get("kind").and_then(Value::as_str) == Some("Event") {
        map.retain(|_, value| !value.is_null() && *value != json!({}));
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    }
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|name, _| !NOT_OURS.contains(&name.as_str()));
            for name in VOLATILE {
                if let Some(field) = map.get_mut(*name).filter(|field| !field.is_object()) {
                    *field = json!("*");
                }
            }
            as_events_differ(map);
            map.values_mut().for_each(strip);
            unordered(map);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The paths at which two answers differ.
pub(crate) fn difference(theirs: &Value, ours: &Value) -> String {
    let mut lines = Vec::new();
    walk("", theirs, ours, &mut lines);
    lines.join("\n")
}

fn walk(path: &str, theirs: &Value, ours: &Value, lines: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let (left, right) = (a.get(name), b.get(name));
                let here = format!("{path}/{name}");
                match (left, right) {
                    (Some(left), Some(right)) => walk(&here, left, right, lines),
                    (Some(left), None) => lines.push(format!("  - {here}: {left}")),
                    (None, Some(right)) => lines.push(format!("  + {here}: {right}")),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (left, right)) in a.iter().zip(b).enumerate() {
                walk(&format!("{path}/{index}"), left, right, lines);
            }
        }
        (left, right) if left == right => {}
        (left, right) => {
            lines.push(format!("  - {path}: {left}"));
            lines.push(format!("  + {path}: {right}"));
        }
    }
}
