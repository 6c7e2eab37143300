//! Who is who: which Kafka cluster id and which node id does each pod have, for ever?
//!
//! Node ids are given out once and never moved. What was given out is remembered in three places that die separately: the status, the
//! `nodes` list of the ConfigMaps, and annotations on the volume claims. Whatever of it survives is handed in as [`Known`].
//! A pool never shrinks here: taking a broker away needs its replicas moved first, which this version cannot do, so the wish is
//! reported ([`Held`]) and the nodes stay. The same holds for the number of controllers of a cluster that already exists.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::api::v1alpha1::Role;
use crate::names;
use crate::validate::ValidatedCluster;

/// What is remembered of earlier assignments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The cluster id, if any place remembers one.
    pub cluster_id: Option<String>,
    /// Remembered nodes by pod name.
    pub nodes: BTreeMap<String, KnownNode>,
}

/// A remembered node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownNode {
    /// Kafka's node id.
    pub id: i32,
    /// The pool it belongs to.
    pub pool: String,
    /// Its roles, when the place that remembers it knows them (a volume claim does not).
    pub roles: Option<Vec<Role>>,
}

/// One node as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name of the pod.
    pub pod: String,
    /// Kafka's node id.
    pub id: i32,
    /// Name of the pool.
    pub pool: String,
    /// Its roles.
    pub roles: Vec<Role>,
}

/// A change that the spec asks for and that is held back because it would lose data or quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// The pool has more nodes than the spec wants.
    ScaleDown {
        /// The pool.
        pool: String,
        /// Nodes that exist.
        have: i32,
        /// Nodes that the spec wants.
        want: i32,
    },
    /// The pool of controllers has fewer nodes than the spec wants.
    MoreControllers {
        /// The pool.
        pool: String,
        /// Nodes that exist.
        have: i32,
        /// Nodes that the spec wants.
        want: i32,
    },
    /// A pool with controllers was added to a cluster that already has its quorum.
    NewControllerPool {
        /// The pool.
        pool: String,
    },
    /// The pool exists and is no longer in the spec.
    PoolRemoved {
        /// The pool.
        pool: String,
    },
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ScaleDown { pool, have, want } => {
                write!(
                    f,
                    "pool {pool} keeps {have} nodes instead of {want}: brokers cannot be decommissioned in this version"
                )
            }
            Self::MoreControllers { pool, have, want } => write!(
                f,
                "pool {pool} keeps {have} nodes instead of {want}: the controller quorum of a running cluster cannot grow in this version"
            ),
            Self::NewControllerPool { pool } => {
                write!(
                    f,
                    "pool {pool} is not started: the controller quorum of a running cluster cannot grow in this version"
                )
            }
            Self::PoolRemoved { pool } => {
                write!(
                    f,
                    "pool {pool} is kept although it is no longer in spec.pools: brokers cannot be decommissioned in this version"
                )
            }
        }
    }
}

/// The cluster id and every node, settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Kafka's cluster id, 22 characters.
    pub cluster_id: String,
    /// Every node, in order of pool and ordinal; nodes of removed pools come last.
    pub nodes: Vec<Node>,
    /// What was held back.
    pub held: Vec<Held>,
}

impl Identity {
    /// Nodes of one pool.
    pub fn pool<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |node| node.pool == pool)
    }

    /// Number of nodes of one pool.
    #[must_use]
    pub fn replicas(&self, pool: &str) -> i32 {
        i32::try_from(self.pool(pool).count()).unwrap_or(i32::MAX)
    }

    /// Number of nodes with the role `broker`.
    #[must_use]
    pub fn broker_count(&self) -> usize {
        self.nodes
            .iter()
            .filter(|node| node.roles.contains(&Role::Broker))
            .count()
    }
}

