//! What does each record do to the image?

use std::sync::Arc;

use types::{NodeId, TopicId};

use super::delta::MetadataDelta;
use super::image::{BrokerImage, MetadataImage, TopicImage, TopicsVersion};
use super::record::{
    BrokerRegistrationChange, Config, ConfigResource, FeatureLevel, MetadataRecord, Partition,
    PartitionChange, ProducerIds, RegisterBroker, Topic, UnregisterBroker,
};
use crate::partition::PartitionRegistration;

/// A record that does not fit the image it was to be replayed on.
///
/// The quorum committed it, so some node's image is not what it should be: the node that meets this must stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to replay {record} at offset {offset}: {problem}")]
pub struct ReplayError {
    /// The entry's offset.
    pub offset: u64,
    /// The record, as debug text.
    pub record: String,
    /// Why it does not fit.
    pub problem: String,
}

type Replayed = Result<(), String>;

impl MetadataImage {
    /// Replays the records of the entry at `offset`, all or none.
    ///
    /// # Errors
    /// [`ReplayError`] if a record does not fit; the image is then unchanged.
    pub fn apply(
        &mut self,
        offset: u64,
        records: &[MetadataRecord],
    ) -> Result<MetadataDelta, ReplayError> {
        if offset <= self.offset && offset != 0 {
            return Err(ReplayError {
                offset,
                record: format!("{} records", records.len()),
                problem: format!("the image is at offset {} already", self.offset),
            });
        }
        let mut delta = MetadataDelta::new(self.offset, offset);
        let mut next = self.clone();
        next.offset = offset;
        next.replay_all(records, &mut delta)?;
        *self = next;
        Ok(delta)
    }

    /// Replays records that are proposed but not committed: as [`MetadataImage::apply`], with the offset left alone.
    ///
    /// # Errors
    /// [`ReplayError`] if a record does not fit; the image is then unchanged.
    pub fn speculate(&mut self, records: &[MetadataRecord]) -> Result<MetadataDelta, ReplayError> {
        let mut delta = MetadataDelta::new(self.offset, self.offset);
        let mut next = self.clone();
        next.replay_all(records, &mut delta)?;
        *self = next;
        Ok(delta)
    }

    /// Says up to which offset the speculation is committed.
    pub fn commit(&mut self, offset: u64) {
        self.offset = self.offset.max(offset);
    }

    fn replay_all(
        &mut self,
        records: &[MetadataRecord],
        delta: &mut MetadataDelta,
    ) -> Result<(), ReplayError> {
        for record in records {
            self.replay(record, delta).map_err(|problem| ReplayError {
                offset: self.offset,
                record: format!("{record:?}"),
                problem,
            })?;
        }
        Ok(())
    }

    fn replay(&mut self, record: &MetadataRecord, delta: &mut MetadataDelta) -> Replayed {
        match record {
            MetadataRecord::RegisterBroker(r) => self.register_broker(r, delta),
            MetadataRecord::BrokerRegistrationChange(r) => self.change_broker(r, delta),
            MetadataRecord::UnregisterBroker(r) => self.unregister_broker(r, delta),
            MetadataRecord::Topic(r) => self.add_topic(r, delta),
            MetadataRecord::RemoveTopic(r) => self.remove_topic(r.topic_id, delta),
            MetadataRecord::Partition(r) => self.add_partition(r, delta),
            MetadataRecord::PartitionChange(r) => self.change_partition(r, delta),
            MetadataRecord::Config(r) => {
                self.set_config(r, delta);
                Ok(())
            }
            MetadataRecord::ProducerIds(r) => self.hand_out_producer_ids(r),
            MetadataRecord::FeatureLevel(r) => {
                self.set_feature(r, delta);
                Ok(())
            }
            MetadataRecord::BrokerEpochs(r) => {
                self.last_broker_epoch = self.last_broker_epoch.max(r.last);
                Ok(())
            }
        }
    }

    fn register_broker(&mut self, record: &RegisterBroker, delta: &mut MetadataDelta) -> Replayed {
        if let Some(known) = self.broker(record.node_id)
            && record.broker_epoch < known.epoch
        {
            return Err(format!("the node has the newer epoch {}", known.epoch));
        }
        self.last_broker_epoch = self.last_broker_epoch.max(record.broker_epoch);
        self.brokers
            .insert(record.node_id, Arc::new(BrokerImage::new(record)));
        delta.brokers.insert(record.node_id);
        Ok(())
    }

    fn change_broker(
        &mut self,
        record: &BrokerRegistrationChange,
        delta: &mut MetadataDelta,
    ) -> Replayed {
        let broker = self
            .brokers
            .get_mut(&record.node_id)
            .filter(|broker| broker.epoch == record.broker_epoch)
            .ok_or("no such registration")?;
        let broker = Arc::make_mut(broker);
        broker.fenced = record.fenced.unwrap_or(broker.fenced);
        broker.in_controlled_shutdown = record
            .in_controlled_shutdown
            .unwrap_or(broker.in_controlled_shutdown);
        delta.brokers.insert(record.node_id);
        Ok(())
    }

    fn unregister_broker(
        &mut self,
        record: &UnregisterBroker,
        delta: &mut MetadataDelta,
    ) -> Replayed {
        if self.broker(record.node_id).map(|broker| broker.epoch) != Some(record.broker_epoch) {
            return Err("no such registration".to_owned());
        }
        self.brokers.remove(&record.node_id);
        delta.brokers.insert(record.node_id);
        Ok(())
    }

