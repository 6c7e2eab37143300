//! delete and deletecollection: at once, after a grace period, or when the finalizers are done?

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Api, Call, Reply};
use crate::admission;
use crate::api_error::ApiError;
use crate::kinds::Kind;
use crate::managed_fields::stamp;
use crate::store::{Key, State, Ticket, finalizers, is_terminating, uid_of};

/// What to do with dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// `metav1.DeleteOptions`.
#[derive(Debug, Default)]
pub(super) struct DeleteOptions {
    grace_seconds: Option<i64>,
    propagation: Option<Propagation>,
    uid: Option<String>,
    resource_version: Option<String>,
    dry_run: bool,
}

impl DeleteOptions {
    pub(super) fn parse(call: &Call<'_>) -> Result<Self, ApiError> {
        let body = if call.body.is_empty() {
            json!({})
        } else {
            admission::decode(call.body, false)?
        };
        let text = |key: &str| {
            body.get(key)
                .and_then(Value::as_str)
                .or(call.query.get(key))
                .map(str::to_owned)
        };
        let propagation = match text("propagationPolicy").as_deref() {
            None => match body.get("orphanDependents").and_then(Value::as_bool) {
                Some(true) => Some(Propagation::Orphan),
                Some(false) => Some(Propagation::Background),
                None => None,
            },
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "invalid propagationPolicy {other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
                )));
            }
        };
        let in_query = call
            .query
            .number("gracePeriodSeconds")?
            .map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        let precondition = |key: &str| {
            body.pointer(&format!("/preconditions/{key}"))
                .and_then(Value::as_str)
        };
        Ok(Self {
            grace_seconds: body
                .get("gracePeriodSeconds")
                .and_then(Value::as_i64)
                .or(in_query),
            propagation,
            uid: precondition("uid").map(str::to_owned),
            resource_version: precondition("resourceVersion").map(str::to_owned),
            dry_run: call.query.dry_run()?
                || body.get("dryRun").is_some_and(|d| d == &json!(["All"])),
        })
    }

    /// Deletion by the control plane itself (garbage collection).
    pub(crate) fn background() -> Self {
        Self::default()
    }
}

impl Api {
    pub(super) fn delete(&self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let options = DeleteOptions::parse(call)?;
        let mut state = self.store.lock();
        self.delete_key(&mut state, &call.key(), &options, call.now)
    }

