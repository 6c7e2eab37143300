//! What do the clusters' brokers say? A stateful model of Kafka's admin side, in place of the brokers.
//!
//! Which brokers are up follows the pods that the machine reports; a replica is in sync when its broker is up and has caught up. Topics
//! outlive pods and go with the volume claims. Refusals are Apache Kafka's: error codes and, in essence, texts.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use operator::admin::{
    AdminError, Answers, ClusterHealth, ConfigChange, KafkaAdmin, KafkaEndpoint, NewTopic,
};
use operator_core::topic::{ObservedPartition, ObservedTopic};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use types::ErrorCode;

/// All Kafka clusters of one world.
#[derive(Debug, Default)]
pub(crate) struct Kafka {
    clusters: Mutex<BTreeMap<Name, Cluster>>,
    faults: Option<Faults>,
}

/// Namespace and name of a KafkaCluster.
type Name = (String, String);

#[derive(Debug, Default)]
struct Cluster {
    /// By pod, in the order of their names.
    brokers: BTreeMap<String, Broker>,
    topics: BTreeMap<String, Topic>,
    /// Brokers that come back stay behind until this ends.
    lagging: bool,
    created: Vec<String>,
    next_id: u64,
    health_calls: u64,
    /// What is told of the active controller, where it is not the live broker with the lowest id.
    controller: Option<Option<i32>>,
}

/// A broker pod, as the machine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) uid: String,
    /// As the pool's file says it.
    pub(crate) node_id: Option<i32>,
    pub(crate) runs: bool,
}

/// A registered broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broker {
    /// The pod that it runs in; another uid is a restart.
    pub(crate) uid: String,
    pub(crate) node_id: i32,
    pub(crate) up: bool,
    behind: bool,
}

#[derive(Debug, Clone)]
struct Topic {
    id: String,
    /// The pods with a replica, by partition.
    partitions: Vec<Vec<String>>,
    config: BTreeMap<String, String>,
}

/// Of this many calls one fails before and one after it was done, when there are faults.
const FAULTY: u32 = 20;

/// Which calls fail. It depends on the seed, the operation, what it is about and how often that was asked for, and on nothing else, so that
/// a seed fails the same calls however tasks interleave.
#[derive(Debug)]
struct Faults {
    seed: u64,
    /// How often each operation was asked for, by its name and what it is about.
    calls: Mutex<BTreeMap<String, u64>>,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    FailsBefore,
    FailsAfter,
    Succeeds,
}

impl Faults {
    /// A call about several objects has the worst of their fates.
    fn fate(&self, operation: &str, objects: impl Iterator<Item = String>) -> Fate {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let fates = objects.map(|object| {
            let call = format!("{operation} {object}");
            let count = calls.entry(call.clone()).or_default();
            *count += 1;
            // FNV-1a: spreads calls over seeds; nothing depends on its quality.
            let seed = format!("{call} {count} {}", self.seed)
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                });
            match SmallRng::seed_from_u64(seed).random_range(0..FAULTY) {
                0 => Fate::FailsBefore,
                1 => Fate::FailsAfter,
                _ => Fate::Succeeds,
            }
        });
        fates.min().unwrap_or(Fate::Succeeds)
    }
}

