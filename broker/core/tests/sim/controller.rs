//! The controller as a double: registrations, fencing, elections from the ISR, the compare-and-set of ISR changes,
//! reassignments.

use std::collections::BTreeSet;

use broker_core::partition::{AlterPartitionAnswer, AlterPartitionProposal, PartitionRegistration};
use types::{BrokerEpoch, ErrorCode, LeaderEpoch, NodeId, PartitionEpoch};

/// A record of the metadata log.
#[derive(Debug, Clone)]
pub(crate) enum Meta {
    Partition(PartitionRegistration),
    Eligible(NodeId, bool),
}

#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) partition: PartitionRegistration,
    /// All records, in order; nodes read them at their own pace.
    pub(crate) records: Vec<Meta>,
    epochs: Vec<BrokerEpoch>,
    fenced: BTreeSet<NodeId>,
    next_epoch: i64,
    pub(crate) elections: u64,
    /// Reassignments that ended, by arriving or being given up.
    pub(crate) moves: u64,
}

impl Controller {
    pub(crate) fn new(nodes: i32) -> Self {
        let replicas: Vec<_> = (0..nodes).map(NodeId).collect();
        let partition = PartitionRegistration {
            leader: Some(NodeId(0)),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            isr: replicas.clone(),
            replicas: replicas.clone(),
            ..PartitionRegistration::default()
        };
        Self {
            records: vec![Meta::Partition(partition.clone())],
            partition,
            epochs: replicas.iter().map(|_| BrokerEpoch(0)).collect(),
            fenced: BTreeSet::new(),
            next_epoch: 1,
            elections: 0,
            moves: 0,
        }
    }

    pub(crate) fn is_fenced(&self, node: NodeId) -> bool {
        self.fenced.contains(&node)
    }

    /// A new incarnation; one that may have lost records leaves the ISR, unless it is all of it.
    pub(crate) fn register(&mut self, node: NodeId, lost_records: bool) -> BrokerEpoch {
        let epoch = BrokerEpoch(self.next_epoch);
        self.next_epoch += 1;
        self.epochs[usize::try_from(node.0).unwrap()] = epoch;
        if self.fenced.insert(node) {
            self.records.push(Meta::Eligible(node, false));
        }
        // As for an incarnation that died: it leads no more, and is out of the ISR if it may have lost records.
        self.leave(node, lost_records);
        epoch
    }

    pub(crate) fn fence(&mut self, node: NodeId) {
        if self.fenced.insert(node) {
            self.records.push(Meta::Eligible(node, false));
            self.leave(node, true);
        }
    }

    pub(crate) fn unfence(&mut self, node: NodeId) {
        if self.fenced.remove(&node) {
            self.records.push(Meta::Eligible(node, true));
            if self.partition.leader.is_none() {
                self.elect(None);
            }
        }
    }

    fn leave(&mut self, node: NodeId, out_of_isr: bool) {
        let mut isr = self.partition.isr.clone();
        if out_of_isr && isr.len() > 1 {
            isr.retain(|member| *member != node);
        }
        let changed = isr != self.partition.isr;
        self.partition.isr = isr;
        if self.partition.leader == Some(node) {
            self.elect(None);
        } else if changed {
            self.publish();
        }
    }

    /// Elects `wanted` if it may lead, else the first replica of the ISR that may; nobody if none may.
    pub(crate) fn elect(&mut self, wanted: Option<NodeId>) {
        let partition = &self.partition;
        let may = |node: &NodeId| partition.isr.contains(node) && !self.fenced.contains(node);
        let first = partition.replicas.iter().copied().find(|n| may(n));
        let leader = wanted.filter(may).or(first);
        self.partition.leader = leader;
        self.partition.leader_epoch = self.partition.leader_epoch.next();
        self.elections += 1;
        self.publish();
    }

    fn publish(&mut self) {
        self.partition.partition_epoch = self.partition.partition_epoch.next();
        self.records.push(Meta::Partition(self.partition.clone()));
    }

    pub(crate) fn alter(
        &mut self,
        leader: NodeId,
        proposal: &AlterPartitionProposal,
    ) -> AlterPartitionAnswer {
        let refused = AlterPartitionAnswer::Refused;
        if self.partition.leader != Some(leader)
            || proposal.leader_epoch != self.partition.leader_epoch
        {
            return refused(ErrorCode::FencedLeaderEpoch);
        }
        if proposal.partition_epoch != self.partition.partition_epoch {
            return refused(ErrorCode::InvalidUpdateVersion);
        }
        for member in &proposal.isr {
            let epoch = self.epochs[usize::try_from(member.node.0).unwrap()];
            let stale = member.broker_epoch.is_some_and(|known| known != epoch);
            let joins = !self.partition.isr.contains(&member.node);
            if joins && (self.fenced.contains(&member.node) || stale) {
                return refused(ErrorCode::IneligibleReplica);
            }
        }
        let next = PartitionRegistration {
            isr: proposal.isr.iter().map(|m| m.node).collect(),
            ..self.partition.clone()
        };
        self.step(next.completed());
        AlterPartitionAnswer::Committed(self.partition.clone())
    }

    /// Begins a move to `target`, or gives up the one that runs.
    pub(crate) fn reassign(&mut self, target: Option<&[NodeId]>) {
        let next = match target {
            Some(target) => self.partition.reassigned(target),
            None => self.partition.reverted(),
        };
        if !next.isr.is_empty() && next != self.partition {
            self.step(next);
        }
    }

    /// Goes on to the replicas and the ISR of `next`; those that went are not listened to in the new leader epoch.
    fn step(&mut self, next: PartitionRegistration) {
        let before = std::mem::replace(&mut self.partition, next);
        let shrinks = (before.replicas.iter()).any(|node| !self.partition.replicas.contains(node));
        self.moves += u64::from(before.is_reassigning() && !self.partition.is_reassigning());
        if shrinks {
            self.elect(before.leader);
        } else {
            self.publish();
        }
    }
}
