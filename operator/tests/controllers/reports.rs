//! Is the status the truth when something is wrong, and does one wrong thing stop only itself?

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use operator_core::api::v1alpha1::KafkaCluster;
use operator_core::conditions;
use serde_json::{Value, json};

use crate::namespace::Namespace;
use crate::objects::shop;
use crate::samples::{cluster, pool, said};

pub(crate) async fn a_cluster_whose_pods_do_not_start_says_so_and_recovers(namespace: Namespace) {
    let mut object = cluster("shop", 3);
    object["spec"]["image"] = json!("registry.test/broken:1");
    namespace.create::<KafkaCluster>(object).await;
    let stuck = namespace
        .until("shop", "waits for its pods", |cluster: &KafkaCluster| {
            said(cluster, "Progressing").0 == "WaitingForPods"
        })
        .await;
    let (reason, message) = said(&stuck, "Ready");
    assert_eq!(reason, "NodesNotReady");
    assert!(message.starts_with("0 of 3 nodes are Ready"), "{message}");
    let status = stuck.status.as_ref().expect("a status");
    assert_eq!(status.ready.as_deref(), Some("0/3"));
    assert_eq!(status.observed_generation, stuck.metadata.generation);
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.observed_generation == Some(1))
    );
    let uids = pod_uids(&namespace).await;
    namespace
        .merge::<KafkaCluster>(
            "shop",
            json!({ "spec": { "image": "registry.test/good:1" } }),
        )
        .await;
    namespace.settled("shop").await;
    let after = pod_uids(&namespace).await;
    assert!(
        uids.iter().all(|uid| !after.contains(uid)),
        "all were down: all were replaced"
    );
}

async fn pod_uids(namespace: &Namespace) -> Vec<String> {
    let pods = namespace.list::<Pod>().await;
    pods.iter().filter_map(|pod| pod.uid()).collect()
}

pub(crate) async fn an_invalid_spec_is_explained_and_changes_nothing(namespace: Namespace) {
    namespace.create::<KafkaCluster>(cluster("shop", 3)).await;
    namespace.settled("shop").await;
    let before: StatefulSet = namespace.get("shop-main").await.expect("a StatefulSet");
    let config = |value: Value| json!({ "spec": { "config": value } });
    let changed: KafkaCluster = namespace
        .merge("shop", config(json!({ "min.insync.replica": "2" })))
        .await;
    let refused = namespace
        .until("shop", "is Invalid", |cluster: &KafkaCluster| {
            let status = cluster.status.as_ref();
            status.is_some_and(|status| {
                status.phase.as_deref() == Some("Invalid")
                    && status.observed_generation == changed.metadata.generation
            })
        })
        .await;
    let (reason, message) = said(&refused, "Ready");
    assert_eq!(reason, "Invalid");
    for part in [
        "spec.config[min.insync.replica]",
        "did you mean min.insync.replicas?",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let after: StatefulSet = namespace.get("shop-main").await.expect("a StatefulSet");
    assert_eq!(after.metadata.generation, before.metadata.generation);
    namespace
        .merge::<KafkaCluster>(
            "shop",
            config(json!({ "min.insync.replica": null, "min.insync.replicas": "2" })),
        )
        .await;
    namespace.settled("shop").await;
}

pub(crate) async fn a_name_that_is_taken_is_reported_and_left_alone(namespace: Namespace) {
    let foreign = json!({
        "metadata": { "name": "shop-bootstrap", "labels": { "app": "somebodys" } },
        "spec": { "ports": [{ "port": 80 }], "selector": { "app": "somebodys" } },
    });
    let foreign: Service = namespace.create(foreign).await;
    namespace.create::<KafkaCluster>(cluster("shop", 3)).await;
    let blocked = namespace
        .until("shop", "names the taken name", |cluster: &KafkaCluster| {
            said(cluster, "Progressing").0 == "NameTaken"
        })
        .await;
    let (_, message) = said(&blocked, "Progressing");
    assert!(
        message.contains("Service shop-bootstrap exists already"),
        "{message}"
    );
    // All that does not need the name is there.
    namespace
        .pods_ready(&["shop-main-0", "shop-main-1", "shop-main-2"])
        .await;
    let mut expected = shop();
    expected.remove("Service/shop-bootstrap");
    assert_eq!(namespace.inventory("shop").await, expected);
    let still: Service = namespace.get("shop-bootstrap").await.expect("the Service");
    assert_eq!(still.uid(), foreign.uid());
    assert_eq!(still.labels(), foreign.labels());
    namespace.delete::<Service>("shop-bootstrap").await;
    namespace.settled("shop").await;
    assert_eq!(namespace.inventory("shop").await, shop());
}

pub(crate) async fn a_smaller_pool_is_held_back_and_all_else_goes_on(namespace: Namespace) {
    namespace.create::<KafkaCluster>(cluster("shop", 3)).await;
    namespace.settled("shop").await;
    let change = json!({ "spec": {
        "pools": [pool("main", &["controller", "broker"], 1)],
        "listeners": [{ "name": "internal", "port": 9095, "type": "internal" }],
    } });
    namespace.merge::<KafkaCluster>("shop", change).await;
    let held = namespace
        .until("shop", "holds the pool back", |cluster: &KafkaCluster| {
            let status = cluster.status.as_ref();
            said(cluster, "Progressing").0 == "ScaleDownBlocked"
                && status.is_some_and(|status| conditions::is_true(&status.conditions, "Ready"))
        })
        .await;
    let (_, message) = said(&held, "Progressing");
    assert!(
        message.contains("pool main keeps 3 nodes instead of 1"),
        "{message}"
    );
    let set: StatefulSet = namespace.get("shop-main").await.expect("a StatefulSet");
    assert_eq!(set.spec.as_ref().and_then(|spec| spec.replicas), Some(3));
    namespace
        .until("shop-bootstrap", "has the new port", |service: &Service| {
            let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
            ports.is_some_and(|ports| ports[0].port == 9095)
        })
        .await;
}