impl Kafka {
    /// Calls fail now and then, with done or undone work behind them.
    pub(crate) fn faulty(seed: u64) -> Self {
        Self {
            faults: Some(Faults {
                seed,
                calls: Mutex::default(),
            }),
            ..Self::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Cluster>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at<T>(&self, namespace: &str, name: &str, act: impl FnOnce(&mut Cluster) -> T) -> T {
        act(self
            .lock()
            .entry((namespace.to_owned(), name.to_owned()))
            .or_default())
    }

    /// The machine reports the broker pods of a cluster.
    pub(crate) fn observe(&self, namespace: &str, name: &str, pods: &BTreeMap<String, Seen>) {
        self.at(namespace, name, |cluster| cluster.observe(pods));
    }

    /// The clusters that have data.
    pub(crate) fn known(&self) -> Vec<Name> {
        self.lock().keys().cloned().collect()
    }

    /// The last volume of a cluster is gone, and the records with it.
    pub(crate) fn forget(&self, name: &Name) {
        self.lock().remove(name);
    }

    /// Brokers that come back stay out of sync until `lag` is called with `false`.
    pub(crate) fn lag(&self, namespace: &str, name: &str, lagging: bool) {
        self.at(namespace, name, |cluster| {
            cluster.lagging = lagging;
            for broker in cluster.brokers.values_mut() {
                broker.behind &= lagging || !broker.up;
            }
        });
    }

    /// How often a cluster was asked for its health.
    pub(crate) fn health_calls(&self, namespace: &str, name: &str) -> u64 {
        self.at(namespace, name, |cluster| cluster.health_calls)
    }

    /// From now on the cluster says that this node is the active controller, or that it knows none.
    pub(crate) fn controller(&self, namespace: &str, name: &str, told: Option<Option<i32>>) {
        self.at(namespace, name, |cluster| cluster.controller = told);
    }

    /// Partitions and configuration of a topic, if there is one.
    pub(crate) fn topic(
        &self,
        namespace: &str,
        cluster: &str,
        topic: &str,
    ) -> Option<(usize, BTreeMap<String, String>)> {
        self.at(namespace, cluster, |cluster| {
            let topic = cluster.topics.get(topic)?;
            Some((topic.partitions.len(), topic.config.clone()))
        })
    }

    /// Names of all topics of a cluster.
    pub(crate) fn topics(&self, namespace: &str, cluster: &str) -> Vec<String> {
        self.at(namespace, cluster, |cluster| {
            cluster.topics.keys().cloned().collect()
        })
    }

    /// How often a topic of this name was created.
    pub(crate) fn creations(&self, namespace: &str, cluster: &str, topic: &str) -> usize {
        self.at(namespace, cluster, |cluster| {
            cluster.created.iter().filter(|name| *name == topic).count()
        })
    }

    /// Somebody changes a topic with Kafka's own tools.
    pub(crate) fn by_hand(
        &self,
        namespace: &str,
        cluster: &str,
        topic: &str,
        partitions: Option<usize>,
        config: &[(&str, &str)],
    ) {
        self.at(namespace, cluster, |cluster| {
            let up = cluster.up();
            let Some(topic) = cluster.topics.get_mut(topic) else {
                return;
            };
            if let Some(count) = partitions {
                topic.grow(count, &up);
            }
            let pairs = config
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            topic.config.extend(pairs);
        });
    }

    /// Somebody deletes a topic with Kafka's own tools.
    pub(crate) fn delete_by_hand(&self, namespace: &str, cluster: &str, topic: &str) {
        self.at(namespace, cluster, |cluster| cluster.topics.remove(topic));
    }

    /// Why the healthy broker in this pod must not restart now, if it must not.
    pub(crate) fn why_not_restart(&self, namespace: &str, pod: &str) -> Option<String> {
        let clusters = self.lock();
        let (_, cluster) = clusters
            .iter()
            .find(|((at, _), cluster)| at == namespace && cluster.brokers.contains_key(pod))?;
        if !cluster.brokers[pod].up {
            return None;
        }
        let down: Vec<&String> = cluster
            .brokers
            .iter()
            .filter(|(name, broker)| *name != pod && !broker.up)
            .map(|(name, _)| name)
            .collect();
        let behind = cluster.under_replicated();
        (!down.is_empty() || !behind.is_empty()).then(|| {
            format!(
                "{namespace}/{pod} restarted while {down:?} are down and {behind:?} are not in sync"
            )
        })
    }

    /// Carries out a call about topics of a reachable cluster, or about the cluster itself, with the faults of the seed around it.
    fn call<T>(
        &self,
        at: &KafkaEndpoint,
        operation: &str,
        topics: &[&str],
        act: impl FnOnce(&mut Cluster) -> T,
    ) -> Result<T, AdminError> {
        let unreachable =
            |why: &str| AdminError::Unreachable(format!("{why} ({}/{})", at.namespace, at.cluster));
        let fate = self.faults.as_ref().map_or(Fate::Succeeds, |faults| {
            let (namespace, cluster) = (&at.namespace, &at.cluster);
            let objects = topics.iter();
            faults.fate(
                operation,
                objects.map(|topic| format!("{namespace}/{cluster}/{topic}")),
            )
        });
        if fate == Fate::FailsBefore {
            return Err(unreachable("injected before the call"));
        }
        let expected = format!(
            "{}-bootstrap.{}.svc.cluster.local",
            at.cluster, at.namespace
        );
        assert_eq!(
            at.host, expected,
            "the operator asks at a name that nobody resolves"
        );
        let mut clusters = self.lock();
        let name = (at.namespace.clone(), at.cluster.clone());
        let cluster = clusters
            .get_mut(&name)
            .filter(|cluster| cluster.brokers.values().any(|broker| broker.up));
        let Some(cluster) = cluster else {
            return Err(unreachable("connection refused"));
        };
        let answer = act(cluster);
        if fate == Fate::FailsAfter {
            return Err(unreachable("injected after the call was done"));
        }
        Ok(answer)
    }

    fn each<I, T>(
        &self,
        at: &KafkaEndpoint,
        operation: &str,
        items: Vec<I>,
        name: impl Fn(&I) -> &str,
        mut act: impl FnMut(&mut Cluster, I) -> Result<T, AdminError>,
    ) -> Answers<T> {
        let names: Vec<String> = items.iter().map(|item| name(item).to_owned()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.call(at, operation, &names, |cluster| {
            items.into_iter().map(|item| act(cluster, item)).collect()
        })
    }
}

impl Cluster {
    fn observe(&mut self, pods: &BTreeMap<String, Seen>) {
        for (name, broker) in &mut self.brokers {
            let stays = pods
                .get(name)
                .is_some_and(|pod| pod.runs && pod.uid == broker.uid);
            if broker.up && !stays {
                broker.up = false;
                broker.behind = true;
            }
        }
        for (name, pod) in pods {
            // A pod whose file does not name it has no broker.
            let Some(node_id) = pod.node_id else { continue };
            let broker = self.brokers.entry(name.clone()).or_insert(Broker {
                uid: pod.uid.clone(),
                node_id,
                up: false,
                behind: false,
            });
            if pod.runs && !broker.up {
                broker.up = true;
                broker.node_id = node_id;
                broker.uid.clone_from(&pod.uid);
                broker.behind &= self.lagging;
            }
        }
    }

    fn up(&self) -> Vec<String> {
        let up = self.brokers.iter().filter(|(_, broker)| broker.up);
        up.map(|(name, _)| name.clone()).collect()
    }

    fn in_sync(&self, pod: &str) -> bool {
        self.brokers
            .get(pod)
            .is_some_and(|broker| broker.up && !broker.behind)
    }

    fn under_replicated(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, topic) in &self.topics {
            for (index, replicas) in topic.partitions.iter().enumerate() {
                if !replicas.iter().all(|pod| self.in_sync(pod)) {
                    found.push(format!("{name}-{index}"));
                }
            }
        }
        found
    }

    fn describe(&self, topic: &str) -> Option<ObservedTopic> {
        let topic = self.topics.get(topic)?;
        let partition = |replicas: &Vec<String>| ObservedPartition {
            replicas: replicas.len(),
            in_sync: replicas.iter().filter(|pod| self.in_sync(pod)).count(),
            has_leader: replicas.iter().any(|pod| self.in_sync(pod)),
        };
        Some(ObservedTopic {
            topic_id: topic.id.clone(),
            partitions: topic.partitions.iter().map(partition).collect(),
            config: topic.config.clone(),
        })
    }

    fn create(&mut self, new: NewTopic) -> Result<(), AdminError> {
        if self.topics.contains_key(&new.name) {
            return refuse(
                ErrorCode::TopicAlreadyExists,
                format!("Topic '{}' already exists.", new.name),
            );
        }
        let up = self.up();
        let factor = new.replication_factor.map_or(up.len().min(3), |factor| {
            usize::try_from(factor).unwrap_or(0)
        });
        if factor > up.len() {
            return refuse(
                ErrorCode::InvalidReplicationFactor,
                format!(
                    "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be reached because only {} broker(s) are registered.",
                    up.len()
                ),
            );
        }
        let count = new
            .partitions
            .map_or(1, |count| usize::try_from(count).unwrap_or(1));
        self.next_id += 1;
        let mut topic = Topic {
            id: format!("topic-{}", self.next_id),
            partitions: vec![up[..factor].to_vec()],
            config: new.config,
        };
        topic.grow(count, &up);
        self.created.push(new.name.clone());
        self.topics.insert(new.name, topic);
        Ok(())
    }

    fn grow(&mut self, name: &str, count: i32) -> Result<(), AdminError> {
        let up = self.up();
        let topic = self.topics.get_mut(name).ok_or_else(unknown)?;
        let count = usize::try_from(count).unwrap_or(0);
        if count <= topic.partitions.len() {
            return refuse(
                ErrorCode::InvalidPartitions,
                format!(
                    "The topic {name} currently has {} partition(s); {count} would not be an increase.",
                    topic.partitions.len()
                ),
            );
        }
        topic.grow(count, &up);
        Ok(())
    }

    fn alter(&mut self, change: ConfigChange) -> Result<(), AdminError> {
        let topic = self.topics.get_mut(&change.topic).ok_or_else(unknown)?;
        topic.config.extend(change.set);
        topic.config.retain(|key, _| !change.unset.contains(key));
        Ok(())
    }

    fn delete(&mut self, name: &str) -> Result<(), AdminError> {
        self.topics.remove(name).map(|_| ()).ok_or_else(unknown)
    }
}

impl Topic {
    /// Adds partitions with as many replicas as the first, on the brokers in turn.
    fn grow(&mut self, count: usize, up: &[String]) {
        let factor = self.partitions[0].len().min(up.len());
        while self.partitions.len() < count {
            let first = self.partitions.len();
            let replicas = (0..factor).map(|next| up[(first + next) % up.len()].clone());
            self.partitions.push(replicas.collect());
        }
    }
}

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, AdminError> {
    Err(AdminError::Refused {
        code,
        message: message.into(),
    })
}

fn unknown() -> AdminError {
    AdminError::Refused {
        code: ErrorCode::UnknownTopicOrPartition,
        message: "This server does not host this topic-partition.".into(),
    }
}

impl KafkaAdmin for Kafka {
    fn health<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
    ) -> BoxFuture<'a, Result<ClusterHealth, AdminError>> {
        async move {
            self.at(&at.namespace, &at.cluster, |cluster| {
                cluster.health_calls += 1;
            });
            self.call(at, "health", &[""], |cluster| {
                let up = cluster.brokers.values().filter(|broker| broker.up);
                let lowest = up.map(|broker| broker.node_id).min();
                ClusterHealth {
                    under_replicated: cluster.under_replicated(),
                    active_controller: cluster.controller.unwrap_or(lowest),
                }
            })
        }
        .boxed()
    }

