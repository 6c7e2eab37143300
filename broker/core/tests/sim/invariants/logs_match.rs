//! Two logs that hold a record of the same epoch at the same offset are equal up to there.

use crate::node::Node;

pub(crate) fn check(nodes: &[Node]) -> Result<(), String> {
    for (index, first) in nodes.iter().enumerate() {
        for second in &nodes[index + 1..] {
            let (a, b) = (first.log.entries(), second.log.entries());
            let common = a
                .iter()
                .zip(b)
                .rposition(|(x, y)| x.epoch == y.epoch)
                .map_or(0, |last| last + 1);
            if let Some(at) = (0..common).find(|at| a[*at] != b[*at]) {
                return Err(format!(
                    "nodes {} and {} agree on the epoch at offset {} but have {:?} and {:?} at {at}",
                    first.id,
                    second.id,
                    common - 1,
                    a[at],
                    b[at]
                ));
            }
        }
    }
    Ok(())
}
