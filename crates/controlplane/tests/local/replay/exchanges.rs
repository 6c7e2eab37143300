//! Which requests were put to a real API server? One conversation, in order: later ones build on earlier ones.

use serde_json::{Value, json};

use crate::api::fixture::{CONFIG_MAPS, WIDGETS, widget};

const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const JSON_PATCH: &str = "application/json-patch+json";

/// One request.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) name: &'static str,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) media: &'static str,
    pub(crate) body: Option<Value>,
}

impl Exchange {
    pub(crate) fn new(name: &'static str, method: &'static str, path: impl Into<String>) -> Self {
        Self {
            name,
            method,
            path: path.into(),
            media: "application/json",
            body: None,
        }
    }

    pub(crate) fn json(self, body: Value) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    fn with(self, media: &'static str, body: Value) -> Self {
        Self {
            media,
            body: Some(body),
            ..self
        }
    }
}

fn get(name: &'static str, path: impl Into<String>) -> Exchange {
    Exchange::new(name, "GET", path)
}

fn post(name: &'static str, path: &str, body: Value) -> Exchange {
    Exchange::new(name, "POST", format!("{path}?fieldManager=tester")).json(body)
}

fn strict(name: &'static str, path: &str, body: Value) -> Exchange {
    Exchange::new(
        name,
        "POST",
        format!("{path}?fieldManager=tester&fieldValidation=Strict"),
    )
    .json(body)
}

fn merge(name: &'static str, path: String, body: Value) -> Exchange {
    Exchange::new(name, "PATCH", format!("{path}?fieldManager=tester")).with(MERGE, body)
}

fn apply(name: &'static str, manager: &str, force: bool, body: Value) -> Exchange {
    let path = format!(
        "{WIDGETS}/{}?fieldManager={manager}&force={force}",
        body["metadata"]["name"].as_str().expect("a name")
    );
    Exchange::new(name, "PATCH", path).with(APPLY, body)
}

fn delete(name: &'static str, path: String, options: Option<Value>) -> Exchange {
    let request = Exchange::new(name, "DELETE", path);
    match options {
        Some(options) => request.json(options),
        None => request,
    }
}

pub(crate) fn exchanges() -> Vec<Exchange> {
    let mut all = creating();
    all.extend(refusing());
    all.extend(changing());
    all.extend(replacing());
    all.extend(applying());
    all.extend(taking_over());
    all.extend(core_kinds());
    all.extend(deleting());
    all
}

fn creating() -> Vec<Exchange> {
    vec![
        get("get of nothing", format!("{WIDGETS}/a")),
        get(
            "an unknown kind",
            "/apis/test.dev/v1/namespaces/default/gadgets",
        ),
        get(
            "an unknown group",
            "/apis/nowhere.dev/v1/namespaces/default/widgets",
        ),
        post(
            "create",
            WIDGETS,
            widget(
                "a",
                json!({"size": 2, "parts": [{"name": "p"}], "config": {"k": "v"}, "tags": ["t"], "order": ["x"]}),
            ),
        ),
        post("create again", WIDGETS, widget("a", json!({"size": 2}))),
        post(
            "create in a missing namespace",
            "/apis/test.dev/v1/namespaces/nowhere/widgets",
            widget("a", json!({"size": 2})),
        ),
        post("create in the wrong namespace", WIDGETS, {
            let mut object = widget("b", json!({"size": 2}));
            object["metadata"]["namespace"] = json!("other");
            object
        }),
        post("create with a version", WIDGETS, {
            let mut object = widget("b", json!({"size": 2}));
            object["metadata"]["resourceVersion"] = json!("5");
            object
        }),
        post("create with status and strange fields", WIDGETS, {
            let mut object = widget(
                "b",
                json!({"size": 1, "colour": "x", "parts": [{"name": "p", "odd": 1}]}),
            );
            object["status"] = json!({"phase": "Ready"});
            object["metadata"]["generation"] = json!(9);
            object
        }),
        get("get", format!("{WIDGETS}/a")),
        get("list", WIDGETS),
        get(
            "list by label without match",
            format!("{WIDGETS}?labelSelector=tier%3Dx"),
        ),
        get(
            "list by field",
            format!("{WIDGETS}?fieldSelector=spec.color%3Dred"),
        ),
        get(
            "list by an unknown field",
            format!("{WIDGETS}?fieldSelector=spec.size%3D1"),
        ),
        get(
            "list by a broken selector",
            format!("{WIDGETS}?labelSelector=a+b"),
        ),
        get("scale", format!("{WIDGETS}/a/scale")),
    ]
}

