//! Which objects must go because their owner or namespace went?
//!
//! The store queues what a change may concern; this task looks at each: a dependent whose owners are all gone is
//! deleted, an owner that is deleted in the foreground waits for its blocking dependents, an orphaning owner lets go
//! of them first, and a terminating namespace is emptied and then removed.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::Api;
use crate::api_error::ApiError;
use crate::store::{Key, State, finalizers, is_terminating, owners, uid_of};

/// Runs until the store is dropped by everybody else.
pub(crate) async fn run(api: std::sync::Weak<Api>) {
    let Some(mut changed) = api.upgrade().map(|api| api.store.subscribe()) else {
        return;
    };
    loop {
        match api.upgrade() {
            Some(api) => collect(&api),
            None => return,
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// Works the queue until it is empty.
pub(crate) fn collect(api: &Api) {
    loop {
        let mut state = api.store.lock();
        let Some(key) = state.gc_queue.pop_first() else {
            return;
        };
        if let Err(e) = look_at(api, &mut state, &key) {
            tracing::warn!(name = %key.name, namespace = %key.namespace, error = %e, "garbage collection failed; the next change retries");
            state.gc_queue.insert(key);
            return;
        }
    }
}

fn look_at(api: &Api, state: &mut State, key: &Key) -> Result<(), ApiError> {
    let Some(object) = state.objects.get(key).cloned() else {
        return Ok(());
    };
    if is_terminating(&object) {
        finish_deletion(api, state, key, &object)?;
        return Ok(());
    }
    let listed: Vec<&Value> = owners(&object).collect();
    if listed.is_empty() {
        return Ok(());
    }
    let (mut solid, mut dangling, mut waiting) = (0, Vec::new(), 0);
    for owner in &listed {
        let uid = owner["uid"].as_str().unwrap_or_default();
        match state.by_uid(uid) {
            None => dangling.push(uid.to_owned()),
            Some((_, owner))
                if is_terminating(owner) && finalizers(owner).contains(&"foregroundDeletion") =>
            {
                waiting += 1;
            }
            Some(_) => solid += 1,
        }
    }
    if solid > 0 {
        if !dangling.is_empty() {
            let mut new = (*object).clone();
            retain_owners(&mut new, |uid| !dangling.iter().any(|d| d == uid));
            api.store.put(state, key.clone(), new)?;
        }
        return Ok(());
    }
    if waiting > 0 || dangling.len() == listed.len() {
        api.delete_in_background(state, key, Timestamp::now())?;
    }
    Ok(())
}

fn finish_deletion(
    api: &Api,
    state: &mut State,
    key: &Key,
    object: &Arc<Value>,
) -> Result<(), ApiError> {
    if api.store.registry.get(key.kind).kind == "Namespace" {
        return finish_namespace(api, state, key, object);
    }
    let uid = uid_of(object).unwrap_or_default().to_owned();
    let dependents: Vec<(Key, Arc<Value>)> = state
        .dependents(&uid)
        .map(|(key, object)| (key.clone(), Arc::clone(object)))
        .collect();
    let held = finalizers(object);
    if held.contains(&"orphan") {
        for (dependent, value) in dependents {
            let mut new = (*value).clone();
            retain_owners(&mut new, |owner| owner != uid);
            api.store.put(state, dependent, new)?;
        }
        return drop_finalizer(api, state, key, object, "orphan");
    }
    if held.contains(&"foregroundDeletion") {
        let blocks = |value: &Value| {
            owners(value).any(|o| {
                o["uid"].as_str() == Some(uid.as_str()) && o["blockOwnerDeletion"] == json!(true)
            })
        };
        let blocking = dependents.iter().filter(|(_, value)| blocks(value)).count();
        for (dependent, value) in &dependents {
            if !is_terminating(value) {
                state.gc_queue.insert(dependent.clone());
            }
        }
        if blocking == 0 {
            return drop_finalizer(api, state, key, object, "foregroundDeletion");
        }
    }
    Ok(())
}

fn drop_finalizer(
    api: &Api,
    state: &mut State,
    key: &Key,
    object: &Value,
    name: &str,
) -> Result<(), ApiError> {
    let rest: Vec<&str> = finalizers(object)
        .into_iter()
        .filter(|f| *f != name)
        .collect();
    let mut new = object.clone();
    if rest.is_empty() {
        if let Some(metadata) = new["metadata"].as_object_mut() {
            metadata.remove("finalizers");
        }
    } else {
        new["metadata"]["finalizers"] = json!(rest);
    }
    let (stored, _) = api.store.put(state, key.clone(), new)?;
    api.remove_if_finished(state, key, &stored)?;
    Ok(())
}

/// Deletes what is in the namespace; removes it when nothing is left.
fn finish_namespace(
    api: &Api,
    state: &mut State,
    key: &Key,
    object: &Value,
) -> Result<(), ApiError> {
    let inside: Vec<(Key, bool)> = state
        .objects
        .iter()
        .filter(|(inner, _)| inner.namespace == key.name)
        .map(|(inner, value)| (inner.clone(), is_terminating(value)))
        .collect();
    for (inner, terminating) in &inside {
        if !terminating {
            api.delete_in_background(state, inner, Timestamp::now())?;
        }
    }
    let left = state
        .objects
        .keys()
        .any(|inner| inner.namespace == key.name);
    if !left && finalizers(object).is_empty() {
        api.store.remove(state, key)?;
    }
    Ok(())
}

fn retain_owners(object: &mut Value, keep: impl Fn(&str) -> bool) {
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return;
    };
    if let Some(list) = metadata
        .get_mut("ownerReferences")
        .and_then(Value::as_array_mut)
    {
        list.retain(|owner| keep(owner["uid"].as_str().unwrap_or_default()));
        if list.is_empty() {
            metadata.remove("ownerReferences");
        }
    }
}
