//! Does a roll take one pod at a time, and only while every replica is in sync?
//!
//! That no pod is taken while another is down or a partition is behind is checked at each deletion, in every scenario (`rights`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use operator_core::api::v1alpha1::{KafkaCluster, KafkaTopic, RollPhase};
use serde_json::json;

use crate::namespace::Namespace;
use crate::samples::{cluster, said, topic};

async fn uids(namespace: &Namespace) -> BTreeMap<String, String> {
    let pods = namespace.list::<Pod>().await;
    pods.iter()
        .map(|pod| (pod.name_any(), pod.uid().unwrap_or_default()))
        .collect()
}

fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let other = after
        .iter()
        .filter(|(name, uid)| before.get(*name) != Some(uid));
    other.map(|(name, _)| name.clone()).collect()
}

pub(crate) async fn a_change_of_configuration_restarts_one_pod_at_a_time_while_all_is_in_sync(
    namespace: Namespace,
) {
    namespace.create::<KafkaCluster>(cluster("shop", 3)).await;
    let three = json!({ "partitions": 3, "replicationFactor": 3 });
    namespace
        .create::<KafkaTopic>(topic("orders", "shop", three))
        .await;
    namespace.settled("shop").await;
    namespace.ready("orders").await;
    let before = uids(&namespace).await;

    namespace.kafka().lag(&namespace.name, "shop", true);
    namespace
        .merge::<KafkaCluster>(
            "shop",
            json!({ "spec": { "config": { "log.retention.hours": "5" } } }),
        )
        .await;
    let waiting = namespace
        .until("shop", "waits for the ISR", |cluster: &KafkaCluster| {
            let roll = cluster
                .status
                .as_ref()
                .and_then(|status| status.roll.as_ref());
            roll.and_then(|roll| roll.current.as_ref())
                .is_some_and(|current| current.phase == RollPhase::AwaitCaughtUp)
                // A request that failed in between is told first.
                && said(cluster, "Progressing").0 == "WaitingForISR"
        })
        .await;
    let (_, message) = said(&waiting, "Progressing");
    assert!(
        message.contains("3 partitions are not fully in sync: orders-0"),
        "{message}"
    );
    assert_eq!(said(&waiting, "Healthy").0, "UnderReplicated");
    // It asked again and again, and took no second pod.
    let asked = || namespace.kafka().health_calls(&namespace.name, "shop");
    let before_waiting = asked();
    namespace
        .eventually("asked for the health again", || {
            asked() > before_waiting + 2
        })
        .await;
    let first = changed(&before, &uids(&namespace).await);
    assert_eq!(
        first,
        ["shop-main-1"],
        "the active controller, node 0, goes last"
    );

    namespace.kafka().lag(&namespace.name, "shop", false);
    namespace.settled("shop").await;
    let all = changed(&before, &uids(&namespace).await);
    assert_eq!(all, ["shop-main-0", "shop-main-1", "shop-main-2"]);
    namespace.ready("orders").await;
}

pub(crate) async fn nothing_healthy_restarts_while_the_active_controller_is_not_known(
    namespace: Namespace,
) {
    namespace.create::<KafkaCluster>(cluster("shop", 3)).await;
    namespace.settled("shop").await;
    let before = uids(&namespace).await;
    let tells = |told| namespace.kafka().controller(&namespace.name, "shop", told);

    tells(Some(None));
    namespace
        .merge::<KafkaCluster>(
            "shop",
            json!({ "spec": { "config": { "log.retention.hours": "5" } } }),
        )
        .await;
    for told in [None, Some(41)] {
        tells(Some(told));
        let sentence = told.map_or("is not known", |_| "said to be node 41");
        namespace
            .until(
                "shop",
                "waits for the controller",
                |cluster: &KafkaCluster| {
                    let (reason, message) = said(cluster, "Progressing");
                    reason == "WaitingForController" && message.contains(sentence)
                },
            )
            .await;
    }
    assert!(changed(&before, &uids(&namespace).await).is_empty());

    tells(None);
    namespace.settled("shop").await;
    let all = changed(&before, &uids(&namespace).await);
    assert_eq!(all, ["shop-main-0", "shop-main-1", "shop-main-2"]);
}

pub(crate) async fn a_bad_image_meets_one_pod_and_its_correction_ends_the_roll(
    namespace: Namespace,
) {
    namespace.create::<KafkaCluster>(cluster("shop", 3)).await;
    namespace.settled("shop").await;
    let before = uids(&namespace).await;
    let image = |name: &str| json!({ "spec": { "image": name } });
    namespace
        .merge::<KafkaCluster>("shop", image("registry.test/broken:2"))
        .await;
    let stuck = namespace
        .until(
            "shop",
            "waits for the first pod",
            |cluster: &KafkaCluster| {
                said(cluster, "Progressing")
                    .1
                    .contains("runs the new template and is not Ready yet")
            },
        )
        .await;
    assert_eq!(said(&stuck, "Progressing").0, "WaitingForPod");
    let (_, message) = said(&stuck, "Ready");
    assert!(message.starts_with("2 of 3 nodes are Ready"), "{message}");
    assert_eq!(changed(&before, &uids(&namespace).await).len(), 1);
    namespace
        .merge::<KafkaCluster>("shop", image("registry.test/good:3"))
        .await;
    namespace.settled("shop").await;
    assert_eq!(changed(&before, &uids(&namespace).await).len(), 3);
}
