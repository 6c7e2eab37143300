//! In one leader epoch one node leads, whatever the others have heard.

use std::collections::BTreeMap;

use types::{LeaderEpoch, NodeId};

#[derive(Debug, Default)]
pub(crate) struct Leaders(BTreeMap<LeaderEpoch, NodeId>);

impl Leaders {
    pub(crate) fn on_leader(&mut self, epoch: LeaderEpoch, node: NodeId) -> Result<(), String> {
        let first = *self.0.entry(epoch).or_insert(node);
        if first == node {
            Ok(())
        } else {
            Err(format!("epoch {epoch} has the leaders {first} and {node}"))
        }
    }
}
