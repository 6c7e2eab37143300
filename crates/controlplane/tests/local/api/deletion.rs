//! Finalizers, preconditions, garbage collection, namespaces and evictions.

use controlplane::ControlPlane;
use serde_json::{Value, json};

use crate::api::fixture::*;

async fn owned(plane: &ControlPlane, name: &str, owner: &Value, block: bool) {
    let mut object = json!({"metadata": {"name": name}});
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": block,
    }]);
    let (code, body) = post(plane, CONFIG_MAPS, object).await;
    assert_eq!(code, 201, "{body}");
}

#[tokio::test]
async fn a_plain_delete_answers_success_with_the_uid() {
    let plane = plane();
    let (_, created) = post(&plane, WIDGETS, widget("a", json!({"size": 1}))).await;
    let (code, status) = delete(&plane, &format!("{WIDGETS}/a")).await;
    assert_eq!((code, status["status"].as_str()), (200, Some("Success")));
    assert_eq!(
        status["details"],
        json!({"name": "a", "group": "test.dev", "kind": "widgets", "uid": created["metadata"]["uid"]})
    );
    assert_eq!(get(&plane, &format!("{WIDGETS}/a")).await.0, 404);
}

#[tokio::test]
async fn a_finalizer_keeps_the_object_until_it_is_removed_and_no_new_one_is_accepted() {
    let plane = plane();
    let mut object = widget("a", json!({"size": 1}));
    object["metadata"]["finalizers"] = json!(["test.dev/hold"]);
    post(&plane, WIDGETS, object).await;
    let (code, body) = delete(&plane, &format!("{WIDGETS}/a")).await;
    assert_eq!(code, 200);
    assert!(body["metadata"]["deletionTimestamp"].is_string(), "{body}");
    assert_eq!(body["metadata"]["generation"], 2);
    let (_, again) = delete(&plane, &format!("{WIDGETS}/a")).await;
    assert_eq!(
        again["metadata"]["resourceVersion"], body["metadata"]["resourceVersion"],
        "a second delete is no change"
    );
    let (code, status) = merge(
        &plane,
        &format!("{WIDGETS}/a"),
        json!({"metadata": {"finalizers": ["test.dev/hold", "test.dev/more"]}}),
    )
    .await;
    assert_eq!(
        (code, &status["details"]["causes"][0]["reason"]),
        (422, &json!("FieldValueForbidden"))
    );
    let (code, _) = merge(
        &plane,
        &format!("{WIDGETS}/a"),
        json!({"metadata": {"finalizers": null}}),
    )
    .await;
    assert_eq!(code, 200);
    assert_eq!(get(&plane, &format!("{WIDGETS}/a")).await.0, 404);
}

#[tokio::test]
async fn preconditions_protect_against_deleting_a_successor() {
    let plane = plane();
    post(&plane, WIDGETS, widget("a", json!({"size": 1}))).await;
    let options = json!({"preconditions": {"uid": "other"}});
    let (code, status) = call(
        &plane,
        "DELETE",
        &format!("{WIDGETS}/a"),
        Some(("application/json", options)),
    )
    .await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")));
}

#[tokio::test]
async fn dependents_go_with_their_owner_in_the_background() {
    let plane = plane();
    let (_, owner) = post(&plane, WIDGETS, widget("a", json!({"size": 1}))).await;
    owned(&plane, "child", &owner, false).await;
    delete(&plane, &format!("{WIDGETS}/a")).await;
    eventually(
        &plane,
        &format!("{CONFIG_MAPS}/child"),
        "the child goes",
        |code, _| code == 404,
    )
    .await;
}

