//! create: may this new object be stored, and with which identity?

use rand::Rng as _;
use serde_json::{Value, json};

use super::{Api, Call, Reply};
use crate::admission;
use crate::api_error::ApiError;
use crate::field_set::FieldSet;
use crate::kinds::Kind;
use crate::managed_fields::{Entry, Operation, keep_own_part, record_update, stamp};
use crate::store::{Key, State, Ticket, finalizers, is_terminating};

impl Api {
    pub(super) fn create(&self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let dry_run = call.query.dry_run()?;
        let mut object = admission::decode(call.body, call.content_type.contains("yaml"))?;
        let warnings = admission::fit_to_kind(
            &mut object,
            call.kind,
            &call.path.namespace,
            call.validation()?,
        )?;
        if object["metadata"]
            .get("resourceVersion")
            .and_then(Value::as_str)
            .is_some_and(|rv| !rv.is_empty())
        {
            return Err(ApiError::unclassified(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        generate_name(&mut object);
        if let Some(map) = object["metadata"].as_object_mut() {
            map.remove("managedFields");
        }
        let writer = self.update_entry(call);
        let mut state = self.store.lock();
        let (stored, ticket) = self.insert(&mut state, call, object, dry_run, |object| {
            record_update(None, object, call.kind.schema(), writer, call.now, |set| {
                keep_own_part(set, call.kind, "");
            });
        })?;
        let warnings = warnings
            .into_iter()
            .map(|path| format!("unknown field {path:?}"))
            .collect();
        Ok(Reply {
            code: 201,
            body: stored,
            warnings,
            ticket,
        })
    }

    /// The managed-fields entry of a plain write.
    pub(super) fn update_entry(&self, call: &Call<'_>) -> Entry {
        Entry {
            manager: call.manager.clone(),
            operation: Operation::Update,
            api_version: call.kind.api_version(),
            subresource: call.path.subresource.clone(),
            time: None,
            fields: FieldSet::default(),
        }
    }

    /// Gives a new object its identity, validates and stores it; `own` records who owns its fields.
    pub(super) fn insert(
        &self,
        state: &mut State,
        call: &Call<'_>,
        mut object: Value,
        dry_run: bool,
        own: impl FnOnce(&mut Value),
    ) -> Result<(Value, Option<Ticket>), ApiError> {
        let kind = call.kind;
        let name = object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let key = Key {
            kind: kind.id,
            namespace: call.path.namespace.clone(),
            name,
        };
        if kind.namespaced {
            self.check_namespace(state, kind, &key)?;
        }
        begin(&mut object, kind, call.now);
        admission::default(&mut object, kind);
        own(&mut object);
        protect(&mut object, kind);
        admission::validate(&object, None, kind, &self.evaluator)?;
        if state.objects.contains_key(&key) {
            return Err(ApiError::already_exists(
                &kind.group,
                &kind.plural,
                &key.name,
            ));
        }
        if dry_run {
            return Ok((object, None));
        }
        let (stored, ticket) = self.store.put(state, key, object)?;
        Ok(((*stored).clone(), Some(ticket)))
    }

    fn check_namespace(&self, state: &State, kind: &Kind, key: &Key) -> Result<(), ApiError> {
        let namespaces = self
            .store
            .registry
            .by_kind("", "Namespace")
            .expect("namespaces are always served");
        let namespace = Key {
            kind: namespaces.id,
            namespace: String::new(),
            name: key.namespace.clone(),
        };
        match state.objects.get(&namespace) {
            None => Err(ApiError::not_found("", "namespaces", &key.namespace)),
            Some(found) if is_terminating(found) => Err(ApiError::forbidden(
                &kind.group,
                &kind.plural,
                &key.name,
                &format!(
                    "unable to create new content in namespace {} because it is being terminated",
                    key.namespace
                ),
            )),
            Some(_) => Ok(()),
        }
    }
}

/// System fields of a new object; what a client sent in them is dropped.
fn begin(object: &mut Value, kind: &Kind, now: jiff::Timestamp) {
    if kind.status {
        if let Some(map) = object.as_object_mut() {
            map.remove("status");
        }
        match kind.kind.as_str() {
            "Pod" => object["status"] = json!({"phase": "Pending"}),
            "PersistentVolumeClaim" => object["status"] = json!({"phase": "Pending"}),
            "StatefulSet" => object["status"] = json!({"replicas": 0, "availableReplicas": 0}),
            "Deployment" => object["status"] = json!({}),
            "PodDisruptionBudget" => {
                object["status"] = json!({
                    "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0,
                });
            }
            "Service" => object["status"] = json!({"loadBalancer": {}}),
            _ => {}
        }
    }
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return;
    };
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
        "generation",
    ] {
        metadata.remove(field);
    }
    metadata.insert("uid".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
    metadata.insert("creationTimestamp".to_owned(), json!(stamp(now)));
    if kind.generation {
        metadata.insert("generation".to_owned(), json!(1));
    }
}

/// What mutating admission adds after ownership was recorded: a claim in use must not vanish
/// (StorageObjectInUseProtection).
fn protect(object: &mut Value, kind: &Kind) {
    const PROTECTION: &str = "kubernetes.io/pvc-protection";
    if kind.kind != "PersistentVolumeClaim" {
        return;
    }
    let mut held: Vec<String> = finalizers(object).into_iter().map(str::to_owned).collect();
    if !held.iter().any(|f| f == PROTECTION) {
        held.push(PROTECTION.to_owned());
        object["metadata"]["finalizers"] = json!(held);
    }
}

/// `generateName` plus five characters that cannot form words, as the API server does.
fn generate_name(object: &mut Value) {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let text = |key: &str| {
        object["metadata"][key]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let (name, prefix) = (text("name"), text("generateName"));
    if !name.is_empty() || prefix.is_empty() {
        return;
    }
    let mut rng = rand::rng();
    let suffix: String = (0..5)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect();
    object["metadata"]["name"] = json!(format!("{prefix}{suffix}"));
}
