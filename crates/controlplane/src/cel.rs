//! Do the CEL rules of a CRD (`x-kubernetes-validations`) hold, and what does a broken one say?
//!
//! kube-cel compiles and runs the rules of ONE schema node at a time; walking the tree, relating list items to
//! their old selves by list-map key and ratcheting stay with `schema/validate.rs`, where the other rules live.

use kube_cel::{CompiledSchema, Validator, compile_schema};
use serde_json::{Value, json};

use crate::api_error::FieldError;
use crate::schema::parse::SchemaError;

/// The CEL environment with Kubernetes' function libraries; made once per control plane.
#[derive(Debug)]
pub(crate) struct Evaluator(Validator);

impl Evaluator {
    pub(crate) fn new() -> Self {
        Self(Validator::new())
    }
}

/// The compiled rules of one schema node.
pub(crate) struct NodeRules {
    compiled: CompiledSchema,
    /// Rule texts that mention `oldSelf`: these never ratchet.
    transitions: Vec<String>,
    reasons: Vec<(String, String)>,
}

impl std::fmt::Debug for NodeRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeRules")
            .field("reasons", &self.reasons)
            .finish_non_exhaustive()
    }
}

impl NodeRules {
    /// The rules of this node alone, or `None` when it states none.
    pub(crate) fn compile(document: &Value, path: &str) -> Result<Option<Self>, SchemaError> {
        let Some(rules) = document
            .get("x-kubernetes-validations")
            .and_then(Value::as_array)
        else {
            return Ok(None);
        };
        if rules.is_empty() {
            return Ok(None);
        }
        let mut shallow = document.clone();
        strip_children(&mut shallow, true);
        let compiled = compile_schema(&shallow);
        if let Some(error) = compiled.compilation_errors().first() {
            return Err(SchemaError::BadRule {
                path: path.to_owned(),
                reason: error.to_string(),
            });
        }
        let text = |rule: &Value, key: &str| {
            rule.get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let all = || {
            rules
                .iter()
                .map(|rule| (text(rule, "rule"), text(rule, "reason")))
        };
        Ok(Some(Self {
            compiled,
            transitions: all()
                .map(|(rule, _)| rule)
                .filter(|rule| rule.contains("oldSelf"))
                .collect(),
            reasons: all().filter(|(_, reason)| !reason.is_empty()).collect(),
        }))
    }

    /// Appends one error per broken rule.
    pub(crate) fn evaluate(
        &self,
        evaluator: &Evaluator,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        type_name: &str,
        errors: &mut Vec<FieldError>,
    ) {
        let Err(broken) = evaluator.0.validate_compiled(&self.compiled, value, old) else {
            return;
        };
        let unchanged = old == Some(value);
        for error in broken {
            if unchanged && !self.transitions.contains(&error.rule) {
                continue;
            }
            let field = join(path, &error.field_path);
            let reason = self
                .reasons
                .iter()
                .find(|(rule, _)| *rule == error.rule)
                .map(|(_, r)| r.as_str());
            errors.push(match reason {
                Some("FieldValueRequired") => FieldError::required(&field, &error.message),
                Some("FieldValueForbidden") => FieldError::forbidden(&field, &error.message),
                Some("FieldValueDuplicate") => FieldError::duplicate(&field, &json!(type_name)),
                _ => FieldError::invalid(&field, &json!(type_name), &error.message),
            });
        }
    }
}

fn join(path: &str, relative: &str) -> String {
    let relative = relative.trim_start_matches('.');
    match (path.is_empty(), relative.is_empty()) {
        (_, true) => path.to_owned(),
        (true, false) => relative.to_owned(),
        (false, false) if relative.starts_with('[') => format!("{path}{relative}"),
        (false, false) => format!("{path}.{relative}"),
    }
}

/// Removes the rules of every node below the top one; their shape stays, since values are converted by it.
fn strip_children(document: &mut Value, top: bool) {
    let Some(map) = document.as_object_mut() else {
        return;
    };
    if !top {
        map.remove("x-kubernetes-validations");
    }
    for (key, child) in map.iter_mut() {
        match (key.as_str(), child) {
            ("properties", Value::Object(properties)) => {
                properties
                    .values_mut()
                    .for_each(|p| strip_children(p, false));
            }
            ("items" | "additionalProperties", child) => strip_children(child, false),
            ("allOf" | "anyOf" | "oneOf", Value::Array(branches)) => {
                branches.iter_mut().for_each(|b| strip_children(b, false));
            }
            _ => {}
        }
    }
}
