//! What does a scenario do? What a user does in a namespace, and waiting for what comes of it.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt as _};
use operator_core::api::v1alpha1::{KafkaCluster, KafkaTopic};
use operator_core::conditions;
use operator_core::names::CLUSTER_LABEL;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::kafka::Kafka;
use crate::machine::condition;
use crate::samples::typed;
use crate::world::World;

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The namespace of one scenario. Its verbs are a user's, with a client that meets no faults.
pub(crate) struct Namespace {
    world: Arc<World>,
    pub(crate) name: String,
}

/// A namespaced kind.
pub(crate) trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
{
}

impl Namespace {
    pub(crate) fn new(world: Arc<World>, name: &str) -> Self {
        Self {
            world,
            name: name.to_owned(),
        }
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    pub(crate) fn kafka(&self) -> &Kafka {
        &self.world.kafka
    }

    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.world.client.clone(), &self.name)
    }

    /// The longest that a condition may take: seconds of back-off add up when a fifth of all requests fail, and real controllers share
    /// the machine with everything else.
    fn patience(&self) -> Duration {
        let long = self.world.seed.is_some() || crate::real::wanted();
        Duration::from_secs(if long { 240 } else { 120 })
    }

    pub(crate) async fn get<K: Kind>(&self, name: &str) -> Option<K> {
        self.api().get_opt(name).await.expect("get")
    }

    pub(crate) async fn list<K: Kind>(&self) -> Vec<K> {
        let listed = self.api().list(&ListParams::default()).await;
        listed.expect("list").items
    }

    /// Creates an object; its kind decides what it is.
    pub(crate) async fn create<K: Kind>(&self, object: Value) -> K {
        let created = self
            .api()
            .create(&PostParams::default(), &typed(object))
            .await;
        created.expect("the object is accepted")
    }

    /// Changes an object as `kubectl patch --type=merge` does.
    pub(crate) async fn merge<K: Kind>(&self, name: &str, change: Value) -> K {
        self.try_merge(name, change)
            .await
            .expect("the change is accepted")
    }

    /// The same, for changes that may be refused.
    pub(crate) async fn try_merge<K: Kind>(
        &self,
        name: &str,
        change: Value,
    ) -> Result<K, kube::Error> {
        let by_hand = PatchParams {
            field_manager: Some("by-hand".into()),
            ..PatchParams::default()
        };
        self.api()
            .patch(name, &by_hand, &Patch::Merge(change))
            .await
    }

    /// Deletes an object and does not wait for anything.
    pub(crate) async fn delete<K: Kind>(&self, name: &str) {
        let deleted = self
            .api::<K>()
            .delete(name, &DeleteParams::background())
            .await;
        deleted.expect("the object is there");
    }

    /// Waits until an object is as described.
    pub(crate) async fn until<K: Kind>(
        &self,
        name: &str,
        what: &str,
        check: impl Fn(&K) -> bool,
    ) -> K {
        let deadline = tokio::time::Instant::now() + self.patience();
        loop {
            let found: Option<K> = self.get(name).await;
            if let Some(object) = found.clone().filter(&check) {
                return object;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{}: {} {name} never {what}; it is {}",
                self.place(),
                K::kind(&()),
                brief(found.as_ref()),
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until there is no such object.
    pub(crate) async fn gone<K: Kind>(&self, name: &str) {
        self.lost::<K>(name, |_| true).await;
    }

    /// Waits until there is no object of this name that `is` the one meant.
    pub(crate) async fn lost<K: Kind>(&self, name: &str, is: impl Fn(&K) -> bool) {
        let deadline = tokio::time::Instant::now() + self.patience();
        while let Some(object) = self.get::<K>(name).await.filter(&is) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{}: {} {name} does not go: {}",
                self.place(),
                K::kind(&()),
                brief(Some(&object)),
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the objects of a cluster are those expected; what a late request made again is collected soon after.
    pub(crate) async fn inventory_is(
        &self,
        cluster: &str,
        is: impl Fn(&BTreeSet<String>) -> bool,
    ) -> BTreeSet<String> {
        let deadline = tokio::time::Instant::now() + self.patience();
        loop {
            let found = self.inventory(cluster).await;
            if is(&found) {
                return found;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{}: cluster {cluster} is left with {found:?}, volumes {}",
                self.place(),
                self.owners_of_claims().await,
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// For a message: who owns each claim, and whether it is going.
    async fn owners_of_claims(&self) -> String {
        let claims = self.list::<PersistentVolumeClaim>().await;
        let owners = claims.iter().map(|claim| {
            let metadata = &claim.metadata;
            json!({
                "name": metadata.name, "owners": metadata.owner_references, "finalizers": metadata.finalizers,
                "deletionTimestamp": metadata.deletion_timestamp,
            })
            .to_string()
        });
        owners.collect::<Vec<_>>().join(", ")
    }

    /// Waits until something holds that is no object of the API.
    pub(crate) async fn eventually(&self, what: &str, check: impl Fn() -> bool) {
        let deadline = tokio::time::Instant::now() + self.patience();
        while !check() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{}: never {what}",
                self.place()
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a cluster serves its newest generation and nothing is under way.
    pub(crate) async fn settled(&self, cluster: &str) -> KafkaCluster {
        self.until(cluster, "is settled", is_settled).await
    }

    /// Waits until a topic is Ready at its newest generation.
    pub(crate) async fn ready(&self, topic: &str) -> KafkaTopic {
        self.until(topic, "is Ready", |topic: &KafkaTopic| {
            let status = topic.status.as_ref();
            status.is_some_and(|status| {
                status.observed_generation == topic.metadata.generation
                    && conditions::is_true(&status.conditions, "Ready")
                    && conditions::is_true(&status.conditions, "Healthy")
            })
        })
        .await
    }

    /// Where this is, for messages.
    pub(crate) fn place(&self) -> String {
        let seed = self.world.seed;
        seed.map_or_else(
            || self.name.clone(),
            |seed| format!("seed {seed}, {}", self.name),
        )
    }

    /// `Kind/name` of everything that carries a cluster's label.
    pub(crate) async fn inventory(&self, cluster: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.add::<ServiceAccount>(cluster, &mut found).await;
        self.add::<Service>(cluster, &mut found).await;
        self.add::<ConfigMap>(cluster, &mut found).await;
        self.add::<PodDisruptionBudget>(cluster, &mut found).await;
        self.add::<StatefulSet>(cluster, &mut found).await;
        self.add::<Pod>(cluster, &mut found).await;
        self.add::<PersistentVolumeClaim>(cluster, &mut found).await;
        found
    }

    async fn add<K: Kind>(&self, cluster: &str, found: &mut BTreeSet<String>) {
        let selector = format!("{CLUSTER_LABEL}={cluster}");
        let listed = self
            .api::<K>()
            .list(&ListParams::default().labels(&selector))
            .await;
        for object in listed.expect("list").items {
            found.insert(format!("{}/{}", K::kind(&()), object.name_any()));
        }
    }

    /// `Kind/name` and resource version of everything in the namespace that the operator may write.
    pub(crate) async fn versions(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.add_versions::<KafkaCluster>(&mut found).await;
        self.add_versions::<KafkaTopic>(&mut found).await;
        self.add_versions::<ServiceAccount>(&mut found).await;
        self.add_versions::<Service>(&mut found).await;
        self.add_versions::<ConfigMap>(&mut found).await;
        self.add_versions::<PodDisruptionBudget>(&mut found).await;
        self.add_versions::<StatefulSet>(&mut found).await;
        self.add_versions::<PersistentVolumeClaim>(&mut found).await;
        self.add_versions::<k8s_openapi::api::core::v1::Event>(&mut found)
            .await;
        found
    }

    async fn add_versions<K: Kind>(&self, found: &mut BTreeSet<String>) {
        for object in self.list::<K>().await {
            let version = object.resource_version().unwrap_or_default();
            found.insert(format!("{}/{} {version}", K::kind(&()), object.name_any()));
        }
    }

    /// Waits until every pod of these names is Ready.
    pub(crate) async fn pods_ready(&self, names: &[&str]) {
        for name in names {
            self.until(name, "is Ready", |pod: &Pod| {
                condition(pod, "Ready") == Some("True")
            })
            .await;
        }
    }

    /// Objects whose owners are all gone.
    pub(crate) async fn orphans(&self) -> BTreeSet<String> {
        let mut living = BTreeSet::new();
        for cluster in self.list::<KafkaCluster>().await {
            living.extend(cluster.uid());
        }
        for set in self.list::<StatefulSet>().await {
            living.extend(set.uid());
        }
        let mut orphans = BTreeSet::new();
        self.add_orphans::<ServiceAccount>(&living, &mut orphans)
            .await;
        self.add_orphans::<Service>(&living, &mut orphans).await;
        self.add_orphans::<ConfigMap>(&living, &mut orphans).await;
        self.add_orphans::<PodDisruptionBudget>(&living, &mut orphans)
            .await;
        self.add_orphans::<StatefulSet>(&living, &mut orphans).await;
        self.add_orphans::<Pod>(&living, &mut orphans).await;
        self.add_orphans::<PersistentVolumeClaim>(&living, &mut orphans)
            .await;
        orphans
    }

    async fn add_orphans<K: Kind>(
        &self,
        living: &BTreeSet<String>,
        orphans: &mut BTreeSet<String>,
    ) {
        for object in self.list::<K>().await {
            let owners = object.owner_references();
            let lives = owners.iter().any(|owner| living.contains(&owner.uid));
            // A pod belongs to a StatefulSet; a claim may belong to nobody; the rest to the cluster, or to somebody else.
            let ownerless = owners.is_empty() && K::kind(&()) != "Pod";
            if !lives && !ownerless {
                orphans.insert(format!("{}/{}", K::kind(&()), object.name_any()));
            }
        }
    }

    /// Deletes the namespace and waits until it is gone with all that is in it: nothing of ours holds it.
    pub(crate) async fn end(self) {
        let deadline = tokio::time::Instant::now() + self.patience();
        // What was deleted last is collected in the background.
        loop {
            let orphans = self.orphans().await;
            if orphans.is_empty() {
                break;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{}: without an owner: {orphans:?}",
                self.place()
            );
            tokio::time::sleep(LOOK).await;
        }
        let api = Api::<k8s_openapi::api::core::v1::Namespace>::all(self.world.client.clone());
        api.delete(&self.name, &DeleteParams::default())
            .await
            .expect("the namespace can be deleted");
        while api.get_opt(&self.name).await.expect("get").is_some() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{}: the namespace does not go: {:?}",
                self.place(),
                self.versions().await
            );
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Whether a cluster serves its newest generation and nothing is under way.
pub(crate) fn is_settled(cluster: &KafkaCluster) -> bool {
    let generation = cluster.metadata.generation;
    let Some(status) = &cluster.status else {
        return false;
    };
    let says = |type_: &str, expected: &str| {
        conditions::find(&status.conditions, type_).is_some_and(|condition| {
            condition.status == expected && condition.observed_generation == generation
        })
    };
    status.observed_generation == generation
        && says("Ready", "True")
        && says("Healthy", "True")
        && says("Progressing", "False")
}

fn brief<K: Serialize>(object: Option<&K>) -> String {
    let Some(object) = object else {
        return "not there".to_owned();
    };
    let value = serde_json::to_value(object).unwrap_or_default();
    let metadata = &value["metadata"];
    json!({
        "generation": metadata["generation"], "finalizers": metadata["finalizers"],
        "deletionTimestamp": metadata["deletionTimestamp"], "status": value["status"],
    })
    .to_string()
}
