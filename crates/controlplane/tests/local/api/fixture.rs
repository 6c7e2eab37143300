//! What do the tests share? A control plane with one small custom kind, and raw requests.

use controlplane::{ControlPlane, ControlPlaneConfig};
use http::Request;
use http_body_util::BodyExt as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::client::Body;
use serde_json::{Value, json};
use tower::Service as _;

/// A kind with every schema feature the tests need.
pub(crate) fn widget_crd() -> CustomResourceDefinition {
    serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.test.dev"},
        "spec": {
            "group": "test.dev", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
                },
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "schema": {"openAPIV3Schema": {
                    "type": "object", "required": ["spec"],
                    "properties": {
                        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
                        "spec": {
                            "type": "object", "required": ["size"],
                            "x-kubernetes-validations": [
                                {"rule": "!has(self.name) || self.name != 'admin'", "message": "admin is reserved"},
                                {"rule": "self.size >= oldSelf.size", "message": "size must not shrink", "fieldPath": ".size"},
                            ],
                            "properties": {
                                "size": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 100},
                                "color": {"type": "string", "enum": ["red", "green"], "default": "red"},
                                "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 8},
                                "id": {"type": "string", "x-kubernetes-validations": [
                                    {"rule": "self == oldSelf", "message": "id is immutable"}]},
                                "parts": {
                                    "type": "array", "x-kubernetes-list-type": "map",
                                    "x-kubernetes-list-map-keys": ["name"], "maxItems": 3,
                                    "items": {"type": "object", "required": ["name"], "properties": {
                                        "name": {"type": "string"}, "weight": {"type": "integer", "default": 1},
                                        "note": {"type": "string"},
                                    }},
                                },
                                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                                "order": {"type": "array", "items": {"type": "string"}},
                                "config": {"type": "object", "additionalProperties": {"type": "string"}},
                                "port": {"x-kubernetes-int-or-string": true},
                            },
                        },
                        "status": {"type": "object", "properties": {
                            "size": {"type": "integer"}, "phase": {"type": "string"},
                        }},
                    },
                }},
            }],
        },
    }))
    .expect("a valid CRD")
}

pub(crate) fn config() -> ControlPlaneConfig {
    ControlPlaneConfig {
        crds: vec![widget_crd()],
        ..ControlPlaneConfig::default()
    }
}

pub(crate) fn plane() -> ControlPlane {
    ControlPlane::open(config()).expect("opens")
}

/// A widget named `name` with this spec.
pub(crate) fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "test.dev/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

pub(crate) const WIDGETS: &str = "/apis/test.dev/v1/namespaces/default/widgets";
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// One raw exchange: status code and body.
pub(crate) async fn call(
    plane: &ControlPlane,
    method: &str,
    path: &str,
    body: Option<(&str, Value)>,
) -> (u16, Value) {
    let mut request = Request::builder().method(method).uri(path);
    let bytes = match &body {
        Some((media, value)) => {
            request = request.header("content-type", *media);
            value.to_string().into_bytes()
        }
        None => Vec::new(),
    };
    let request = request.body(Body::from(bytes)).expect("a request");
    let response = plane
        .service()
        .call(request)
        .await
        .expect("the service answers");
    let code = response.status().as_u16();
    let bytes = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

pub(crate) async fn get(plane: &ControlPlane, path: &str) -> (u16, Value) {
    call(plane, "GET", path, None).await
}

pub(crate) async fn post(plane: &ControlPlane, path: &str, body: Value) -> (u16, Value) {
    call(plane, "POST", path, Some(("application/json", body))).await
}

pub(crate) async fn put(plane: &ControlPlane, path: &str, body: Value) -> (u16, Value) {
    call(plane, "PUT", path, Some(("application/json", body))).await
}

pub(crate) async fn merge(plane: &ControlPlane, path: &str, body: Value) -> (u16, Value) {
    call(
        plane,
        "PATCH",
        path,
        Some(("application/merge-patch+json", body)),
    )
    .await
}

/// Server-side apply of a widget by `manager`.
pub(crate) async fn apply(
    plane: &ControlPlane,
    manager: &str,
    force: bool,
    body: Value,
) -> (u16, Value) {
    let name = body["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    let path = format!("{WIDGETS}/{name}?fieldManager={manager}&force={force}");
    call(
        plane,
        "PATCH",
        &path,
        Some(("application/apply-patch+yaml", body)),
    )
    .await
}

pub(crate) async fn delete(plane: &ControlPlane, path: &str) -> (u16, Value) {
    call(plane, "DELETE", path, None).await
}

/// Waits until `check` of the body at `path` holds; fails loudly after five seconds.
pub(crate) async fn eventually(
    plane: &ControlPlane,
    path: &str,
    what: &str,
    check: impl Fn(u16, &Value) -> bool,
) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        let (code, body) = get(plane, path).await;
        if check(code, &body) {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what}: still {code} {body}"
        );
        tokio::task::yield_now().await;
    }
}
