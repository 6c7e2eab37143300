//! StatefulSets from creation over scaling to deletion, and pods across agents.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::node::fixture::*;

fn shop(replicas: i32) -> StatefulSet {
    let script = "echo $POD_NAME at $TIDEMARK_BIND_HOST >> $DATA/log; cat $CONFIG/a.txt; exec cat";
    typed(json!({
        "metadata": {"name": "shop"},
        "spec": {
            "replicas": replicas, "serviceName": "brokers", "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "OnDelete"}, "selector": {"matchLabels": {"app": "shop"}},
            "template": {
                "metadata": {"labels": {"app": "shop"}},
                "spec": {
                    "terminationGracePeriodSeconds": 3,
                    "volumes": [{"name": "config", "configMap": {"name": "settings"}}],
                    "containers": [{
                        "name": "main", "image": "tidemark", "command": ["/bin/sh", "-c", script],
                        "env": [
                            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                            {"name": "DATA", "value": "/var/lib/shop"},
                            {"name": "CONFIG", "value": "/etc/shop"},
                        ],
                        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/shop"}, {"name": "config", "mountPath": "/etc/shop"}],
                    }],
                },
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}],
        },
    }))
}

async fn settings(stack: &Stack) {
    stack
        .config_maps()
        .create(
            &post(),
            &typed(json!({"metadata": {"name": "settings"}, "data": {"a.txt": "hello\n"}})),
        )
        .await
        .expect("config map");
    let services: Api<Service> = Api::default_namespaced(stack.client.clone());
    let service = json!({"metadata": {"name": "brokers"}, "spec": {"clusterIP": "None", "publishNotReadyAddresses": true,
        "selector": {"app": "shop"}, "ports": [{"port": 9092}]}});
    services
        .create(&post(), &typed(service))
        .await
        .expect("service");
}

#[tokio::test]
async fn a_stateful_set_runs_scales_keeps_its_claims_and_is_deleted() {
    let directory = tempfile::tempdir().expect("tempdir");
    let stack = Stack::start(directory.path(), block()).await;
    settings(&stack).await;
    stack.sets().create(&post(), &shop(3)).await.expect("set");
    let mut pids = vec![];
    for index in 0..3 {
        pids.push(running_member(&stack, index).await);
    }
    eventually("the set counts its pods", || async {
        let status = stack.sets().get("shop").await.expect("get").status?;
        (status.ready_replicas == Some(3) && status.updated_replicas == Some(3)).then_some(())
    })
    .await;

    scaled_to_one(&stack, &pids).await;
    deleted(&stack, pids[0]).await;
    stack.stop().await;
}

/// Member `index` is ready at its address, under its name, with its data and files; its process id.
async fn running_member(stack: &Stack, index: u32) -> u32 {
    let pod = ready_pod(&stack.pods(), &format!("shop-{index}")).await;
    let ip = pod
        .status
        .as_ref()
        .and_then(|s| s.pod_ip.clone())
        .expect("an address");
    let expected = std::net::Ipv4Addr::from_bits(u32::from(stack.base) + index + 1);
    assert_eq!(ip, expected.to_string());
    let name = format!("shop-{index}.brokers.default.svc.cluster.local");
    assert_eq!(
        stack.resolver.lookup(&name, 9092),
        [std::net::SocketAddr::from((expected, 9092))]
    );
    let data = stack
        .directory
        .join(format!("volumes/default/data-shop-{index}/log"));
    let log = eventually("the pod wrote its data", || async {
        std::fs::read_to_string(&data)
            .ok()
            .filter(|t| t.ends_with('\n'))
    })
    .await;
    assert_eq!(log, format!("shop-{index} at {ip}\n"));
    eventually("the mounted file is printed", || async {
        (stack.log(&format!("shop-{index}")) == "hello\n").then_some(())
    })
    .await;
    pid(&pod)
}