    fn add_topic(&mut self, record: &Topic, delta: &mut MetadataDelta) -> Replayed {
        if self.topics.contains_key(&record.topic_id) {
            return Err("the topic id is in use".to_owned());
        }
        if self.topic_ids.contains_key(&record.name) {
            return Err("the topic name is in use".to_owned());
        }
        let topic = TopicImage {
            name: Arc::clone(&record.name),
            id: record.topic_id,
            partitions: imbl::Vector::new(),
        };
        self.topic_ids
            .insert(Arc::clone(&record.name), record.topic_id);
        self.topics.insert(record.topic_id, Arc::new(topic));
        self.topics_version = TopicsVersion(self.offset);
        delta.topics_created.insert(record.topic_id);
        Ok(())
    }

    fn remove_topic(&mut self, id: TopicId, delta: &mut MetadataDelta) -> Replayed {
        let topic = self.topics.remove(&id).ok_or("no such topic")?;
        self.topic_ids.remove(&topic.name);
        self.topics_version = TopicsVersion(self.offset);
        let resource = ConfigResource::Topic(Arc::clone(&topic.name));
        if self.configs.remove(&resource).is_some() {
            delta.configs.insert(resource);
        }
        delta.topic_deleted(id, topic);
        Ok(())
    }

    fn add_partition(&mut self, record: &Partition, delta: &mut MetadataDelta) -> Replayed {
        let topic = self
            .topics
            .get_mut(&record.topic_id)
            .ok_or("no such topic")?;
        if usize::try_from(record.partition) != Ok(topic.partitions.len()) {
            return Err(format!(
                "the topic's next partition is {}",
                topic.partitions.len()
            ));
        }
        check_partition(&record.registration)?;
        Arc::make_mut(topic)
            .partitions
            .push_back(Arc::new(record.registration.clone()));
        self.topics_version = TopicsVersion(self.offset);
        delta.partition_changed(record.topic_id, record.partition);
        Ok(())
    }

    fn change_partition(
        &mut self,
        record: &PartitionChange,
        delta: &mut MetadataDelta,
    ) -> Replayed {
        let topic = self
            .topics
            .get_mut(&record.topic_id)
            .ok_or("no such topic")?;
        let partition = usize::try_from(record.partition)
            .ok()
            .and_then(|index| Arc::make_mut(topic).partitions.get_mut(index))
            .ok_or("no such partition")?;
        let partition = Arc::make_mut(partition);
        record.apply_to(partition);
        check_partition(partition)?;
        delta.partition_changed(record.topic_id, record.partition);
        Ok(())
    }

    fn set_config(&mut self, record: &Config, delta: &mut MetadataDelta) {
        let mut map = self.config(&record.resource).clone();
        match &record.value {
            Some(value) => map.insert(record.name.clone(), value.clone()),
            None => map.remove(&record.name),
        };
        if map.is_empty() {
            self.configs.remove(&record.resource);
        } else {
            self.configs.insert(record.resource.clone(), Arc::new(map));
        }
        delta.configs.insert(record.resource.clone());
    }

    fn hand_out_producer_ids(&mut self, record: &ProducerIds) -> Replayed {
        if record.next < self.next_producer_id() {
            return Err(format!(
                "producer ids up to {} are handed out already",
                self.next_producer_id()
            ));
        }
        self.producer_ids = Some(record.clone());
        Ok(())
    }

    fn set_feature(&mut self, record: &FeatureLevel, delta: &mut MetadataDelta) {
        if record.level == 0 {
            self.features.remove(&record.name);
        } else {
            self.features.insert(record.name.clone(), record.level);
        }
        delta.features = true;
    }
}

fn check_partition(partition: &PartitionRegistration) -> Replayed {
    let replicas = &partition.replicas;
    if replicas.is_empty() {
        return Err("a partition needs a replica".to_owned());
    }
    for (index, node) in replicas.iter().enumerate() {
        if replicas[..index].contains(node) {
            return Err(format!("two replicas would be on {node}"));
        }
    }
    let stranger = |nodes: &[NodeId]| nodes.iter().copied().find(|node| !replicas.contains(node));
    if let Some(node) = stranger(&partition.isr) {
        return Err(format!("{node} would be in the ISR but is no replica"));
    }
    if let Some(node) = stranger(&partition.elr).or_else(|| stranger(&partition.last_known_elr)) {
        return Err(format!("{node} would be eligible but is no replica"));
    }
    if let Some(node) = partition.elr.iter().find(|n| partition.isr.contains(n)) {
        return Err(format!("{node} would be both in the ISR and in the ELR"));
    }
    if let Some(node) =
        stranger(&partition.adding_replicas).or_else(|| stranger(&partition.removing_replicas))
    {
        return Err(format!("{node} would come or go but is no replica"));
    }
    if partition.original_replicas().next().is_none()
        || partition.target_replicas().next().is_none()
    {
        return Err("a reassignment needs a replica to begin and to end with".to_owned());
    }
    match partition.leader {
        Some(_) if !partition.last_known_elr.is_empty() => {
            Err("a leader and a last known leader would be there".to_owned())
        }
        Some(leader) if !partition.isr.contains(&leader) => {
            Err(format!("{leader} would lead but is not in the ISR"))
        }
        Some(_) | None => Ok(()),
    }
}
