//! Is a KafkaCluster sensible, and what is it with defaults filled in?

use std::collections::{BTreeMap, BTreeSet};

use super::{FieldError, Invalid, config_keys};
use crate::api::v1alpha1::{
    DeletionPolicy, Durability, KafkaCluster, Listener, NodePool, PodTemplate, Resources, Role,
};
use crate::names;

/// A KafkaCluster that can be built.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedCluster {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// The pools in the order of the spec.
    pub pools: Vec<ValidatedPool>,
    /// At least one listener; the first is the one the operator itself uses.
    pub listeners: Vec<Listener>,
    /// The user's configuration without the operator's defaults.
    pub config: BTreeMap<String, String>,
    /// What an acks=all acknowledgement promises.
    pub durability: Durability,
    /// The image, if the user named one.
    pub image: Option<String>,
}

impl ValidatedCluster {
    /// The pool of a name.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&ValidatedPool> {
        self.pools.iter().find(|pool| pool.name == name)
    }
}

/// A pool that can be built.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedPool {
    /// Name of the pool.
    pub name: String,
    /// Sorted, without duplicates, not empty.
    pub roles: Vec<Role>,
    /// Nodes that the spec wants.
    pub replicas: i32,
    /// Size of each volume.
    pub storage_size: String,
    /// Class of the volumes, if the user named one.
    pub storage_class: Option<String>,
    /// What happens to the volumes when the KafkaCluster is deleted.
    pub deletion_policy: DeletionPolicy,
    /// CPU and memory.
    pub resources: Resources,
    /// Additions to the pods.
    pub pod: PodTemplate,
}

/// Checks a KafkaCluster.
pub fn cluster(object: &KafkaCluster) -> Result<ValidatedCluster, Invalid> {
    let spec = &object.spec;
    let name = object.metadata.name.clone().unwrap_or_default();
    let mut errors = Vec::new();
    if name.is_empty() || name.len() > 32 {
        errors.push(FieldError::new(
            "metadata.name",
            format!("{} characters", name.len()),
            "1 to 32 characters, because pod and host names are made from it",
        ));
    }
    check_pools(&spec.pools, &mut errors);
    check_listeners(&spec.listeners, &mut errors);
    config_keys::check_broker("spec.config", &spec.config, &mut errors);
    Invalid::check(errors)?;
    Ok(ValidatedCluster {
        name,
        namespace: object.metadata.namespace.clone().unwrap_or_default(),
        pools: spec
            .pools
            .iter()
            .map(|pool| validated_pool(pool, spec.deletion_policy))
            .collect(),
        listeners: spec.listeners.clone(),
        config: spec.config.clone(),
        durability: spec.durability,
        image: spec.image.clone(),
    })
}

fn validated_pool(pool: &NodePool, cluster_policy: DeletionPolicy) -> ValidatedPool {
    let mut roles = pool.roles.clone();
    roles.sort_unstable();
    roles.dedup();
    ValidatedPool {
        name: pool.name.clone(),
        roles,
        replicas: pool.replicas,
        storage_size: pool.storage.size.clone(),
        storage_class: pool.storage.storage_class_name.clone(),
        deletion_policy: pool.storage.deletion_policy.unwrap_or(cluster_policy),
        resources: pool.resources.clone(),
        pod: pool.template.pod.clone(),
    }
}

fn check_pools(pools: &[NodePool], errors: &mut Vec<FieldError>) {
    for role in [Role::Controller, Role::Broker] {
        if !pools.iter().any(|pool| pool.roles.contains(&role)) {
            let role = format!("{role:?}").to_lowercase();
            errors.push(FieldError::new(
                "spec.pools",
                format!("no pool has the role {role}"),
                format!("add {role} to the roles of a pool"),
            ));
        }
    }
    let mut seen = BTreeSet::new();
    for pool in pools {
        let path = format!("spec.pools[{}]", pool.name);
        if !seen.insert(&pool.name) {
            errors.push(FieldError::new(
                &path,
                "another pool has the same name",
                "a name of its own for each pool",
            ));
        }
        if pool.replicas < 1 {
            errors.push(FieldError::new(
                format!("{path}.replicas"),
                format!("{} nodes", pool.replicas),
                "at least 1; remove the pool if it is not wanted",
            ));
        }
        if pool.roles.is_empty() {
            errors.push(FieldError::new(
                format!("{path}.roles"),
                "no role",
                "controller, broker, or both",
            ));
        }
        check_pod_template(&format!("{path}.template.pod"), &pool.template.pod, errors);
        check_resources(&format!("{path}.resources"), &pool.resources, errors);
    }
    let voters: i32 = pools
        .iter()
        .filter(|pool| pool.roles.contains(&Role::Controller))
        .map(|pool| pool.replicas)
        .sum();
    if voters > MAX_CONTROLLERS {
        errors.push(FieldError::new(
            "spec.pools",
            format!("{voters} nodes have the role controller"),
            format!("at most {MAX_CONTROLLERS}: give further nodes the role broker only, in a pool of their own"),
        ));
    }
}

/// Every metadata write waits for a majority of the controllers; more than this many only slow it down.
const MAX_CONTROLLERS: i32 = 9;

fn check_pod_template(path: &str, pod: &PodTemplate, errors: &mut Vec<FieldError>) {
    let maps = [("labels", &pod.labels), ("annotations", &pod.annotations)];
    for (field, map) in maps {
        for key in map.keys() {
            if let Some(prefix) = names::RESERVED_LABEL_PREFIXES
                .iter()
                .find(|prefix| key.starts_with(**prefix))
            {
                errors.push(FieldError::new(
                    format!("{path}.{field}[{key}]"),
                    format!("keys under {prefix} are set by the operator"),
                    "use a prefix of your own",
                ));
            }
        }
    }
}

fn check_resources(path: &str, resources: &Resources, errors: &mut Vec<FieldError>) {
    for (field, map) in [
        ("requests", &resources.requests),
        ("limits", &resources.limits),
    ] {
        for (key, quantity) in map {
            let digits = quantity
                .0
                .trim_end_matches(|c: char| c.is_ascii_alphabetic());
            if digits.parse::<f64>().is_err() {
                errors.push(FieldError::new(
                    format!("{path}.{field}[{key}]"),
                    format!("{:?} is not a quantity", quantity.0),
                    "a number with a unit, for example 500m or 1Gi",
                ));
            }
        }
    }
}

fn check_listeners(listeners: &[Listener], errors: &mut Vec<FieldError>) {
    if listeners.is_empty() {
        errors.push(FieldError::new(
            "spec.listeners",
            "no listener",
            "at least one, for example {name: internal, port: 9092, type: internal}",
        ));
    }
    let mut seen_names = BTreeSet::new();
    let mut seen_ports = BTreeSet::new();
    for listener in listeners {
        let path = format!("spec.listeners[{}]", listener.name);
        if !seen_names.insert(&listener.name) {
            errors.push(FieldError::new(
                &path,
                "another listener has the same name",
                "a name of its own for each listener",
            ));
        }
        if !seen_ports.insert(listener.port) {
            errors.push(FieldError::new(
                format!("{path}.port"),
                format!("port {} is used by another listener", listener.port),
                "a port of its own for each listener",
            ));
        }
        if listener.port == names::RPC_PORT || listener.port == names::HTTP_PORT {
            errors.push(FieldError::new(
                format!("{path}.port"),
                format!("port {} is taken by the node itself", listener.port),
                format!("any port but {} and {}", names::RPC_PORT, names::HTTP_PORT),
            ));
        }
    }
}
