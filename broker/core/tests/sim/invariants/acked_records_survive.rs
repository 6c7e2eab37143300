//! What was acknowledged with acks=all is on every later leader that was elected from the ISR.

use std::collections::BTreeMap;

use types::{LeaderEpoch, Offset};

use crate::node::Node;

#[derive(Debug, Default)]
pub(crate) struct Acked(BTreeMap<Offset, (LeaderEpoch, u64)>);

impl Acked {
    pub(crate) fn on_ack(
        &mut self,
        epoch: Option<LeaderEpoch>,
        offset: Offset,
        value: u64,
    ) -> Result<(), String> {
        let epoch = epoch.ok_or("an ack from a node without an epoch")?;
        match self.0.insert(offset, (epoch, value)) {
            None => Ok(()),
            Some((before, other)) => Err(format!(
                "offset {offset} was acked as {other} in epoch {before} and as {value} in epoch {epoch}"
            )),
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    pub(crate) fn on_leader(&self, epoch: LeaderEpoch, node: &Node) -> Result<(), String> {
        let earlier = self.0.iter().filter(|(_, (acked_in, _))| *acked_in < epoch);
        for (offset, (acked_in, value)) in earlier {
            has(node, *offset, *value).map_err(|error| {
                format!("leader of epoch {epoch}: {error}, acked in epoch {acked_in}")
            })?;
        }
        Ok(())
    }

    pub(crate) fn all_on(&self, node: &Node) -> Result<(), String> {
        self.0
            .iter()
            .try_for_each(|(offset, (_, value))| has(node, *offset, *value))
    }
}

fn has(node: &Node, offset: Offset, value: u64) -> Result<(), String> {
    let index = usize::try_from(offset.0).unwrap();
    match node.log.entries().get(index) {
        Some(entry) if entry.value == value => Ok(()),
        Some(entry) => Err(format!(
            "node {} has {} at offset {offset} instead of {value}",
            node.id, entry.value
        )),
        None => Err(format!(
            "node {} lacks {value} at offset {offset}, its log ends at {}",
            node.id,
            node.log.end()
        )),
    }
}
