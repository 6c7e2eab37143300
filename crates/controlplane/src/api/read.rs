//! get and list: what is stored now, with selectors and pages?

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Api, Call, Reply};
use crate::api_error::ApiError;
use crate::store::Page;

impl Api {
    pub(super) fn get(&self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let state = self.store.lock();
        let object = state
            .objects
            .get(&call.key())
            .ok_or_else(|| call.not_found())?;
        Ok(Reply::ok((**object).clone()))
    }

    pub(super) fn list(&self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let limit = call.query.number("limit")?.filter(|limit| *limit > 0);
        let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let (revision, items, start, id) = match call.query.get("continue") {
            Some(token) => self.continued(token)?,
            None => {
                let (revision, items) = self.matching(call)?;
                (revision, Arc::new(items), 0, None)
            }
        };
        let rest = items.get(start..).unwrap_or_default();
        let shown = rest.len().min(limit.unwrap_or(usize::MAX));
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if call.kind.custom {
            // Lists of custom kinds always carry the field; kube takes an empty one for none.
            metadata["continue"] = json!("");
        }
        if shown < rest.len() {
            let id = id.unwrap_or_else(|| {
                self.store.lock().remember_page(Page {
                    revision,
                    items: Arc::clone(&items),
                })
            });
            metadata["continue"] = json!(format!("{id}.{}", start + shown));
            // With selectors the API server does not count what it has not looked at.
            if self.selector(call)?.is_empty() {
                metadata["remainingItemCount"] = json!(rest.len() - shown);
            }
        }
        let items: Vec<Value> = rest[..shown]
            .iter()
            .map(|object| self.list_item(call, object))
            .collect();
        Ok(Reply::ok(json!({
            "apiVersion": call.kind.api_version(),
            "kind": format!("{}List", call.kind.kind),
            "metadata": metadata,
            "items": items,
        })))
    }

    /// Items of built-in kinds come without their type, as from the API server.
    fn list_item(&self, call: &Call<'_>, object: &Value) -> Value {
        let mut item = object.clone();
        if let Some(map) = item.as_object_mut().filter(|_| !call.kind.custom) {
            map.remove("apiVersion");
            map.remove("kind");
        }
        item
    }

    pub(super) fn matching(&self, call: &Call<'_>) -> Result<(u64, Vec<Arc<Value>>), ApiError> {
        let selector = self.selector(call)?;
        let state = self.store.lock();
        if let Some(wanted) = call.query.number("resourceVersion")? {
            if wanted > state.revision {
                let message = format!(
                    "Too large resource version: {wanted}, current: {}",
                    state.revision
                );
                return Err(ApiError::too_large_resource_version(message));
            }
            if call.query.get("resourceVersionMatch") == Some("Exact") && wanted < state.revision {
                return Err(ApiError::expired(format!(
                    "The provided resource version {wanted} is no longer available."
                )));
            }
        }
        let items = state
            .of_kind(call.kind.id, &call.path.namespace)
            .map(|(_, object)| object);
        let items = items
            .filter(|object| selector.matches(object))
            .cloned()
            .collect();
        Ok((state.revision, items))
    }

    #[allow(
        clippy::type_complexity,
        reason = "the four parts are named at the only call"
    )]
    fn continued(
        &self,
        token: &str,
    ) -> Result<(u64, Arc<Vec<Arc<Value>>>, usize, Option<u64>), ApiError> {
        let parsed = token
            .split_once('.')
            .and_then(|(id, start)| Some((id.parse().ok()?, start.parse().ok()?)));
        let (id, start) =
            parsed.ok_or_else(|| ApiError::bad_request("continue key is not valid"))?;
        let page = self.store.lock().page(id).ok_or_else(|| {
            ApiError::expired(
                "The provided continue parameter is too old to display a consistent list result. \
                 You must start a new list without the continue parameter.",
            )
        })?;
        Ok((page.revision, page.items, start, Some(id)))
    }
}

/// `PartialObjectMetadata(List)`: what metadata-only clients asked for.
pub(super) fn keep_metadata(body: &mut Value) {
    if body["kind"] == "Status" {
        return;
    }
    if let Some(items) = body.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(partial);
        body["apiVersion"] = json!("meta.k8s.io/v1");
        body["kind"] = json!("PartialObjectMetadataList");
    } else {
        partial(body);
    }
}

/// One object, reduced to its metadata.
pub(crate) fn partial(object: &mut Value) {
    let metadata = object["metadata"].take();
    *object = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata});
}