    pub(super) fn delete_collection(&self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let options = DeleteOptions::parse(call)?;
        let (revision, items) = self.matching(call)?;
        let mut state = self.store.lock();
        let mut last = None;
        let mut deleted = Vec::new();
        for object in items {
            let text = |pointer: &str| {
                object
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let key = Key {
                kind: call.kind.id,
                namespace: text("/metadata/namespace"),
                name: text("/metadata/name"),
            };
            match self.delete_key(&mut state, &key, &options, call.now) {
                Ok(reply) => last = reply.ticket.or(last),
                Err(e) if e.code == 404 => {}
                Err(e) => return Err(e),
            }
            deleted.push((*object).clone());
        }
        let body = json!({
            "apiVersion": call.kind.api_version(),
            "kind": format!("{}List", call.kind.kind),
            "metadata": {"resourceVersion": revision.to_string()},
            "items": deleted,
        });
        Ok(Reply {
            code: 200,
            body,
            warnings: Vec::new(),
            ticket: last,
        })
    }

    /// Deletes as a user with default options would; the garbage collector's way.
    pub(crate) fn delete_in_background(
        &self,
        state: &mut State,
        key: &Key,
        now: jiff::Timestamp,
    ) -> Result<Option<Ticket>, ApiError> {
        self.delete_key(state, key, &DeleteOptions::background(), now)
            .map(|reply| reply.ticket)
    }

    pub(super) fn delete_key(
        &self,
        state: &mut State,
        key: &Key,
        options: &DeleteOptions,
        now: jiff::Timestamp,
    ) -> Result<Reply, ApiError> {
        let kind = self.store.registry.get(key.kind);
        let missing = || ApiError::not_found(&kind.group, &kind.plural, &key.name);
        let old = state.objects.get(key).cloned().ok_or_else(missing)?;
        check_preconditions(&old, options, kind, &key.name)?;
        let mut new = (*old).clone();
        add_propagation_finalizer(&mut new, options.propagation);
        let grace = grace_seconds(&old, options, kind);
        let waits = grace > 0 || !finalizers(&new).is_empty() || kind.kind == "Namespace";
        if waits {
            mark(&mut new, grace, kind, now);
            if options.dry_run || new == *old {
                return Ok(Reply::ok(new));
            }
            let (stored, ticket) = self.store.put(state, key.clone(), new)?;
            return Ok(Reply {
                code: 200,
                body: (*stored).clone(),
                warnings: Vec::new(),
                ticket: Some(ticket),
            });
        }
        let (last, ticket) = if options.dry_run {
            (Arc::clone(&old), None)
        } else {
            let (last, ticket) = self.store.remove(state, key)?;
            (last, Some(ticket))
        };
        let body = if kind.kind == "Pod" {
            (*last).clone()
        } else {
            success(kind, key, &last)
        };
        Ok(Reply {
            code: 200,
            body,
            warnings: Vec::new(),
            ticket,
        })
    }
}

fn success(kind: &Kind, key: &Key, last: &Value) -> Value {
    let mut details = json!({"name": key.name, "kind": kind.plural, "uid": uid_of(last)});
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

fn check_preconditions(
    old: &Value,
    options: &DeleteOptions,
    kind: &Kind,
    name: &str,
) -> Result<(), ApiError> {
    let stored = |field: &str| {
        old["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let wanted = [
        (
            "UID",
            options.uid.as_deref(),
            stored("uid"),
            "deleted and then recreated",
        ),
        (
            "ResourceVersion",
            options.resource_version.as_deref(),
            stored("resourceVersion"),
            "modified",
        ),
    ];
    for (what, wanted, stored, guess) in wanted {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != stored) {
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({stored}). \
                 The object might have been {guess}"
            );
            return Err(ApiError::conflict(&kind.group, &kind.kind, name, &why));
        }
    }
    Ok(())
}

fn add_propagation_finalizer(object: &mut Value, propagation: Option<Propagation>) {
    let (wanted, other) = match propagation {
        Some(Propagation::Foreground) => (Some("foregroundDeletion"), "orphan"),
        Some(Propagation::Orphan) => (Some("orphan"), "foregroundDeletion"),
        Some(Propagation::Background) => (None, ""),
        None => return,
    };
    let mut list: Vec<String> = finalizers(object).into_iter().map(str::to_owned).collect();
    list.retain(|f| {
        f != other && (wanted.is_some() || (f != "orphan" && f != "foregroundDeletion"))
    });
    if let Some(wanted) = wanted.filter(|wanted| !list.iter().any(|f| f == wanted)) {
        list.push(wanted.to_owned());
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        if list.is_empty() {
            metadata.remove("finalizers");
        } else {
            metadata.insert("finalizers".to_owned(), json!(list));
        }
    }
}

/// Only pods have a grace period, and only those that a node may be running.
fn grace_seconds(pod: &Value, options: &DeleteOptions, kind: &Kind) -> i64 {
    if kind.kind != "Pod" {
        return 0;
    }
    let scheduled = pod
        .pointer("/spec/nodeName")
        .and_then(Value::as_str)
        .is_some_and(|n| !n.is_empty());
    let finished = matches!(
        pod.pointer("/status/phase").and_then(Value::as_str),
        Some("Succeeded" | "Failed")
    );
    if !scheduled || finished {
        return 0;
    }
    let own = pod
        .pointer("/spec/terminationGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(30);
    let wanted = options.grace_seconds.unwrap_or(own).max(0);
    match pod
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64)
    {
        Some(running) if is_terminating(pod) => wanted.min(running),
        _ => wanted,
    }
}

fn mark(object: &mut Value, grace: i64, kind: &Kind, now: jiff::Timestamp) {
    let running = object
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64);
    if !is_terminating(object) || running.is_some_and(|running| grace < running) {
        let end = now + jiff::SignedDuration::from_secs(grace);
        object["metadata"]["deletionTimestamp"] = json!(stamp(end));
        object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        if let Some(generation) = object["metadata"].get("generation").and_then(Value::as_i64) {
            object["metadata"]["generation"] = json!(generation + 1);
        }
    }
    if kind.kind == "Namespace" {
        object["status"]["phase"] = json!("Terminating");
    }
}
