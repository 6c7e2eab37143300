//! The StatefulSet rules, as a table of what exists and what is done next.

use super::*;

fn set(policy: &str, strategy: &str, replicas: i32, image: &str) -> StatefulSet {
    serde_json::from_value(json!({
        "metadata": {"name": "s", "namespace": "default", "uid": "set-uid", "generation": 3},
        "spec": {
            "serviceName": "brokers", "replicas": replicas, "podManagementPolicy": policy,
            "updateStrategy": {"type": strategy}, "selector": {"matchLabels": {"app": "s"}},
            "template": {"metadata": {"labels": {"app": "s"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}],
        },
    }))
    .unwrap()
}

/// Pods as `plan` made them for `set`, with this readiness.
fn pods_of(set: &StatefulSet, ready: &[bool]) -> Vec<Arc<Pod>> {
    let mut wide = set.clone();
    wide.spec.as_mut().unwrap().replicas = Some(i32::try_from(ready.len()).unwrap());
    wide.spec.as_mut().unwrap().pod_management_policy = Some("Parallel".into());
    let made = plan(&wide, &[], &[]).create;
    made.into_iter()
        .zip(ready)
        .map(|(mut pod, ready)| {
            let status = if *ready { "True" } else { "False" };
            pod.status = Some(serde_json::from_value(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": status}]})).unwrap());
            Arc::new(pod)
        })
        .collect()
}

fn names<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Vec<String> {
    pods.into_iter().map(|p| p.name_any()).collect()
}

#[test]
fn pods_appear_all_at_once_or_one_after_the_other() {
    for (policy, ready, want) in [
        ("Parallel", &[][..], vec!["s-0", "s-1", "s-2"]),
        ("OrderedReady", &[], vec!["s-0"]),
        ("OrderedReady", &[false], vec![]),
        ("OrderedReady", &[true], vec!["s-1"]),
        ("Parallel", &[false], vec!["s-1", "s-2"]),
    ] {
        let set = set(policy, "OnDelete", 3, "i");
        let got = plan(&set, &pods_of(&set, ready), &[]);
        assert_eq!(names(&got.create), want, "{policy} {ready:?}");
    }
}

#[test]
fn a_pod_has_its_identity_revision_and_claim() {
    let set = set("Parallel", "OnDelete", 1, "i");
    let got = plan(&set, &[], &[]);
    let pod = &got.create[0];
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(
        (spec.hostname.as_deref(), spec.subdomain.as_deref()),
        (Some("s-0"), Some("brokers"))
    );
    assert_eq!(pod.labels()["statefulset.kubernetes.io/pod-name"], "s-0");
    assert_eq!(json!(pod.labels()[REVISION]), got.status["updateRevision"]);
    assert_eq!(
        spec.volumes.as_ref().unwrap()[0]
            .persistent_volume_claim
            .as_ref()
            .unwrap()
            .claim_name,
        "data-s-0"
    );
    assert_eq!(got.claims[0].name_any(), "data-s-0");
    assert!(
        got.claims[0].owner_references().is_empty(),
        "claims outlive their set by default"
    );
}

#[test]
fn scaling_down_removes_the_highest_ordinals_and_keeps_claims() {
    let claim: PersistentVolumeClaim =
        serde_json::from_value(json!({"metadata": {"name": "data-s-2", "namespace": "default"}}))
            .unwrap();
    for (policy, want) in [
        ("Parallel", vec!["s-2", "s-1"]),
        ("OrderedReady", vec!["s-2"]),
    ] {
        let set = set(policy, "OnDelete", 1, "i");
        let got = plan(
            &set,
            &pods_of(&set, &[true, true, true]),
            &[Arc::new(claim.clone())],
        );
        assert_eq!(
            names(got.delete.iter().map(AsRef::as_ref)),
            want,
            "{policy}"
        );
        assert_eq!(got.drop_claims, Vec::<String>::new());
    }
}

#[test]
fn a_new_template_replaces_nothing_under_on_delete_and_the_highest_pod_under_rolling_update() {
    for (strategy, ready, want) in [
        ("OnDelete", [true, true, true], vec![]),
        ("RollingUpdate", [true, true, true], vec!["s-2"]),
        ("RollingUpdate", [true, false, true], vec![]),
    ] {
        let old = set("Parallel", strategy, 3, "old");
        let new = set("Parallel", strategy, 3, "new");
        let got = plan(&new, &pods_of(&old, &ready), &[]);
        assert_eq!(
            names(got.delete.iter().map(AsRef::as_ref)),
            want,
            "{strategy} {ready:?}"
        );
        assert_eq!(got.status["updatedReplicas"], 0);
        assert_ne!(
            got.status["updateRevision"],
            json!(pods_of(&old, &[true])[0].labels()[REVISION])
        );
    }
}

#[test]
fn status_counts_what_runs_and_current_revision_stays_under_on_delete() {
    let old = set("Parallel", "OnDelete", 3, "old");
    let mut new = set("Parallel", "OnDelete", 3, "new");
    let before = plan(&old, &[], &[]).status["updateRevision"].clone();
    new.status =
        Some(serde_json::from_value(json!({"replicas": 3, "currentRevision": before})).unwrap());
    let got = plan(&new, &pods_of(&new, &[true, true, false]), &[]).status;
    assert_eq!(
        (
            &got["replicas"],
            &got["readyReplicas"],
            &got["updatedReplicas"]
        ),
        (&json!(3), &json!(2), &json!(3))
    );
    assert_eq!(
        (&got["currentRevision"], &got["observedGeneration"]),
        (&before, &json!(3))
    );
}

#[test]
fn pods_of_others_are_left_alone() {
    let set = set("Parallel", "OnDelete", 0, "i");
    let mut foreign = (*pods_of(&set, &[true])[0]).clone();
    foreign.metadata.owner_references = None;
    assert!(plan(&set, &[Arc::new(foreign)], &[]).delete.is_empty());
}
