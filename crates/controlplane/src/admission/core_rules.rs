//! Which rules do built-in kinds have beyond their schema: dependent defaults, immutable fields, cross-field checks?

use serde_json::{Value, json};

use crate::api_error::FieldError;
use crate::selector::Selector;

/// Defaults that depend on other fields.
pub(super) fn default(object: &mut Value, kind: &str) {
    match kind {
        "Service" => {
            for port in array_mut(object, "/spec/ports") {
                if port.get("targetPort").is_none() {
                    port["targetPort"] = port["port"].clone();
                }
            }
        }
        "Secret" => secret_string_data(object),
        "Namespace" => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            if object.pointer("/spec/finalizers").is_none() {
                object["spec"] = json!({"finalizers": ["kubernetes"]});
            }
            if object.pointer("/status/phase").is_none() {
                object["status"] = json!({"phase": "Active"});
            }
        }
        "StatefulSet" => {
            for claim in array_mut(object, "/spec/volumeClaimTemplates") {
                claim["apiVersion"] = json!("v1");
                claim["kind"] = json!("PersistentVolumeClaim");
                if claim.get("status").is_none() {
                    claim["status"] = json!({"phase": "Pending"});
                }
            }
        }
        _ => {}
    }
}

fn array_mut<'v>(object: &'v mut Value, pointer: &str) -> impl Iterator<Item = &'v mut Value> {
    object
        .pointer_mut(pointer)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// `stringData` is write-only: it lands in `data`, encoded.
fn secret_string_data(object: &mut Value) {
    use base64::Engine as _;
    let Some(map) = object.as_object_mut() else {
        return;
    };
    let Some(Value::Object(strings)) = map.remove("stringData") else {
        return;
    };
    for (key, value) in strings {
        let encoded =
            base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
        map.entry("data").or_insert_with(|| json!({}))[key] = json!(encoded);
    }
}

/// Immutability and cross-field rules.
pub(super) fn validate(
    object: &Value,
    old: Option<&Value>,
    kind: &str,
    errors: &mut Vec<FieldError>,
) {
    match kind {
        "StatefulSet" => workload(object, old, errors, statefulset_update),
        "Deployment" => workload(object, old, errors, |_, _, _| {}),
        "Pod" => {
            if let Some(old) = old {
                pod_update(object, old, errors);
            } else {
                containers(object, "spec.containers", "/spec/containers", errors);
            }
        }
        "PersistentVolumeClaim" => claim(object, old, errors),
        "ConfigMap" | "Secret" => immutable_data(object, old, kind, errors),
        "RoleBinding" => {
            if let Some(old) = old.filter(|old| old.get("roleRef") != object.get("roleRef")) {
                let detail = "cannot change roleRef";
                errors.push(FieldError::invalid("roleRef", &old["roleRef"], detail));
            }
        }
        _ => {}
    }
}

fn workload(
    object: &Value,
    old: Option<&Value>,
    errors: &mut Vec<FieldError>,
    update: impl Fn(&Value, &Value, &mut Vec<FieldError>),
) {
    let selector = object
        .pointer("/spec/selector")
        .cloned()
        .unwrap_or_default();
    let template =
        json!({"metadata": object.pointer("/spec/template/metadata").cloned().unwrap_or_default()});
    let parsed = Selector::from_label_selector(&selector);
    if parsed.is_empty() {
        let detail = "empty selector is invalid for statefulset";
        errors.push(FieldError::invalid("spec.selector", &selector, detail));
    } else if !parsed.matches(&template) {
        let labels = template
            .pointer("/metadata/labels")
            .cloned()
            .unwrap_or_default();
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(
            "spec.template.metadata.labels",
            &labels,
            detail,
        ));
    }
    containers(
        object,
        "spec.template.spec.containers",
        "/spec/template/spec/containers",
        errors,
    );
    if let Some(old) = old {
        if old.pointer("/spec/selector") != object.pointer("/spec/selector") {
            errors.push(FieldError::invalid(
                "spec.selector",
                &selector,
                "field is immutable",
            ));
        }
        update(object, old, errors);
    }
}