fn refusing() -> Vec<Exchange> {
    let bad = |name, spec| post(name, WIDGETS, widget("bad", spec));
    vec![
        bad("required", json!({})),
        bad("wrong type", json!({"size": "2"})),
        bad("too small", json!({"size": 0})),
        bad("too large", json!({"size": 101})),
        bad("a fraction", json!({"size": 1.5})),
        bad("enum", json!({"size": 1, "color": "blue"})),
        bad("pattern", json!({"size": 1, "name": "A"})),
        bad("too long", json!({"size": 1, "name": "abcdefghi"})),
        bad(
            "too many",
            json!({"size": 1, "parts": [{"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "d"}]}),
        ),
        bad(
            "duplicate key",
            json!({"size": 1, "parts": [{"name": "a"}, {"name": "a"}]}),
        ),
        bad("duplicate in set", json!({"size": 1, "tags": ["x", "x"]})),
        bad(
            "item without key",
            json!({"size": 1, "parts": [{"note": "x"}]}),
        ),
        bad("map value type", json!({"size": 1, "config": {"k": 1}})),
        bad("int or string", json!({"size": 1, "port": true})),
        bad("cel", json!({"size": 1, "name": "admin"})),
        bad("two at once", json!({"size": 0, "color": "blue"})),
        bad("null", json!({"size": null})),
        post("bad name", WIDGETS, widget("Bad_Name", json!({"size": 1}))),
        post("bad label", WIDGETS, {
            let mut object = widget("bad", json!({"size": 1}));
            object["metadata"]["labels"] = json!({"a b": "c d"});
            object
        }),
        strict(
            "strict",
            WIDGETS,
            widget(
                "bad",
                json!({"size": 1, "colour": "x", "parts": [{"name": "p", "odd": 1}]}),
            ),
        ),
        post(
            "wrong kind",
            WIDGETS,
            json!({"apiVersion": "test.dev/v1", "kind": "Gadget", "metadata": {"name": "x"}, "spec": {"size": 1}}),
        ),
        post(
            "wrong version",
            WIDGETS,
            json!({"apiVersion": "test.dev/v2", "kind": "Widget", "metadata": {"name": "x"}, "spec": {"size": 1}}),
        ),
        Exchange::new(
            "strategic merge of a custom kind",
            "PATCH",
            format!("{WIDGETS}/a"),
        )
        .with("application/strategic-merge-patch+json", json!({})),
    ]
}

fn changing() -> Vec<Exchange> {
    let a = || format!("{WIDGETS}/a");
    vec![
        merge(
            "merge patch",
            a(),
            json!({"spec": {"size": 5, "config": {"k": null, "l": "w"}}}),
        ),
        merge(
            "merge patch that changes nothing",
            a(),
            json!({"spec": {"size": 5}}),
        ),
        merge(
            "merge patch with an old version",
            a(),
            json!({"metadata": {"resourceVersion": "1"}, "spec": {"size": 6}}),
        ),
        merge("transition rule", a(), json!({"spec": {"size": 4}})),
        merge("immutable field set", a(), json!({"spec": {"id": "x"}})),
        merge("immutable field changed", a(), json!({"spec": {"id": "y"}})),
        merge(
            "labels only",
            a(),
            json!({"metadata": {"labels": {"tier": "web"}}}),
        ),
        merge(
            "status through the main resource",
            a(),
            json!({"status": {"phase": "X"}}),
        ),
        merge(
            "status",
            format!("{WIDGETS}/a/status"),
            json!({"status": {"phase": "Ready", "size": 5}, "spec": {"size": 50}}),
        ),
        merge(
            "patch of nothing",
            format!("{WIDGETS}/none"),
            json!({"spec": {"size": 4}}),
        ),
        merge(
            "scale",
            format!("{WIDGETS}/a/scale"),
            json!({"spec": {"replicas": 7}}),
        ),
    ]
}

fn replacing() -> Vec<Exchange> {
    let a = || format!("{WIDGETS}/a");
    vec![
        Exchange::new("replace without version", "PUT", a()).json(widget("a", json!({"size": 9}))),
        Exchange::new("replace with another name", "PUT", a())
            .json(widget("b", json!({"size": 9}))),
        Exchange::new(
            "json patch",
            "PATCH",
            format!("{}?fieldManager=tester", a()),
        )
        .with(
            JSON_PATCH,
            json!([{"op": "replace", "path": "/spec/size", "value": 8}]),
        ),
        Exchange::new("json patch whose test fails", "PATCH", a()).with(
            JSON_PATCH,
            json!([{"op": "test", "path": "/spec/size", "value": 1}]),
        ),
        Exchange::new(
            "dry run",
            "PATCH",
            format!("{}?dryRun=All&fieldManager=tester", a()),
        )
        .with(MERGE, json!({"spec": {"size": 90}})),
        get("after the changes", a()),
    ]
}

fn applying() -> Vec<Exchange> {
    let x = |spec| widget("x", spec);
    vec![
        apply(
            "apply creates",
            "one",
            false,
            x(
                json!({"size": 2, "name": "n", "parts": [{"name": "p", "note": "n"}, {"name": "q"}], "config": {"k": "v", "l": "w"}, "tags": ["a", "b"], "order": ["o"]}),
            ),
        ),
        apply(
            "apply the same",
            "one",
            false,
            x(
                json!({"size": 2, "name": "n", "parts": [{"name": "p", "note": "n"}, {"name": "q"}], "config": {"k": "v", "l": "w"}, "tags": ["a", "b"], "order": ["o"]}),
            ),
        ),
        apply(
            "apply by another",
            "two",
            false,
            x(
                json!({"size": 2, "parts": [{"name": "q", "note": "two"}], "config": {"l": "w", "m": "z"}, "tags": ["b", "c"]}),
            ),
        ),
        apply(
            "conflict",
            "two",
            false,
            x(
                json!({"size": 3, "parts": [{"name": "q", "note": "two"}], "config": {"l": "w", "m": "z"}, "tags": ["b", "c"]}),
            ),
        ),
        apply(
            "two conflicts",
            "two",
            false,
            x(json!({"size": 3, "name": "other"})),
        ),
        apply(
            "forced",
            "two",
            true,
            x(
                json!({"size": 3, "parts": [{"name": "q", "note": "two"}], "config": {"l": "w", "m": "z"}, "tags": ["b", "c"]}),
            ),
        ),
        apply(
            "fields let go",
            "one",
            false,
            x(json!({"parts": [{"name": "p"}], "config": {"k": "v"}, "size": 3})),
        ),
    ]
}

fn taking_over() -> Vec<Exchange> {
    let x = |spec| widget("x", spec);
    vec![
        merge(
            "an update takes over",
            format!("{WIDGETS}/x"),
            json!({"spec": {"size": 10}}),
        ),
        apply(
            "conflict with the update",
            "one",
            false,
            x(json!({"parts": [{"name": "p"}], "config": {"k": "v"}, "size": 3})),
        ),
        apply(
            "an unknown field",
            "one",
            false,
            x(json!({"size": 10, "colour": "red"})),
        ),
        apply("an invalid intent", "one", true, x(json!({"size": 1000}))),
        Exchange::new("apply without manager", "PATCH", format!("{WIDGETS}/x"))
            .with(APPLY, x(json!({"size": 10}))),
        Exchange::new(
            "apply status",
            "PATCH",
            format!("{WIDGETS}/x/status?fieldManager=operator&force=true"),
        )
        .with(APPLY, {
            let mut object = x(json!({"size": 10}));
            object["status"] = json!({"phase": "Ready"});
            object
        }),
        get("after the applies", format!("{WIDGETS}/x")),
    ]
}

fn core_kinds() -> Vec<Exchange> {
    let template = json!({"metadata": {"labels": {"app": "s"}}, "spec": {
        "containers": [{"name": "c", "image": "i:1", "ports": [{"containerPort": 9092}], "env": [{"name": "A", "value": "b"}],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": 9404}}}],
        "volumes": [{"name": "v", "configMap": {"name": "c"}}]}});
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"}, "spec": {
        "serviceName": "s", "replicas": 3, "podManagementPolicy": "Parallel", "updateStrategy": {"type": "OnDelete"},
        "selector": {"matchLabels": {"app": "s"}}, "template": template,
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}});
    let sets = "/apis/apps/v1/namespaces/default/statefulsets";
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let applied = |path: &str| format!("{path}?fieldManager=operator&force=true");
    vec![
        post("config map", CONFIG_MAPS, json!({"metadata": {"name": "c"}, "data": {"k": "v"}})),
        strict("strict config map", CONFIG_MAPS, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d"}, "dta": {}})),
        post("secret", "/api/v1/namespaces/default/secrets", json!({"metadata": {"name": "k"}, "stringData": {"p": "w"}})),
        merge("secret type is immutable", "/api/v1/namespaces/default/secrets/k".to_owned(), json!({"type": "other"})),
        Exchange::new("apply a stateful set", "PATCH", applied(&format!("{sets}/s"))).with(APPLY, set.clone()),
        Exchange::new("apply it again", "PATCH", applied(&format!("{sets}/s"))).with(APPLY, set),
        merge("stateful set immutability", format!("{sets}/s"), json!({"spec": {"podManagementPolicy": "OrderedReady"}})),
        get("stateful set scale", format!("{sets}/s/scale")),
        merge("stateful set status", format!("{sets}/s/status"), json!({"status": {"replicas": 3, "readyReplicas": 1}})),
        Exchange::new("apply a service", "PATCH", applied("/api/v1/namespaces/default/services/s")).with(APPLY, json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
            "spec": {"clusterIP": "None", "publishNotReadyAddresses": true, "selector": {"app": "s"}, "ports": [{"name": "rpc", "port": 9090}]}})),
        post("budget", budgets, json!({"metadata": {"name": "b"}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "s"}}}})),
        post("claim", "/api/v1/namespaces/default/persistentvolumeclaims", json!({"metadata": {"name": "p"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})),
        post("lease", "/apis/coordination.k8s.io/v1/namespaces/default/leases", json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15}})),
        post("event", "/apis/events.k8s.io/v1/namespaces/default/events", json!({"metadata": {"name": "e", "namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "R", "action": "A", "note": "n",
            "reportingController": "c", "reportingInstance": "i", "regarding": {"kind": "Widget", "namespace": "default", "name": "a"}})),
        get("the event as core", "/api/v1/namespaces/default/events/e"),
    ]
}

