//! create, get, list, replace, patch: identity, versions, generations, subresources, selectors and pages.

use serde_json::{Value, json};

use crate::api::fixture::*;

#[tokio::test]
async fn a_created_object_gets_its_identity_defaults_and_owner() {
    let plane = plane();
    let (code, body) = post(
        &plane,
        &format!("{WIDGETS}?fieldManager=me"),
        widget("a", json!({"size": 2})),
    )
    .await;
    assert_eq!(code, 201, "{body}");
    assert_eq!(body["spec"]["color"], "red");
    assert_eq!(body["metadata"]["generation"], 1);
    assert_eq!(body["metadata"]["namespace"], "default");
    assert_eq!(body["metadata"]["uid"].as_str().map(str::len), Some(36));
    assert!(
        body["metadata"]["creationTimestamp"]
            .as_str()
            .is_some_and(|t| t.ends_with('Z') && t.len() == 20)
    );
    let managed = &body["metadata"]["managedFields"][0];
    assert_eq!(
        (managed["manager"].as_str(), managed["operation"].as_str()),
        (Some("me"), Some("Update"))
    );
    assert_eq!(
        managed["fieldsV1"],
        json!({"f:spec": {".": {}, "f:color": {}, "f:size": {}}}),
        "defaults filled in while decoding count as written"
    );
}

type Case = (
    &'static str,
    String,
    Option<Value>,
    u16,
    &'static str,
    &'static str,
);