/// Settles who is who. `uid` is the KafkaCluster's own; it gives a new cluster its id.
#[must_use]
pub fn assign(cluster: &ValidatedCluster, uid: &str, known: &Known) -> Identity {
    let mut used: BTreeSet<i32> = known.nodes.values().map(|node| node.id).collect();
    let mut nodes = Vec::new();
    let mut held = Vec::new();
    let quorum_exists = known.nodes.values().any(|node| {
        let roles = node
            .roles
            .as_deref()
            .or_else(|| cluster.pool(&node.pool).map(|pool| pool.roles.as_slice()));
        roles.is_some_and(|roles| roles.contains(&Role::Controller))
    });
    for pool in &cluster.pools {
        let have = known_replicas(known, &pool.name);
        let votes = pool.roles.contains(&Role::Controller);
        let replicas = if have > pool.replicas {
            held.push(Held::ScaleDown {
                pool: pool.name.clone(),
                have,
                want: pool.replicas,
            });
            have
        } else if votes && have > 0 && have < pool.replicas {
            held.push(Held::MoreControllers {
                pool: pool.name.clone(),
                have,
                want: pool.replicas,
            });
            have
        } else if votes && have == 0 && quorum_exists {
            held.push(Held::NewControllerPool {
                pool: pool.name.clone(),
            });
            0
        } else {
            pool.replicas
        };
        for ordinal in 0..replicas {
            let pod = names::pod(&cluster.name, &pool.name, ordinal);
            let id = known
                .nodes
                .get(&pod)
                .map_or_else(|| take_free(&mut used), |node| node.id);
            nodes.push(Node {
                pod,
                id,
                pool: pool.name.clone(),
                roles: pool.roles.clone(),
            });
        }
    }
    keep_removed_pools(cluster, known, &mut nodes, &mut held);
    Identity {
        cluster_id: known
            .cluster_id
            .clone()
            .unwrap_or_else(|| new_cluster_id(uid)),
        nodes,
        held,
    }
}

/// One more than the highest remembered ordinal of a pool.
fn known_replicas(known: &Known, pool: &str) -> i32 {
    let of_pool = known.nodes.iter().filter(|(_, node)| node.pool == pool);
    of_pool
        .filter_map(|(pod, _)| pod.rsplit('-').next()?.parse::<i32>().ok())
        .map(|ordinal| ordinal + 1)
        .max()
        .unwrap_or(0)
}

/// Nodes whose pool left the spec stay as they are, if their roles are remembered (a mere volume claim is no running node).
fn keep_removed_pools(
    cluster: &ValidatedCluster,
    known: &Known,
    nodes: &mut Vec<Node>,
    held: &mut Vec<Held>,
) {
    let mut removed = BTreeSet::new();
    for (pod, node) in &known.nodes {
        if cluster.pool(&node.pool).is_some() {
            continue;
        }
        if let Some(roles) = &node.roles {
            removed.insert(node.pool.clone());
            nodes.push(Node {
                pod: pod.clone(),
                id: node.id,
                pool: node.pool.clone(),
                roles: roles.clone(),
            });
        }
    }
    held.extend(removed.into_iter().map(|pool| Held::PoolRemoved { pool }));
}

/// Takes the lowest id that nobody has or had.
fn take_free(used: &mut BTreeSet<i32>) -> i32 {
    let mut id = 0;
    while !used.insert(id) {
        id += 1;
    }
    id
}

