//! What must always be true, one file each.

mod acked_records_survive;
mod converged_after_heal;
mod high_watermark_is_replicated;
mod logs_match;
mod one_leader_per_epoch;
mod reads_are_stable;

use types::{LeaderEpoch, Offset};

use crate::controller::Controller;
use crate::node::Node;

#[derive(Debug, Default)]
pub(crate) struct Invariants {
    leaders: one_leader_per_epoch::Leaders,
    acked: acked_records_survive::Acked,
    watermarks: high_watermark_is_replicated::Watermarks,
    reads: reads_are_stable::Reads,
}

impl Invariants {
    pub(crate) fn on_leader(&mut self, epoch: LeaderEpoch, node: &Node) -> Result<(), String> {
        self.leaders.on_leader(epoch, node.id)?;
        self.acked.on_leader(epoch, node)
    }

    pub(crate) fn on_ack(
        &mut self,
        epoch: Option<LeaderEpoch>,
        offset: Offset,
        value: u64,
    ) -> Result<(), String> {
        self.acked.on_ack(epoch, offset, value)
    }

    pub(crate) fn acked_count(&self) -> u64 {
        self.acked.count()
    }

    pub(crate) fn after_event(
        &mut self,
        nodes: &[Node],
        controller: &Controller,
    ) -> Result<(), String> {
        self.watermarks.check(nodes, controller)?;
        self.reads.check(nodes)
    }

    pub(crate) fn now_and_then(&self, nodes: &[Node]) -> Result<(), String> {
        logs_match::check(nodes)
    }

    pub(crate) fn at_the_end(&self, nodes: &[Node], controller: &Controller) -> Result<(), String> {
        logs_match::check(nodes)?;
        converged_after_heal::check(nodes, controller)?;
        let mut replicas = (nodes.iter()).filter(|n| controller.partition.replicas.contains(&n.id));
        replicas.try_for_each(|node| self.acked.all_on(node))
    }
}