fn misplaced() -> Vec<Case> {
    let mut elsewhere = widget("b", json!({"size": 1}));
    elsewhere["metadata"]["namespace"] = json!("other");
    vec![
        (
            "GET",
            "/apis/test.dev/v1/namespaces/default/widgets/none".to_owned(),
            None,
            404,
            "NotFound",
            "widgets.test.dev \"none\" not found",
        ),
        (
            "POST",
            WIDGETS.to_owned(),
            Some(widget("a", json!({"size": 1}))),
            409,
            "AlreadyExists",
            "widgets.test.dev \"a\" already exists",
        ),
        (
            "POST",
            "/apis/test.dev/v1/namespaces/nowhere/widgets".to_owned(),
            Some(widget("a", json!({"size": 1}))),
            404,
            "NotFound",
            "namespaces \"nowhere\" not found",
        ),
        (
            "POST",
            WIDGETS.to_owned(),
            Some(elsewhere),
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
    ]
}

fn malformed() -> Vec<Case> {
    let mut versioned = widget("b", json!({"size": 1}));
    versioned["metadata"]["resourceVersion"] = json!("7");
    let strict = format!("{WIDGETS}?fieldValidation=Strict");
    vec![
        (
            "POST",
            WIDGETS.to_owned(),
            Some(versioned),
            500,
            "",
            "resourceVersion should not be set on objects to be created",
        ),
        (
            "POST",
            strict,
            Some(widget("b", json!({"size": 1, "colour": "red"}))),
            400,
            "BadRequest",
            "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \"spec.colour\"",
        ),
        (
            "POST",
            WIDGETS.to_owned(),
            Some(widget("B", json!({"size": 1}))),
            422,
            "Invalid",
            "Widget.test.dev \"B\" is invalid: metadata.name: Invalid value: \"B\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
        (
            "PUT",
            "/apis/test.dev/v1/namespaces/default/widgets/a".to_owned(),
            Some(widget("a", json!({"size": 3}))),
            422,
            "Invalid",
            "widgets.test.dev \"a\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update",
        ),
    ]
}

#[tokio::test]
async fn refusals_have_the_codes_reasons_and_texts_of_an_api_server() {
    let plane = plane();
    post(&plane, WIDGETS, widget("a", json!({"size": 2}))).await;
    for (method, path, body, code, reason, message) in misplaced().into_iter().chain(malformed()) {
        let (got, status) =
            call(&plane, method, &path, body.map(|b| ("application/json", b))).await;
        assert_eq!(
            (got, status["reason"].as_str().unwrap_or_default()),
            (code, reason),
            "{method} {path}: {status}"
        );
        assert_eq!(status["message"], message, "{method} {path}");
        assert_eq!(
            (status["kind"].as_str(), status["status"].as_str()),
            (Some("Status"), Some("Failure"))
        );
    }
    let (code, status) = call(
        &plane,
        "PATCH",
        &format!("{WIDGETS}/a"),
        Some(("application/strategic-merge-patch+json", json!({}))),
    )
    .await;
    assert_eq!(
        (code, status["reason"].as_str()),
        (415, Some("UnsupportedMediaType"))
    );
}

#[tokio::test]
async fn a_stale_resource_version_conflicts_and_a_fresh_one_does_not() {
    let plane = plane();
    let (_, first) = post(&plane, WIDGETS, widget("a", json!({"size": 2}))).await;
    let mut second = first.clone();
    second["spec"]["size"] = json!(3);
    let (code, updated) = put(&plane, &format!("{WIDGETS}/a"), second).await;
    assert_eq!((code, &updated["metadata"]["generation"]), (200, &json!(2)));
    let mut stale = first;
    stale["spec"]["size"] = json!(4);
    let (code, status) = put(&plane, &format!("{WIDGETS}/a"), stale).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")));
    assert_eq!(
        status["message"],
        "Operation cannot be fulfilled on widgets.test.dev \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let (code, _) = merge(
        &plane,
        &format!("{WIDGETS}/a"),
        json!({"metadata": {"resourceVersion": "1"}, "spec": {"size": 9}}),
    )
    .await;
    assert_eq!(code, 409);
}

#[tokio::test]
async fn writing_the_same_again_changes_nothing() {
    let plane = plane();
    let (_, first) = post(&plane, WIDGETS, widget("a", json!({"size": 2}))).await;
    let (_, again) = put(&plane, &format!("{WIDGETS}/a"), first.clone()).await;
    let (_, merged) = merge(
        &plane,
        &format!("{WIDGETS}/a"),
        json!({"spec": {"size": 2}}),
    )
    .await;
    assert_eq!(
        again["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    assert_eq!(
        merged["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let plane = plane();
    let mut with_status = widget("a", json!({"size": 2}));
    with_status["status"] = json!({"phase": "Ready"});
    let (_, created) = post(&plane, WIDGETS, with_status).await;
    assert_eq!(created.get("status"), None, "create drops status");
    let (_, main) = merge(
        &plane,
        &format!("{WIDGETS}/a"),
        json!({"status": {"phase": "X"}, "spec": {"size": 3}}),
    )
    .await;
    assert_eq!(
        (main.get("status"), &main["spec"]["size"]),
        (None, &json!(3))
    );
    let (_, status) = merge(
        &plane,
        &format!("{WIDGETS}/a/status"),
        json!({"status": {"phase": "Ready"}, "spec": {"size": 9}}),
    )
    .await;
    assert_eq!(
        (&status["status"]["phase"], &status["spec"]["size"]),
        (&json!("Ready"), &json!(3))
    );
    assert_eq!(
        status["metadata"]["generation"], main["metadata"]["generation"],
        "status is no new generation"
    );
    let (_, labelled) = merge(
        &plane,
        &format!("{WIDGETS}/a"),
        json!({"metadata": {"labels": {"x": "y"}}}),
    )
    .await;
    assert_eq!(
        labelled["metadata"]["generation"], main["metadata"]["generation"],
        "labels are no new generation"
    );
}

#[tokio::test]
async fn scale_reads_and_writes_the_declared_paths() {
    let plane = plane();
    post(&plane, WIDGETS, widget("a", json!({"size": 2}))).await;
    let (_, scale) = get(&plane, &format!("{WIDGETS}/a/scale")).await;
    assert_eq!(
        (&scale["kind"], &scale["spec"]["replicas"]),
        (&json!("Scale"), &json!(2))
    );
    let (code, _) = merge(
        &plane,
        &format!("{WIDGETS}/a/scale"),
        json!({"spec": {"replicas": 5}}),
    )
    .await;
    let (_, widget) = get(&plane, &format!("{WIDGETS}/a")).await;
    assert_eq!((code, &widget["spec"]["size"]), (200, &json!(5)));
}

#[tokio::test]
async fn selectors_choose_by_label_and_field() {
    let plane = plane();
    for (name, color, tier) in [
        ("a", "red", "web"),
        ("b", "green", "web"),
        ("c", "red", "db"),
    ] {
        let mut object = widget(name, json!({"size": 1, "color": color}));
        object["metadata"]["labels"] = json!({"tier": tier});
        post(&plane, WIDGETS, object).await;
    }
    for (selector, want) in [
        ("labelSelector=tier%3Dweb", "ab"),
        ("labelSelector=tier!%3Dweb", "c"),
        ("labelSelector=tier+in+(web,db)", "abc"),
        ("labelSelector=tier+notin+(web)", "c"),
        ("labelSelector=!tier", ""),
        ("labelSelector=tier", "abc"),
        ("fieldSelector=metadata.name%3Db", "b"),
        (
            "fieldSelector=spec.color%3Dred&labelSelector=tier%3Dweb",
            "a",
        ),
    ] {
        let (_, list) = get(&plane, &format!("{WIDGETS}?{selector}")).await;
        let names: String = list["items"]
            .as_array()
            .expect("items")
            .iter()
            .filter_map(|i| i["metadata"]["name"].as_str())
            .collect();
        assert_eq!(names, want, "{selector}");
    }
    let (code, status) = get(&plane, &format!("{WIDGETS}?fieldSelector=spec.size%3D1")).await;
    assert_eq!(
        (code, status["message"].as_str()),
        (400, Some("field label not supported: spec.size"))
    );
}

#[tokio::test]
async fn pages_show_one_revision_even_when_objects_change_between_them() {
    let plane = plane();
    for name in ["a", "b", "c", "d", "e"] {
        post(&plane, WIDGETS, widget(name, json!({"size": 1}))).await;
    }
    let (_, first) = get(&plane, &format!("{WIDGETS}?limit=2")).await;
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    delete(&plane, &format!("{WIDGETS}/d")).await;
    let mut names = vec![];
    let mut page = first.clone();
    loop {
        assert_eq!(
            page["metadata"]["resourceVersion"],
            first["metadata"]["resourceVersion"]
        );
        names.extend(
            page["items"]
                .as_array()
                .expect("items")
                .iter()
                .filter_map(|i| i["metadata"]["name"].as_str().map(str::to_owned)),
        );
        let token = page["metadata"]["continue"]
            .as_str()
            .filter(|token| !token.is_empty());
        let Some(token) = token.map(str::to_owned) else {
            break;
        };
        page = get(&plane, &format!("{WIDGETS}?limit=2&continue={token}"))
            .await
            .1;
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let (code, _) = get(&plane, &format!("{WIDGETS}?limit=2&continue=999.0")).await;
    assert_eq!(code, 410);
}

#[tokio::test]
async fn dry_run_validates_and_stores_nothing() {
    let plane = plane();
    let before = plane.revision();
    let (code, body) = post(
        &plane,
        &format!("{WIDGETS}?dryRun=All"),
        widget("a", json!({"size": 2})),
    )
    .await;
    assert_eq!((code, &body["spec"]["color"]), (201, &json!("red")));
    let (code, _) = post(
        &plane,
        &format!("{WIDGETS}?dryRun=All"),
        widget("a", json!({"size": 0})),
    )
    .await;
    assert_eq!(code, 422);
    assert_eq!(plane.revision(), before);
}

#[tokio::test]
async fn json_patch_tests_and_replaces() {
    let plane = plane();
    post(&plane, WIDGETS, widget("a", json!({"size": 2}))).await;
    let patch = json!([{"op": "test", "path": "/spec/size", "value": 2}, {"op": "replace", "path": "/spec/size", "value": 6}]);
    let media = "application/json-patch+json";
    let (code, body) = call(
        &plane,
        "PATCH",
        &format!("{WIDGETS}/a"),
        Some((media, patch.clone())),
    )
    .await;
    assert_eq!((code, &body["spec"]["size"]), (200, &json!(6)));
    let (code, _) = call(
        &plane,
        "PATCH",
        &format!("{WIDGETS}/a"),
        Some((media, patch)),
    )
    .await;
    assert_eq!(code, 422, "the test operation no longer holds");
}

#[tokio::test]
async fn events_are_one_kind_under_two_groups() {
    let plane = plane();
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "note": "rolled",
        "reason": "Roll", "type": "Normal", "regarding": {"kind": "Widget", "name": "a"}, "reportingController": "op",
        "reportingInstance": "op-1", "action": "Roll", "eventTime": "2026-01-01T00:00:00.000000Z"});
    let (code, body) = post(
        &plane,
        "/apis/events.k8s.io/v1/namespaces/default/events",
        event,
    )
    .await;
    assert_eq!((code, &body["note"]), (201, &json!("rolled")), "{body}");
    let (_, core) = get(&plane, "/api/v1/namespaces/default/events/e").await;
    assert_eq!(
        (&core["message"], &core["involvedObject"]["name"]),
        (&json!("rolled"), &json!("a"))
    );
}

#[tokio::test]
async fn core_kinds_know_their_own_fields_defaults_and_immutability() {
    let plane = plane();
    let (code, secret) = post(
        &plane,
        "/api/v1/namespaces/default/secrets",
        json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}}),
    )
    .await;
    assert_eq!(
        (code, &secret["data"]["k"], &secret["type"]),
        (201, &json!("dg=="), &json!("Opaque"))
    );
    let (code, status) = post(
        &plane,
        &format!("{CONFIG_MAPS}?fieldValidation=Strict"),
        json!({"metadata": {"name": "c"}, "dta": {}}),
    )
    .await;
    assert_eq!((code, status["reason"].as_str()), (400, Some("BadRequest")));
    let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 9092}]}]}});
    let set = json!({"metadata": {"name": "x"}, "spec": {"serviceName": "x", "selector": {"matchLabels": {"app": "x"}}, "template": template}});
    let sets = "/apis/apps/v1/namespaces/default/statefulsets";
    let (code, stored) = post(&plane, sets, set.clone()).await;
    assert_eq!(code, 201, "{stored}");
    assert_eq!(
        stored["spec"]["template"]["spec"]["containers"][0]["ports"][0]["protocol"],
        "TCP"
    );
    assert_eq!(stored["spec"]["replicas"], 1);
    let (code, status) = merge(
        &plane,
        &format!("{sets}/x"),
        json!({"spec": {"podManagementPolicy": "Parallel"}}),
    )
    .await;
    assert_eq!(code, 422, "{status}");
    assert!(
        status["message"]
            .as_str()
            .is_some_and(|m| m.contains("updates to statefulset spec for fields other than"))
    );
    let mut mismatched = set;
    mismatched["metadata"]["name"] = json!("y");
    mismatched["spec"]["selector"] = json!({"matchLabels": {"app": "z"}});
    let (code, status) = post(&plane, sets, mismatched).await;
    assert_eq!(
        (code, &status["details"]["causes"][0]["field"]),
        (422, &json!("spec.template.metadata.labels"))
    );
}