/// Derives a cluster id (URL-safe base64 of 16 bytes, as Kafka's) from the KafkaCluster's uid: the same after a crash before it was written down.
fn new_cluster_id(uid: &str) -> String {
    let digest = Sha256::digest(uid.as_bytes());
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    // Kafka's own ids never begin with '-', so that tools do not take them for a flag: '-' stands for the six bits 111110.
    bytes[0] &= 0x7f;
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::KafkaCluster;

    /// A cluster from `name:roles:replicas` words, roles of `c` and `b`.
    fn cluster(pools: &str) -> ValidatedCluster {
        let pool = |word: &str| {
            let mut parts = word.split(':');
            let name = parts.next().expect("a name");
            let roles = match parts.next() {
                Some("c") => "[controller]",
                Some("b") => "[broker]",
                _ => "[controller, broker]",
            };
            format!(
                "{{name: {name}, roles: {roles}, replicas: {}, storage: {{size: 1Gi}}}}",
                parts.next().expect("replicas")
            )
        };
        let pools = pools.split(' ').map(pool).collect::<Vec<_>>().join(", ");
        let yaml = format!(
            "metadata: {{name: shop, namespace: default}}\napiVersion: tidemark.dev/v1alpha1\nkind: KafkaCluster\nspec: {{pools: [{pools}]}}"
        );
        let object: KafkaCluster = serde_yaml::from_str(&yaml).expect("the cluster parses");
        crate::validate::cluster(&object).expect("it is valid")
    }

    fn known(identity: &Identity) -> Known {
        let node = |node: &Node| {
            (
                node.pod.clone(),
                KnownNode {
                    id: node.id,
                    pool: node.pool.clone(),
                    roles: Some(node.roles.clone()),
                },
            )
        };
        Known {
            cluster_id: Some(identity.cluster_id.clone()),
            nodes: identity.nodes.iter().map(node).collect(),
        }
    }

    fn check(before: &str, after: &str, expected: &str, held: &[&str]) {
        let before = assign(&cluster(before), "uid", &Known::default());
        let after = assign(&cluster(after), "uid", &known(&before));
        let nodes = after
            .nodes
            .iter()
            .map(|node| format!("{}={}", node.pod, node.id))
            .collect::<Vec<_>>()
            .join(" ");
        assert_eq!(nodes, expected);
        let said: Vec<String> = after.held.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), held.len(), "{said:?}");
        for (said, held) in said.iter().zip(held) {
            assert!(said.contains(held), "{said}");
        }
        assert_eq!(before.cluster_id, after.cluster_id);
    }

    #[test]
    fn ids_are_kept_when_pools_grow_or_change_places() {
        check(
            "a:c:1 b:b:2",
            "b:b:3 a:c:1",
            "shop-b-0=1 shop-b-1=2 shop-b-2=3 shop-a-0=0",
            &[],
        );
    }

    #[test]
    fn nothing_shrinks_and_the_quorum_does_not_grow() {
        check(
            "a:cb:3",
            "a:cb:1",
            "shop-a-0=0 shop-a-1=1 shop-a-2=2",
            &["keeps 3 nodes instead of 1"],
        );
        check(
            "a:cb:1",
            "a:cb:3",
            "shop-a-0=0",
            &["quorum of a running cluster cannot grow"],
        );
        check(
            "a:cb:1",
            "a:cb:1 b:c:1",
            "shop-a-0=0",
            &["pool b is not started"],
        );
        check(
            "a:cb:1 b:b:1",
            "a:cb:1",
            "shop-a-0=0 shop-b-0=1",
            &["pool b is kept"],
        );
    }

    #[test]
    fn a_claim_alone_gives_its_node_the_old_id_back() {
        let claim = KnownNode {
            id: 7,
            pool: "a".into(),
            roles: None,
        };
        let known = Known {
            cluster_id: Some("old".into()),
            nodes: BTreeMap::from([("shop-a-0".to_owned(), claim)]),
        };
        let identity = assign(&cluster("a:cb:1"), "other uid", &known);
        assert_eq!(
            (identity.cluster_id.as_str(), identity.nodes[0].id),
            ("old", 7)
        );
    }

    #[test]
    fn cluster_ids_have_kafkas_form() {
        let id = new_cluster_id("5c9b1a8e-0000-4000-8000-000000000001");
        assert_eq!(id.len(), 22);
        assert!(!id.starts_with('-'));
        assert_eq!(id, new_cluster_id("5c9b1a8e-0000-4000-8000-000000000001"));
    }
}
