//! How do core events look through `events.k8s.io/v1`, which kube's recorder writes?

use serde_json::Value;

/// (name in `events.k8s.io/v1`, name in core `v1`)
const NAMES: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

const NEW: &str = "events.k8s.io/v1";

/// A body (object or merge patch) as the store keeps it; what is not JSON is left for the decoder to refuse.
pub(super) fn to_stored(body: &[u8]) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<Value>(body) else {
        return body.to_vec();
    };
    rename(&mut value, |(new, core)| (new, core));
    if value.get("apiVersion").and_then(Value::as_str) == Some(NEW) {
        value["apiVersion"] = "v1".into();
    }
    value.to_string().into_bytes()
}

/// A stored event, a list of them, or a Status, as `events.k8s.io/v1` shows it.
pub(crate) fn to_served(value: &mut Value) {
    if let Some(items) = value.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(to_served);
    }
    if value.get("kind").and_then(Value::as_str) == Some("Status") {
        return;
    }
    rename(value, |(new, core)| (core, new));
    if value.get("apiVersion").is_some() {
        value["apiVersion"] = NEW.into();
    }
}

fn rename(
    value: &mut Value,
    direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) {
    let Some(map) = value.as_object_mut() else {
        return;
    };
    for &pair in NAMES {
        let (from, to) = direction(pair);
        if let Some(field) = map.remove(from) {
            map.insert(to.to_owned(), field);
        }
    }
}
