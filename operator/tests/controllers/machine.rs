//! Who makes pods of StatefulSets and runs them? Doubles of the StatefulSet controller, the volume binder and the kubelet.
//!
//! Against a real control plane only the kubelet's part is played: its pods ask for a machine that does not exist, so that nothing else
//! takes them on. A pod whose image is called `broken` never becomes Ready. The machine tells [`Kafka`] which brokers are up.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use config::BrokerConfig;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use operator_core::names;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::kafka::{Kafka, Seen};

const REVISION: &str = "controller-revision-hash";
/// How soon a change is seen: short beside everything that a test waits for.
const TICK: Duration = Duration::from_millis(10);
/// The same where each look is a request to a server that others use too.
const REAL_TICK: Duration = Duration::from_millis(200);

/// The machine of one world.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) client: Client,
    pub(crate) kafka: Arc<Kafka>,
    /// This namespace only; `None` is all of them.
    pub(crate) namespace: Option<String>,
    /// Whether the StatefulSet controller and the volume binder are played as well.
    pub(crate) alone: bool,
    /// The revision of the API's last change, where it can be had.
    pub(crate) plane: Option<controlplane::ControlPlane>,
}

impl Machine {
    /// Runs until `stop`. A failed pass is repeated: its requests meet real conflicts.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut seen = None;
        let tick = if self.alone { TICK } else { REAL_TICK };
        while !stop.is_cancelled() {
            let revision = self
                .plane
                .as_ref()
                .map(controlplane::ControlPlane::revision);
            let moved = revision.is_none() || revision != seen;
            if moved && self.pass().await.is_ok() {
                seen = revision;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(tick) => {}
            }
        }
    }

    fn all<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    fn api<K>(&self, object: &impl kube::Resource) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(
            self.client.clone(),
            object.meta().namespace.as_deref().unwrap_or_default(),
        )
    }

    async fn pass(&self) -> Result<(), kube::Error> {
        let ours = ListParams::default().labels(names::CLUSTER_LABEL);
        let pods = self.all::<Pod>().list(&ours).await?.items;
        let claims = self.all::<PersistentVolumeClaim>().list(&ours).await?.items;
        if self.alone {
            for set in self.all::<StatefulSet>().list(&ours).await?.items {
                self.stateful_set(&set, &pods, &claims).await?;
            }
        }
        for claim in &claims {
            self.claim(claim, &pods).await?;
        }
        // A broker serves before its pod is Ready: readiness is its own word.
        let files = self.all::<ConfigMap>().list(&ours).await?.items;
        self.report(&pods, &claims, &node_ids(&files));
        for pod in &pods {
            self.pod(pod).await?;
        }
        Ok(())
    }

    /// The kubelet: runs what is there, ends what is to go.
    async fn pod(&self, pod: &Pod) -> Result<(), kube::Error> {
        let api = self.api::<Pod>(pod);
        if pod.metadata.deletion_timestamp.is_some() {
            let now = DeleteParams {
                grace_period_seconds: Some(0),
                ..uid_precondition(pod)
            };
            return unless_lost(api.delete(&pod.name_any(), &now).await);
        }
        let (phase, ready) = if runs(pod) {
            ("Running", "True")
        } else {
            ("Pending", "False")
        };
        let status = pod.status.as_ref();
        let is = status.and_then(|status| status.phase.as_deref()) == Some(phase)
            && condition(pod, "Ready") == Some(ready);
        if is {
            return Ok(());
        }
        let status = json!({
            "metadata": { "uid": pod.uid() },
            "status": { "phase": phase, "conditions": [{ "type": "Ready", "status": ready }] },
        });
        let patched = api
            .patch_status(
                &pod.name_any(),
                &PatchParams::default(),
                &Patch::Merge(status),
            )
            .await;
        unless_lost(patched)
    }

    /// The volume binder and resizer.
    async fn claim(&self, claim: &PersistentVolumeClaim, pods: &[Pod]) -> Result<(), kube::Error> {
        let api = self.api::<PersistentVolumeClaim>(claim);
        let name = claim.name_any();
        if !self.alone {
            return self.place(claim).await;
        }
        if claim.metadata.deletion_timestamp.is_some() {
            let used = pods.iter().any(|pod| {
                names::claim(&pod.name_any()) == name && pod.namespace() == claim.namespace()
            });
            if used {
                return Ok(());
            }
            let patch = json!({ "metadata": { "uid": claim.uid(), "finalizers": [] } });
            let patched = api
                .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                .await;
            return unless_lost(patched);
        }
        let wanted = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.resources.as_ref()?.requests.clone());
        let status = claim.status.clone().unwrap_or_default();
        if status.phase.as_deref() == Some("Bound") && status.capacity == wanted {
            return Ok(());
        }
        let patch = json!({
            "metadata": { "uid": claim.uid() },
            "status": { "phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": wanted },
        });
        let patched = api
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        unless_lost(patched)
    }

    /// A real binder waits until the scheduler has chosen a machine; nobody schedules these pods.
    async fn place(&self, claim: &PersistentVolumeClaim) -> Result<(), kube::Error> {
        const NODE: &str = "volume.kubernetes.io/selected-node";
        let bound = claim
            .spec
            .as_ref()
            .is_some_and(|spec| spec.volume_name.is_some());
        if bound || claim.annotations().contains_key(NODE) {
            return Ok(());
        }
        let nodes = Api::<k8s_openapi::api::core::v1::Node>::all(self.client.clone());
        let nodes = nodes.list(&ListParams::default().limit(1)).await?;
        let Some(node) = nodes.items.first() else {
            return Ok(());
        };
        let patch = json!({ "metadata": { "annotations": { NODE: node.name_any() } } });
        let api = self.api::<PersistentVolumeClaim>(claim);
        let patched = api
            .patch(
                &claim.name_any(),
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await;
        unless_lost(patched)
    }

    /// The StatefulSet controller, for `Parallel` and `OnDelete`.
    async fn stateful_set(
        &self,
        set: &StatefulSet,
        pods: &[Pod],
        claims: &[PersistentVolumeClaim],
    ) -> Result<(), kube::Error> {
        let Some(spec) = set
            .spec
            .as_ref()
            .filter(|_| set.metadata.deletion_timestamp.is_none())
        else {
            return Ok(());
        };
        let name = set.name_any();
        let here = |namespace: Option<String>| namespace == set.namespace();
        let mut hasher = DefaultHasher::new();
        serde_json::to_string(&spec.template)
            .unwrap_or_default()
            .hash(&mut hasher);
        let revision = format!("{name}-{:x}", hasher.finish());
        let replicas = spec.replicas.unwrap_or(1);
        for ordinal in 0..replicas {
            let pod_name = format!("{name}-{ordinal}");
            let claim_name = names::claim(&pod_name);
            let claim = claims
                .iter()
                .find(|claim| claim.name_any() == claim_name && here(claim.namespace()));
            match claim {
                Some(claim) => self.own_claim(set, claim).await?,
                None => {
                    let claim = claim_of(set, &claim_name);
                    let api = self.api::<PersistentVolumeClaim>(set);
                    unless_lost(api.create(&PostParams::default(), &claim).await)?;
                }
            }
            let existing = pods
                .iter()
                .find(|pod| pod.name_any() == pod_name && here(pod.namespace()));
            match existing {
                None => {
                    let pod = pod_of(set, &pod_name, &claim_name, &revision);
                    let api = self.api::<Pod>(set);
                    unless_lost(api.create(&PostParams::default(), &pod).await)?;
                }
                Some(pod) if pod.owner_references().is_empty() => self.adopt(set, pod).await?,
                Some(_) => {}
            }
        }
        let mine = pods.iter().filter(|pod| is_owned_by(pod, set));
        let surplus = mine
            .clone()
            .filter(|pod| ordinal(pod, &name).is_none_or(|ordinal| ordinal >= replicas));
        for pod in surplus.filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            let api = self.api::<Pod>(set);
            unless_lost(api.delete(&pod.name_any(), &uid_precondition(pod)).await)?;
        }
        let ready = mine
            .clone()
            .filter(|pod| condition(pod, "Ready") == Some("True"))
            .count();
        self.report_set(set, mine.count(), ready, &revision).await
    }

    /// A claim is the set's when it shall go with it, beside whoever else owns it.
    async fn own_claim(
        &self,
        set: &StatefulSet,
        claim: &PersistentVolumeClaim,
    ) -> Result<(), kube::Error> {
        let goes = claims_go(set);
        let uid = set.uid().unwrap_or_default();
        let mut owners = claim.owner_references().to_vec();
        let there = owners.len();
        owners.retain(|owner| owner.uid != uid);
        if (owners.len() < there) == goes {
            return Ok(());
        }
        owners.extend(set.controller_owner_ref(&()).filter(|_| goes));
        let patch = json!({ "metadata": {
            "uid": claim.uid(),
            "resourceVersion": claim.resource_version(),
            "ownerReferences": owners,
        }});
        let api = self.api::<PersistentVolumeClaim>(set);
        let patched = api
            .patch(
                &claim.name_any(),
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await;
        unless_lost(patched)
    }

    async fn adopt(&self, set: &StatefulSet, pod: &Pod) -> Result<(), kube::Error> {
        let owner: Vec<_> = set.controller_owner_ref(&()).into_iter().collect();
        let patch = json!({ "metadata": { "uid": pod.uid(), "ownerReferences": owner } });
        let api = self.api::<Pod>(set);
        let patched = api
            .patch(
                &pod.name_any(),
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await;
        unless_lost(patched)
    }

    async fn report_set(
        &self,
        set: &StatefulSet,
        pods: usize,
        ready: usize,
        revision: &str,
    ) -> Result<(), kube::Error> {
        let wanted = json!({
            "observedGeneration": set.metadata.generation,
            "replicas": pods,
            "readyReplicas": ready,
            "updateRevision": revision,
        });
        let is = serde_json::to_value(&set.status).unwrap_or_default();
        let same = |(key, value): (&String, &Value)| is.get(key).unwrap_or(&json!(0)) == value;
        if wanted.as_object().into_iter().flatten().all(same) {
            return Ok(());
        }
        let patch = json!({ "metadata": { "uid": set.uid() }, "status": wanted });
        let api = self.api::<StatefulSet>(set);
        let patched = api
            .patch_status(
                &set.name_any(),
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await;
        unless_lost(patched)
    }

    /// Tells Kafka which brokers run, and which clusters lost their last volume.
    fn report(&self, pods: &[Pod], claims: &[PersistentVolumeClaim], ids: &NodeIds) {
        let mut clusters: BTreeMap<(String, String), BTreeMap<String, Seen>> = BTreeMap::new();
        for claim in claims {
            clusters.entry(cluster_of(claim)).or_default();
        }
        let brokers = pods
            .iter()
            .filter(|pod| pod.labels().contains_key(names::BROKER_LABEL));
        for pod in brokers {
            let place = (pod.namespace().unwrap_or_default(), pod.name_any());
            let seen = Seen {
                uid: pod.uid().unwrap_or_default(),
                node_id: ids.get(&place).copied(),
                runs: runs(pod) && pod.metadata.deletion_timestamp.is_none(),
            };
            let cluster = clusters.entry(cluster_of(pod)).or_default();
            cluster.insert(place.1, seen);
        }
        for name in self.kafka.known() {
            if !clusters.contains_key(&name) {
                self.kafka.forget(&name);
            }
        }
        for ((namespace, name), brokers) in &clusters {
            self.kafka.observe(namespace, name, brokers);
        }
    }
}

/// Node ids by namespace and pod.
type NodeIds = BTreeMap<(String, String), i32>;

/// What the files say that nodes read when they start.
fn node_ids(files: &[ConfigMap]) -> NodeIds {
    let mut ids = NodeIds::new();
    for file in files {
        let data = file.data.as_ref();
        let text = data.and_then(|data| data.get(names::CONFIG_KEY));
        let parsed = text.map(|text| BrokerConfig::parse(&file.name_any(), text));
        // A file that somebody spoilt by hand starts no broker.
        let Some(Ok(parsed)) = parsed else { continue };
        let namespace = file.namespace().unwrap_or_default();
        let nodes = parsed.nodes.into_iter();
        ids.extend(nodes.map(|node| ((namespace.clone(), node.name), node.id.0)));
    }
    ids
}

/// Namespace and name of the cluster that an object belongs to.
fn cluster_of(object: &impl kube::Resource) -> (String, String) {
    let name = object.labels().get(names::CLUSTER_LABEL).cloned();
    (
        object.namespace().unwrap_or_default(),
        name.unwrap_or_default(),
    )
}

/// Whether the claims of a set go with it.
fn claims_go(set: &StatefulSet) -> bool {
    let policy = set
        .spec
        .as_ref()
        .and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    policy.and_then(|policy| policy.when_deleted.as_deref()) == Some(names::CLAIMS_GO)
}

/// The claim is owned from its first moment on, as in local mode. (Kubernetes adds the owner in a second request: a set that goes between
/// the two leaves an empty claim.)
fn claim_of(set: &StatefulSet, name: &str) -> PersistentVolumeClaim {
    let owner = set.controller_owner_ref(&()).filter(|_| claims_go(set));
    let template = set
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_claim_templates.as_ref()?.first().cloned())
        .unwrap_or_default();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: set.namespace(),
            labels: template.metadata.labels,
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

fn pod_of(set: &StatefulSet, name: &str, claim: &str, revision: &str) -> Pod {
    let template = set
        .spec
        .as_ref()
        .map(|spec| spec.template.clone())
        .unwrap_or_default();
    let given = template.metadata.unwrap_or_default();
    let mut labels = given.labels.unwrap_or_default();
    labels.insert(REVISION.to_owned(), revision.to_owned());
    let mut spec = template.spec.unwrap_or_default();
    // What is on a machine ends gracefully: a deletion is seen before it is done.
    spec.node_name = Some("local".to_owned());
    spec.volumes.get_or_insert_default().push(Volume {
        name: names::DATA_VOLUME.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.to_owned(),
            read_only: None,
        }),
        ..Volume::default()
    });
    Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: set.namespace(),
            labels: Some(labels),
            annotations: given.annotations,
            owner_references: Some(set.controller_owner_ref(&()).into_iter().collect()),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

fn ordinal(pod: &Pod, set: &str) -> Option<i32> {
    pod.name_any()
        .strip_prefix(set)?
        .strip_prefix('-')?
        .parse()
        .ok()
}

fn is_owned_by(pod: &Pod, set: &StatefulSet) -> bool {
    let uid = set.uid().unwrap_or_default();
    pod.owner_references().iter().any(|owner| owner.uid == uid)
}

/// Whether the image of a pod is any good.
fn runs(pod: &Pod) -> bool {
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.all(|container| {
        let image = container.image.as_deref().unwrap_or_default();
        !image.contains("broken")
    })
}

/// The status of a condition of a pod.
pub(crate) fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions
        .iter()
        .find(|condition| condition.type_ == type_)?;
    Some(&found.status)
}

fn uid_precondition(pod: &Pod) -> DeleteParams {
    DeleteParams {
        preconditions: Some(kube::api::Preconditions {
            uid: pod.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

/// Another was faster: what is gone, there already or changed meanwhile is looked at again in the next pass.
fn unless_lost<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Ok(()),
        other => other.map(|_| ()),
    }
}