/// Scaling down stops the highest members and keeps every claim.
async fn scaled_to_one(stack: &Stack, pids: &[u32]) {
    let scale = Patch::Merge(json!({"spec": {"replicas": 1}}));
    stack
        .sets()
        .patch("shop", &PatchParams::default(), &scale)
        .await
        .expect("scale");
    eventually("two pods go", || async {
        (stack
            .pods()
            .list(&Default::default())
            .await
            .expect("list")
            .items
            .len()
            == 1)
            .then_some(())
    })
    .await;
    assert!(alive(pids[0]) && !alive(pids[1]) && !alive(pids[2]));
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(stack.client.clone());
    let kept = claims
        .list(&Default::default())
        .await
        .expect("claims")
        .items;
    assert_eq!(kept.len(), 3, "scaling down keeps claims");
    assert!(
        kept.iter()
            .all(|c| c.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound"))
    );
}

/// Deleting the set ends its pods; deleting a claim removes that claim's folder alone.
async fn deleted(stack: &Stack, last: u32) {
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(stack.client.clone());
    stack
        .sets()
        .delete("shop", &DeleteParams::default())
        .await
        .expect("delete");
    eventually("the last pod goes", || async {
        stack
            .pods()
            .list(&Default::default())
            .await
            .expect("list")
            .items
            .is_empty()
            .then_some(())
    })
    .await;
    assert!(!alive(last));
    claims
        .delete("data-shop-0", &DeleteParams::default())
        .await
        .expect("delete claim");
    let folder = stack.directory.join("volumes/default/data-shop-0");
    eventually("a deleted claim's folder goes", || async {
        (!folder.exists()).then_some(())
    })
    .await;
    assert!(stack.directory.join("volumes/default/data-shop-1").exists());
}

#[tokio::test]
async fn on_delete_replaces_a_pod_only_when_it_is_deleted() {
    let directory = tempfile::tempdir().expect("tempdir");
    let stack = Stack::start(directory.path(), block()).await;
    settings(&stack).await;
    stack.sets().create(&post(), &shop(1)).await.expect("set");
    let before = ready_pod(&stack.pods(), "shop-0").await;
    let change =
        Patch::Merge(json!({"spec": {"template": {"metadata": {"annotations": {"x": "y"}}}}}));
    stack
        .sets()
        .patch("shop", &PatchParams::default(), &change)
        .await
        .expect("patch");
    let revision = eventually("the update revision moves", || async {
        let status = stack.sets().get("shop").await.expect("get").status?;
        (status.update_revision != status.current_revision
            && status.updated_replicas.unwrap_or(0) == 0)
            .then_some(status.update_revision?)
    })
    .await;
    assert_eq!(
        stack.pods().get("shop-0").await.expect("get").metadata.uid,
        before.metadata.uid
    );
    stack
        .pods()
        .delete("shop-0", &DeleteParams::default())
        .await
        .expect("delete");
    let after = eventually("the pod is replaced", || async {
        stack
            .pods()
            .get_opt("shop-0")
            .await
            .expect("get")
            .filter(|p| p.metadata.uid != before.metadata.uid && is_ready(p))
    })
    .await;
    assert_eq!(
        after
            .metadata
            .labels
            .as_ref()
            .and_then(|l| l.get("controller-revision-hash")),
        Some(&revision)
    );
    assert_eq!(
        after.status.and_then(|s| s.pod_ip),
        before.status.and_then(|s| s.pod_ip),
        "the address stays"
    );
    stack.stop().await;
}

#[tokio::test]
async fn pods_go_on_with_their_addresses_and_data_under_the_next_agent() {
    let directory = tempfile::tempdir().expect("tempdir");
    let base = block();
    let stack = Stack::start(directory.path(), base).await;
    settings(&stack).await;
    stack.sets().create(&post(), &shop(2)).await.expect("set");
    let mut before = vec![];
    for index in 0..2 {
        before.push(ready_pod(&stack.pods(), &format!("shop-{index}")).await);
    }
    stack.stop().await;
    assert!(
        before.iter().all(|pod| !alive(pid(pod))),
        "a stopped agent leaves no children"
    );

    let stack = Stack::start(directory.path(), base).await;
    for (index, old) in before.iter().enumerate() {
        let name = format!("shop-{index}");
        let pod = eventually("the pod runs again", || async {
            stack
                .pods()
                .get_opt(&name)
                .await
                .expect("get")
                .filter(|p| is_ready(p) && restarts(p) == 1)
        })
        .await;
        assert_eq!(pod.metadata.uid, old.metadata.uid);
        let ip = pod.status.and_then(|s| s.pod_ip).expect("an address");
        let data = directory
            .path()
            .join(format!("volumes/default/data-{name}/log"));
        let twice = format!("{name} at {ip}\n").repeat(2);
        eventually("the data is still there", || async {
            (std::fs::read_to_string(&data).ok()? == twice).then_some(())
        })
        .await;
    }
    stack.stop().await;
}
