//! Does what people change and delete by hand come back?

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use operator_core::api::v1alpha1::KafkaCluster;
use operator_core::names::PAUSE_ANNOTATION;
use serde_json::json;

use crate::namespace::{Kind, Namespace};
use crate::objects::shop;
use crate::samples::cluster;

fn port_of(service: &Service) -> Option<i32> {
    Some(service.spec.as_ref()?.ports.as_ref()?.first()?.port)
}

pub(crate) async fn what_is_edited_by_hand_is_put_back(namespace: Namespace) {
    namespace.create::<KafkaCluster>(cluster("shop", 3)).await;
    namespace.settled("shop").await;
    let before: ConfigMap = namespace
        .get("shop-main-config")
        .await
        .expect("a ConfigMap");

    let ports = json!({ "metadata": { "labels": { "team": "a" } },
        "spec": { "ports": [{ "name": "internal", "port": 1, "targetPort": 1, "protocol": "TCP" }] } });
    namespace.merge::<Service>("shop-bootstrap", ports).await;
    let text = json!({ "data": { "broker.yaml": "nonsense" } });
    namespace.merge::<ConfigMap>("shop-main-config", text).await;
    let budget = json!({ "spec": { "maxUnavailable": 3 } });
    namespace.merge::<PodDisruptionBudget>("shop", budget).await;
    let replicas = json!({ "spec": { "replicas": 5 } });
    namespace.merge::<StatefulSet>("shop-main", replicas).await;

    let service = namespace
        .until(
            "shop-bootstrap",
            "has its port again",
            |service: &Service| port_of(service) == Some(9092),
        )
        .await;
    let team = service.labels().get("team").map(String::as_str);
    assert_eq!(
        team,
        Some("a"),
        "what others add and nobody else owns stays"
    );
    namespace
        .until(
            "shop-main-config",
            "says what it said",
            |map: &ConfigMap| map.data == before.data,
        )
        .await;
    namespace
        .until(
            "shop",
            "lets one pod go at a time",
            |pdb: &PodDisruptionBudget| {
                let max = pdb
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.max_unavailable.clone());
                max == Some(IntOrString::Int(1))
            },
        )
        .await;
    namespace
        .until("shop-main", "has three replicas", |set: &StatefulSet| {
            set.spec.as_ref().and_then(|spec| spec.replicas) == Some(3)
        })
        .await;
    namespace.settled("shop").await;
    for surplus in ["shop-main-3", "shop-main-4"] {
        namespace.gone::<Pod>(surplus).await;
    }
}

/// Deletes an object and waits for another one in its place.
async fn comes_back<K: Kind>(namespace: &Namespace, name: &str) {
    let before = namespace.get::<K>(name).await.expect(name).uid();
    namespace.delete::<K>(name).await;
    namespace
        .until(name, "is there again", |object: &K| {
            object.uid() != before && object.meta().deletion_timestamp.is_none()
        })
        .await;
}

pub(crate) async fn what_is_deleted_by_hand_comes_back(namespace: Namespace) {
    namespace.create::<KafkaCluster>(cluster("shop", 3)).await;
    let before = namespace.settled("shop").await.status.expect("a status");
    comes_back::<Service>(&namespace, "shop-brokers").await;
    comes_back::<Service>(&namespace, "shop-bootstrap").await;
    comes_back::<ConfigMap>(&namespace, "shop-main-config").await;
    comes_back::<PodDisruptionBudget>(&namespace, "shop").await;
    comes_back::<ServiceAccount>(&namespace, "shop").await;
    comes_back::<Pod>(&namespace, "shop-main-1").await;
    comes_back::<StatefulSet>(&namespace, "shop-main").await;
    namespace
        .pods_ready(&["shop-main-0", "shop-main-1", "shop-main-2"])
        .await;
    let after = namespace.settled("shop").await.status.expect("a status");
    // The pods of the StatefulSet before may have been the ones that were Ready; they are collected, then made anew.
    namespace
        .inventory_is("shop", |found| *found == shop())
        .await;
    assert_eq!(after.cluster_id, before.cluster_id);
    assert_eq!(
        after.brokers, before.brokers,
        "every node has the id it had"
    );
}

pub(crate) async fn a_paused_cluster_is_left_alone_until_it_goes_on(namespace: Namespace) {
    namespace.create::<KafkaCluster>(cluster("shop", 3)).await;
    namespace.settled("shop").await;
    let pause = |value| json!({ "metadata": { "annotations": { PAUSE_ANNOTATION: value } } });
    namespace.merge::<KafkaCluster>("shop", pause("true")).await;
    namespace
        .until(
            "shop",
            "says that it is paused",
            |cluster: &KafkaCluster| {
                let status = cluster.status.as_ref();
                status.and_then(|status| status.phase.as_deref()) == Some("Paused")
            },
        )
        .await;
    namespace.delete::<Service>("shop-bootstrap").await;
    // The deletion wakes the controller; a second change that it reports shows that it was awake and did nothing.
    let spec = json!({ "spec": { "config": { "log.retention.hours": "5" } } });
    let changed: KafkaCluster = namespace.merge("shop", spec).await;
    namespace
        .until(
            "shop",
            "has seen the new generation",
            |cluster: &KafkaCluster| {
                let status = cluster.status.as_ref();
                status.and_then(|status| status.observed_generation) == changed.metadata.generation
            },
        )
        .await;
    assert!(namespace.get::<Service>("shop-bootstrap").await.is_none());
    namespace
        .merge::<KafkaCluster>(
            "shop",
            json!({ "metadata": { "annotations": { PAUSE_ANNOTATION: null } } }),
        )
        .await;
    namespace
        .until("shop-bootstrap", "is there again", |_: &Service| true)
        .await;
    namespace.settled("shop").await;
}