fn deleting() -> Vec<Exchange> {
    vec![
        delete(
            "delete with a wrong uid",
            format!("{WIDGETS}/b"),
            Some(json!({"preconditions": {"uid": "11111111-1111-1111-1111-111111111111"}})),
        ),
        delete("delete", format!("{WIDGETS}/b"), None),
        delete("delete of nothing", format!("{WIDGETS}/b"), None),
        merge(
            "add a finalizer",
            format!("{WIDGETS}/a"),
            json!({"metadata": {"finalizers": ["test.dev/hold"]}}),
        ),
        delete("delete with a finalizer", format!("{WIDGETS}/a"), None),
        merge(
            "add another finalizer",
            format!("{WIDGETS}/a"),
            json!({"metadata": {"finalizers": ["test.dev/hold", "test.dev/more"]}}),
        ),
        merge(
            "remove the finalizer",
            format!("{WIDGETS}/a"),
            json!({"metadata": {"finalizers": null}}),
        ),
        get("it is gone", format!("{WIDGETS}/a")),
        delete(
            "foreground",
            format!("{WIDGETS}/x"),
            Some(json!({"propagationPolicy": "Foreground"})),
        ),
        delete("delete a config map", format!("{CONFIG_MAPS}/c"), None),
        delete(
            "delete a stateful set",
            "/apis/apps/v1/namespaces/default/statefulsets/s".to_owned(),
            None,
        ),
    ]
}
