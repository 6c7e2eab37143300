//! Which changes of the cluster's metadata do replicas act on?

use std::collections::HashSet;
use std::sync::Arc;

use broker_core::partition::{PartitionRegistration, RoleChange};
use broker_log::{DeletedDir, LogError, RealVfs};
use config::TopicSettings;
use types::{NodeId, TopicId};

use super::convert::PartitionKey;
use super::manager::ReplicaManager;
use super::model::{LeaderHint, TopicIdPartition};
use super::replica::{Replica, log_config};
use super::throttle::Rates;

/// One step of the metadata, as far as replicas are concerned.
#[derive(Debug, Clone, Default)]
pub struct ReplicaChanges {
    /// Topics that do not exist any more: their logs are deleted.
    pub deleted_topics: Vec<TopicId>,
    /// Effective settings of new topics and of topics whose settings changed.
    pub settings: Vec<(TopicId, Arc<TopicSettings>)>,
    /// New and changed partitions; those without a replica here are looked at, too: a replica that was moved away is
    /// deleted.
    pub partitions: Vec<PartitionChange>,
    /// Brokers that may (not) be in an ISR: unfenced and not shutting down.
    pub eligible: Vec<(NodeId, bool)>,
    /// How fast throttled replicas go, if that may have changed.
    pub(crate) throttles: Option<Rates>,
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

/// A log that counts no more, whose files are still there.
type Deleted = DeletedDir<RealVfs>;

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
        if let Some(rates) = changes.throttles
            && self.inner().shared.throttles.set(rates)
        {
            tracing::info!(?rates, "changed the throttles of replication");
            for replica in self.all_replicas() {
                self.unthrottle(&replica);
            }
        }
        for (node, eligible) in &changes.eligible {
            self.set_eligible(*node, *eligible);
        }
        if changes.complete {
            self.inner().elsewhere.write().clear();
            self.set_unnamed_aside(changes)?;
        }
        let mut deleted = Vec::new();
        for change in &changes.partitions {
            self.apply_partition(change, &mut deleted)?;
        }
        self.remove_files(deleted)?;
        if changes.complete && self.inner().directory.has_waiting() {
            self.inner().directory.set_strays_aside()?;
            // Nothing could be written down until now.
            self.inner().shared.log_starts.notify_one();
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
            let before = replica.settings();
            replica.configure(Arc::clone(settings), inner.producer_id_expiration_ms);
            if before.follower_replication_throttled_replicas
                != settings.follower_replication_throttled_replicas
            {
                self.unthrottle(&replica);
            }
        }
    }

    /// What the replica asked its leader to hold back comes now.
    fn unthrottle(&self, replica: &Replica) {
        if let Some(leader) = replica.waiting_leader() {
            self.inner().links.start_again(leader, replica);
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

    /// Puts what has to be removed into `deleted`.
    fn apply_partition(
        &self,
        change: &PartitionChange,
        deleted: &mut Vec<Deleted>,
    ) -> Result<(), LogError> {
        let inner = self.inner();
        let key = (change.partition.topic_id, change.partition.partition);
        let registration = &change.registration;
        let here = registration.replicas.contains(&inner.shared.identity.node);
        if !here {
            let leader = LeaderHint {
                leader: registration.leader,
                leader_epoch: registration.leader_epoch,
            };
            inner.elsewhere.write().insert(key, leader);
        }
        let replica = match self.replica(key) {
            Some(replica) => replica,
            None if here => self.create(&change.partition)?,
            None => {
                if let Some(log) = inner.directory.discard(&change.partition)? {
                    tracing::info!(partition = %change.partition, "deleted the log of a partition that was moved away meanwhile");
                    deleted.push(log);
                }
                return Ok(());
            }
        };
        let before = replica.followed_leader();
        let role = replica.apply(registration);
        if here {
            inner.elsewhere.write().remove(&key);
        }
        match role {
            RoleChange::Stale | RoleChange::StillFollower => {}
            // It may have got followers.
            RoleChange::StillLeader { .. } => self.tell_ineligible(&replica),
            RoleChange::BecameLeader { epoch, .. } => {
                tracing::debug!(partition = %change.partition, %epoch, "became leader");
                self.unfollow(before, &replica);
                self.tell_ineligible(&replica);
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
                self.unfollow(before, &replica);
                deleted.push(self.delete_replica(&replica)?);
                tracing::info!(partition = %change.partition, "deleted the log of a partition that was moved away");
            }
        }
        Ok(())
    }

    fn tell_ineligible(&self, leader: &Replica) {
        for node in self.inner().ineligible.lock().iter() {
            leader.set_eligible(*node, false);
        }
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
        inner.elsewhere.write().retain(|(id, _), _| *id != topic);
        let mut deleted = Vec::new();
        for replica in self.replicas_of(topic) {
            self.unfollow(replica.followed_leader(), &replica);
            deleted.push(self.delete_replica(&replica)?);
            tracing::info!(partition = %replica.partition, %topic, "deleted the log of a deleted topic");
        }
        self.remove_files(deleted)
    }

    /// Ends a replica that follows nobody any more and deletes its log, but for the files.
    fn delete_replica(&self, replica: &Replica) -> Result<Deleted, LogError> {
        self.end_replica(replica);
        replica.delete_log(self.inner().directory.dir())
    }

    fn end_replica(&self, replica: &Replica) {
        let inner = self.inner();
        let topic = replica.partition.topic_id;
        let key = (topic, replica.partition.partition);
        inner.replicas.write().remove(&key);
        replica.close();
        if self.replicas_of(topic).is_empty() {
            let mut names = inner.names.write();
            if names.get(&replica.partition.name) == Some(&topic) {
                names.remove(&replica.partition.name);
            }
        }
    }

    /// Removes the files of deleted logs, which may take longer than anybody should wait for.
    fn remove_files(&self, deleted: Vec<Deleted>) -> Result<(), LogError> {
        if deleted.is_empty() {
            return Ok(());
        }
        let inner = self.inner();
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

    /// Replicas that the whole metadata does not name, of topics that were deleted while this broker missed it. To be done
    /// before logs are made: a topic may be there again under its name.
    fn set_unnamed_aside(&self, changes: &ReplicaChanges) -> Result<(), LogError> {
        let named: HashSet<PartitionKey> = changes
            .partitions
            .iter()
            .map(|change| (change.partition.topic_id, change.partition.partition))
            .collect();
        for replica in self.all_replicas() {
            let key = (replica.partition.topic_id, replica.partition.partition);
            if !named.contains(&key) {
                self.unfollow(replica.followed_leader(), &replica);
                self.end_replica(&replica);
                replica.set_log_aside()?;
            }
        }
        Ok(())
    }
}
