//! The controller as a double: registrations, fencing, elections from ISR and ELR, the compare-and-set of ISR changes,
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
    /// `min.insync.replicas` as the controller knows it; leaders may know another one.
    min_isr: usize,
    pub(crate) elections: u64,
    /// Elections of a replica outside the ISR.
    pub(crate) from_elr: u64,
    /// Reassignments that ended, by arriving or being given up.
    pub(crate) moves: u64,
}

impl Controller {
    pub(crate) fn new(nodes: i32, min_isr: usize) -> Self {
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
            min_isr,
            elections: 0,
            from_elr: 0,
            moves: 0,
        }
    }

    pub(crate) fn is_fenced(&self, node: NodeId) -> bool {
        self.fenced.contains(&node)
    }

    /// How large the ISR has to be: in a smaller one nothing is acknowledged, so that who left it keeps all that was.
    pub(crate) fn min_isr(&self) -> usize {
        self.min_isr.min(self.partition.replication_factor()).max(1)
    }

    /// A new incarnation leaves the ISR; one that may have lost records is not eligible either.
    pub(crate) fn register(&mut self, node: NodeId, lost_records: bool) -> BrokerEpoch {
        let epoch = BrokerEpoch(self.next_epoch);
        self.next_epoch += 1;
        self.epochs[usize::try_from(node.0).unwrap()] = epoch;
        if self.fenced.insert(node) {
            self.records.push(Meta::Eligible(node, false));
        }
        self.leave(node, lost_records);
        epoch
    }

    pub(crate) fn fence(&mut self, node: NodeId) {
        if self.fenced.insert(node) {
            self.records.push(Meta::Eligible(node, false));
            self.leave(node, false);
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

    fn leave(&mut self, node: NodeId, lost_records: bool) {
        let before = self.partition.clone();
        self.partition.isr.retain(|member| *member != node);
        self.keep_eligible(&before);
        if lost_records {
            self.partition.elr.retain(|member| *member != node);
        }
        if self.partition.leader == Some(node) {
            self.elect(None);
        } else if self.partition != before {
            self.publish();
        }
    }

    /// Who is eligible beside the ISR, after a change from `before`.
    fn keep_eligible(&mut self, before: &PartitionRegistration) {
        let (isr, elr) = (&self.partition.isr, &self.partition.elr);
        let mut eligible = Vec::new();
        if isr.len() < self.min_isr() {
            let replicas = self.partition.replicas.iter().copied();
            let held = replicas.filter(|n| before.isr.contains(n) || elr.contains(n));
            eligible = held.filter(|n| !isr.contains(n)).collect();
        }
        self.partition.elr = eligible;
    }

    /// Elects `wanted` if it may lead, else the first replica that may: of the ISR, or of the ELR if the ISR is empty;
    /// nobody if none may.
    pub(crate) fn elect(&mut self, wanted: Option<NodeId>) {
        let before = self.partition.clone();
        let from = if before.isr.is_empty() {
            &before.elr
        } else {
            &before.isr
        };
        let may = |node: &NodeId| from.contains(node) && !self.fenced.contains(node);
        let first = before.replicas.iter().copied().find(|n| may(n));
        let leader = wanted.filter(may).or(first);
        if let (Some(leader), true) = (leader, before.isr.is_empty()) {
            self.partition.isr = vec![leader];
            self.keep_eligible(&before);
            self.from_elr += 1;
        }
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
        let is_held = !next.isr.is_empty() || next.has_eligible_replicas();
        if is_held && next != self.partition {
            self.step(next);
        }
    }

    /// Goes on to the replicas and the ISR of `next`; those that went are not listened to in the new leader epoch.
    fn step(&mut self, next: PartitionRegistration) {
        let before = std::mem::replace(&mut self.partition, next);
        self.keep_eligible(&before);
        let shrinks = (before.replicas.iter()).any(|node| !self.partition.replicas.contains(node));
        self.moves += u64::from(before.is_reassigning() && !self.partition.is_reassigning());
        // Who is left of ISR and ELR may be none that led.
        if shrinks
            || before
                .leader
                .is_some_and(|leader| !self.partition.isr.contains(&leader))
        {
            self.elect(before.leader);
        } else {
            self.publish();
        }
    }
}
