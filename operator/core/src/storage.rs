//! Which volumes grow, when may a StatefulSet's template follow, and which change of storage cannot be had?
//!
//! The claim templates of a StatefulSet are immutable, so a pool grows in steps, each of them safe to repeat:
//! 1. every claim of the pool is raised to the new size; the StatefulSet keeps the old template meanwhile;
//! 2. the StatefulSet is deleted and its pods orphaned: they run on;
//! 3. the StatefulSet is made anew with the new template and adopts its pods, none of which restarts.
//!
//! A claim that is larger than the pool's size (grown by hand, or left by an earlier, larger pool) is left as it is. Nothing shrinks.

use std::collections::BTreeMap;

use crate::identity::Identity;
use crate::quantity;
use crate::validate::{ValidatedCluster, ValidatedPool};

/// A claim template as it stands in a StatefulSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Requested size.
    pub size: String,
    /// The StorageClass, if one is named.
    pub class: Option<String>,
}

/// A volume claim as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Requested size.
    pub requested: String,
    /// Size of the volume behind it, as far as it is known.
    pub capacity: Option<String>,
    /// Whether it has a volume: only then may the request grow.
    pub bound: bool,
}

/// What is there, by pool and by name of the claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The claim template of each pool's StatefulSet.
    pub templates: BTreeMap<String, Template>,
    /// The claims of the cluster.
    pub claims: BTreeMap<String, Claim>,
}

/// A change of storage that the spec asks for and that is not made, while everything else is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Volumes cannot shrink.
    #[error(
        "spec.pools[{pool}].storage.size: the volumes of the pool have {have} and cannot shrink to {want}: set {have} or more"
    )]
    Shrink {
        /// The pool.
        pool: String,
        /// Size that the pool has.
        have: String,
        /// Size that the spec wants.
        want: String,
    },
    /// Volumes cannot move to another class.
    #[error(
        "spec.pools[{pool}].storage.storageClassName: the volumes of the pool have {have} and cannot change to {want}: set it back, or add a new pool"
    )]
    Class {
        /// The pool.
        pool: String,
        /// Class that the pool has.
        have: String,
        /// Class that the spec wants.
        want: String,
    },
    /// The API server does not let the claim grow.
    #[error(
        "spec.pools[].storage.size: claim {claim} cannot grow to {want}: {message}; use a StorageClass with allowVolumeExpansion, or set the size back"
    )]
    Claim {
        /// The claim.
        claim: String,
        /// Size that the spec wants.
        want: String,
        /// What the API server said.
        message: String,
    },
}

/// What to do about storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Claims to raise, by name, with their new size.
    pub grow: BTreeMap<String, String>,
    /// The template that each pool's StatefulSet is built with now.
    pub build: BTreeMap<String, Template>,
    /// Pools whose StatefulSet has to be made anew, because its template is another.
    pub replace: Vec<String>,
    /// What is under way, one sentence a claim.
    pub growing: Vec<String>,
    /// What is not done.
    pub refused: Vec<Refused>,
}

impl Plan {
    /// The cluster as it is built now: every pool with the storage that its StatefulSet can have.
    #[must_use]
    pub fn settle(&self, cluster: &ValidatedCluster) -> ValidatedCluster {
        let mut settled = cluster.clone();
        for pool in &mut settled.pools {
            if let Some(template) = self.build.get(&pool.name) {
                pool.storage_size.clone_from(&template.size);
                pool.storage_class.clone_from(&template.class);
            }
        }
        settled
    }
}

/// Decides from what is there.
#[must_use]
pub fn plan(cluster: &ValidatedCluster, identity: &Identity, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    for pool in &cluster.pools {
        plan_pool(pool, identity, observed, &mut plan);
    }
    plan
}

fn plan_pool(pool: &ValidatedPool, identity: &Identity, observed: &Observed, plan: &mut Plan) {
    let mut wanted = Template {
        size: pool.storage_size.clone(),
        class: pool.storage_class.clone(),
    };
    let template = observed.templates.get(&pool.name);
    if let Some(have) = template {
        keep_what_cannot_change(pool, have, &mut wanted, plan);
    }
    let claims: Vec<(String, &Claim)> = identity
        .pool(&pool.name)
        .filter_map(|node| {
            let name = crate::names::claim(&node.pod);
            observed.claims.get(&name).map(|claim| (name, claim))
        })
        .collect();
    let mut all_asked = true;
    for (name, claim) in claims {
        let asked = !less(&claim.requested, &wanted.size);
        all_asked &= asked;
        if !asked && claim.bound {
            plan.grow.insert(name.clone(), wanted.size.clone());
        }
        if let Some(sentence) = under_way(&name, claim, &wanted.size) {
            plan.growing.push(sentence);
        }
    }
    let build = match template {
        Some(have) if less(&have.size, &wanted.size) => {
            if all_asked {
                plan.replace.push(pool.name.clone());
                wanted
            } else {
                have.clone()
            }
        }
        _ => wanted,
    };
    plan.build.insert(pool.name.clone(), build);
}

/// Takes back from `wanted` what an existing pool cannot have, and says so.
fn keep_what_cannot_change(
    pool: &ValidatedPool,
    have: &Template,
    wanted: &mut Template,
    plan: &mut Plan,
) {
    let name = |class: &Option<String>| {
        class.as_ref().map_or_else(
            || "the default class".to_owned(),
            |class| format!("class {class}"),
        )
    };
    if have.class != wanted.class {
        plan.refused.push(Refused::Class {
            pool: pool.name.clone(),
            have: name(&have.class),
            want: name(&wanted.class),
        });
        wanted.class.clone_from(&have.class);
    }
    if less(&wanted.size, &have.size) {
        plan.refused.push(Refused::Shrink {
            pool: pool.name.clone(),
            have: have.size.clone(),
            want: wanted.size.clone(),
        });
    }
    // The same amount in other words is no change.
    if !less(&have.size, &wanted.size) {
        wanted.size.clone_from(&have.size);
    }
}

fn under_way(name: &str, claim: &Claim, size: &str) -> Option<String> {
    if !claim.bound && less(&claim.requested, size) {
        return Some(format!(
            "{name} cannot grow to {size} before it has a volume"
        ));
    }
    let capacity = claim.capacity.as_ref()?;
    let target = if less(&claim.requested, size) {
        size
    } else {
        &claim.requested
    };
    less(capacity, target).then(|| format!("{name} grows from {capacity} to {target}"))
}

/// Whether `a` is certainly less than `b`.
fn less(a: &str, b: &str) -> bool {
    matches!((quantity::parse(a), quantity::parse(b)), (Some(a), Some(b)) if a < b)
}

#[cfg(test)]
mod tests;