fn containers(object: &Value, path: &str, pointer: &str, errors: &mut Vec<FieldError>) {
    let list = object.pointer(pointer).and_then(Value::as_array);
    if list.is_none_or(Vec::is_empty) {
        errors.push(FieldError::required(path, ""));
    }
}

const STATEFULSET_MUTABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn statefulset_update(object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let fixed = |value: &Value| {
        let mut spec = value.get("spec").cloned().unwrap_or_default();
        if let Some(map) = spec.as_object_mut() {
            map.retain(|name, _| {
                !STATEFULSET_MUTABLE.contains(&name.as_str()) && name != "selector"
            });
        }
        spec
    };
    if fixed(object) != fixed(old) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                      'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                      'minReadySeconds' are forbidden";
        errors.push(FieldError::forbidden("spec", detail));
    }
}

/// Only images, tolerations, deadlines and the grace period of a pod may change, and the node once.
fn pod_update(object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let fixed = |value: &Value| {
        let mut spec = value.get("spec").cloned().unwrap_or_default();
        for list in ["containers", "initContainers"] {
            for container in spec
                .get_mut(list)
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                if let Some(map) = container.as_object_mut() {
                    map.remove("image");
                }
            }
        }
        if let Some(map) = spec.as_object_mut() {
            for name in [
                "tolerations",
                "activeDeadlineSeconds",
                "terminationGracePeriodSeconds",
                "schedulingGates",
            ] {
                map.remove(name);
            }
            if old.pointer("/spec/nodeName").is_none() {
                map.remove("nodeName");
            }
        }
        spec
    };
    if fixed(object) != fixed(old) {
        let detail = "pod updates may not change fields other than `spec.containers[*].image`,\
                      `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions \
                      to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it \
                      was previously negative)";
        errors.push(FieldError::forbidden("spec", detail));
    }
}

fn claim(object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let modes = object
        .pointer("/spec/accessModes")
        .and_then(Value::as_array);
    if modes.is_none_or(Vec::is_empty) {
        errors.push(FieldError::required(
            "spec.accessModes",
            "at least 1 access mode is required",
        ));
    }
    let storage = |value: &Value| {
        value
            .pointer("/spec/resources/requests/storage")
            .and_then(crate::quantity::of)
    };
    if storage(object).is_none() {
        errors.push(FieldError::required("spec.resources[storage]", ""));
    }
    let Some(old) = old else { return };
    let fixed = |value: &Value| {
        let mut spec = value.get("spec").cloned().unwrap_or_default();
        if let Some(map) = spec.as_object_mut() {
            map.remove("resources");
            if old.pointer("/spec/volumeName").is_none() {
                map.remove("volumeName");
            }
        }
        spec
    };
    if fixed(object) != fixed(old) {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(FieldError::forbidden("spec", detail));
    } else if storage(object) < storage(old) {
        let detail = "field can not be less than status.capacity";
        errors.push(FieldError::forbidden(
            "spec.resources.requests.storage",
            detail,
        ));
    }
}

fn immutable_data(object: &Value, old: Option<&Value>, kind: &str, errors: &mut Vec<FieldError>) {
    let Some(old) = old else { return };
    if kind == "Secret" && old.get("type") != object.get("type") {
        errors.push(FieldError::invalid(
            "type",
            &object["type"],
            "field is immutable",
        ));
    }
    if old.get("immutable").and_then(Value::as_bool) != Some(true) {
        return;
    }
    if object.get("immutable") != old.get("immutable") {
        errors.push(FieldError::forbidden(
            "immutable",
            "field is immutable when `immutable` is set",
        ));
    }
    for field in ["data", "binaryData"] {
        if object.get(field) != old.get(field) {
            errors.push(FieldError::forbidden(
                field,
                "field is immutable when `immutable` is set",
            ));
        }
    }
}
