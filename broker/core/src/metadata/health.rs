//! How well is the data, and what would the restart of one broker put at risk?

use std::fmt;
use std::sync::Arc;

use config::{ConfigMap, KeyError};
use types::NodeId;

use super::image::{MetadataImage, TopicImage};
use crate::partition::PartitionRegistration;

/// Partitions by what is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClusterHealth {
    /// All topics.
    pub topics: usize,
    /// All partitions.
    pub partitions: usize,
    /// Partitions with fewer in-sync replicas than there have to be copies; those that a reassignment adds come on top.
    pub under_replicated: usize,
    /// Partitions whose ISR is smaller than `min.insync.replicas`: they refuse acks=all.
    pub under_min_isr: usize,
    /// Partitions without a leader.
    pub offline: usize,
}

/// A partition that would refuse acks=all while a broker restarts, and would not if one waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartRisk {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// In-sync replicas that would be left.
    pub isr_left: usize,
    /// In-sync replicas that there must be.
    pub min_isr: usize,
}

impl fmt::Display for RestartRisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}-{} would have {} in-sync replicas, min.insync.replicas is {}",
            self.topic, self.partition, self.isr_left, self.min_isr
        )
    }
}

impl MetadataImage {
    /// Counts the partitions by what is wrong with them. `node` and its `file` give the defaults of topics.
    ///
    /// # Errors
    /// The first stored value that this build does not accept.
    pub fn health(&self, node: NodeId, file: &ConfigMap) -> Result<ClusterHealth, KeyError> {
        let mut health = ClusterHealth::default();
        for topic in self.topics() {
            let min_isr = self.min_isr(topic, node, file)?;
            health.topics += 1;
            for partition in &topic.partitions {
                health.partitions += 1;
                let isr = partition.isr.len();
                health.under_replicated += usize::from(partition.is_under_replicated());
                health.under_min_isr += usize::from(isr < min_isr);
                health.offline += usize::from(partition.leader.is_none());
            }
        }
        Ok(health)
    }

    /// The partitions that make it unsafe to restart `restarting` now.
    ///
    /// A partition that any restart of a replica takes below its minimum (its replication factor is not above it) is
    /// no risk while its ISR is complete: waiting would never help.
    ///
    /// # Errors
    /// As [`MetadataImage::health`].
    pub fn restart_risks(
        &self,
        restarting: NodeId,
        node: NodeId,
        file: &ConfigMap,
    ) -> Result<Vec<RestartRisk>, KeyError> {
        let mut risks = Vec::new();
        for topic in self.topics() {
            let min_isr = self.min_isr(topic, node, file)?;
            for (index, partition) in topic.iter() {
                if let Some(isr_left) = isr_at_risk(partition, restarting, min_isr) {
                    risks.push(RestartRisk {
                        topic: Arc::clone(&topic.name),
                        partition: index,
                        isr_left,
                        min_isr,
                    });
                }
            }
        }
        Ok(risks)
    }

    fn min_isr(
        &self,
        topic: &TopicImage,
        node: NodeId,
        file: &ConfigMap,
    ) -> Result<usize, KeyError> {
        let settings = self.topic_settings(&topic.name, node, file)?;
        Ok(usize::try_from(settings.min_insync_replicas).unwrap_or(1))
    }
}

/// How many in-sync replicas would be left, if that is fewer than there must be and waiting could help.
fn isr_at_risk(
    partition: &PartitionRegistration,
    restarting: NodeId,
    min_isr: usize,
) -> Option<usize> {
    if !partition.isr.contains(&restarting) {
        return None;
    }
    let isr_left = partition.isr.len() - 1;
    let is_complete = !partition.is_under_replicated();
    let never_safe = partition.replication_factor() <= min_isr;
    (isr_left < min_isr && !(is_complete && never_safe)).then_some(isr_left)
}

#[cfg(test)]
mod tests {
    use types::{LeaderEpoch, PartitionEpoch};

    use super::*;

    #[test]
    fn a_restart_is_a_risk_only_where_waiting_helps() {
        for (replicas, isr, min_isr, risk) in [
            (3, vec![1, 2, 3], 2, None),
            (3, vec![1, 2], 2, Some(1)),
            (3, vec![2, 3], 2, None),
            (3, vec![1], 1, Some(0)),
            (2, vec![1, 2], 2, None),
            (2, vec![1], 2, Some(0)),
            (1, vec![1], 1, None),
            (3, vec![1, 2, 3], 3, None),
            (3, vec![1, 2], 3, Some(1)),
        ] {
            let partition = PartitionRegistration {
                leader: isr.first().copied().map(NodeId),
                leader_epoch: LeaderEpoch(0),
                partition_epoch: PartitionEpoch(0),
                replicas: (1..=replicas).map(NodeId).collect(),
                isr: isr.iter().copied().map(NodeId).collect(),
                ..PartitionRegistration::default()
            };
            assert_eq!(
                isr_at_risk(&partition, NodeId(1), min_isr),
                risk,
                "RF {replicas}, ISR {isr:?}, min ISR {min_isr}"
            );
        }
    }

    #[test]
    fn replicas_that_are_being_added_are_not_missed() {
        let moving = |isr: &[i32]| PartitionRegistration {
            leader: Some(NodeId(1)),
            replicas: [3, 4, 1, 2].map(NodeId).to_vec(),
            isr: isr.iter().copied().map(NodeId).collect(),
            adding_replicas: [3, 4].map(NodeId).to_vec(),
            removing_replicas: [1, 2].map(NodeId).to_vec(),
            ..PartitionRegistration::default()
        };
        for (isr, under_replicated, risk) in [
            (vec![1, 2], false, None),
            (vec![1], true, Some(0)),
            (vec![1, 2, 3], false, None),
        ] {
            let partition = moving(&isr);
            assert_eq!(partition.is_under_replicated(), under_replicated, "{isr:?}");
            assert_eq!(isr_at_risk(&partition, NodeId(1), 2), risk, "{isr:?}");
        }
    }
}