#[tokio::test]
async fn foreground_deletion_waits_for_blocking_dependents() {
    let plane = plane();
    let (_, owner) = post(&plane, WIDGETS, widget("a", json!({"size": 1}))).await;
    owned(&plane, "child", &owner, true).await;
    merge(
        &plane,
        &format!("{CONFIG_MAPS}/child"),
        json!({"metadata": {"finalizers": ["test.dev/hold"]}}),
    )
    .await;
    let options = json!({"propagationPolicy": "Foreground"});
    let (_, body) = call(
        &plane,
        "DELETE",
        &format!("{WIDGETS}/a"),
        Some(("application/json", options)),
    )
    .await;
    assert_eq!(
        body["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    eventually(
        &plane,
        &format!("{CONFIG_MAPS}/child"),
        "the child terminates",
        |_, c| c["metadata"]["deletionTimestamp"].is_string(),
    )
    .await;
    assert_eq!(
        get(&plane, &format!("{WIDGETS}/a")).await.0,
        200,
        "the owner waits"
    );
    merge(
        &plane,
        &format!("{CONFIG_MAPS}/child"),
        json!({"metadata": {"finalizers": null}}),
    )
    .await;
    eventually(
        &plane,
        &format!("{WIDGETS}/a"),
        "the owner goes",
        |code, _| code == 404,
    )
    .await;
}

#[tokio::test]
async fn orphaned_dependents_stay_without_their_owner() {
    let plane = plane();
    let (_, owner) = post(&plane, WIDGETS, widget("a", json!({"size": 1}))).await;
    owned(&plane, "child", &owner, true).await;
    let options = json!({"propagationPolicy": "Orphan"});
    call(
        &plane,
        "DELETE",
        &format!("{WIDGETS}/a"),
        Some(("application/json", options)),
    )
    .await;
    eventually(
        &plane,
        &format!("{WIDGETS}/a"),
        "the owner goes",
        |code, _| code == 404,
    )
    .await;
    let (code, child) = get(&plane, &format!("{CONFIG_MAPS}/child")).await;
    assert_eq!(
        (code, child["metadata"].get("ownerReferences")),
        (200, None)
    );
}

#[tokio::test]
async fn an_object_whose_owner_never_existed_is_collected() {
    let plane = plane();
    let ghost = json!({"apiVersion": "test.dev/v1", "kind": "Widget", "metadata": {"name": "ghost", "uid": "no-such-uid"}});
    owned(&plane, "child", &ghost, false).await;
    eventually(
        &plane,
        &format!("{CONFIG_MAPS}/child"),
        "the child goes",
        |code, _| code == 404,
    )
    .await;
}

#[tokio::test]
async fn a_terminating_namespace_is_emptied_and_accepts_nothing_new() {
    let plane = plane();
    post(
        &plane,
        "/api/v1/namespaces",
        json!({"metadata": {"name": "team"}}),
    )
    .await;
    let inside = "/api/v1/namespaces/team/configmaps";
    post(&plane, inside, json!({"metadata": {"name": "free"}})).await;
    post(
        &plane,
        inside,
        json!({"metadata": {"name": "held", "finalizers": ["test.dev/hold"]}}),
    )
    .await;
    delete(&plane, "/api/v1/namespaces/team").await;
    eventually(
        &plane,
        &format!("{inside}/free"),
        "contents go",
        |code, _| code == 404,
    )
    .await;
    let (code, status) = post(&plane, inside, json!({"metadata": {"name": "late"}})).await;
    assert_eq!((code, status["reason"].as_str()), (403, Some("Forbidden")));
    assert_eq!(
        get(&plane, "/api/v1/namespaces/team").await.1["status"]["phase"],
        "Terminating"
    );
    merge(
        &plane,
        &format!("{inside}/held"),
        json!({"metadata": {"finalizers": null}}),
    )
    .await;
    eventually(
        &plane,
        "/api/v1/namespaces/team",
        "the namespace goes",
        |code, _| code == 404,
    )
    .await;
}

#[tokio::test]
async fn deletecollection_deletes_what_the_selector_matches() {
    let plane = plane();
    for (name, tier) in [("a", "x"), ("b", "y")] {
        post(
            &plane,
            CONFIG_MAPS,
            json!({"metadata": {"name": name, "labels": {"tier": tier}}}),
        )
        .await;
    }
    delete(&plane, &format!("{CONFIG_MAPS}?labelSelector=tier%3Dx")).await;
    let (_, list) = get(&plane, CONFIG_MAPS).await;
    let names: Vec<&str> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|i| i["metadata"]["name"].as_str())
        .collect();
    assert_eq!(names, ["b"]);
}

#[tokio::test]
async fn a_running_pod_terminates_gracefully_and_eviction_respects_the_budget() {
    let plane = plane();
    let pods = "/api/v1/namespaces/default/pods";
    for name in ["p-0", "p-1"] {
        let pod = json!({"metadata": {"name": name, "labels": {"app": "p"}}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 7, "containers": [{"name": "c", "image": "i"}]}});
        assert_eq!(post(&plane, pods, pod).await.0, 201);
        merge(&plane, &format!("{pods}/{name}/status"), json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})).await;
    }
    let budget = json!({"metadata": {"name": "b"}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "p"}}}});
    post(
        &plane,
        "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
        budget,
    )
    .await;
    let eviction = |name: &str| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    let (code, _) = post(&plane, &format!("{pods}/p-0/eviction"), eviction("p-0")).await;
    assert_eq!(code, 201);
    let (_, evicted) = get(&plane, &format!("{pods}/p-0")).await;
    assert_eq!(evicted["metadata"]["deletionGracePeriodSeconds"], 7);
    let (code, status) = post(&plane, &format!("{pods}/p-1/eviction"), eviction("p-1")).await;
    assert_eq!(
        (code, status["message"].as_str()),
        (
            429,
            Some("Cannot evict pod as it would violate the pod's disruption budget.")
        )
    );
    let (_, _) = call(
        &plane,
        "DELETE",
        &format!("{pods}/p-0"),
        Some(("application/json", json!({"gracePeriodSeconds": 0}))),
    )
    .await;
    assert_eq!(get(&plane, &format!("{pods}/p-0")).await.0, 404);
}
