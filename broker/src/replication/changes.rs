//! Which changes of the cluster's metadata do replicas act on?

use std::collections::HashSet;
use std::sync::Arc;

use broker_core::partition::{PartitionRegistration, RoleChange};
use broker_log::LogError;
use config::TopicSettings;
use types::{NodeId, TopicId};

use super::convert::PartitionKey;
use super::manager::ReplicaManager;
use super::model::TopicIdPartition;
use super::replica::{Replica, log_config};

/// One step of the metadata, as far as replicas are concerned.
#[derive(Debug, Clone, Default)]
pub struct ReplicaChanges {
    /// Topics that do not exist any more: their logs are deleted.
    pub deleted_topics: Vec<TopicId>,
    /// Effective settings of new topics and of topics whose settings changed.
    pub settings: Vec<(TopicId, Arc<TopicSettings>)>,
    /// New and changed partitions; those without a replica here are looked at, too (a replica may have left).
    pub partitions: Vec<PartitionChange>,
    /// Brokers that may (not) be in an ISR: unfenced and not shutting down.
    pub eligible: Vec<(NodeId, bool)>,
    /// Whether this is the whole metadata: then logs that it does not name are strays.
    pub complete: bool,
}

/// A partition and what the controller decided about it.
#[derive(Debug, Clone)]
pub struct PartitionChange {
    /// Which partition.
    pub partition: TopicIdPartition,
    /// Its registration.
    pub registration: PartitionRegistration,
}

impl ReplicaManager {
    /// Applies a step of the metadata. Steps are applied one at a time, in order. Creates logs, so it may take as
    /// long as the disk does: not for a thread that serves connections.
    ///
    /// # Errors
    /// A log could not be made or opened; the broker is to stop.
    pub fn apply(&self, changes: &ReplicaChanges) -> Result<(), LogError> {
        let _one_at_a_time = self.inner().applying.lock();
        for topic in &changes.deleted_topics {
            self.delete_topic(*topic)?;
        }
        for (topic, settings) in &changes.settings {
            self.configure(*topic, settings);
        }
        for (node, eligible) in &changes.eligible {
            self.set_eligible(*node, *eligible);
        }
        for change in &changes.partitions {
            self.apply_partition(change)?;
        }
        if changes.complete {
            self.remove_unnamed(changes)?;
        }
        if !changes.eligible.is_empty() || !changes.partitions.is_empty() {
            self.inner().links.retry_now();
        }
        Ok(())
    }

    fn configure(&self, topic: TopicId, settings: &Arc<TopicSettings>) {
        let inner = self.inner();
        inner.settings.write().insert(topic, Arc::clone(settings));
        for replica in self.replicas_of(topic) {
            replica.configure(Arc::clone(settings), inner.producer_id_expiration_ms);
        }
    }

    fn set_eligible(&self, node: NodeId, eligible: bool) {
        let mut ineligible = self.inner().ineligible.lock();
        let changed = if eligible {
            ineligible.remove(&node)
        } else {
            ineligible.insert(node)
        };
        drop(ineligible);
        if changed {
            for replica in self.all_replicas() {
                replica.set_eligible(node, eligible);
            }
        }
    }

    fn apply_partition(&self, change: &PartitionChange) -> Result<(), LogError> {
        let inner = self.inner();
        let key = (change.partition.topic_id, change.partition.partition);
        let here = change
            .registration
            .replicas
            .contains(&inner.shared.identity.node);
        let replica = match self.replica(key) {
            Some(replica) => replica,
            None if here => self.create(&change.partition)?,
            None => return Ok(()),
        };
        let before = replica.followed_leader();
        let role = replica.apply(&change.registration);
        match role {
            RoleChange::Stale | RoleChange::StillFollower | RoleChange::StillLeader { .. } => {}
            RoleChange::BecameLeader { epoch, .. } => {
                tracing::debug!(partition = %change.partition, %epoch, "became leader");
                self.unfollow(before, &replica);
                for node in inner.ineligible.lock().iter() {
                    replica.set_eligible(*node, false);
                }
            }
            RoleChange::BecameFollower { leader, epoch, .. } => {
                tracing::debug!(partition = %change.partition, %epoch, ?leader, "became follower");
                if before != leader {
                    self.unfollow(before, &replica);
                }
                if let Some(leader) = leader {
                    inner.links.follow(leader, replica);
                }
            }
            RoleChange::WentOffline { .. } => {
                // Reassigned away. The log is the operator's to delete until reassignment is implemented.
                self.unfollow(before, &replica);
            }
        }
        Ok(())
    }

    fn unfollow(&self, leader: Option<NodeId>, replica: &Replica) {
        if let Some(leader) = leader {
            self.inner().links.unfollow(leader, replica);
        }
    }

    fn create(&self, partition: &TopicIdPartition) -> Result<Arc<Replica>, LogError> {
        let inner = self.inner();
        let settings = inner
            .settings
            .read()
            .get(&partition.topic_id)
            .map(Arc::clone)
            .unwrap_or_default();
        let config = log_config(&settings, inner.producer_id_expiration_ms);
        let (log, high_watermark) = inner.directory.take(partition, config)?;
        let replica = Replica::new(
            partition.clone(),
            Arc::clone(&inner.shared),
            log,
            settings,
            high_watermark,
        );
        let key = (partition.topic_id, partition.partition);
        inner
            .names
            .write()
            .insert(Arc::clone(&partition.name), partition.topic_id);
        inner.replicas.write().insert(key, Arc::clone(&replica));
        Ok(replica)
    }

    fn delete_topic(&self, topic: TopicId) -> Result<(), LogError> {
        let inner = self.inner();
        inner.settings.write().remove(&topic);
        let mut deleted = Vec::new();
        for replica in self.replicas_of(topic) {
            let key = (topic, replica.partition.partition);
            self.unfollow(replica.followed_leader(), &replica);
            replica.close();
            inner.replicas.write().remove(&key);
            let mut names = inner.names.write();
            if names.get(&replica.partition.name) == Some(&topic) {
                names.remove(&replica.partition.name);
            }
            drop(names);
            deleted.push(replica.delete_log(inner.directory.dir())?);
            tracing::info!(partition = %replica.partition, %topic, "deleted the log of a deleted topic");
        }
        if deleted.is_empty() {
            return Ok(());
        }
        inner.directory.dir().sync()?;
        inner.runtime.spawn_blocking(move || {
            for log in deleted {
                if let Err(error) = log.remove() {
                    tracing::warn!(%error, "failed to remove a deleted log's files; the next start does");
                }
            }
        });
        Ok(())
    }

    /// What the whole metadata does not name: replicas of topics that are gone (deleted while this broker missed it),
    /// and logs that were found and never taken.
    fn remove_unnamed(&self, changes: &ReplicaChanges) -> Result<(), LogError> {
        let named: HashSet<PartitionKey> = changes
            .partitions
            .iter()
            .map(|change| (change.partition.topic_id, change.partition.partition))
            .collect();
        for replica in self.all_replicas() {
            let key = (replica.partition.topic_id, replica.partition.partition);
            if !named.contains(&key) {
                self.unfollow(replica.followed_leader(), &replica);
                replica.close();
                self.inner().replicas.write().remove(&key);
            }
        }
        if self.inner().directory.has_waiting() {
            self.inner().directory.set_strays_aside()?;
        }
        Ok(())
    }
}
