//! How do the objects of the control plane follow the files of a folder?
//!
//! Every object that a file gave carries the label [`APPLIED_BY`] and the annotation [`FILE`]; an object with the
//! label that no file asks for any more is deleted, unless its file cannot be read at the moment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use config::key::nearest;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, Status};
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;

use super::manifests::{Folder, Key, Manifest, differences, load};

const FIELD_MANAGER: &str = "tidemark-up";
const APPLIED_BY: &str = "tidemark.dev/applied-by";
const FILE: &str = "tidemark.dev/file";
const OURS: &[&str] = &["KafkaCluster", "KafkaTopic"];

/// Follows one folder.
pub(crate) struct Applier {
    client: Client,
    dir: PathBuf,
    /// Schemas of our kinds, for suggestions.
    crds: Vec<Value>,
    /// The file and content of each object when it was last applied.
    applied: BTreeMap<Key, (String, Value)>,
}

/// What one pass over the folder did.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// One line an object that was created, changed or deleted.
    pub(crate) news: Vec<String>,
    /// One line a mistake.
    pub(crate) problems: Vec<String>,
    /// An object that a file asks for is still being deleted: another pass must make it anew.
    pub(crate) unfinished: bool,
}

impl Applier {
    pub(crate) fn new(client: Client, dir: PathBuf) -> anyhow::Result<Self> {
        let crds = operator_core::crds()
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            client,
            dir,
            crds,
            applied: BTreeMap::new(),
        })
    }

    /// Reads the folder and makes the objects follow it; a wrong file changes nothing.
    ///
    /// # Errors
    /// The folder or the control plane cannot be reached.
    pub(crate) async fn pass(&mut self) -> anyhow::Result<Outcome> {
        let folder = load(&self.dir)?;
        let mut outcome = Outcome {
            problems: folder.problems.clone(),
            ..Outcome::default()
        };
        if folder.files == 0 {
            outcome.problems.push(format!(
                "no .yaml, .yml or .json file in {}",
                self.dir.display()
            ));
        }
        for manifest in in_order(&folder) {
            self.apply(manifest, &mut outcome).await?;
        }
        self.delete_orphans(&folder, &mut outcome).await?;
        Ok(outcome)
    }

    async fn apply(&mut self, manifest: &Manifest, outcome: &mut Outcome) -> anyhow::Result<()> {
        let asked = (manifest.document.file().to_owned(), manifest.value.clone());
        if self.applied.get(&manifest.key) == Some(&asked) {
            return Ok(());
        }
        let mut object = manifest.object()?;
        object
            .labels_mut()
            .insert(APPLIED_BY.to_owned(), "up".to_owned());
        object
            .annotations_mut()
            .insert(FILE.to_owned(), manifest.document.file().to_owned());
        let key = &manifest.key;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &key.namespace, &key.resource());
        let before = api.get_opt(&key.name).await?;
        let leaving = |object: &DynamicObject| object.metadata.deletion_timestamp.is_some();
        if before.as_ref().is_some_and(leaving) {
            // What is put into it now would go with it.
            outcome.unfinished = true;
            return Ok(());
        }
        let before = before.map(|object| object.data);
        let params = PatchParams::apply(FIELD_MANAGER)
            .force()
            .validation_strict();
        match api.patch(&key.name, &params, &Patch::Apply(&object)).await {
            Ok(_) => {
                outcome
                    .news
                    .extend(news(key, before.as_ref(), &manifest.value));
                self.applied.insert(key.clone(), asked);
            }
            Err(kube::Error::Api(status)) => {
                outcome.problems.extend(self.explain(manifest, &status));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// One line a cause, with file, line and, for a name that is nearly right, the right one.
    fn explain(&self, manifest: &Manifest, status: &Status) -> Vec<String> {
        if let Some(field) = unknown_field(&status.message) {
            let (parent, last) = field.rsplit_once('.').unwrap_or(("", &field));
            let known = self.known_fields(&manifest.key.kind, parent);
            let hint = nearest(last, known.iter().map(String::as_str))
                .map(|name| format!(": did you mean {name}?"));
            return vec![format!(
                "{}: unknown field {field}{}",
                manifest.place(&field),
                hint.unwrap_or_default()
            )];
        }
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let lines: Vec<String> = causes
            .filter(|cause| !cause.message.contains(NOT_ALL_CHECKED))
            .map(|cause| {
                format!(
                    "{}: {}: {}{}",
                    manifest.place(&cause.field),
                    cause.field,
                    plain(&cause.field, &cause.message, manifest.at(&cause.field)),
                    nearest_supported(&cause.message)
                        .map(|value| format!(": did you mean {value}?"))
                        .unwrap_or_default()
                )
            })
            .collect();
        if lines.is_empty() {
            vec![format!("{}: {}", manifest.place("kind"), status.message)]
        } else {
            lines
        }
    }

    /// The properties that the CRD's schema has below `path`.
    fn known_fields(&self, kind: &str, path: &str) -> Vec<String> {
        let Some(crd) = self
            .crds
            .iter()
            .find(|crd| crd["spec"]["names"]["kind"] == kind)
        else {
            return Vec::new();
        };
        let mut schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        for part in path.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
            schema = if part.parse::<usize>().is_ok() {
                &schema["items"]
            } else {
                &schema["properties"][part]
            };
        }
        schema["properties"]
            .as_object()
            .map(|map| map.keys().cloned().collect())
            .unwrap_or_default()
    }

    async fn delete_orphans(
        &mut self,
        folder: &Folder,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        for kind in OURS {
            let resource =
                ApiResource::from_gvk(&GroupVersionKind::gvk("tidemark.dev", "v1alpha1", kind));
            let all = Api::<DynamicObject>::all_with(self.client.clone(), &resource);
            let ours = ListParams::default().labels(&format!("{APPLIED_BY}=up"));
            for object in all.list(&ours).await?.items {
                let key = Key {
                    api_version: resource.api_version.clone(),
                    kind: (*kind).to_owned(),
                    namespace: object.namespace().unwrap_or_default(),
                    name: object.name_any(),
                };
                let file = object.annotations().get(FILE).cloned().unwrap_or_default();
                let leaving = object.metadata.deletion_timestamp.is_some();
                if folder.manifests.contains_key(&key) || folder.broken.contains(&file) || leaving {
                    continue;
                }
                let api: Api<DynamicObject> =
                    Api::namespaced_with(self.client.clone(), &key.namespace, &resource);
                api.delete(&key.name, &DeleteParams::default()).await?;
                self.applied.remove(&key);
                outcome.news.push(format!(
                    "{key} deleted: {file} no longer asks for it ({})",
                    fate(&object.data)
                ));
            }
        }
        Ok(())
    }
}

