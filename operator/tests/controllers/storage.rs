//! Do volumes grow while everything runs, and is what cannot be had refused without stopping the rest?

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use kube::ResourceExt as _;
use operator_core::api::v1alpha1::KafkaCluster;
use operator_core::conditions;
use operator_core::quantity;
use serde_json::{Value, json};

use crate::namespace::Namespace;
use crate::samples::{cluster, pool, said};
use crate::world::World;

fn requested(claim: &PersistentVolumeClaim) -> Option<u128> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    quantity::parse(&resources.requests.as_ref()?.get("storage")?.0)
}

fn capacity(claim: &PersistentVolumeClaim) -> Option<u128> {
    let capacity = claim.status.as_ref()?.capacity.as_ref()?;
    quantity::parse(&capacity.get("storage")?.0)
}

fn template(set: &StatefulSet) -> Option<u128> {
    requested(
        set.spec
            .as_ref()?
            .volume_claim_templates
            .as_ref()?
            .first()?,
    )
}

/// Waits until claims have volumes of a size.
async fn claims_have(namespace: &Namespace, ordinals: &[i32], size: &str) {
    for ordinal in ordinals {
        let name = format!("data-shop-main-{ordinal}");
        namespace
            .until(
                &name,
                &format!("has {size}"),
                |claim: &PersistentVolumeClaim| {
                    requested(claim) == quantity::parse(size)
                        && capacity(claim) == quantity::parse(size)
                },
            )
            .await;
    }
}

fn sized(size: &str, more: Value) -> Value {
    let mut main = pool("main", &["controller", "broker"], 3);
    main["storage"]["size"] = json!(size);
    let mut spec = json!({ "pools": [main] });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({ "spec": spec })
}

async fn pod_uids(namespace: &Namespace) -> BTreeMap<String, Option<String>> {
    let pods = namespace.list::<Pod>().await;
    pods.iter().map(|pod| (pod.name_any(), pod.uid())).collect()
}

pub(crate) async fn a_larger_size_grows_the_volumes_and_restarts_nothing(namespace: Namespace) {
    namespace.create::<KafkaCluster>(cluster("shop", 3)).await;
    namespace.settled("shop").await;
    claims_have(&namespace, &[0, 1, 2], "1Gi").await;
    let pods = pod_uids(&namespace).await;
    let before: StatefulSet = namespace.get("shop-main").await.expect("a StatefulSet");

    namespace
        .merge::<KafkaCluster>("shop", sized("2Gi", json!({})))
        .await;
    claims_have(&namespace, &[0, 1, 2], "2Gi").await;
    let after = namespace
        .until(
            "shop-main",
            "has the larger template",
            |set: &StatefulSet| template(set) == quantity::parse("2Gi"),
        )
        .await;
    assert_ne!(after.uid(), before.uid(), "a claim template is immutable");
    namespace.settled("shop").await;
    assert_eq!(pod_uids(&namespace).await, pods, "no pod restarted");
    for name in pods.keys() {
        namespace
            .until(name, "belongs to the new StatefulSet", |pod: &Pod| {
                let owners = pod.owner_references();
                owners
                    .iter()
                    .any(|owner| Some(&owner.uid) == after.metadata.uid.as_ref())
            })
            .await;
    }

    // A volume that somebody made larger is a floor, and the others grow past what it was.
    let larger = json!({ "spec": { "resources": { "requests": { "storage": "5Gi" } } } });
    namespace
        .merge::<PersistentVolumeClaim>("data-shop-main-1", larger)
        .await;
    namespace
        .merge::<KafkaCluster>("shop", sized("3Gi", json!({})))
        .await;
    claims_have(&namespace, &[0, 2], "3Gi").await;
    claims_have(&namespace, &[1], "5Gi").await;
    namespace.settled("shop").await;
    assert_eq!(pod_uids(&namespace).await, pods);
}

