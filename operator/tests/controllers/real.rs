//! Where is the real API server, when the tests shall run against one?
//!
//! `TIDEMARK_TEST_KUBECONFIG` names the kubeconfig of an administrator. The CRDs and the role of `tidemark operator manifests` are
//! installed, and the operator acts as the service account of those manifests, so that the server itself checks its rights.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Config, Resource as _, ResourceExt as _};
use operator_core::api::v1alpha1::{KafkaCluster, KafkaTopic};
use serde_json::json;

use crate::rights::{GateLayer, cluster_role};
use crate::samples::typed;

const ENVIRONMENT: &str = "TIDEMARK_TEST_KUBECONFIG";
const ACCOUNT: &str = "system:serviceaccount:tidemark:tidemark-operator";

/// Seconds; it looks for new definitions every 30.
const COLLECTION_TRIES: u32 = 240;

/// A real cluster.
pub(crate) struct Cluster {
    pub(crate) admin: Client,
    config: Config,
}

/// Whether the tests run against a real API server.
pub(crate) fn wanted() -> bool {
    std::env::var_os(ENVIRONMENT).is_some()
}

/// The cluster that the environment names, prepared.
pub(crate) async fn cluster() -> Option<Cluster> {
    let path = std::env::var_os(ENVIRONMENT)?;
    let kubeconfig = Kubeconfig::read_from(path).expect("the kubeconfig is readable");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("the kubeconfig names a cluster");
    let admin = Client::try_from(config.clone()).expect("a client of the cluster");
    let cluster = Cluster { admin, config };
    cluster.prepare().await;
    Some(cluster)
}

impl Cluster {
    /// The operator's own client: its account's rights and `gate` around every request.
    pub(crate) fn operator_client(&self, gate: &GateLayer) -> Client {
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(ACCOUNT.to_owned());
        ClientBuilder::try_from(config)
            .expect("a client of the cluster")
            .with_layer(gate)
            .build()
    }

    async fn prepare(&self) {
        let apply = PatchParams::apply("tidemark-tests").force();
        let crds = Api::<CustomResourceDefinition>::all(self.admin.clone());
        for crd in operator_core::crds() {
            let name = crd.name_any();
            crds.patch(&name, &apply, &Patch::Apply(&crd))
                .await
                .expect("the CRD is accepted");
            while !is_served(&crds.get(&name).await.expect("the CRD is there")) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let role = cluster_role();
        let name = role.name_any();
        Api::<ClusterRole>::all(self.admin.clone())
            .patch(&name, &apply, &Patch::Apply(&role))
            .await
            .expect("the role is accepted");
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": "tidemark-tests" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
            "subjects": [{ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": ACCOUNT }],
        });
        Api::<ClusterRoleBinding>::all(self.admin.clone())
            .patch("tidemark-tests", &apply, &Patch::Apply(&binding))
            .await
            .expect("the binding is accepted");
        self.collects_garbage().await;
    }

    /// Waits until garbage collection knows the definitions: it looks for new ones every 30 s. Until then it puts off whatever belongs to a
    /// KafkaCluster, twice as long each time, and each change of the object is such a time: minutes, if a test runs meanwhile.
    async fn collects_garbage(&self) {
        let api = Api::<ConfigMap>::namespaced(self.admin.clone(), "default");
        let mut tries = 0;
        loop {
            tries += 1;
            assert!(
                tries <= COLLECTION_TRIES,
                "garbage collection does not know the definitions after {COLLECTION_TRIES} s"
            );
            let orphan: ConfigMap = typed(json!({ "metadata": {
                "generateName": "orphan-",
                "ownerReferences": [{
                    "apiVersion": KafkaCluster::api_version(&()), "kind": KafkaCluster::kind(&()),
                    "name": "never-there", "uid": "00000000-0000-4000-8000-000000000000",
                }],
            }}));
            let orphan = api.create(&PostParams::default(), &orphan).await;
            let orphan = orphan.expect("the orphan is accepted");
            let (name, uid) = (orphan.name_any(), orphan.uid().unwrap_or_default());
            let is_gone = await_condition(api.clone(), &name, conditions::is_deleted(&uid));
            if let Ok(seen) = tokio::time::timeout(Duration::from_secs(1), is_gone).await {
                seen.expect("config maps can be watched");
                return;
            }
            // One that was put off is of no use: the next is looked at at once.
            match api.delete(&name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                deleted => drop(deleted.expect("the orphan can be deleted")),
            }
        }
    }
}

fn is_served(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// Takes away what an earlier run left in a namespace. No operator runs in it that would let go of its topics.
pub(crate) async fn emptied(client: &Client, name: &str) {
    let api = Api::<Namespace>::all(client.clone());
    let Some(_) = api.get_opt(name).await.expect("get") else {
        return;
    };
    let topics = Api::<KafkaTopic>::namespaced(client.clone(), name);
    for topic in topics.list(&ListParams::default()).await.expect("list") {
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        topics
            .patch(&topic.name_any(), &PatchParams::default(), &free)
            .await
            .expect("the finalizer goes");
    }
    // A second deletion of what is going already is no error.
    let deleted = api.delete(name, &DeleteParams::default()).await;
    deleted.expect("the namespace can be deleted");
    while api.get_opt(name).await.expect("get").is_some() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
