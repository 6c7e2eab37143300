//! scale: how many replicas are wanted, seen and set through `autoscaling/v1 Scale`?

use std::sync::Arc;

use serde_json::{Value, json};

use super::update::Candidate;
use super::{Api, Call, Reply, patch};
use crate::admission;
use crate::api_error::ApiError;
use crate::kinds::ScalePaths;
use crate::request::Verb;

impl Api {
    pub(super) fn get_scale(&self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let state = self.store.lock();
        let object = state
            .objects
            .get(&call.key())
            .ok_or_else(|| call.not_found())?;
        Ok(Reply::ok(scale_of(object, paths(call)?)))
    }

    pub(super) fn put_scale(&self, call: &Call<'_>, verb: Verb) -> Result<Reply, ApiError> {
        let dry_run = call.query.dry_run()?;
        let paths = paths(call)?;
        let body = admission::decode(call.body, true)?;
        let mut state = self.store.lock();
        let old = state
            .objects
            .get(&call.key())
            .cloned()
            .ok_or_else(|| call.not_found())?;
        let mut wanted = body;
        if verb == Verb::Patch {
            let mut scale = scale_of(&old, paths);
            patch::merge(&mut scale, &wanted);
            wanted = scale;
        }
        let replicas = wanted
            .pointer("/spec/replicas")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        if replicas < 0 {
            let error = crate::api_error::FieldError::invalid(
                "spec.replicas",
                &json!(replicas),
                "must be greater than or equal to 0",
            );
            return Err(ApiError::invalid(
                "autoscaling",
                "Scale",
                &call.path.name,
                &[error],
            ));
        }
        let mut object = (*old).clone();
        if let Some(version) = wanted
            .pointer("/metadata/resourceVersion")
            .and_then(Value::as_str)
        {
            object["metadata"]["resourceVersion"] = json!(version);
        }
        set(&mut object, &paths.spec_replicas, json!(replicas));
        let candidate = Candidate {
            object,
            owned: false,
            dry_run,
        };
        let (stored, ticket) = self.finish(&mut state, call, &Arc::clone(&old), candidate)?;
        Ok(Reply {
            code: 200,
            body: scale_of(&stored, paths),
            warnings: Vec::new(),
            ticket,
        })
    }
}

fn paths<'a>(call: &'a Call<'_>) -> Result<&'a ScalePaths, ApiError> {
    call.kind.scale.as_ref().ok_or_else(ApiError::no_such_path)
}

fn scale_of(object: &Value, paths: &ScalePaths) -> Value {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let metadata = &object["metadata"];
    let mut kept = serde_json::Map::new();
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        if let Some(value) = metadata.get(field) {
            kept.insert(field.to_owned(), value.clone());
        }
    }
    let mut status = json!({"replicas": number(&paths.status_replicas)});
    let selector = paths
        .selector
        .as_deref()
        .and_then(|pointer| object.pointer(pointer));
    match selector {
        Some(Value::String(text)) => status["selector"] = json!(text),
        Some(selector) => {
            let labels = selector
                .get("matchLabels")
                .and_then(Value::as_object)
                .into_iter()
                .flatten();
            let text: Vec<String> = labels
                .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
                .collect();
            status["selector"] = json!(text.join(","));
        }
        None => {}
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": kept,
        "spec": {"replicas": number(&paths.spec_replicas)}, "status": status,
    })
}

fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut here = object;
    for name in pointer.trim_matches('/').split('/') {
        here = &mut here[name];
    }
    *here = value;
}
