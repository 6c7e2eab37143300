//! The CRD decides: types, bounds, enums, patterns, uniqueness and CEL rules, with a real API server's words.

use serde_json::{Value, json};

use crate::api::fixture::*;

type Row = (Value, &'static str, &'static str);

fn values() -> Vec<Row> {
    vec![
        (json!({}), "spec.size", "spec.size: Required value"),
        (
            json!({"size": "2"}),
            "spec.size",
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
        ),
        (
            json!({"size": 0}),
            "spec.size",
            "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
        ),
        (
            json!({"size": 101}),
            "spec.size",
            "spec.size: Invalid value: 101: spec.size in body should be less than or equal to 100",
        ),
        (
            json!({"size": 1, "color": "blue"}),
            "spec.color",
            "spec.color: Unsupported value: \"blue\": supported values: \"red\", \"green\"",
        ),
        (
            json!({"size": 1, "name": "A"}),
            "spec.name",
            "spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+$'",
        ),
        (
            json!({"size": 1, "name": "abcdefghi"}),
            "spec.name",
            "spec.name: Too long: may not be more than 8 bytes",
        ),
    ]
}

fn structures() -> Vec<Row> {
    vec![
        (
            json!({"size": 1, "parts": [{"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "d"}]}),
            "spec.parts",
            "spec.parts: Too many: 4: must have at most 3 items",
        ),
        (
            json!({"size": 1, "parts": [{"name": "a"}, {"name": "a"}]}),
            "spec.parts[1]",
            "spec.parts[1]: Duplicate value: {\"name\":\"a\"}",
        ),
        (
            json!({"size": 1, "parts": [{"note": "x"}]}),
            "spec.parts[0].name",
            "spec.parts[0].name: Required value",
        ),
        (
            json!({"size": 1, "config": {"k": 1}}),
            "spec.config.k",
            "spec.config.k: Invalid value: \"integer\": spec.config.k in body must be of type string: \"integer\"",
        ),
        (
            json!({"size": 1, "port": true}),
            "spec.port",
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
        ),
        (
            json!({"size": 1, "name": "admin"}),
            "spec",
            "spec: Invalid value: \"object\": admin is reserved",
        ),
    ]
}

#[tokio::test]
async fn every_broken_rule_is_named_with_its_field() {
    let plane = plane();
    for (spec, field, message) in values().into_iter().chain(structures()) {
        let (code, status) = post(&plane, WIDGETS, widget("a", spec.clone())).await;
        assert_eq!(code, 422, "{spec}: {status}");
        let text = status["message"].as_str().unwrap_or_default();
        assert!(text.contains(message), "{spec}: {text:?} lacks {message:?}");
        assert!(
            text.starts_with("Widget.test.dev \"a\" is invalid: "),
            "{text}"
        );
        assert_eq!(status["details"]["causes"][0]["field"], field, "{status}");
    }
}

#[tokio::test]
async fn transition_rules_see_the_old_object() {
    let plane = plane();
    post(&plane, WIDGETS, widget("a", json!({"size": 5, "id": "x"}))).await;
    let path = format!("{WIDGETS}/a");
    let (code, status) = merge(&plane, &path, json!({"spec": {"size": 4}})).await;
    assert_eq!(code, 422);
    assert_eq!(
        status["message"],
        "Widget.test.dev \"a\" is invalid: spec.size: Invalid value: \"object\": size must not shrink"
    );
    let (_, status) = merge(&plane, &path, json!({"spec": {"id": "y"}})).await;
    assert_eq!(
        status["message"],
        "Widget.test.dev \"a\" is invalid: spec.id: Invalid value: \"string\": id is immutable"
    );
    assert_eq!(
        merge(&plane, &path, json!({"spec": {"size": 6}})).await.0,
        200
    );
}

#[tokio::test]
async fn unknown_fields_are_pruned_with_a_warning_unless_strict() {
    let plane = plane();
    let (code, body) = post(
        &plane,
        WIDGETS,
        widget(
            "a",
            json!({"size": 1, "colour": "red", "parts": [{"name": "p", "x": 1}]}),
        ),
    )
    .await;
    assert_eq!(code, 201);
    assert_eq!(
        (
            body["spec"].get("colour"),
            body["spec"]["parts"][0].get("x")
        ),
        (None, None)
    );
    let strict = format!("{WIDGETS}?fieldValidation=Strict");
    let (_, status) = post(
        &plane,
        &strict,
        widget(
            "b",
            json!({"size": 1, "colour": "red", "parts": [{"name": "p", "x": 1}]}),
        ),
    )
    .await;
    let message = status["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("unknown field \"spec.colour\", unknown field \"spec.parts[0].x\""),
        "{message}"
    );
}

#[tokio::test]
async fn nulls_of_fields_that_are_not_nullable_count_as_absent() {
    let plane = plane();
    let (code, body) = post(
        &plane,
        WIDGETS,
        widget("a", json!({"size": 1, "color": null, "name": null})),
    )
    .await;
    assert_eq!(
        (code, &body["spec"]),
        (201, &json!({"size": 1, "color": "red"})),
        "{body}"
    );
}

#[tokio::test]
async fn parts_that_do_not_change_are_not_checked_again() {
    let plane = plane();
    let (_, object) = post(
        &plane,
        WIDGETS,
        widget(
            "a",
            json!({"size": 1, "parts": [{"name": "p", "note": "n"}]}),
        ),
    )
    .await;
    // An update that leaves everything but one label alone passes whatever today's rules are.
    let mut next: Value = object;
    next["metadata"]["labels"] = json!({"x": "y"});
    assert_eq!(put(&plane, &format!("{WIDGETS}/a"), next).await.0, 200);
}
