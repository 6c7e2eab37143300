//! Watches: resumption, bookmarks, selectors, 410 Gone, and what faults do to them.

use std::time::Duration;

use controlplane::{ControlPlane, FaultPlan};
use futures::{StreamExt as _, TryStreamExt as _};
use http::Request;
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};
use tower::Service as _;

use crate::api::fixture::*;

/// The first `count` events of a watch.
async fn events(plane: &ControlPlane, query: &str, count: usize) -> Vec<(String, Value)> {
    let request = Request::get(format!("{CONFIG_MAPS}?watch=true&{query}"))
        .body(Body::from(Vec::new()))
        .expect("request");
    let response = plane.service().call(request).await.expect("a watch");
    let mut lines = response.into_body().into_data_stream();
    let mut seen = Vec::new();
    while seen.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(5), lines.next())
            .await
            .expect("an event within five seconds");
        let Some(Ok(line)) = next else { break };
        let event: Value = serde_json::from_slice(&line).expect("JSON");
        seen.push((
            event["type"].as_str().expect("type").to_owned(),
            event["object"].clone(),
        ));
    }
    seen
}

fn summary(events: &[(String, Value)]) -> Vec<String> {
    events
        .iter()
        .map(|(what, object)| {
            format!(
                "{what} {}",
                object["metadata"]["name"].as_str().unwrap_or("-")
            )
        })
        .collect()
}

async fn config_map(plane: &ControlPlane, name: &str, tier: &str) -> u64 {
    let (code, body) = post(
        plane,
        CONFIG_MAPS,
        json!({"metadata": {"name": name, "labels": {"tier": tier}}}),
    )
    .await;
    assert_eq!(code, 201, "{body}");
    body["metadata"]["resourceVersion"]
        .as_str()
        .and_then(|v| v.parse().ok())
        .expect("a version")
}

#[tokio::test]
async fn a_watch_resumes_exactly_after_its_revision() {
    let plane = plane();
    let first = config_map(&plane, "a", "x").await;
    config_map(&plane, "b", "x").await;
    merge(
        &plane,
        &format!("{CONFIG_MAPS}/a"),
        json!({"data": {"k": "v"}}),
    )
    .await;
    delete(&plane, &format!("{CONFIG_MAPS}/b")).await;
    let seen = events(&plane, &format!("resourceVersion={first}"), 3).await;
    assert_eq!(summary(&seen), ["ADDED b", "MODIFIED a", "DELETED b"]);
    let deleted: u64 = seen[2].1["metadata"]["resourceVersion"]
        .as_str()
        .and_then(|v| v.parse().ok())
        .expect("version");
    assert_eq!(
        deleted,
        plane.revision(),
        "a deletion event carries its own revision"
    );
}

#[tokio::test]
async fn a_watch_without_revision_starts_with_the_state() {
    let plane = plane();
    config_map(&plane, "a", "x").await;
    config_map(&plane, "b", "y").await;
    assert_eq!(
        summary(&events(&plane, "labelSelector=tier%3Dx", 1).await),
        ["ADDED a"]
    );
    let streamed = events(
        &plane,
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
        3,
    )
    .await;
    assert_eq!(summary(&streamed), ["ADDED a", "ADDED b", "BOOKMARK -"]);
    assert_eq!(
        streamed[2].1["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
}

#[tokio::test]
async fn objects_enter_and_leave_a_selection() {
    let plane = plane();
    let start = config_map(&plane, "a", "x").await;
    let path = format!("{CONFIG_MAPS}/a");
    merge(
        &plane,
        &path,
        json!({"metadata": {"labels": {"tier": "y"}}}),
    )
    .await;
    merge(
        &plane,
        &path,
        json!({"metadata": {"labels": {"tier": "x"}}}),
    )
    .await;
    let seen = events(
        &plane,
        &format!("resourceVersion={start}&labelSelector=tier%3Dx"),
        2,
    )
    .await;
    assert_eq!(summary(&seen), ["DELETED a", "ADDED a"]);
}

#[tokio::test]
async fn a_revision_older_than_the_history_is_gone() {
    let mut config = config();
    config.history = 4;
    let plane = ControlPlane::open(config).expect("opens");
    let start = config_map(&plane, "a", "x").await;
    for round in 0..6 {
        merge(
            &plane,
            &format!("{CONFIG_MAPS}/a"),
            json!({"data": {"k": round.to_string()}}),
        )
        .await;
    }
    let seen = events(&plane, &format!("resourceVersion={start}"), 1).await;
    assert_eq!(
        (seen[0].0.as_str(), &seen[0].1["code"], &seen[0].1["reason"]),
        ("ERROR", &json!(410), &json!("Expired"))
    );
}

#[tokio::test]
async fn quiet_watches_get_bookmarks_and_end_at_their_timeout() {
    let plane = plane();
    let start = config_map(&plane, "a", "x").await;
    // Something else moves on; the bookmark says how far this watch has looked.
    post(&plane, WIDGETS, widget("w", json!({"size": 1}))).await;
    let request = Request::get(format!(
        "{CONFIG_MAPS}?watch=true&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion={start}"
    ));
    let response = plane
        .service()
        .call(request.body(Body::from(Vec::new())).expect("request"))
        .await
        .expect("a watch");
    let lines: Vec<_> = response
        .into_body()
        .into_data_stream()
        .try_collect()
        .await
        .expect("the stream ends");
    let bookmarks: Vec<Value> = lines
        .iter()
        .map(|l| serde_json::from_slice(l).expect("JSON"))
        .collect();
    assert!(
        bookmarks.iter().all(|b| b["type"] == "BOOKMARK"),
        "{bookmarks:?}"
    );
    assert_eq!(
        bookmarks[0]["object"]["metadata"]["resourceVersion"],
        plane.revision().to_string()
    );
}

#[tokio::test]
async fn kubes_watcher_sees_every_object_through_seeded_faults() {
    for seed in 0..20 {
        let plane = plane();
        let faulty: Api<ConfigMap> =
            Api::namespaced(plane.client_with_faults(FaultPlan::seeded(seed)), "default");
        let sure: Api<ConfigMap> = Api::namespaced(plane.reliable_client(), "default");
        let mut seen = std::collections::BTreeSet::new();
        let backoff = watcher(faulty, watcher::Config::default())
            .backoff(Brief)
            .applied_objects();
        let mut stream = std::pin::pin!(backoff);
        let writer = async {
            for index in 0..10 {
                let name = format!("c-{index}");
                let object: ConfigMap =
                    serde_json::from_value(json!({"metadata": {"name": name}})).expect("object");
                sure.create(&PostParams::default(), &object)
                    .await
                    .expect("created");
                if index % 3 == 0 {
                    plane.compact();
                }
                let patch = json!({"data": {"k": "v"}});
                sure.patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                    .await
                    .expect("patched");
            }
        };
        let reader = async {
            while seen.len() < 10 {
                if let Some(Ok(object)) = stream.next().await
                    && object.data.is_some()
                {
                    seen.insert(object.metadata.name.expect("name"));
                }
            }
        };
        let both = futures::future::join(writer, reader);
        tokio::time::timeout(Duration::from_secs(20), both)
            .await
            .unwrap_or_else(|_| panic!("seed {seed} never converged"));
    }
}

/// A back-off that does not slow the test down.
#[derive(Debug)]
struct Brief;

impl Iterator for Brief {
    type Item = Duration;
    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(1))
    }
}

impl kube::runtime::utils::Backoff for Brief {
    fn reset(&mut self) {}
}
