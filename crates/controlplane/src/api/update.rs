//! replace, and the common end of every write to an existing object: what really changes, is it allowed, who owns it?

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Api, Call, Reply};
use crate::admission;
use crate::api_error::{ApiError, FieldError};
use crate::managed_fields::{keep_own_part, record_update};
use crate::store::{Key, State, Ticket, finalizers, is_terminating};

/// A candidate for storing over an existing object.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) object: Value,
    /// Managed fields are already right (server-side apply); else the writer owns what it changed.
    pub(super) owned: bool,
    pub(super) dry_run: bool,
}

impl Api {
    pub(super) fn replace(&self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let dry_run = call.query.dry_run()?;
        let mut object = admission::decode(call.body, call.content_type.contains("yaml"))?;
        let warnings = admission::fit_to_kind(
            &mut object,
            call.kind,
            &call.path.namespace,
            call.validation()?,
        )?;
        check_name(&mut object, call)?;
        let mut state = self.store.lock();
        let old = state
            .objects
            .get(&call.key())
            .cloned()
            .ok_or_else(|| call.not_found())?;
        let given = object["metadata"]
            .get("resourceVersion")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if call.kind.custom && given.is_empty() {
            let error = FieldError::invalid(
                "metadata.resourceVersion",
                &json!(0),
                "must be specified for an update",
            );
            return Err(ApiError::invalid(
                &call.kind.group,
                &call.kind.plural,
                &call.path.name,
                &[error],
            ));
        }
        let candidate = Candidate {
            object,
            owned: false,
            dry_run,
        };
        let (body, ticket) = self.finish(&mut state, call, &old, candidate)?;
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

    /// Separates spec from status, restores system fields, validates, and stores unless nothing changed.
    pub(super) fn finish(
        &self,
        state: &mut State,
        call: &Call<'_>,
        old: &Arc<Value>,
        candidate: Candidate,
    ) -> Result<(Value, Option<Ticket>), ApiError> {
        let kind = call.kind;
        let Candidate {
            object: mut new,
            owned,
            dry_run,
        } = candidate;
        check_preconditions(&new, old, call)?;
        let new_managed = new["metadata"].get("managedFields").cloned();
        separate(&mut new, old, call);
        restore_system_fields(&mut new, old);
        if owned {
            set_or_remove(&mut new["metadata"], "managedFields", new_managed);
        } else {
            set_or_remove(
                &mut new["metadata"],
                "managedFields",
                old["metadata"].get("managedFields").cloned(),
            );
        }
        admission::default(&mut new, kind);
        if kind.generation && admission::spec_differs(old, &new) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            new["metadata"]["generation"] = json!(generation);
        }
        admission::validate(&new, Some(old), kind, &self.evaluator)?;
        if !owned {
            record_update(
                Some(old),
                &mut new,
                kind.schema(),
                self.update_entry(call),
                call.now,
                |set| {
                    keep_own_part(set, kind, &call.path.subresource);
                },
            );
        }
        if new == **old {
            return Ok((new, None));
        }
        if dry_run {
            return Ok((new, None));
        }
        let key = call.key();
        let (stored, ticket) = self.store.put(state, key.clone(), new)?;
        let ticket = self
            .remove_if_finished(state, &key, &stored)?
            .unwrap_or(ticket);
        Ok(((*stored).clone(), Some(ticket)))
    }

    /// An object that was only waiting for its finalizers goes when the last one does.
    pub(crate) fn remove_if_finished(
        &self,
        state: &mut State,
        key: &Key,
        object: &Value,
    ) -> Result<Option<Ticket>, ApiError> {
        let grace = object
            .pointer("/metadata/deletionGracePeriodSeconds")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        let namespace = self.store.registry.get(key.kind).kind == "Namespace";
        if !is_terminating(object) || !finalizers(object).is_empty() || grace > 0 || namespace {
            return Ok(None);
        }
        self.store
            .remove(state, key)
            .map(|(_, ticket)| Some(ticket))
    }
}

/// The name in the body must be the name in the path.
fn check_name(object: &mut Value, call: &Call<'_>) -> Result<(), ApiError> {
    let name = object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if name.is_empty() {
        object["metadata"]["name"] = json!(call.path.name);
        return Ok(());
    }
    if name == call.path.name {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "the name of the object ({name}) does not match the name on the URL ({})",
        call.path.name
    )))
}

/// A `resourceVersion` or `uid` in the new object must be the stored one.
fn check_preconditions(new: &Value, old: &Value, call: &Call<'_>) -> Result<(), ApiError> {
    let text = |object: &Value, key: &str| {
        object["metadata"][key]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let (kind, name) = (call.kind, &call.path.name);
    let (given, stored) = (text(new, "resourceVersion"), text(old, "resourceVersion"));
    if !given.is_empty() && given != stored {
        if given.parse::<u64>().is_err() {
            let error = FieldError::invalid(
                "metadata.resourceVersion",
                &json!(given),
                "resource version is not a number",
            );
            return Err(ApiError::invalid(&kind.group, &kind.kind, name, &[error]));
        }
        return Err(ApiError::modified(&kind.group, &kind.plural, name));
    }
    let (given, stored) = (text(new, "uid"), text(old, "uid"));
    if !given.is_empty() && given != stored {
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {name}, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: {given}, UID in object meta: {stored}"
        );
        return Err(ApiError::conflict(&kind.group, &kind.plural, name, &why));
    }
    Ok(())
}

/// The main resource keeps the stored status, `/status` keeps everything else.
fn separate(new: &mut Value, old: &Value, call: &Call<'_>) {
    match call.path.subresource.as_str() {
        "status" => {
            let status = new.get("status").cloned();
            *new = old.clone();
            set_or_remove(new, "status", status);
        }
        _ if call.kind.status => set_or_remove(new, "status", old.get("status").cloned()),
        _ => {}
    }
}

/// Clients cannot change these; what they send in them is ignored.
fn restore_system_fields(new: &mut Value, old: &Value) {
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
    ] {
        set_or_remove(
            &mut new["metadata"],
            field,
            old["metadata"].get(field).cloned(),
        );
    }
}

fn set_or_remove(object: &mut Value, field: &str, value: Option<Value>) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    match value {
        Some(value) => {
            map.insert(field.to_owned(), value);
        }
        None => {
            map.remove(field);
        }
    }
}
