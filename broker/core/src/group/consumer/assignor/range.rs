//! Of each topic a contiguous range for everybody who wants it.
//!
//! Members stand in the same order for every topic, static ones first and by their instance, so that equal partitions of
//! topics with equal partitions and subscribers meet at one member, also after a restart.

use std::collections::BTreeMap;

use super::Subscriptions;
use crate::group::consumer::partitions::Partitions;

pub(super) fn assign(group: &Subscriptions<'_>) -> BTreeMap<String, Partitions> {
    let mut order: Vec<(bool, &str, &str)> = (group.members.iter())
        .map(|(id, member)| match member.instance_id {
            Some(instance) => (false, instance, *id),
            None => (true, *id, *id),
        })
        .collect();
    order.sort_unstable();
    let mut assigned: BTreeMap<String, Partitions> = (group.members.keys())
        .map(|id| ((*id).to_owned(), Partitions::default()))
        .collect();
    for (topic, partitions) in &group.topics {
        let wants = |id: &str| (group.members.get(id)).is_some_and(|m| m.topics.contains(topic));
        let mut left =
            i32::try_from(order.iter().filter(|(_, _, id)| wants(id)).count()).unwrap_or(i32::MAX);
        let mut next = 0;
        for (_, _, id) in order.iter().filter(|(_, _, id)| wants(id)) {
            // What remains, shared among those who remain: the first ones get one more.
            let share = (partitions - next + left - 1) / left;
            if let Some(mine) = assigned.get_mut(*id) {
                for partition in next..next + share {
                    mine.insert(*topic, partition);
                }
            }
            next += share;
            left -= 1;
        }
    }
    assigned
}