pub(crate) async fn a_smaller_size_is_refused_and_all_else_goes_on(namespace: Namespace) {
    let pools = |data: Option<&str>| {
        let mut pools = vec![pool("main", &["controller", "broker"], 1)];
        if let Some(size) = data {
            let mut data = pool("data", &["broker"], 2);
            data["storage"]["size"] = json!(size);
            pools.push(data);
        }
        json!({ "spec": { "pools": pools } })
    };
    let mut object = cluster("shop", 1);
    object["spec"]["pools"] = pools(Some("2Gi"))["spec"]["pools"].clone();
    namespace.create::<KafkaCluster>(object).await;
    namespace.settled("shop").await;
    let smaller = namespace
        .try_merge::<KafkaCluster>("shop", pools(Some("1Gi")))
        .await;
    let refusal = smaller.expect_err("a smaller size is refused").to_string();
    assert!(
        refusal.contains("storage.size of a pool cannot shrink"),
        "{refusal}"
    );

    // The API server cannot see it when the pool was away meanwhile.
    namespace.merge::<KafkaCluster>("shop", pools(None)).await;
    namespace
        .until("shop", "keeps the pool", |cluster: &KafkaCluster| {
            said(cluster, "Progressing").1.contains("pool data is kept")
        })
        .await;
    let mut change = pools(Some("1Gi"));
    change["spec"]["listeners"] = json!([{ "name": "internal", "port": 9095, "type": "internal" }]);
    namespace.merge::<KafkaCluster>("shop", change).await;
    let settled = namespace.settled("shop").await;
    assert_eq!(
        said(&settled, "StorageChangeRefused").1,
        "spec.pools[data].storage.size: the volumes of the pool have 2Gi and cannot shrink to 1Gi: set 2Gi or more"
    );
    let set: StatefulSet = namespace.get("shop-data").await.expect("a StatefulSet");
    assert_eq!(template(&set), quantity::parse("2Gi"));
    let service: Service = namespace.get("shop-bootstrap").await.expect("a Service");
    let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
    assert_eq!(ports[0].port, 9095);

    namespace
        .merge::<KafkaCluster>("shop", pools(Some("2Gi")))
        .await;
    namespace
        .until(
            "shop",
            "refuses nothing any more",
            |cluster: &KafkaCluster| said(cluster, "StorageChangeRefused").0 == "AsSpecified",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_class_that_cannot_expand_is_reported_and_stops_nothing_else() {
    const SAYS: &str = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    let (world, namespace) = World::alone("fixed").await;
    namespace.create::<KafkaCluster>(cluster("shop", 3)).await;
    namespace.settled("shop").await;
    claims_have(&namespace, &[0, 1, 2], "1Gi").await;
    world
        .rights
        .refuse(Some(("", "persistentvolumeclaims", "patch", SAYS)));
    let listener =
        json!({ "listeners": [{ "name": "internal", "port": 9095, "type": "internal" }] });
    namespace
        .merge::<KafkaCluster>("shop", sized("2Gi", listener))
        .await;
    let refused = namespace
        .until(
            "shop",
            "settles with a refusal",
            |cluster: &KafkaCluster| {
                let status = cluster.status.as_ref();
                crate::namespace::is_settled(cluster)
                    && status.is_some_and(|status| {
                        conditions::is_true(&status.conditions, "StorageChangeRefused")
                    })
            },
        )
        .await;
    let (_, message) = said(&refused, "StorageChangeRefused");
    for part in [
        "claim data-shop-main-0 cannot grow to 2Gi",
        SAYS,
        "allowVolumeExpansion",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let set: StatefulSet = namespace.get("shop-main").await.expect("a StatefulSet");
    assert_eq!(template(&set), quantity::parse("1Gi"));
    let service: Service = namespace.get("shop-bootstrap").await.expect("a Service");
    let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
    assert_eq!(ports[0].port, 9095);

    world.rights.refuse(None);
    claims_have(&namespace, &[0, 1, 2], "2Gi").await;
    namespace
        .until(
            "shop-main",
            "has the larger template",
            |set: &StatefulSet| template(set) == quantity::parse("2Gi"),
        )
        .await;
    namespace.settled("shop").await;
    namespace.end().await;
    world.finish().await;
}