/// Clusters before what refers to them, so that the first status is not an error.
fn in_order(folder: &Folder) -> impl Iterator<Item = &Manifest> {
    let is_cluster = |manifest: &&Manifest| manifest.key.kind == "KafkaCluster";
    folder.manifests.values().filter(is_cluster).chain(
        folder
            .manifests
            .values()
            .filter(move |manifest| !is_cluster(manifest)),
    )
}

fn news(key: &Key, before: Option<&Value>, after: &Value) -> Option<String> {
    let Some(before) = before else {
        return Some(format!("{key} created"));
    };
    let mut changes = Vec::new();
    differences(
        "spec",
        &asked_for(&before["spec"], &after["spec"]),
        &after["spec"],
        &mut changes,
    );
    (!changes.is_empty()).then(|| format!("{key} changed: {}", changes.join(", ")))
}

/// Of the stored object only what the file speaks of: defaults are not changes.
fn asked_for(stored: &Value, asked: &Value) -> Value {
    match (stored, asked) {
        (Value::Object(stored), Value::Object(asked)) => {
            let kept = asked
                .iter()
                .filter_map(|(key, inner)| Some((key.clone(), asked_for(stored.get(key)?, inner))));
            Value::Object(kept.collect())
        }
        (Value::Array(stored), Value::Array(asked)) if stored.len() == asked.len() => Value::Array(
            stored
                .iter()
                .zip(asked)
                .map(|(a, b)| asked_for(a, b))
                .collect(),
        ),
        _ => stored.clone(),
    }
}

fn fate(object: &Value) -> &'static str {
    match object["spec"]["deletionPolicy"].as_str() {
        Some("Delete") => "deletionPolicy Delete: its data goes too",
        _ => "deletionPolicy Retain: its data stays",
    }
}

/// The field that a server's message calls unknown: `strict decoding error: unknown field "spec.x"` on create and
/// update, `.spec.x: field not declared in schema` on server-side apply.
fn unknown_field(message: &str) -> Option<String> {
    if let Some((before, _)) = message.split_once(": field not declared in schema") {
        let field = before.rsplit(' ').next()?;
        return Some(field.trim_start_matches('.').to_owned());
    }
    let (_, rest) = message.split_once("unknown field \"")?;
    rest.split_once('"').map(|(field, _)| field.to_owned())
}

