//! What does a refusal look like on the wire, and which code and reason does each kind of refusal carry?
//!
//! The texts, codes and reasons are those of kube-apiserver 1.34 (`apimachinery/pkg/api/errors`,
//! `util/validation/field`), because controllers branch on `reason` and people read `message`.

use serde_json::{Map, Value, json};

/// One rule that one field broke; becomes one entry of `details.causes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldError {
    /// Dotted path with `[0]` for list items; empty for the whole object.
    pub(crate) field: String,
    /// `FieldValueInvalid`, `FieldValueRequired`, ... (the wire's `reason` of a cause).
    pub(crate) cause: &'static str,
    /// The text after the path, e.g. `Invalid value: 4: must not shrink`.
    pub(crate) body: String,
}

impl FieldError {
    fn new(field: &str, cause: &'static str, body: String) -> Self {
        Self {
            field: field.to_owned(),
            cause,
            body,
        }
    }

    pub(crate) fn invalid(field: &str, value: &Value, detail: &str) -> Self {
        Self::new(
            field,
            "FieldValueInvalid",
            format!("Invalid value: {}{}", shown(value), tail(detail)),
        )
    }

    pub(crate) fn type_invalid(field: &str, value: &Value, detail: &str) -> Self {
        Self::new(
            field,
            "FieldValueTypeInvalid",
            format!("Invalid value: {}{}", shown(value), tail(detail)),
        )
    }

    pub(crate) fn required(field: &str, detail: &str) -> Self {
        Self::new(
            field,
            "FieldValueRequired",
            format!("Required value{}", tail(detail)),
        )
    }

    pub(crate) fn forbidden(field: &str, detail: &str) -> Self {
        Self::new(
            field,
            "FieldValueForbidden",
            format!("Forbidden{}", tail(detail)),
        )
    }

    pub(crate) fn duplicate(field: &str, value: &Value) -> Self {
        Self::new(
            field,
            "FieldValueDuplicate",
            format!("Duplicate value: {}", shown(value)),
        )
    }

    pub(crate) fn not_supported(field: &str, value: &Value, supported: &[String]) -> Self {
        let list = supported
            .iter()
            .map(|s| format!("{s:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        let body = format!(
            "Unsupported value: {}: supported values: {list}",
            shown(value)
        );
        Self::new(field, "FieldValueNotSupported", body)
    }

    pub(crate) fn too_long(field: &str, max_bytes: u64) -> Self {
        let unit = if max_bytes == 1 { "byte" } else { "bytes" };
        Self::new(
            field,
            "FieldValueTooLong",
            format!("Too long: may not be more than {max_bytes} {unit}"),
        )
    }

    pub(crate) fn too_many(field: &str, actual: usize, max: u64) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::new(
            field,
            "FieldValueTooMany",
            format!("Too many: {actual}: must have at most {max} {unit}"),
        )
    }

    /// `path: body`, as it appears in a Status message.
    pub(crate) fn text(&self) -> String {
        format!("{}: {}", self.path(), self.body)
    }

    fn path(&self) -> &str {
        if self.field.is_empty() {
            "<nil>"
        } else {
            &self.field
        }
    }
}

fn tail(detail: &str) -> String {
    if detail.is_empty() {
        String::new()
    } else {
        format!(": {detail}")
    }
}

/// A value as Go's `%q` / `%v` print it in field errors: strings quoted, the rest as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(s) => format!("{s:?}"),
        other => other.to_string(),
    }
}

/// A request that was refused: exactly what the Status body will say.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Map<String, Value>,
}

/// The reason of refusals that are not a Status but plain text.
pub(crate) const PLAIN_TEXT: &str = "PlainText";

/// `plural.group`, or `plural` for the core group; the wire prints resources and kinds this way.
pub(crate) fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

