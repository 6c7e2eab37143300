//! Once faults end, reassignments do, there is a leader, every replica is in the ISR and has its log and its HW, and
//! nobody else has a log.

use types::Offset;

use crate::controller::Controller;
use crate::node::Node;

pub(crate) fn check(nodes: &[Node], controller: &Controller) -> Result<(), String> {
    let partition = &controller.partition;
    let leader = partition.leader.ok_or("nobody leads")?;
    let leader = &nodes[usize::try_from(leader.0).unwrap()];
    if partition.is_reassigning() {
        return Err(format!("the move does not end: {partition:?}"));
    }
    if partition.isr.len() != partition.replicas.len() {
        return Err(format!("only {:?} are in the ISR", partition.isr));
    }
    for node in nodes {
        if !partition.replicas.contains(&node.id) {
            if node.log.end() == Offset(0) {
                continue;
            }
            return Err(format!(
                "node {} has a log though it has no replica",
                node.id
            ));
        }
        if node.log.entries() != leader.log.entries() {
            return Err(format!(
                "node {} ends at {}, leader {} at {}",
                node.id,
                node.log.end(),
                leader.id,
                leader.log.end()
            ));
        }
        if node.core.high_watermark() != leader.log.end() {
            return Err(format!(
                "node {} has the HW {}, the log ends at {}",
                node.id,
                node.core.high_watermark(),
                leader.log.end()
            ));
        }
    }
    Ok(())
}
