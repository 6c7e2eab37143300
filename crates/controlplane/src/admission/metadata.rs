//! Is the metadata of an object well formed: names, labels, owner references, finalizers?

use std::sync::OnceLock;

use regex::Regex;
use serde_json::{Value, json};

use crate::api_error::FieldError;
use crate::kinds::Kind;
use crate::store::{finalizers, is_terminating, owners};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

fn matches(cell: &'static OnceLock<Regex>, pattern: &str, text: &str) -> bool {
    cell.get_or_init(|| Regex::new(pattern).expect("a literal pattern"))
        .is_match(text)
}

fn is_subdomain(text: &str) -> bool {
    static CELL: OnceLock<Regex> = OnceLock::new();
    matches(
        &CELL,
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        text,
    )
}

fn is_label(text: &str) -> bool {
    static CELL: OnceLock<Regex> = OnceLock::new();
    matches(&CELL, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", text)
}

fn is_dns1035(text: &str) -> bool {
    static CELL: OnceLock<Regex> = OnceLock::new();
    matches(&CELL, r"^[a-z]([-a-z0-9]*[a-z0-9])?$", text)
}

fn is_qualified(text: &str) -> bool {
    static CELL: OnceLock<Regex> = OnceLock::new();
    matches(&CELL, r"^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$", text)
}

fn is_label_value(text: &str) -> bool {
    static CELL: OnceLock<Regex> = OnceLock::new();
    matches(
        &CELL,
        r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        text,
    )
}

/// Everything wrong with `metadata`.
pub(super) fn validate(object: &Value, old: Option<&Value>, kind: &Kind) -> Vec<FieldError> {
    let mut errors = Vec::new();
    name(object, kind, &mut errors);
    string_maps(object, &mut errors);
    owner_references(object, &mut errors);
    for (index, finalizer) in finalizers(object).into_iter().enumerate() {
        // Built-in objects may only carry qualified finalizers; unqualified ones are the API server's own.
        if !finalizer.contains('/')
            && !matches!(finalizer, "foregroundDeletion" | "orphan" | "kubernetes")
        {
            let path = format!("metadata.finalizers[{index}]");
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            if !kind.custom {
                errors.push(FieldError::invalid(&path, &json!(finalizer), detail));
            }
        }
    }
    if let Some(old) = old.filter(|old| is_terminating(old)) {
        let before = finalizers(old);
        let added: Vec<&str> = finalizers(object)
            .into_iter()
            .filter(|f| !before.contains(f))
            .collect();
        if !added.is_empty() {
            let list = added
                .iter()
                .map(|f| format!("{f:?}"))
                .collect::<Vec<_>>()
                .join(", ");
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, \
                 found new finalizers []string{{{list}}}"
            );
            // The API server checks custom kinds twice, and says it twice.
            for _ in 0..=usize::from(kind.custom) {
                errors.push(FieldError::forbidden("metadata.finalizers", &detail));
            }
        }
    }
    errors
}

fn name(object: &Value, kind: &Kind, errors: &mut Vec<FieldError>) {
    let name = object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if name.is_empty() {
        errors.push(FieldError::required(
            "metadata.name",
            "name or generateName is required",
        ));
        return;
    }
    let (ok, detail, max) = match kind.kind.as_str() {
        "Namespace" => (is_label(name), LABEL, 63),
        "Service" => (is_dns1035(name), DNS1035, 63),
        "Role" | "RoleBinding" => (
            !name.contains(['/', '%']) && name != "." && name != "..",
            "may not contain '/'",
            253,
        ),
        _ => (is_subdomain(name), SUBDOMAIN, 253),
    };
    if !ok {
        errors.push(FieldError::invalid("metadata.name", &json!(name), detail));
    }
    if name.len() > max {
        let detail = format!("must be no more than {max} bytes");
        errors.push(FieldError::invalid("metadata.name", &json!(name), &detail));
    }
}

fn string_maps(object: &Value, errors: &mut Vec<FieldError>) {
    let map = |key: &str| {
        object
            .pointer(&format!("/metadata/{key}"))
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    };
    for (key, value) in map("labels") {
        qualified_key(key, "metadata.labels", errors);
        if let Some(text) = value.as_str() {
            if text.len() > 63 {
                errors.push(FieldError::invalid(
                    "metadata.labels",
                    &json!(text),
                    "must be no more than 63 bytes",
                ));
            } else if !is_label_value(text) {
                errors.push(FieldError::invalid(
                    "metadata.labels",
                    &json!(text),
                    LABEL_VALUE,
                ));
            }
        }
    }
    for (key, _) in map("annotations") {
        qualified_key(&key.to_lowercase(), "metadata.annotations", errors);
    }
}

fn qualified_key(key: &str, path: &str, errors: &mut Vec<FieldError>) {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if prefix.is_some_and(|prefix| !is_subdomain(prefix)) {
        errors.push(FieldError::invalid(
            path,
            &json!(key),
            &format!("prefix part {SUBDOMAIN}"),
        ));
    }
    if !is_qualified(name) || name.len() > 63 {
        errors.push(FieldError::invalid(path, &json!(key), QUALIFIED));
    }
}

fn owner_references(object: &Value, errors: &mut Vec<FieldError>) {
    let mut controllers = 0;
    for (index, owner) in owners(object).enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .is_empty()
            {
                let path = format!("metadata.ownerReferences[{index}].{field}");
                errors.push(FieldError::invalid(&path, &json!(""), "must not be empty"));
            }
        }
        controllers += u32::from(
            owner
                .get("controller")
                .and_then(Value::as_bool)
                .unwrap_or(false),
        );
    }
    if controllers > 1 {
        let detail = "Only one reference can have Controller set to true";
        errors.push(FieldError::invalid(
            "metadata.ownerReferences",
            &json!(controllers),
            detail,
        ));
    }
}