fn about(group: &str, kind: &str, name: &str) -> Map<String, Value> {
    let mut details = Map::new();
    for (key, text) in [("name", name), ("group", group), ("kind", kind)] {
        if !text.is_empty() {
            details.insert(key.to_owned(), json!(text));
        }
    }
    details
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: String) -> Self {
        Self {
            code,
            reason,
            message,
            details: Map::new(),
        }
    }

    fn with(mut self, details: Map<String, Value>) -> Self {
        self.details = details;
        self
    }

    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The machine-readable reason, e.g. `Conflict`.
    pub fn reason(&self) -> &str {
        self.reason
    }

    pub(crate) fn not_found(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(plural, group));
        Self::new(404, "NotFound", message).with(about(group, plural, name))
    }

    /// A path or kind that is not served here at all; the API server's mux answers in plain text.
    pub(crate) fn no_such_path() -> Self {
        Self::new(404, PLAIN_TEXT, "404 page not found".to_owned())
    }

    pub(crate) fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(plural, group));
        Self::new(409, "AlreadyExists", message).with(about(group, plural, name))
    }

    pub(crate) fn conflict(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            qualified(plural, group)
        );
        Self::new(409, "Conflict", message).with(about(group, plural, name))
    }

    pub(crate) fn modified(group: &str, plural: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, plural, name, why)
    }

    /// `causes`: (manager as printed, field path) of each field that somebody else owns.
    pub(crate) fn apply_conflict(causes: &[(String, String)]) -> Self {
        let message = match causes {
            [(manager, path)] => {
                format!("Apply failed with 1 conflict: conflict with {manager}: {path}")
            }
            many => {
                let mut by_manager = std::collections::BTreeMap::<&str, Vec<&str>>::new();
                for (manager, path) in many {
                    by_manager.entry(manager).or_default().push(path);
                }
                let lines = by_manager.iter().flat_map(|(manager, paths)| {
                    std::iter::once(format!("conflicts with {manager}:"))
                        .chain(paths.iter().map(|p| format!("- {p}")))
                });
                format!(
                    "Apply failed with {} conflicts: {}",
                    many.len(),
                    lines.collect::<Vec<_>>().join("\n")
                )
            }
        };
        let causes: Vec<Value> = causes
            .iter()
            .map(|(manager, path)| {
                json!({"reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": path})
            })
            .collect();
        let mut details = Map::new();
        details.insert("causes".to_owned(), Value::Array(causes));
        Self::new(409, "Conflict", message).with(details)
    }

    pub(crate) fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for error in errors {
            let text = error.text();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let all = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let causes: Vec<Value> = errors
            .iter()
            .map(|e| json!({"reason": e.cause, "message": e.body, "field": e.path()}))
            .collect();
        let mut details = about(group, kind, name);
        details.insert("causes".to_owned(), Value::Array(causes));
        let message = format!("{} {name:?} is invalid: {all}", qualified(kind, group));
        Self::new(422, "Invalid", message).with(details)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message.into())
    }

    pub(crate) fn forbidden(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let message = format!("{} {name:?} is forbidden: {why}", qualified(plural, group));
        Self::new(403, "Forbidden", message).with(about(group, plural, name))
    }

    pub(crate) fn method_not_allowed(group: &str, plural: &str, action: &str) -> Self {
        let message = format!(
            "{action} is not supported on resources of kind {:?}",
            qualified(plural, group)
        );
        Self::new(405, "MethodNotAllowed", message).with(about(group, plural, ""))
    }

    pub(crate) fn unsupported_media_type(got: &str, accepted: &[&str]) -> Self {
        tracing::debug!(got, "a body of a type that is not served");
        let list = accepted.join(", ");
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {list}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message.into())
    }

    pub(crate) fn too_large_resource_version(message: String) -> Self {
        let mut details = Map::new();
        let cause =
            json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        details.insert("causes".to_owned(), json!([cause]));
        details.insert("retryAfterSeconds".to_owned(), json!(1));
        Self::new(504, "Timeout", message).with(details)
    }

    /// A patch that does not apply; like every `Invalid` it has details, here empty ones.
    pub(crate) fn unprocessable(message: &str) -> Self {
        Self::new(422, "Invalid", message.to_owned())
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        let message = format!("Internal error occurred: {}", message.into());
        Self::new(500, "InternalError", message)
    }

    /// An error kube-apiserver does not classify: 500 with the bare text.
    pub(crate) fn unclassified(message: impl Into<String>) -> Self {
        Self::new(500, "", message.into())
    }

    pub(crate) fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut details = Map::new();
        details.insert("retryAfterSeconds".to_owned(), json!(retry_after_seconds));
        Self::new(429, "TooManyRequests", message.into()).with(details)
    }

    /// The eviction refusal of a disruption budget.
    pub(crate) fn disruption_budget(message: &str, budget: &str) -> Self {
        let mut details = Map::new();
        let cause = json!({"reason": "DisruptionBudget", "message": format!("The disruption budget {budget} {message}")});
        details.insert("causes".to_owned(), json!([cause]));
        let text = "Cannot evict pod as it would violate the pod's disruption budget.".to_owned();
        Self::new(429, "TooManyRequests", text).with(details)
    }

    /// The `metav1.Status` body.
    pub(crate) fn status(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            body["reason"] = json!(self.reason);
        }
        if !self.details.is_empty() || self.reason == "Invalid" {
            body["details"] = Value::Object(self.details.clone());
        }
        body
    }
}
