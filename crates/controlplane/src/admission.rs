//! What happens to an object between its decoding and its storing: decoding, identity, defaults and validation?

mod core_rules;
mod metadata;

use serde_json::{Map, Value, json};

use crate::api_error::{ApiError, FieldError};
use crate::cel::Evaluator;
use crate::kinds::Kind;
use crate::request::FieldValidation;

/// Reads a JSON (or, where allowed, YAML) body into an object.
pub(crate) fn decode(body: &[u8], yaml: bool) -> Result<Value, ApiError> {
    let parsed = match serde_json::from_slice::<Value>(body) {
        Err(_) if yaml => {
            let text = String::from_utf8_lossy(body);
            let document = config::yaml::Document::whole("body", text);
            document
                .parse::<Value>()
                .map_err(|e| ApiError::bad_request(format!("error decoding YAML: {e}")))?
        }
        Err(e) => {
            let text = format!("couldn't get version/kind; json parse error: {e}");
            return Err(ApiError::bad_request(text));
        }
        Ok(value) => value,
    };
    if parsed.is_object() {
        Ok(parsed)
    } else {
        Err(ApiError::bad_request("the request body is not an object"))
    }
}

/// Checks `apiVersion`, `kind` and name against the path, fills them in, and removes or refuses unknown fields.
/// Returns the paths of the unknown fields.
pub(crate) fn fit_to_kind(
    object: &mut Value,
    kind: &Kind,
    namespace: &str,
    validation: FieldValidation,
) -> Result<Vec<String>, ApiError> {
    check_type(object, kind)?;
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.kind);
    if !object.get("metadata").is_some_and(Value::is_object) {
        object["metadata"] = json!({});
    }
    if kind.namespaced {
        match object["metadata"]
            .get("namespace")
            .and_then(Value::as_str)
            .filter(|ns| !ns.is_empty())
        {
            Some(given) if given != namespace => {
                return Err(ApiError::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            _ => object["metadata"]["namespace"] = json!(namespace),
        }
    }
    if !kind.custom {
        drop_nulls(object);
    }
    let unknown = kind.schema().prune(object);
    if !unknown.is_empty() && validation == FieldValidation::Strict {
        let list = unknown
            .iter()
            .map(|path| format!("unknown field {path:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        return Err(ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: strict decoding error: {list}",
            kind.kind, kind.version, kind.kind
        )));
    }
    Ok(unknown)
}

fn check_type(object: &Value, kind: &Kind) -> Result<(), ApiError> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (given_version, given_kind) = (text("apiVersion"), text("kind"));
    if kind.custom && given_kind.is_empty() {
        return Err(ApiError::bad_request(format!(
            "Object 'Kind' is missing in '{}'",
            compact(object)
        )));
    }
    let wanted = kind.api_version();
    if !given_version.is_empty() && given_version != wanted {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({given_version}) does not match the expected API version ({wanted})"
        )));
    }
    if !given_kind.is_empty() && given_kind != kind.kind {
        if kind.custom {
            let name = object
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let error = FieldError::invalid(
                "kind",
                &json!(given_kind),
                &format!("must be {}", kind.kind),
            );
            return Err(ApiError::invalid(&kind.group, given_kind, name, &[error]));
        }
        return Err(ApiError::bad_request(format!(
            "the kind in the data ({given_kind}) does not match the expected kind ({})",
            kind.kind
        )));
    }
    Ok(())
}

fn compact(object: &Value) -> String {
    let mut text = object.to_string();
    if text.len() > 200 {
        let end = (0..=200)
            .rev()
            .find(|i| text.is_char_boundary(*i))
            .unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// Built-in kinds are decoded into Go structs, where null means absent.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Fills defaults: the schema's, then those that depend on other fields.
pub(crate) fn default(object: &mut Value, kind: &Kind) {
    kind.schema().apply_defaults(object);
    if !kind.custom {
        core_rules::default(object, &kind.kind);
    }
}

/// Refuses an object that its kind does not allow; `old` is the stored one of an update.
pub(crate) fn validate(
    object: &Value,
    old: Option<&Value>,
    kind: &Kind,
    evaluator: &Evaluator,
) -> Result<(), ApiError> {
    let mut errors = metadata::validate(object, old, kind);
    errors.extend(kind.schema().validate(object, old));
    if let Some(scale) = &kind.scale {
        errors.extend(scale_accessor(object, &scale.spec_replicas));
    }
    if kind.custom {
        if errors.iter().any(blocks_cel) {
            let detail = "some validation rules were not checked because the object was invalid; \
                          correct the existing errors to complete validation";
            errors.push(FieldError::invalid("", &Value::Null, detail));
        } else {
            kind.schema()
                .validate_cel(evaluator, object, old, "", &mut errors);
        }
    } else {
        core_rules::validate(object, old, &kind.kind, &mut errors);
    }
    if errors.is_empty() {
        return Ok(());
    }
    let name = object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    Err(ApiError::invalid(&kind.group, &kind.kind, name, &errors))
}

/// The scale subresource reads its replicas from here; the API server says when it cannot.
fn scale_accessor(object: &Value, pointer: &str) -> Option<FieldError> {
    let value = object
        .pointer(pointer)
        .filter(|v| !v.is_i64() && !v.is_u64())?;
    let shown = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    let go_type = match value {
        Value::String(_) => "string",
        Value::Number(_) => "float64",
        Value::Bool(_) => "bool",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        Value::Null => "<nil>",
    };
    let path = pointer.replace('/', ".");
    let detail = format!("{path} accessor error: {shown} is of the type {go_type}, expected int64");
    Some(FieldError::invalid(&path, &json!(0), &detail))
}

/// Errors after which the API server does not trust the object's shape enough to run CEL rules.
fn blocks_cel(error: &FieldError) -> bool {
    matches!(
        error.cause,
        "FieldValueNotSupported"
            | "FieldValueRequired"
            | "FieldValueTooLong"
            | "FieldValueTooMany"
            | "FieldValueTypeInvalid"
    )
}

/// Whether anything but metadata and status differs.
pub(crate) fn spec_differs(old: &Value, new: &Value) -> bool {
    let rest = |object: &Value| -> Map<String, Value> {
        let fields = object.as_object().into_iter().flatten();
        fields
            .filter(|(name, _)| {
                !matches!(name.as_str(), "metadata" | "status" | "apiVersion" | "kind")
            })
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    rest(old) != rest(new)
}
