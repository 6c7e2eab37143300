//! Who shall consume which partition?

mod range;
mod uniform;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use types::TopicId;

use super::partitions::Partitions;

/// A way of sharing partitions among members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// Everybody gets as many as everybody else, and keeps what it has where that allows it.
    Uniform,
    /// Of each topic everybody gets a contiguous range, the same of topics with the same number of partitions.
    Range,
}

impl Assignor {
    /// Every one there is.
    pub const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    /// Kafka's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    pub(super) fn assign(self, group: &Subscriptions<'_>) -> BTreeMap<String, Partitions> {
        match self {
            Self::Uniform => uniform::assign(group),
            Self::Range => range::assign(group),
        }
    }
}

/// What an assignor may look at.
#[derive(Debug, Default)]
pub(super) struct Subscriptions<'a> {
    pub(super) members: BTreeMap<&'a str, Subscription<'a>>,
    /// How many partitions each topic has that somebody wants.
    pub(super) topics: BTreeMap<TopicId, i32>,
}

/// What an assignor may know of one member.
#[derive(Debug, Default)]
pub(super) struct Subscription<'a> {
    pub(super) instance_id: Option<&'a str>,
    pub(super) topics: BTreeSet<TopicId>,
    /// What it was assigned before.
    pub(super) previous: Partitions,
}
