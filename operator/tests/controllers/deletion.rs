//! What goes with a cluster, what stays, and whom does it concern?

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use operator_core::api::v1alpha1::{KafkaCluster, KafkaTopic};
use serde_json::json;

use crate::namespace::Namespace;
use crate::objects::shop;
use crate::samples::{cluster, pool, topic};

/// Waits until nothing of a cluster is left but volumes, and returns those.
async fn left(namespace: &Namespace, cluster: &str) -> BTreeSet<String> {
    namespace.gone::<KafkaCluster>(cluster).await;
    namespace
        .gone::<StatefulSet>(&format!("{cluster}-main"))
        .await;
    for ordinal in 0..3 {
        let pod = format!("{cluster}-main-{ordinal}");
        namespace
            .gone::<k8s_openapi::api::core::v1::Pod>(&pod)
            .await;
    }
    namespace
        .gone::<StatefulSet>(&format!("{cluster}-main"))
        .await;
    for service in ["brokers", "bootstrap"] {
        let name = format!("{cluster}-{service}");
        namespace
            .gone::<k8s_openapi::api::core::v1::Service>(&name)
            .await;
    }
    namespace
        .gone::<k8s_openapi::api::core::v1::ConfigMap>(&format!("{cluster}-main-config"))
        .await;
    namespace
        .gone::<k8s_openapi::api::core::v1::ServiceAccount>(cluster)
        .await;
    namespace
        .gone::<k8s_openapi::api::policy::v1::PodDisruptionBudget>(cluster)
        .await;
    namespace
        .inventory_is(cluster, |found| {
            found.iter().all(|name| name.starts_with("Persistent"))
        })
        .await
}

fn volumes() -> BTreeSet<String> {
    let names = (0..3).map(|ordinal| format!("PersistentVolumeClaim/data-shop-main-{ordinal}"));
    names.collect()
}

pub(crate) async fn two_clusters_do_not_touch_each_other(namespace: Namespace) {
    for name in ["shop", "bank"] {
        namespace.create::<KafkaCluster>(cluster(name, 3)).await;
        let named =
            json!({ "topicName": "orders", "partitions": if name == "shop" { 2 } else { 5 } });
        namespace
            .create::<KafkaTopic>(topic(&format!("{name}-orders"), name, named))
            .await;
    }
    let shops = namespace.settled("shop").await.status.expect("a status");
    let banks = namespace.settled("bank").await.status.expect("a status");
    assert_ne!(shops.cluster_id, banks.cluster_id);
    namespace.ready("shop-orders").await;
    namespace.ready("bank-orders").await;
    let set: StatefulSet = namespace.get("bank-main").await.expect("a StatefulSet");

    namespace.delete::<KafkaCluster>("shop").await;
    assert_eq!(left(&namespace, "shop").await, volumes());
    let topic = namespace.kafka().topic(&namespace.name, "bank", "orders");
    assert_eq!(topic.map(|(partitions, _)| partitions), Some(5));
    let after: StatefulSet = namespace.get("bank-main").await.expect("a StatefulSet");
    assert_eq!(after.uid(), set.uid());
    assert_eq!(after.metadata.generation, set.metadata.generation);
    namespace.settled("bank").await;
    namespace.ready("bank-orders").await;
}

pub(crate) async fn a_deleted_cluster_leaves_its_volumes_and_takes_them_up_again(
    namespace: Namespace,
) {
    namespace.create::<KafkaCluster>(cluster("shop", 3)).await;
    namespace
        .create::<KafkaTopic>(topic("orders", "shop", json!({ "partitions": 4 })))
        .await;
    let before = namespace.settled("shop").await;
    namespace.ready("orders").await;
    namespace.delete::<KafkaCluster>("shop").await;
    assert_eq!(left(&namespace, "shop").await, volumes());

    namespace.create::<KafkaCluster>(cluster("shop", 3)).await;
    let after = namespace.settled("shop").await;
    assert_ne!(after.uid(), before.uid());
    let (before, after) = (
        before.status.expect("a status"),
        after.status.expect("a status"),
    );
    assert_eq!(after.cluster_id, before.cluster_id);
    assert_eq!(after.brokers, before.brokers);
    namespace
        .inventory_is("shop", |found| *found == shop())
        .await;
    namespace.ready("orders").await;
    let creations = namespace
        .kafka()
        .creations(&namespace.name, "shop", "orders");
    assert_eq!(creations, 1, "the topic was there all the time");
}