/// What an API server adds to other errors: true, and of no use to who mends those.
const NOT_ALL_CHECKED: &str = "some validation rules were not checked";

/// An API server's words about `field`, without what is said beside them: the field once more, and where a rule was broken
/// the type of the value instead of the value (`Invalid value: "object": ...`).
fn plain(field: &str, message: &str, given: Option<&Value>) -> String {
    let rest = message.strip_prefix("Invalid value: \"");
    let text = match rest.and_then(|rest| rest.split_once("\": ")) {
        Some(("object" | "array" | "string" | "integer" | "number" | "boolean", text)) => text,
        Some(_) | None => message,
    };
    let named = format!("{field} in body ");
    let wanted = text
        .strip_prefix(&named)
        .and_then(|rule| rule.strip_prefix("must be of type "))
        .and_then(|rule| rule.split_once(": "));
    match (wanted, given) {
        (Some((wanted, _)), Some(given)) => format!("must be of type {wanted}, not {given}"),
        (Some(_), None) | (None, _) => text.replacen(&named, "", 1),
    }
}

/// Of `Unsupported value: "Delet": supported values: "Delete", "Retain"` the value that was probably meant.
fn nearest_supported(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("Unsupported value: \"")?;
    let (given, supported) = rest.split_once("\": supported values: ")?;
    let supported = supported.split(", ").map(|value| value.trim_matches('"'));
    let wrong_case = |value: &&str| value.eq_ignore_ascii_case(given);
    let found = supported.clone().find(wrong_case);
    found.or_else(|| nearest(given, supported))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_once_and_with_its_value() {
        for (message, shown) in [
            (
                "Invalid value: \"object\": pool names must be unique",
                "pool names must be unique",
            ),
            (
                "Invalid value: 0: spec.partitions in body should be at least 1",
                "Invalid value: 0: should be at least 1",
            ),
            (
                "Invalid value: \"string\": spec.partitions in body must be of type integer: \"string\"",
                "must be of type integer, not \"twelve\"",
            ),
            ("Required value", "Required value"),
        ] {
            let given = Value::from("twelve");
            assert_eq!(plain("spec.partitions", message, Some(&given)), shown);
        }
    }

    #[test]
    fn of_the_supported_values_the_one_that_was_meant_is_named() {
        for (given, meant) in [
            ("Delet", Some("Delete")),
            ("RETAIN", Some("Retain")),
            ("Recycle", None),
        ] {
            let message =
                format!("Unsupported value: \"{given}\": supported values: \"Delete\", \"Retain\"");
            assert_eq!(nearest_supported(&message), meant, "{given}");
        }
        assert_eq!(nearest_supported("Invalid value: 0: too small"), None);
    }

    #[test]
    fn the_unknown_field_is_taken_from_the_servers_message() {
        let message = "KafkaTopic in version \"v1alpha1\" cannot be handled: strict decoding error: unknown field \"spec.partitons\"";
        assert_eq!(unknown_field(message), Some("spec.partitons".to_owned()));
        let apply = "failed to create typed patch object (default/orders; tidemark.dev/v1alpha1, Kind=KafkaTopic): .spec.partitons: field not declared in schema";
        assert_eq!(unknown_field(apply), Some("spec.partitons".to_owned()));
        let applied = "failed to create typed patch object (default/x; tidemark.dev/v1alpha1, Kind=KafkaTopic): \
                       .spec.partitons: field not declared in schema";
        assert_eq!(unknown_field(applied), Some("spec.partitons".to_owned()));
        assert_eq!(unknown_field("spec.partitions: Invalid value"), None);
    }

    #[test]
    fn defaults_of_the_stored_object_are_not_news() {
        let key = Key {
            api_version: "x/v1".into(),
            kind: "K".into(),
            namespace: "n".into(),
            name: "a".into(),
        };
        let stored =
            serde_json::json!({"spec": {"a": 1, "defaulted": true, "list": [{"x": 1, "d": 2}]}});
        let asked = serde_json::json!({"spec": {"a": 1, "list": [{"x": 1}]}});
        assert_eq!(news(&key, Some(&stored), &asked), None);
        let other = serde_json::json!({"spec": {"a": 2, "list": [{"x": 1}]}});
        assert_eq!(
            news(&key, Some(&stored), &other),
            Some("K n/a changed: spec.a 1 -> 2".to_owned())
        );
        assert_eq!(news(&key, None, &other), Some("K n/a created".to_owned()));
    }
}
