//! Server-side apply: what a manager stops applying goes, what others own stays, and taking it over needs force.

use serde_json::{Value, json};

use crate::api::fixture::*;

fn managers(object: &Value) -> Vec<(String, Value)> {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .expect("managed fields");
    entries
        .iter()
        .map(|e| {
            (
                e["manager"].as_str().expect("manager").to_owned(),
                e["fieldsV1"].clone(),
            )
        })
        .collect()
}

#[tokio::test]
async fn applying_creates_and_records_exactly_what_was_applied() {
    let plane = plane();
    let intent = widget(
        "a",
        json!({"size": 2, "parts": [{"name": "p", "note": "n"}], "config": {"k": "v"}, "order": ["x"]}),
    );
    let (code, body) = apply(&plane, "one", false, intent).await;
    assert_eq!(code, 201, "{body}");
    let want = json!({"f:spec": {
        "f:config": {"f:k": {}},
        "f:order": {},
        "f:parts": {"k:{\"name\":\"p\"}": {".": {}, "f:name": {}, "f:note": {}}},
        "f:size": {},
    }});
    assert_eq!(managers(&body), [("one".to_owned(), want)]);
    assert_eq!(body["metadata"]["managedFields"][0]["operation"], "Apply");
}

#[tokio::test]
async fn fields_no_longer_applied_are_removed_unless_somebody_else_owns_them() {
    let plane = plane();
    apply(&plane, "one", false, widget("a", json!({"size": 2, "name": "x", "config": {"mine": "1", "shared": "1"}, "parts": [{"name": "p"}, {"name": "q"}]}))).await;
    apply(&plane, "two", false, widget("a", json!({"size": 2, "config": {"shared": "1", "theirs": "2"}, "parts": [{"name": "q", "note": "two"}]}))).await;
    let (code, body) = apply(&plane, "one", false, widget("a", json!({"size": 2}))).await;
    assert_eq!(code, 200, "{body}");
    assert_eq!(
        body["spec"]["config"],
        json!({"shared": "1", "theirs": "2"})
    );
    assert_eq!(
        body["spec"]["parts"],
        json!([{"name": "q", "note": "two", "weight": 1}])
    );
    assert_eq!(body["spec"].get("name"), None);
}

#[tokio::test]
async fn a_field_of_another_manager_conflicts_unless_forced() {
    let plane = plane();
    apply(
        &plane,
        "one",
        false,
        widget("a", json!({"size": 2, "name": "x"})),
    )
    .await;
    let (code, status) = apply(&plane, "two", false, widget("a", json!({"size": 3}))).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")));
    assert_eq!(
        status["message"],
        "Apply failed with 1 conflict: conflict with \"one\": .spec.size"
    );
    assert_eq!(
        status["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.size"}])
    );
    let (code, status) = apply(
        &plane,
        "two",
        false,
        widget("a", json!({"size": 3, "name": "y"})),
    )
    .await;
    assert_eq!(code, 409);
    assert_eq!(
        status["message"],
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.name\n- .spec.size"
    );
    let (code, body) = apply(&plane, "two", true, widget("a", json!({"size": 3}))).await;
    assert_eq!((code, &body["spec"]["size"]), (200, &json!(3)));
    let owners = managers(&body);
    assert_eq!(
        owners.iter().find(|(m, _)| m == "one").expect("one").1,
        json!({"f:spec": {"f:name": {}}})
    );
}

#[tokio::test]
async fn equal_values_are_shared_and_do_not_conflict() {
    let plane = plane();
    apply(&plane, "one", false, widget("a", json!({"size": 2}))).await;
    let (code, body) = apply(&plane, "two", false, widget("a", json!({"size": 2}))).await;
    assert_eq!(code, 200);
    assert_eq!(managers(&body).len(), 2);
}

#[tokio::test]
async fn applying_the_same_again_is_no_change() {
    let plane = plane();
    let intent = widget(
        "a",
        json!({"size": 2, "parts": [{"name": "p"}], "tags": ["x"]}),
    );
    let (_, first) = apply(&plane, "one", false, intent.clone()).await;
    let (_, second) = apply(&plane, "one", false, intent).await;
    assert_eq!(first, second);
}

#[tokio::test]
async fn an_update_takes_ownership_of_what_it_changed() {
    let plane = plane();
    apply(
        &plane,
        "one",
        false,
        widget("a", json!({"size": 2, "name": "x"})),
    )
    .await;
    merge(
        &plane,
        &format!("{WIDGETS}/a?fieldManager=editor"),
        json!({"spec": {"size": 7}}),
    )
    .await;
    let (code, status) = apply(
        &plane,
        "one",
        false,
        widget("a", json!({"size": 2, "name": "x"})),
    )
    .await;
    assert_eq!(code, 409, "{status}");
    assert_eq!(
        status["message"],
        "Apply failed with 1 conflict: conflict with \"editor\" using test.dev/v1: .spec.size"
    );
}

#[tokio::test]
async fn sets_and_keyed_lists_merge_by_item_and_atomic_lists_as_a_whole() {
    let plane = plane();
    apply(
        &plane,
        "one",
        false,
        widget("a", json!({"size": 1, "tags": ["a", "b"], "order": ["x"]})),
    )
    .await;
    let (_, body) = apply(
        &plane,
        "two",
        false,
        widget("a", json!({"size": 1, "tags": ["b", "c"]})),
    )
    .await;
    assert_eq!(body["spec"]["tags"], json!(["a", "b", "c"]));
    let (code, _) = apply(
        &plane,
        "two",
        false,
        widget("a", json!({"size": 1, "order": ["x", "y"]})),
    )
    .await;
    assert_eq!(code, 409, "an atomic list has one owner");
    let (_, body) = apply(
        &plane,
        "one",
        false,
        widget("a", json!({"size": 1, "tags": ["a"], "order": ["x"]})),
    )
    .await;
    assert_eq!(
        body["spec"]["tags"],
        json!(["a", "b", "c"]),
        "one let go of b, but two still applies it"
    );
}

#[tokio::test]
async fn status_is_applied_and_owned_apart() {
    let plane = plane();
    apply(&plane, "spec-owner", false, widget("a", json!({"size": 2}))).await;
    let mut status = widget("a", json!({"size": 50}));
    status["status"] = json!({"phase": "Ready"});
    let path = format!("{WIDGETS}/a/status?fieldManager=operator&force=true");
    let (code, body) = call(
        &plane,
        "PATCH",
        &path,
        Some(("application/apply-patch+yaml", status)),
    )
    .await;
    assert_eq!(
        (code, &body["spec"]["size"], &body["status"]["phase"]),
        (200, &json!(2), &json!("Ready"))
    );
    let entries = body["metadata"]["managedFields"]
        .as_array()
        .expect("entries")
        .clone();
    let operator = entries
        .iter()
        .find(|e| e["manager"] == "operator")
        .expect("operator");
    assert_eq!(
        (&operator["subresource"], &operator["fieldsV1"]),
        (&json!("status"), &json!({"f:status": {"f:phase": {}}}))
    );
}

#[tokio::test]
async fn an_unknown_field_cannot_be_applied() {
    let plane = plane();
    let (code, status) = apply(
        &plane,
        "one",
        false,
        widget("a", json!({"size": 2, "colour": "red"})),
    )
    .await;
    assert_eq!(code, 500, "as from a real API server: {status}");
    assert_eq!(
        status["message"],
        "failed to create typed patch object (/a; test.dev/v1, Kind=Widget): .spec.colour: field not declared in schema"
    );
}