pub(crate) async fn a_cluster_with_the_policy_delete_takes_its_volumes_along(namespace: Namespace) {
    let mut object = cluster("shop", 3);
    object["spec"]["deletionPolicy"] = json!("Delete");
    namespace.create::<KafkaCluster>(object).await;
    namespace.settled("shop").await;
    go_with_cluster_and_set(&namespace, "main", 3).await;
    namespace.delete::<KafkaCluster>("shop").await;
    left(&namespace, "shop").await;
    namespace
        .inventory_is("shop", |found| found.is_empty())
        .await;
}

/// Waits until each claim of a pool goes when both the cluster and its StatefulSet are gone: while the StatefulSet is there, its controller
/// would make an empty claim in place of one that went.
async fn go_with_cluster_and_set(namespace: &Namespace, pool: &str, count: usize) {
    for ordinal in 0..count {
        let name = format!("data-shop-{pool}-{ordinal}");
        namespace
            .until(
                &name,
                "goes after its StatefulSet",
                |claim: &PersistentVolumeClaim| {
                    let owners = claim.owner_references().iter();
                    let kinds: BTreeSet<&str> = owners.map(|owner| owner.kind.as_str()).collect();
                    kinds == BTreeSet::from(["KafkaCluster", "StatefulSet"])
                },
            )
            .await;
    }
}

pub(crate) async fn a_deleted_stateful_set_takes_no_volume_along(namespace: Namespace) {
    let mut object = cluster("shop", 3);
    object["spec"]["deletionPolicy"] = json!("Delete");
    namespace.create::<KafkaCluster>(object).await;
    namespace.settled("shop").await;
    go_with_cluster_and_set(&namespace, "main", 3).await;
    let before = claim_uids(&namespace).await;
    let set: StatefulSet = namespace.get("shop-main").await.expect("a StatefulSet");
    namespace.delete::<StatefulSet>("shop-main").await;
    namespace
        .until("shop-main", "is there again", |now: &StatefulSet| {
            now.uid() != set.uid() && now.metadata.deletion_timestamp.is_none()
        })
        .await;
    namespace.settled("shop").await;
    go_with_cluster_and_set(&namespace, "main", 3).await;
    assert_eq!(claim_uids(&namespace).await, before);

    // Who changes his mind keeps them.
    let retain = json!({ "spec": { "deletionPolicy": "Retain" } });
    namespace.merge::<KafkaCluster>("shop", retain).await;
    for ordinal in 0..3 {
        let name = format!("data-shop-main-{ordinal}");
        namespace
            .until(&name, "belongs to nobody", is_nobodys)
            .await;
    }
    namespace.delete::<KafkaCluster>("shop").await;
    assert_eq!(left(&namespace, "shop").await, volumes());
    assert_eq!(claim_uids(&namespace).await, before);
}

fn is_nobodys(claim: &PersistentVolumeClaim) -> bool {
    claim.owner_references().is_empty()
}

async fn claim_uids(namespace: &Namespace) -> BTreeSet<String> {
    let claims = namespace.list::<PersistentVolumeClaim>().await;
    claims.iter().filter_map(|claim| claim.uid()).collect()
}

pub(crate) async fn a_pool_that_left_the_spec_keeps_its_volumes(namespace: Namespace) {
    let mut object = cluster("shop", 3);
    object["spec"]["deletionPolicy"] = json!("Delete");
    let main = object["spec"]["pools"].clone();
    let more = pool("more", &["broker"], 1);
    object["spec"]["pools"] = json!([main[0], more]);
    namespace.create::<KafkaCluster>(object).await;
    namespace.settled("shop").await;
    go_with_cluster_and_set(&namespace, "main", 3).await;
    go_with_cluster_and_set(&namespace, "more", 1).await;
    let without = json!({ "spec": { "pools": main } });
    namespace.merge::<KafkaCluster>("shop", without).await;
    namespace
        .until("data-shop-more-0", "belongs to nobody", is_nobodys)
        .await;
    namespace.delete::<KafkaCluster>("shop").await;
    left(&namespace, "shop").await;
    let kept = "PersistentVolumeClaim/data-shop-more-0".to_owned();
    namespace
        .inventory_is("shop", |found| *found == BTreeSet::from([kept.clone()]))
        .await;
}
