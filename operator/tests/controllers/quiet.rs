//! Is a settled world left in peace, does a failing object retry at a decent pace, and are the printed rights the ones that are used?

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use operator_core::api::v1alpha1::{KafkaCluster, KafkaTopic};
use serde_json::json;

use crate::namespace::Namespace;
use crate::rights::Right;
use crate::samples::{cluster, said, topic};
use crate::scenarios::ALL;
use crate::world::World;

/// Waits until the operator made so many more requests.
async fn requests(namespace: &Namespace, more: u64) {
    let begun = namespace.world().rights.requests();
    namespace
        .eventually("made its requests", || {
            namespace.world().rights.requests() >= begun + more
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settled_world_is_looked_at_and_not_written() {
    let (world, namespace) = World::alone("quiet").await;
    namespace.create::<KafkaCluster>(cluster("shop", 3)).await;
    namespace
        .create::<KafkaTopic>(topic("orders", "shop", json!({ "partitions": 2 })))
        .await;
    namespace.settled("shop").await;
    namespace.ready("orders").await;
    // What was under way when the last condition turned is through after a few looks.
    requests(&namespace, 100).await;
    let before = namespace.versions().await;
    requests(&namespace, 200).await;
    assert_eq!(namespace.versions().await, before);
    namespace.end().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_failing_is_retried_ever_more_rarely() {
    let (world, namespace) = World::alone("failing").await;
    let foreign =
        json!({ "metadata": { "name": "shop-bootstrap" }, "spec": { "ports": [{ "port": 80 }] } });
    namespace.create::<Service>(foreign).await;
    namespace.create::<KafkaCluster>(cluster("shop", 3)).await;
    namespace
        .until("shop", "names the taken name", |cluster: &KafkaCluster| {
            said(cluster, "Progressing").0 == "NameTaken"
        })
        .await;
    namespace
        .pods_ready(&["shop-main-0", "shop-main-1", "shop-main-2"])
        .await;
    // Retries after 0.25, 0.5, 1, 2 s and so on: in four seconds a handful, each of some twenty requests.
    let begun = world.rights.requests();
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(4);
    tokio::time::sleep_until(end).await;
    let made = world.rights.requests() - begun;
    assert!(made <= 8 * 25, "{made} requests in four seconds");
    namespace.end().await;
    world.finish().await;
}

/// Rights that no request shows and that are needed all the same.
const WITHOUT_A_REQUEST: &[(&str, &str, &str)] = &[
    // Where the admission plug-in OwnerReferencesPermissionEnforcement runs, blockOwnerDeletion needs it.
    ("tidemark.dev", "kafkaclusters/finalizers", "update"),
    // The Lease: the tests run one operator, without one.
    ("coordination.k8s.io", "leases", "get"),
    ("coordination.k8s.io", "leases", "create"),
    ("coordination.k8s.io", "leases", "update"),
    // A repeated event becomes a series.
    ("events.k8s.io", "events", "patch"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_granted_and_every_grant_is_used() {
    if crate::real::wanted() {
        eprintln!(
            "SKIPPED every_request_is_granted_and_every_grant_is_used: it needs all scenarios in one in-process world"
        );
        return;
    }
    let world = Arc::new(World::in_process(None));
    let runs = ALL.iter().map(|scenario| {
        let world = Arc::clone(&world);
        async move {
            (scenario.run)(World::namespace(&world, scenario.namespace).await).await;
            World::again(&world, scenario.namespace).end().await;
        }
    });
    futures::future::join_all(runs).await;
    let rights = Arc::clone(&world.rights);
    world.finish().await;
    let silent: BTreeSet<Right> = WITHOUT_A_REQUEST
        .iter()
        .map(|(group, resource, verb)| ((*group).into(), (*resource).into(), (*verb).into()))
        .collect();
    let used: BTreeSet<Right> = rights.used().union(&silent).cloned().collect();
    let unused: Vec<&Right> = rights.granted().difference(&used).collect();
    assert!(
        unused.is_empty(),
        "the role grants what nobody uses: {unused:#?}"
    );
}
