//! Which member of a group reads which partition? Kafka's range assignor.

use std::collections::{BTreeMap, BTreeSet};

use types::TopicPartition;

/// A member and what it wants to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriber {
    /// The id that the coordinator gave it.
    pub member_id: String,
    /// The name of a static member: the order follows it, so that a restart changes nothing.
    pub group_instance_id: Option<String>,
    /// The topics it subscribes to.
    pub topics: BTreeSet<String>,
}

/// Gives each member a range of the partitions of every topic it wants; the first members get one more when they do not
/// divide evenly. `partitions` says how many each topic has; a topic that is missing there has none.
#[must_use]
pub fn assign_ranges(
    members: &[Subscriber],
    partitions: &BTreeMap<String, i32>,
) -> BTreeMap<String, BTreeSet<TopicPartition>> {
    let mut assigned: BTreeMap<String, BTreeSet<TopicPartition>> = members
        .iter()
        .map(|m| (m.member_id.clone(), BTreeSet::new()))
        .collect();
    let mut ordered: Vec<&Subscriber> = members.iter().collect();
    // static members come first, by their names, as in Kafka
    ordered.sort_by_key(|m| {
        (
            m.group_instance_id.is_none(),
            m.group_instance_id.as_deref(),
            m.member_id.as_str(),
        )
    });
    let topics: BTreeSet<&String> = members.iter().flat_map(|m| &m.topics).collect();
    for topic in topics {
        let count = partitions.get(topic).copied().unwrap_or(0).max(0);
        let readers: Vec<&&Subscriber> = ordered
            .iter()
            .filter(|m| m.topics.contains(topic))
            .collect();
        let readers_count = i32::try_from(readers.len()).unwrap_or(i32::MAX).max(1);
        let (each, more) = (count / readers_count, count % readers_count);
        let mut first = 0;
        for (position, reader) in (0..).zip(readers) {
            let share = each + i32::from(position < more);
            let range = (first..first + share).map(|p| TopicPartition::new(topic.as_str(), p));
            assigned
                .entry(reader.member_id.clone())
                .or_default()
                .extend(range);
            first += share;
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, instance: Option<&str>, topics: &[&str]) -> Subscriber {
        Subscriber {
            member_id: id.to_owned(),
            group_instance_id: instance.map(str::to_owned),
            topics: topics.iter().map(|t| (*t).to_owned()).collect(),
        }
    }

    /// `expected`: member id and its partitions as "topic-0 topic-1".
    fn check(members: &[Subscriber], partitions: &[(&str, i32)], expected: &[(&str, &str)]) {
        let partitions = partitions
            .iter()
            .map(|(t, n)| ((*t).to_owned(), *n))
            .collect();
        let assigned: BTreeMap<String, String> = assign_ranges(members, &partitions)
            .into_iter()
            .map(|(id, ps)| {
                (
                    id,
                    ps.iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join(" "),
                )
            })
            .collect();
        let expected = expected
            .iter()
            .map(|(id, ps)| ((*id).to_owned(), (*ps).to_owned()))
            .collect();
        assert_eq!(assigned, expected);
    }

    #[test]
    fn partitions_are_dealt_in_ranges_and_the_first_members_get_the_rest() {
        let two = [member("b", None, &["t"]), member("a", None, &["t"])];
        check(&two, &[("t", 3)], &[("a", "t-0 t-1"), ("b", "t-2")]);
        check(&two, &[("t", 1)], &[("a", "t-0"), ("b", "")]);
        check(&two, &[], &[("a", ""), ("b", "")]);
    }

    #[test]
    fn each_topic_is_dealt_among_those_who_want_it() {
        let members = [member("a", None, &["t", "u"]), member("b", None, &["u"])];
        check(
            &members,
            &[("t", 2), ("u", 2)],
            &[("a", "t-0 t-1 u-0"), ("b", "u-1")],
        );
    }

    #[test]
    fn static_members_keep_their_place_whatever_their_member_id() {
        let before = [member("x", Some("one"), &["t"]), member("a", None, &["t"])];
        let after = [member("zz", Some("one"), &["t"]), member("a", None, &["t"])];
        check(&before, &[("t", 2)], &[("x", "t-0"), ("a", "t-1")]);
        check(&after, &[("t", 2)], &[("zz", "t-0"), ("a", "t-1")]);
    }
}
