//! How do images and deltas of the cluster's metadata become changes of replicas, and ISR changes requests?

use std::collections::BTreeSet;
use std::sync::Arc;

use broker_core::controller::request::{
    AlterPartitionItem, AlterPartitionRequest, AlteredPartition, ApiError, ControllerRequest,
};
use broker_core::metadata::{ConfigResource, MetadataDelta, MetadataImage, TopicImage};
use broker_core::partition::{AlterPartitionAnswer, IsrMember};
use broker_log::LogError;
use types::{BrokerEpoch, NodeId, TopicId};

use super::changes::{PartitionChange, ReplicaChanges};
use super::isr::IsrRequest;
use super::manager::ReplicaManager;
use super::model::TopicIdPartition;
use super::throttle::Rates;

impl ReplicaManager {
    /// Applies the metadata after `delta` (or all of it, with `None`). Nothing happens until the image has the
    /// registration that [`Self::set_broker_epoch`] was told of: an older image could make this broker a leader that
    /// it is no more. The first image that has it is applied as a whole, and logs that it does not name are set
    /// aside. May take as long as the disk does: not for a thread that serves connections.
    ///
    /// # Errors
    /// A log could not be made; the broker is to stop.
    pub fn apply_metadata(
        &self,
        image: &MetadataImage,
        delta: Option<&MetadataDelta>,
    ) -> Result<(), LogError> {
        let node = self.identity().node;
        let epoch = self.inner().shared.broker_epoch();
        let registered = image.broker(node).is_some_and(|me| me.epoch == epoch);
        if !registered {
            return Ok(());
        }
        let first = !self.inner().metadata_applied();
        let changes = match delta {
            Some(delta) if !first => self.changes_of_delta(image, delta),
            Some(_) | None => self.changes_of_image(image),
        };
        self.apply(&changes)?;
        self.inner().set_metadata_applied();
        Ok(())
    }

    fn changes_of_image(&self, image: &MetadataImage) -> ReplicaChanges {
        let mut changes = ReplicaChanges {
            complete: true,
            ..ReplicaChanges::default()
        };
        self.add_throttles(&mut changes, image);
        for topic in image.topics() {
            self.add_settings(&mut changes, image, topic);
            for (index, _) in topic.iter() {
                add_partition(&mut changes, topic, index);
            }
        }
        for broker in image.brokers() {
            changes.eligible.push((broker.node_id, broker.is_active()));
        }
        changes
    }

    fn changes_of_delta(&self, image: &MetadataImage, delta: &MetadataDelta) -> ReplicaChanges {
        let mut changes = ReplicaChanges {
            deleted_topics: delta.topics_deleted.keys().copied().collect(),
            ..ReplicaChanges::default()
        };
        let is_broker = |resource: &ConfigResource| !matches!(resource, ConfigResource::Topic(_));
        if delta.configs.iter().any(is_broker) {
            self.add_throttles(&mut changes, image);
        }
        for id in self.topics_with_other_settings(image, delta) {
            if let Some(topic) = image.topic(id) {
                self.add_settings(&mut changes, image, topic);
            }
        }
        for (id, index) in delta.changed_partitions() {
            if let Some(topic) = image.topic(id) {
                add_partition(&mut changes, topic, index);
            }
        }
        for node in &delta.brokers {
            changes.eligible.push((*node, image.is_active(*node)));
        }
        changes
    }

    fn topics_with_other_settings(
        &self,
        image: &MetadataImage,
        delta: &MetadataDelta,
    ) -> BTreeSet<TopicId> {
        let node = self.identity().node;
        let mut topics = delta.topics_created.clone();
        for resource in &delta.configs {
            match resource {
                ConfigResource::Topic(name) => {
                    topics.extend(image.topic_by_name(name).map(|topic| topic.id));
                }
                ConfigResource::DefaultBroker => topics.extend(image.topics().map(|t| t.id)),
                ConfigResource::Broker(id) if *id == node => {
                    topics.extend(image.topics().map(|topic| topic.id));
                }
                ConfigResource::Broker(_) => {}
            }
        }
        topics
    }

    fn add_throttles(&self, changes: &mut ReplicaChanges, image: &MetadataImage) {
        let node = self.identity().node;
        changes.throttles = Rates::of(image, node, self.inner().file_config());
    }

    fn add_settings(
        &self,
        changes: &mut ReplicaChanges,
        image: &MetadataImage,
        topic: &TopicImage,
    ) {
        let node = self.identity().node;
        match image.topic_settings(&topic.name, node, self.inner().file_config()) {
            Ok(settings) => changes.settings.push((topic.id, Arc::new(settings))),
            Err(error) => {
                // Stored by another version: the settings in force stay.
                tracing::error!(topic = %topic.name, %error, "the stored configuration is not understood");
            }
        }
    }
}

fn add_partition(changes: &mut ReplicaChanges, topic: &TopicImage, index: i32) {
    if let Some(registration) = topic.partition(index) {
        changes.partitions.push(PartitionChange {
            partition: TopicIdPartition::new(topic.id, Arc::clone(&topic.name), index),
            registration: registration.as_ref().clone(),
        });
    }
}

/// The request for a batch of ISR changes of leaders on `node`.
#[must_use]
pub fn alter_partition_request(
    node: NodeId,
    epoch: BrokerEpoch,
    requests: &[IsrRequest],
) -> ControllerRequest {
    let item = |request: &IsrRequest| AlterPartitionItem {
        topic_id: request.partition.topic_id,
        partition: request.partition.partition,
        leader_epoch: request.proposal.leader_epoch,
        partition_epoch: request.proposal.partition_epoch,
        isr: request
            .proposal
            .isr
            .iter()
            .map(|member| IsrMember {
                node: member.node,
                broker_epoch: if member.node == node {
                    Some(epoch)
                } else {
                    member.broker_epoch
                },
            })
            .collect(),
    };
    ControllerRequest::AlterPartition(AlterPartitionRequest {
        node_id: node,
        broker_epoch: epoch,
        partitions: requests.iter().map(item).collect(),
    })
}

/// The answers to such a request, one for each.
#[must_use]
pub fn alter_partition_answers(
    requests: &[IsrRequest],
    response: Result<Vec<AlteredPartition>, ApiError>,
) -> Vec<AlterPartitionAnswer> {
    let altered = match response {
        Ok(altered) => altered,
        Err(error) => {
            tracing::warn!(%error, "the controller took no ISR change of this broker");
            // Nothing was decided about the partitions: they are asked for again.
            return vec![AlterPartitionAnswer::Unknown; requests.len()];
        }
    };
    let mut altered = altered.into_iter();
    requests
        .iter()
        .map(|request| {
            let one = altered.next().filter(|one| {
                one.topic_id == request.partition.topic_id
                    && one.partition == request.partition.partition
            });
            match one.map(|one| one.result) {
                Some(Ok(registration)) => AlterPartitionAnswer::Committed(registration),
                Some(Err(error)) => AlterPartitionAnswer::Refused(error.code),
                None => AlterPartitionAnswer::Unknown,
            }
        })
        .collect()
}