    fn describe_topics<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
        topics: Vec<String>,
    ) -> BoxFuture<'a, Answers<Option<ObservedTopic>>> {
        async move {
            self.each(at, "describe", topics, String::as_str, |cluster, topic| {
                Ok(cluster.describe(&topic))
            })
        }
        .boxed()
    }

    fn create_topics<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
        topics: Vec<NewTopic>,
    ) -> BoxFuture<'a, Answers<()>> {
        async move { self.each(at, "create", topics, |new| &new.name, Cluster::create) }.boxed()
    }

    fn grow_topics<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
        topics: Vec<(String, i32)>,
    ) -> BoxFuture<'a, Answers<()>> {
        async move {
            self.each(
                at,
                "grow",
                topics,
                |(topic, _)| topic,
                |cluster, (topic, count)| cluster.grow(&topic, count),
            )
        }
        .boxed()
    }

    fn alter_configs<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
        changes: Vec<ConfigChange>,
    ) -> BoxFuture<'a, Answers<()>> {
        async move { self.each(at, "alter", changes, |change| &change.topic, Cluster::alter) }
            .boxed()
    }

    fn delete_topics<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
        topics: Vec<String>,
    ) -> BoxFuture<'a, Answers<()>> {
        async move {
            self.each(at, "delete", topics, String::as_str, |cluster, topic| {
                cluster.delete(&topic)
            })
        }
        .boxed()
    }
}

#[test]
fn a_seed_fails_the_same_calls_in_whatever_order_they_come() {
    let fates = |backwards: bool| {
        let faults = Faults {
            seed: 7,
            calls: Mutex::default(),
        };
        let mut topics: Vec<String> = (0..10).map(|n| format!("a/shop/{n}")).collect();
        if backwards {
            topics.reverse();
        }
        let mut fates = BTreeMap::new();
        for count in 0..20 {
            for topic in &topics {
                for operation in ["describe", "create"] {
                    let fate = faults.fate(operation, std::iter::once(topic.clone()));
                    fates.insert((topic.clone(), operation, count), fate);
                }
            }
        }
        fates
    };
    let forwards = fates(false);
    assert_eq!(forwards, fates(true));
    // One in twenty, of 400.
    for fate in [Fate::FailsBefore, Fate::FailsAfter] {
        let count = forwards.values().filter(|found| **found == fate).count();
        assert!((5..60).contains(&count), "{fate:?}: {count}");
    }
}
