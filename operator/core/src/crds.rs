//! What are the CustomResourceDefinitions, byte for byte?
//!
//! The derived schema is tidied so that a real API server returns exactly what was sent (Argo CD and Flux compare): no `nullable`
//! (so that CEL's `has()` means what it says), only formats the API server knows, no empty `required` or `properties`, whole numbers
//! written as whole numbers. Rules about `metadata` stand at the root of a schema, where the derive (which only sees the spec) cannot put
//! them: they are added here.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_core::CustomResourceExt;
use serde_json::{Value, json};

use crate::api::v1alpha1::{KafkaCluster, KafkaTopic};

/// Every CustomResourceDefinition of the group, in the order a reader meets the kinds.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    let cluster_rule = json!({
        "rule": "size(self.metadata.name) <= 32",
        "message": "metadata.name must have at most 32 characters: pod names and host names are made from it",
    });
    let topic_rule = json!({
        "rule": "has(self.spec.topicName) || size(self.metadata.name) <= 249",
        "message": "metadata.name is longer than the 249 characters that a topic name may have: set spec.topicName",
    });
    vec![
        tidy(KafkaCluster::crd(), cluster_rule),
        tidy(KafkaTopic::crd(), topic_rule),
    ]
}

/// The YAML document of one definition as it stands in `crds/`.
#[must_use]
pub fn crd_yaml(crd: &CustomResourceDefinition) -> String {
    let mut value = serde_json::to_value(crd).expect("a CustomResourceDefinition is plain data");
    whole_numbers(&mut value);
    serde_yaml::to_string(&value).expect("plain JSON data has a YAML form")
}

/// The file in `crds/` that holds one definition, for example `kafkaclusters.tidemark.dev.yaml`.
#[must_use]
pub fn crd_file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}.yaml", crd.metadata.name.as_deref().unwrap_or_default())
}

fn tidy(crd: CustomResourceDefinition, root_rule: Value) -> CustomResourceDefinition {
    let mut value = serde_json::to_value(crd).expect("a CustomResourceDefinition is plain data");
    if let Some(versions) = value
        .pointer_mut("/spec/versions")
        .and_then(Value::as_array_mut)
    {
        for version in versions {
            if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
                tidy_schema(schema);
                schema["x-kubernetes-validations"] = json!([root_rule]);
            }
        }
    }
    serde_json::from_value(value).expect("tidying a schema leaves a schema")
}

/// Tidies one schema node and those below it.
fn tidy_schema(schema: &mut Value) {
    let Some(node) = schema.as_object_mut() else {
        return;
    };
    node.remove("nullable");
    match node.get("format").and_then(Value::as_str) {
        Some("int32" | "int64" | "date-time" | "double" | "float" | "byte") | None => {}
        Some(_) => {
            node.remove("format");
        }
    }
    for empty in ["required", "properties"] {
        let is_empty = match node.get(empty) {
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(entries)) => entries.is_empty(),
            _ => false,
        };
        if is_empty {
            node.remove(empty);
        }
    }
    if node.get("default").is_some_and(Value::is_null) {
        node.remove("default");
    }
    for (key, child) in node.iter_mut() {
        match (key.as_str(), child) {
            ("properties", Value::Object(properties)) => {
                properties.values_mut().for_each(tidy_schema);
            }
            ("items" | "additionalProperties" | "not", child) => tidy_schema(child),
            ("allOf" | "anyOf" | "oneOf", Value::Array(branches)) => {
                branches.iter_mut().for_each(tidy_schema);
            }
            _ => {}
        }
    }
}

/// Rewrites `1.0` as `1`: limits are floating point in the Kubernetes types and whole in every answer of an API server.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(float) = number
                .as_f64()
                .filter(|f| number.is_f64() && f.fract() == 0.0 && f.abs() < 9.0e15)
            {
                #[allow(clippy::cast_possible_truncation)]
                // checked above: whole and far below 2^63
                let whole = float as i64;
                *number = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(entries) => entries.values_mut().for_each(whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
