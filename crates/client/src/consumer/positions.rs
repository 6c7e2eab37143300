//! Where is the consumer in each of its partitions?

use std::collections::BTreeMap;

use tokio::time::Instant;
use types::{NodeId, Offset, TopicPartition};

use super::options::StartAt;

/// One assigned partition.
#[derive(Debug, Clone)]
pub(super) struct Position {
    /// Where it begins, until that is resolved to an offset.
    pub(super) start: Option<StartAt>,
    /// The next record to fetch.
    pub(super) fetch: Offset,
    /// The next record that the application has not seen.
    pub(super) consumed: Offset,
    /// Whether a fetch is on its way, or fetched records wait for the application.
    pub(super) is_busy: bool,
    /// Whether the application does not want records now.
    pub(super) is_paused: bool,
    /// A near replica to read from, and until when.
    pub(super) read_replica: Option<(NodeId, Instant)>,
    /// No fetch before this.
    pub(super) pause_until: Option<Instant>,
    /// The newest known high watermark.
    pub(super) high_watermark: Option<Offset>,
}

impl Position {
    fn starting(start: StartAt) -> Self {
        Self {
            start: Some(start),
            fetch: Offset(0),
            consumed: Offset(0),
            is_busy: false,
            is_paused: false,
            read_replica: None,
            pause_until: None,
            high_watermark: None,
        }
    }

    pub(super) fn resolve(&mut self, offset: Offset) {
        self.start = None;
        self.fetch = offset;
        self.consumed = offset;
    }

    pub(super) fn can_fetch(&self, now: Instant) -> bool {
        self.start.is_none()
            && !self.is_busy
            && !self.is_paused
            && self.pause_until.is_none_or(|at| at <= now)
    }
}

/// All assigned partitions. `epoch` grows with every change that makes what is being fetched worthless.
#[derive(Debug, Default)]
pub(super) struct Positions {
    pub(super) of: BTreeMap<TopicPartition, Position>,
    pub(super) epoch: u64,
}

impl Positions {
    /// Replaces the assignment.
    pub(super) fn assign(
        &mut self,
        partitions: impl IntoIterator<Item = (TopicPartition, StartAt)>,
    ) {
        self.epoch += 1;
        self.of = partitions
            .into_iter()
            .map(|(p, start)| (p, Position::starting(start)))
            .collect();
    }

    /// Moves one partition; what was fetched for others is dropped with it and fetched again.
    pub(super) fn seek(&mut self, partition: &TopicPartition, start: StartAt) -> bool {
        self.epoch += 1;
        for position in self.of.values_mut() {
            position.is_busy = false;
            position.fetch = position.consumed;
        }
        match self.of.get_mut(partition) {
            Some(position) => {
                *position = Position {
                    is_paused: position.is_paused,
                    ..Position::starting(start)
                };
                if let StartAt::Offset(offset) = start {
                    position.resolve(offset);
                }
                true
            }
            None => false,
        }
    }

    /// What an application has seen of every partition whose start is resolved.
    pub(super) fn consumed(&self) -> BTreeMap<TopicPartition, Offset> {
        let resolved = self.of.iter().filter(|(_, p)| p.start.is_none());
        resolved
            .map(|(partition, p)| (partition.clone(), p.consumed))
            .collect()
    }
}
