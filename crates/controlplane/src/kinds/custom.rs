//! How does a CustomResourceDefinition become a served kind?

use std::sync::{Arc, OnceLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use super::core_kinds::object_meta;
use super::{Kind, KindId, ScalePaths};
use crate::schema::Schema;
use crate::schema::parse::{Reader, SchemaError};

/// One kind per served version.
pub(super) fn kinds_of(crd: &CustomResourceDefinition) -> Result<Vec<Kind>, SchemaError> {
    crd.spec
        .versions
        .iter()
        .filter(|version| version.served)
        .map(|version| {
            let subresources = version.subresources.as_ref();
            let pointer = |path: &str| path.replace('.', "/");
            let scale = subresources
                .and_then(|s| s.scale.as_ref())
                .map(|scale| ScalePaths {
                    spec_replicas: pointer(&scale.spec_replicas_path),
                    status_replicas: pointer(&scale.status_replicas_path),
                    selector: scale.label_selector_path.as_deref().map(pointer),
                });
            let document = version
                .schema
                .as_ref()
                .and_then(|s| s.open_api_v3_schema.as_ref());
            let document = document.and_then(|d| serde_json::to_value(d).ok());
            let fields = version.selectable_fields.iter().flatten();
            Ok(Kind {
                id: KindId(0),
                group: crd.spec.group.clone(),
                version: version.name.clone(),
                kind: crd.spec.names.kind.clone(),
                plural: crd.spec.names.plural.clone(),
                namespaced: crd.spec.scope == "Namespaced",
                status: subresources.is_some_and(|s| s.status.is_some()),
                scale,
                custom: true,
                generation: true,
                selectable: fields
                    .map(|f| f.json_path.trim_start_matches('.').to_owned())
                    .collect(),
                schema: OnceLock::from(structural(document.as_ref())?),
                core_schema: None,
            })
        })
        .collect()
}

/// The schema of the CRD with `apiVersion`, `kind` and `metadata` typed as the API server types them.
fn structural(document: Option<&Value>) -> Result<Arc<Schema>, SchemaError> {
    let mut schema = match document {
        Some(document) => Arc::unwrap_or_clone(Reader::new(None).read(document, "", 0)?),
        None => Schema {
            preserve_unknown: true,
            ..Schema::default()
        },
    };
    for name in ["apiVersion", "kind"] {
        let text = Schema {
            json_type: Some(crate::schema::JsonType::String),
            ..Schema::default()
        };
        schema.properties.insert(name.to_owned(), Arc::new(text));
    }
    schema
        .properties
        .insert("metadata".to_owned(), object_meta());
    Ok(Arc::new(schema))
}
