//! A leader's HW never moves back, and what lies below it is on every member of the committed ISR.

use std::collections::BTreeMap;

use types::{LeaderEpoch, NodeId, Offset};

use crate::controller::Controller;
use crate::node::Node;

#[derive(Debug, Default)]
pub(crate) struct Watermarks(BTreeMap<(NodeId, LeaderEpoch), Offset>);

impl Watermarks {
    pub(crate) fn check(&mut self, nodes: &[Node], controller: &Controller) -> Result<(), String> {
        for node in nodes.iter().filter(|node| node.alive) {
            let Some(leader) = node.core.leader() else {
                continue;
            };
            let (epoch, now) = (leader.leader_epoch(), node.high_watermark());
            let before = self.0.entry((node.id, epoch)).or_insert(now);
            if now < *before {
                return Err(format!(
                    "the HW of leader {} went back from {before} to {now} in epoch {epoch}",
                    node.id
                ));
            }
            *before = now;
            if controller.partition.leader_epoch == epoch {
                replicated(nodes, controller, node, now)?;
            }
        }
        Ok(())
    }
}

fn replicated(
    nodes: &[Node],
    controller: &Controller,
    leader: &Node,
    high_watermark: Offset,
) -> Result<(), String> {
    let partition = &controller.partition;
    for member in partition.isr.iter().chain(&partition.elr) {
        let follower = &nodes[usize::try_from(member.0).unwrap()];
        if follower.log.end() < high_watermark && !follower.lost_records {
            return Err(format!(
                "the HW of leader {} is {high_watermark}, the log of ISR member {member} ends at {}",
                leader.id,
                follower.log.end()
            ));
        }
    }
    Ok(())
}
