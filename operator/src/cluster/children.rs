//! How are a cluster's children written, so that one that cannot be written stops only what needs it?
//!
//! In this order: account, configuration, Services, budget, StatefulSets; then what is no longer built goes. Failures are collected. A
//! StatefulSet waits for the account and the configuration of its pods: a pod must not start on a configuration that is not there yet.

use std::collections::BTreeSet;
use std::slice::from_ref;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use operator_core::build::ClusterObjects;
use operator_core::identity::Identity;
use operator_core::names;
use operator_core::validate::ValidatedCluster;
use serde_json::json;

use super::dereference::Observed;
use crate::apply::{self, Child};
use crate::context::Context;

/// What became of the children.
#[derive(Debug)]
pub(super) struct Written {
    /// The StatefulSets as they are now: those that are built, those that wait to be written, and those of pools that are kept.
    pub(super) stateful_sets: Vec<StatefulSet>,
    /// What could not be written.
    pub(super) failures: Vec<apply::Error>,
}

/// Writes what was built, and deletes what is no longer.
pub(super) async fn write(
    ctx: &Context,
    cluster: &ValidatedCluster,
    identity: &Identity,
    objects: &ClusterObjects,
    observed: &Observed,
    uid: &str,
) -> Written {
    let mut writer = Writer {
        ctx,
        namespace: &cluster.namespace,
        uid,
        failures: Vec::new(),
    };
    let account = writer
        .apply(
            from_ref(&objects.service_account),
            &observed.service_accounts,
        )
        .await;
    let configuration = writer
        .apply(&objects.config_maps, &observed.config_maps)
        .await;
    writer.services(&objects.services, &observed.services).await;
    writer
        .apply(from_ref(&objects.pdb), &observed.budgets)
        .await;
    let ready = account.is_some() && configuration.is_some();
    let sets = if ready {
        writer
            .apply(&objects.stateful_sets, &observed.stateful_sets)
            .await
    } else {
        None
    };

    let held = held_pools(cluster, identity);
    writer
        .keep_claims(&observed.stateful_sets, &cluster.name, &held)
        .await;
    writer
        .prune_all(objects, observed, &cluster.name, &held)
        .await;

    let mut stateful_sets = sets.unwrap_or_default();
    let written: BTreeSet<String> = stateful_sets.iter().map(ResourceExt::name_any).collect();
    let others = observed.stateful_sets.iter();
    stateful_sets.extend(
        others
            .filter(|set| !written.contains(&set.name_any()))
            .cloned(),
    );
    Written {
        stateful_sets,
        failures: writer.failures,
    }
}

/// Pools that left the spec and whose nodes stay: they keep what they have.
fn held_pools(cluster: &ValidatedCluster, identity: &Identity) -> BTreeSet<String> {
    let pools = identity.nodes.iter().map(|node| &node.pool);
    pools
        .filter(|pool| cluster.pool(pool).is_none())
        .cloned()
        .collect()
}

struct Writer<'a> {
    ctx: &'a Context,
    namespace: &'a str,
    uid: &'a str,
    failures: Vec<apply::Error>,
}

impl Writer<'_> {
    /// Deletes what is no longer built; `held` are pools that keep what they have.
    async fn prune_all(
        &mut self,
        objects: &ClusterObjects,
        observed: &Observed,
        cluster: &str,
        held: &BTreeSet<String>,
    ) {
        let of_held = |name: fn(&str, &str) -> String| -> Vec<String> {
            held.iter().map(|pool| name(cluster, pool)).collect()
        };
        self.prune(
            from_ref(&objects.service_account),
            &observed.service_accounts,
            vec![],
        )
        .await;
        self.prune(&objects.services, &observed.services, vec![])
            .await;
        self.prune(from_ref(&objects.pdb), &observed.budgets, vec![])
            .await;
        self.prune(
            &objects.stateful_sets,
            &observed.stateful_sets,
            of_held(names::stateful_set),
        )
        .await;
        self.prune(
            &objects.config_maps,
            &observed.config_maps,
            of_held(names::config_map),
        )
        .await;
    }

    /// A pool that left the spec has no policy any more, so its claims no longer go with its StatefulSet.
    async fn keep_claims(
        &mut self,
        observed: &[StatefulSet],
        cluster: &str,
        held: &BTreeSet<String>,
    ) {
        let api = self.ctx.api::<StatefulSet>(self.namespace);
        let names = held.iter().map(|pool| names::stateful_set(cluster, pool));
        for name in names {
            let takes_claims = |set: &&StatefulSet| {
                let policy = set.spec.as_ref().and_then(|spec| {
                    let policy = spec.persistent_volume_claim_retention_policy.as_ref()?;
                    policy.when_deleted.as_deref()
                });
                set.name_any() == name
                    && policy == Some(names::CLAIMS_GO)
                    && apply::is_controlled_by(*set, self.uid)
            };
            if !observed.iter().any(|set| takes_claims(&set)) {
                continue;
            }
            let patch = json!({ "spec": {
                "persistentVolumeClaimRetentionPolicy": { "whenDeleted": names::CLAIMS_STAY },
            }});
            let patched = api
                .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                .await;
            match patched {
                Err(error) if !apply::is_not_found(&error) => {
                    self.failures.push(apply::Error::Write {
                        kind: "StatefulSet".into(),
                        name,
                        source: Box::new(error),
                    });
                }
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Writes all objects of a kind; `None` when one of them failed.
    async fn apply<K>(&mut self, built: &[K], observed: &[K]) -> Option<Vec<K>>
    where
        K: Child + kube::Resource<Scope = NamespaceResourceScope>,
    {
        let api = self.ctx.api::<K>(self.namespace);
        let before = self.failures.len();
        let mut written = Vec::new();
        for object in built {
            match apply::child(&api, object, observed, self.uid).await {
                Ok(object) => written.push(object),
                Err(error) => self.failures.push(error),
            }
        }
        (self.failures.len() == before).then_some(written)
    }

    /// Writes the Services; a port that is not ours would lead clients astray, so the ports are exactly those that were built.
    async fn services(&mut self, built: &[Service], observed: &[Service]) {
        let Some(written) = self.apply(built, observed).await else {
            return;
        };
        let api = self.ctx.api::<Service>(self.namespace);
        for (desired, written) in built.iter().zip(&written) {
            if numbers(desired) == numbers(written) || written.metadata.deletion_timestamp.is_some()
            {
                continue;
            }
            if let Err(source) = apply::overwrite(&api, &desired.name_any(), desired).await {
                self.failures.push(apply::Error::Write {
                    kind: "Service".into(),
                    name: desired.name_any(),
                    source: Box::new(source),
                });
            }
        }
    }

    /// Deletes objects of ours that were not built and are not among `kept`.
    async fn prune<K>(&mut self, built: &[K], observed: &[K], kept: Vec<String>)
    where
        K: Child + kube::Resource<Scope = NamespaceResourceScope>,
    {
        let keep = built
            .iter()
            .map(ResourceExt::name_any)
            .chain(kept)
            .collect();
        let api = self.ctx.api::<K>(self.namespace);
        if let Err(error) = apply::prune(&api, observed, &keep, self.uid).await {
            self.failures.push(error);
        }
    }
}

fn numbers(service: &Service) -> BTreeSet<i32> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter());
    ports
        .flatten()
        .map(|port: &ServicePort| port.port)
        .collect()
}
