//! patch: merge patch, JSON patch and server-side apply.

use std::sync::Arc;

use serde_json::{Value, json};

use super::update::Candidate;
use super::{Api, Call, Reply};
use crate::admission;
use crate::api_error::{ApiError, FieldError};
use crate::managed_fields::{Entry, Operation, keep_own_part};
use crate::request::FieldValidation;
use crate::server_side_apply;
use crate::store::{State, uid_of};

const ACCEPTED: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
];

impl Api {
    pub(super) fn patch(&self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let media = call
            .content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        if media == "application/apply-patch+yaml" {
            return self.apply(call);
        }
        if !ACCEPTED.contains(&media) {
            return Err(ApiError::unsupported_media_type(media, ACCEPTED));
        }
        let dry_run = call.query.dry_run()?;
        let patch: Value = serde_json::from_slice(call.body)
            .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
        let mut state = self.store.lock();
        let old = state
            .objects
            .get(&call.key())
            .cloned()
            .ok_or_else(|| call.not_found())?;
        let mut object = (*old).clone();
        if media == "application/merge-patch+json" {
            merge(&mut object, &patch);
        } else {
            json_patch(&mut object, patch, call)?;
        }
        let warnings = admission::fit_to_kind(
            &mut object,
            call.kind,
            &call.path.namespace,
            call.validation()?,
        )?;
        let (body, ticket) = self.finish(
            &mut state,
            call,
            &old,
            Candidate {
                object,
                owned: false,
                dry_run,
            },
        )?;
        let warnings = warnings
            .into_iter()
            .map(|path| format!("unknown field {path:?}"))
            .collect();
        Ok(Reply {
            code: 200,
            body,
            warnings,
            ticket,
        })
    }

    fn apply(&self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let dry_run = call.query.dry_run()?;
        if call.query.get("fieldManager").is_none() {
            let error = FieldError::required("fieldManager", "is required for apply patch");
            return Err(ApiError::invalid(
                "meta.k8s.io",
                "PatchOptions",
                "",
                &[error],
            ));
        }
        let mut intent = admission::decode(call.body, true)?;
        check_intent(&intent, call)?;
        let given_namespace = intent
            .pointer("/metadata/namespace")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        // Apply knows no leniency: a field outside the schema cannot be owned.
        let unknown = admission::fit_to_kind(
            &mut intent,
            call.kind,
            &call.path.namespace,
            FieldValidation::Ignore,
        )?;
        if let Some(first) = unknown.first() {
            return Err(ApiError::unclassified(format!(
                "failed to create typed patch object ({}/{}; {}): .{first}: field not declared in schema",
                given_namespace,
                call.path.name,
                call.kind.gvk()
            )));
        }
        let mut state = self.store.lock();
        match state.objects.get(&call.key()).cloned() {
            Some(old) => self.apply_over(&mut state, call, &old, &intent, dry_run),
            None if !call.path.subresource.is_empty() => Err(call.not_found()),
            None => self.apply_new(&mut state, call, intent, dry_run),
        }
    }

    fn applier(&self, call: &Call<'_>) -> Entry {
        Entry {
            operation: Operation::Apply,
            ..self.update_entry(call)
        }
    }

    fn apply_over(
        &self,
        state: &mut State,
        call: &Call<'_>,
        old: &Arc<Value>,
        intent: &Value,
        dry_run: bool,
    ) -> Result<Reply, ApiError> {
        if let Some(given) = uid_of(intent).filter(|given| Some(*given) != uid_of(old)) {
            let why = format!(
                "Precondition failed: UID in precondition: {given}, UID in object meta: {}",
                uid_of(old).unwrap_or_default()
            );
            return Err(ApiError::conflict(
                &call.kind.group,
                &call.kind.plural,
                &call.path.name,
                &why,
            ));
        }
        let (force, schema) = (call.query.flag("force"), call.kind.schema());
        let merged = server_side_apply::apply(
            old,
            intent,
            schema,
            self.applier(call),
            force,
            call.now,
            |set| keep_own_part(set, call.kind, &call.path.subresource),
        )?;
        let (body, ticket) = self.finish(
            state,
            call,
            old,
            Candidate {
                object: merged,
                owned: true,
                dry_run,
            },
        )?;
        Ok(Reply {
            code: 200,
            body,
            warnings: Vec::new(),
            ticket,
        })
    }

    fn apply_new(
        &self,
        state: &mut State,
        call: &Call<'_>,
        intent: Value,
        dry_run: bool,
    ) -> Result<Reply, ApiError> {
        if let Some(uid) = uid_of(&intent) {
            // An intent that names a UID means an existing object and must not create another.
            let why =
                format!("Precondition failed: UID in precondition: {uid}, UID in object meta: ");
            return Err(ApiError::conflict(
                &call.kind.group,
                &call.kind.plural,
                &call.path.name,
                &why,
            ));
        }
        let empty =
            json!({"apiVersion": intent["apiVersion"], "kind": intent["kind"], "metadata": {}});
        let object = server_side_apply::apply(
            &empty,
            &intent,
            call.kind.schema(),
            self.applier(call),
            true,
            call.now,
            |set| keep_own_part(set, call.kind, &call.path.subresource),
        )?;
        let (body, ticket) = self.insert(state, call, object, dry_run, |_| {})?;
        Ok(Reply {
            code: 201,
            body,
            warnings: Vec::new(),
            ticket,
        })
    }
}

fn check_intent(intent: &Value, call: &Call<'_>) -> Result<(), ApiError> {
    let text = |pointer: &str| {
        intent
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if text("/kind").is_empty() || text("/apiVersion").is_empty() {
        return Err(ApiError::bad_request(format!(
            "Object 'Kind' is missing in '{intent}'"
        )));
    }
    let wanted = call.kind.api_version();
    if text("/apiVersion") != wanted {
        return Err(ApiError::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {}, expected: {wanted}",
            text("/apiVersion")
        )));
    }
    if intent
        .pointer("/metadata/managedFields")
        .is_some_and(|m| !m.is_null())
    {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    let name = text("/metadata/name");
    if !name.is_empty() && name != call.path.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.path.name
        )));
    }
    if name.is_empty() {
        return Err(ApiError::bad_request(
            "name is required in an apply patch (metadata.name)",
        ));
    }
    Ok(())
}

/// RFC 7386.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(map) = target.as_object_mut() else {
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            map.remove(name);
        } else {
            merge(map.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// RFC 6902.
fn json_patch(object: &mut Value, patch: Value, call: &Call<'_>) -> Result<(), ApiError> {
    let patch: json_patch::Patch = serde_json::from_value(patch)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    json_patch::patch(object, &patch).map_err(|e| {
        // The API server does not say which operation failed; neither does the answer, but the log does.
        tracing::debug!(name = %call.path.name, error = %e, "a JSON patch does not apply");
        ApiError::unprocessable("the server rejected our request due to an error in our request")
    })
}
