//! What a consumer could read once (below a leader's HW) is what anybody reads there later.

use std::collections::BTreeMap;

use types::{LeaderEpoch, NodeId};

use crate::node::Node;

#[derive(Debug, Default)]
pub(crate) struct Reads {
    seen: Vec<u64>,
    /// How far each leader was looked at in its epoch.
    checked: BTreeMap<(NodeId, LeaderEpoch), usize>,
}

impl Reads {
    pub(crate) fn check(&mut self, nodes: &[Node]) -> Result<(), String> {
        for node in nodes.iter().filter(|node| node.alive) {
            let Some(leader) = node.core.leader() else {
                continue;
            };
            let epoch = leader.leader_epoch();
            let end = usize::try_from(node.high_watermark().0).unwrap();
            let from = self.checked.entry((node.id, epoch)).or_insert(0);
            for offset in *from..end {
                let value = node.log.entries()[offset].value;
                match self.seen.get(offset) {
                    None => self.seen.push(value),
                    Some(before) if *before == value => {}
                    Some(before) => {
                        return Err(format!(
                            "offset {offset} was read as {before} and is {value} on leader {} of epoch {epoch}",
                            node.id
                        ));
                    }
                }
            }
            *from = (*from).max(end);
        }
        Ok(())
    }
}
