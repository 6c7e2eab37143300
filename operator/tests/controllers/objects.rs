//! Which objects does a cluster consist of, and whose are they?

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use operator_core::api::v1alpha1::KafkaCluster;
use operator_core::names::{CLUSTER_ID_ANNOTATION, CLUSTER_LABEL, NODE_ID_ANNOTATION};
use serde_json::{Value, json};

use crate::namespace::{Kind, Namespace};
use crate::samples::{cluster, pool};

/// Everything of a cluster called `shop` with one pool `main` of three.
pub(crate) fn shop() -> BTreeSet<String> {
    [
        "ServiceAccount/shop",
        "Service/shop-brokers",
        "Service/shop-bootstrap",
        "ConfigMap/shop-main-config",
        "PodDisruptionBudget/shop",
        "StatefulSet/shop-main",
        "Pod/shop-main-0",
        "Pod/shop-main-1",
        "Pod/shop-main-2",
        "PersistentVolumeClaim/data-shop-main-0",
        "PersistentVolumeClaim/data-shop-main-1",
        "PersistentVolumeClaim/data-shop-main-2",
    ]
    .map(str::to_owned)
    .into()
}

async fn owned_by<K: Kind>(namespace: &Namespace, owner: &KafkaCluster, names: &[&str]) {
    for name in names {
        let object: K = namespace.get(name).await.expect(name);
        let references = object.owner_references();
        assert_eq!(references.len(), 1, "{name}: {references:?}");
        assert_eq!(
            Some(&references[0].uid),
            owner.metadata.uid.as_ref(),
            "{name}"
        );
        assert_eq!(references[0].controller, Some(true), "{name}");
    }
}

pub(crate) async fn a_new_cluster_has_all_its_objects_and_owns_them(namespace: Namespace) {
    namespace.create::<KafkaCluster>(cluster("shop", 3)).await;
    let object = namespace.settled("shop").await;
    assert_eq!(namespace.inventory("shop").await, shop());

    owned_by::<ServiceAccount>(&namespace, &object, &["shop"]).await;
    owned_by::<Service>(&namespace, &object, &["shop-brokers", "shop-bootstrap"]).await;
    owned_by::<ConfigMap>(&namespace, &object, &["shop-main-config"]).await;
    owned_by::<PodDisruptionBudget>(&namespace, &object, &["shop"]).await;
    owned_by::<StatefulSet>(&namespace, &object, &["shop-main"]).await;

    let status = object
        .status
        .as_ref()
        .expect("a settled cluster has a status");
    assert_eq!(status.ready.as_deref(), Some("3/3"));
    assert_eq!(status.phase.as_deref(), Some("Ready"));
    let bootstrap = format!("shop-bootstrap.{}.svc.cluster.local:9092", namespace.name);
    assert_eq!(status.bootstrap_servers, Some(bootstrap));
    let ids: Vec<i32> = status.brokers.iter().map(|broker| broker.node_id).collect();
    assert_eq!(ids, [0, 1, 2]);
    for (ordinal, id) in ids.iter().enumerate() {
        let name = format!("data-shop-main-{ordinal}");
        let marked = |claim: &PersistentVolumeClaim| {
            claim.annotations().get(NODE_ID_ANNOTATION) == Some(&id.to_string())
                && claim.annotations().get(CLUSTER_ID_ANNOTATION) == status.cluster_id.as_ref()
        };
        let claim = namespace.until(&name, "carries its ids", marked).await;
        assert!(
            claim.owner_references().is_empty(),
            "volumes outlive the cluster by default"
        );
    }
}

pub(crate) async fn two_pools_are_two_stateful_sets_of_one_cluster(namespace: Namespace) {
    let mut object = cluster("shop", 3);
    object["spec"]["pools"] = json!([
        pool("voters", &["controller"], 1),
        pool("data", &["broker"], 2),
    ]);
    namespace.create::<KafkaCluster>(object).await;
    let settled = namespace.settled("shop").await;
    let status = settled.status.expect("a settled cluster has a status");
    let nodes: Vec<String> = status
        .brokers
        .iter()
        .map(|broker| format!("{}={}", broker.pod, broker.node_id))
        .collect();
    assert_eq!(nodes, ["shop-voters-0=0", "shop-data-0=1", "shop-data-1=2"]);
    let message = status.message.unwrap_or_default();
    assert!(
        message.starts_with("2/2 brokers ready, 1/1 controllers ready"),
        "{message}"
    );
    // A pool of brokers may grow while the cluster runs; the new node gets an id of its own.
    let more = json!({ "spec": { "pools": [pool("voters", &["controller"], 1), pool("data", &["broker"], 3)] } });
    namespace.merge::<KafkaCluster>("shop", more).await;
    let settled = namespace.settled("shop").await;
    let status = settled.status.expect("a settled cluster has a status");
    assert_eq!(status.brokers.len(), 4);
    assert_eq!(status.brokers[3].node_id, 3);
}

pub(crate) async fn what_is_no_longer_built_is_deleted_and_what_is_foreign_stays(
    namespace: Namespace,
) {
    let created: KafkaCluster = namespace.create(cluster("shop", 3)).await;
    namespace.settled("shop").await;
    let owner = json!([{
        "apiVersion": "tidemark.dev/v1alpha1", "kind": "KafkaCluster", "name": "shop",
        "uid": created.uid(), "controller": true, "blockOwnerDeletion": true,
    }]);
    let labels = json!({ CLUSTER_LABEL: "shop" });
    let named = |name: &str, owners: &Value| json!({ "name": name, "labels": labels, "ownerReferences": owners });
    namespace
        .create::<ConfigMap>(json!({ "metadata": named("somebodys", &json!([])) }))
        .await;
    // All of these might be left by an earlier version of the operator.
    let old = named("old", &owner);
    namespace
        .create::<ConfigMap>(json!({ "metadata": old }))
        .await;
    namespace
        .create::<ServiceAccount>(json!({ "metadata": old }))
        .await;
    let port = json!({ "ports": [{ "name": "old", "port": 1 }], "selector": { "old": "old" } });
    namespace
        .create::<Service>(json!({ "metadata": old, "spec": port }))
        .await;
    let budget = json!({ "maxUnavailable": 1, "selector": { "matchLabels": { "old": "old" } } });
    namespace
        .create::<PodDisruptionBudget>(json!({ "metadata": old, "spec": budget }))
        .await;
    let set = json!({
        "serviceName": "old", "replicas": 0, "selector": { "matchLabels": { "old": "old" } },
        "template": {
            "metadata": { "labels": { "old": "old" } },
            "spec": { "containers": [{ "name": "old", "image": "old" }] },
        },
    });
    namespace
        .create::<StatefulSet>(json!({ "metadata": old, "spec": set }))
        .await;
    namespace.gone::<ConfigMap>("old").await;
    namespace.gone::<ServiceAccount>("old").await;
    namespace.gone::<Service>("old").await;
    namespace.gone::<PodDisruptionBudget>("old").await;
    namespace.gone::<StatefulSet>("old").await;
    assert!(namespace.get::<ConfigMap>("somebodys").await.is_some());
    let mut expected = shop();
    expected.insert("ConfigMap/somebodys".to_owned());
    assert_eq!(namespace.inventory("shop").await, expected);
    namespace.settled("shop").await;
}
