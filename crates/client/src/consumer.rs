//! How are records read: from assigned partitions, or as a member of a group?
//!
//! Everything but heartbeats and fetches happens inside [`Consumer::poll`], which may be dropped at any await: what was
//! fetched is kept for the next call. Records are fetched for every partition while the application works on the last
//! ones, at most one answer per broker ahead.
//!
//! Guarantee: with `auto_commit` an offset is committed only after the call of `poll` that follows the one that returned
//! its record (at least once).

pub mod assignor;
mod fetcher;
mod group;
mod heartbeat;
mod options;
mod positions;
mod records;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use types::{ErrorCode, Offset, TopicPartition};

use crate::admin::{OffsetSpec, fetch_offsets, list_offset};
use crate::client::Client;
use crate::error::ClientError;
use fetcher::{Fetcher, partition_counts};
use group::Group;
use heartbeat::Signal;
pub use options::{ConsumerOptions, OffsetReset, StartAt};
use positions::Positions;
pub use records::{ConsumerRecord, FetchedBatches};

/// Reads records. Not shared: one task polls it.
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    options: Arc<ConsumerOptions>,
    positions: Positions,
    fetcher: Fetcher,
    group: Option<Group>,
    /// Answers that the application has not seen.
    fetched: VecDeque<FetchedBatches>,
    /// Records of the answer that it sees now, and the offset after all of it.
    decoded: Option<(TopicPartition, VecDeque<ConsumerRecord>, Offset)>,
    /// Partition counts when the group was last assigned.
    counts: HashMap<String, usize>,
    next_auto_commit: Instant,
    next_refresh: Instant,
}

impl Consumer {
    /// A consumer that reads nothing yet: call `assign` or `subscribe`.
    ///
    /// # Errors
    /// Settings that contradict each other.
    pub fn new(client: Client, options: ConsumerOptions) -> Result<Self, ClientError> {
        options.check()?;
        let options = Arc::new(options);
        let group = match options.group_id {
            Some(_) => Some(Group::new(client.clone(), Arc::clone(&options))?),
            None => None,
        };
        let now = Instant::now();
        Ok(Self {
            fetcher: Fetcher::new(client.clone(), Arc::clone(&options)),
            next_auto_commit: now + options.auto_commit_interval,
            next_refresh: now,
            client,
            options,
            positions: Positions::default(),
            group,
            fetched: VecDeque::new(),
            decoded: None,
            counts: HashMap::new(),
        })
    }

    /// Reads these partitions, whatever others do. Replaces a former assignment.
    ///
    /// # Errors
    /// A topic does not exist.
    pub async fn assign(
        &mut self,
        partitions: impl IntoIterator<Item = (TopicPartition, StartAt)>,
    ) -> Result<(), ClientError> {
        let partitions: Vec<_> = partitions.into_iter().collect();
        let topics: BTreeSet<&str> = partitions.iter().map(|(p, _)| &*p.topic).collect();
        for topic in topics {
            self.client.topic_metadata(topic).await?;
        }
        if let Some(group) = &mut self.group {
            group.topics.clear();
        }
        self.drop_fetched();
        self.positions.assign(partitions);
        Ok(())
    }

    /// Joins the group at the next `poll` to share these topics with its other members.
    ///
    /// # Errors
    /// There is no `group_id`.
    pub fn subscribe(
        &mut self,
        topics: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<(), ClientError> {
        self.options.group_id()?;
        if let Some(group) = &mut self.group {
            group.topics = topics.into_iter().map(Into::into).collect();
            group.lose(false);
        }
        Ok(())
    }

    /// The partitions that are read now.
    #[must_use]
    pub fn assignment(&self) -> BTreeSet<TopicPartition> {
        self.positions.of.keys().cloned().collect()
    }

    /// Member id and generation; `None` while not a member of a group.
    #[must_use]
    pub fn membership(&self) -> Option<(String, i32)> {
        let membership = self.group.as_ref()?.membership()?;
        Some((membership.member_id.clone(), membership.generation))
    }

    /// The offset of the next record of a partition that `poll` will return; `None` while that is not known.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        let position = self.positions.of.get(partition)?;
        position.start.is_none().then_some(position.consumed)
    }

    /// How many records of a partition are not read yet, as of the last fetch.
    #[must_use]
    pub fn lag(&self, partition: &TopicPartition) -> Option<i64> {
        let position = self.positions.of.get(partition)?;
        Some((position.high_watermark?.0 - position.consumed.0).max(0))
    }

    /// Reads a partition from elsewhere.
    ///
    /// # Errors
    /// The partition is not assigned.
    pub fn seek(&mut self, partition: &TopicPartition, to: StartAt) -> Result<(), ClientError> {
        self.drop_fetched();
        if self.positions.seek(partition, to) {
            return Ok(());
        }
        Err(ClientError::Config(format!(
            "{partition} is not assigned to this consumer"
        )))
    }

    /// Stops (or resumes) reading some partitions; what is fetched already is still returned.
    pub fn pause(&mut self, partitions: &BTreeSet<TopicPartition>, paused: bool) {
        for (partition, position) in &mut self.positions.of {
            if partitions.contains(partition) {
                position.is_paused = paused;
            }
        }
    }

    /// Records, at most `max_poll_records`; empty when none come within `timeout`. Joining a group may take longer.
    ///
    /// # Errors
    /// What will not pass by itself: no offset to begin with, no permission, malformed records, a fenced member.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<ConsumerRecord>, ClientError> {
        let deadline = Instant::now() + timeout;
        loop {
            self.turn().await?;
            let records = self.take_records()?;
            if !records.is_empty() {
                self.fetcher.start(&mut self.positions); // the next ones, while the application works
                return Ok(records);
            }
            if self.fetched.is_empty() && !self.wait(deadline).await? {
                return Ok(records);
            }
        }
    }

    /// Batches of one partition as they are in the log; `None` when none come within `timeout`. Use either this or
    /// `poll`.
    ///
    /// # Errors
    /// As [`Consumer::poll`].
    pub async fn poll_batches(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<FetchedBatches>, ClientError> {
        let deadline = Instant::now() + timeout;
        loop {
            self.turn().await?;
            if let Some(batches) = self.fetched.pop_front() {
                self.consumed(&batches.partition, batches.next, true);
                self.fetcher.start(&mut self.positions);
                return Ok(Some(batches));
            }
            if !self.wait(deadline).await? {
                return Ok(None);
            }
        }
    }

    /// Commits what `poll` has returned so far.
    ///
    /// # Errors
    /// The coordinator refuses (another generation, a rebalance), or does not answer.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let offsets = self.positions.consumed();
        self.commit_offsets(&offsets).await
    }

    /// Commits these offsets: each that of the next record to read.
    ///
    /// # Errors
    /// As [`Consumer::commit`]; or there is no `group_id`.
    pub async fn commit_offsets(
        &mut self,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), ClientError> {
        match &mut self.group {
            Some(group) => group.commit(offsets).await,
            None => self.options.group_id().map(|_| ()),
        }
    }

    /// Commits if `auto_commit`, and leaves the group.
    ///
    /// # Errors
    /// As [`Consumer::commit`]; the consumer is gone anyway.
    pub async fn close(mut self) -> Result<(), ClientError> {
        let committed = self.auto_commit().await;
        if let Some(group) = &mut self.group {
            group.leave().await?;
        }
        committed
    }

    /// What every poll begins with: membership, positions, commits, fetches.
    async fn turn(&mut self) -> Result<(), ClientError> {
        self.keep_membership().await?;
        if self.options.auto_commit && Instant::now() >= self.next_auto_commit {
            self.next_auto_commit = Instant::now() + self.options.auto_commit_interval;
            // a refused commit is a rebalance that the next heartbeat tells of; what is lost is read again
            if let Err(error) = self.auto_commit().await {
                tracing::warn!(%error, "auto commit failed");
            }
        }
        self.resolve_starts().await?;
        let leaderless = self.fetcher.start(&mut self.positions);
        if (leaderless || self.client.metadata_is_old()) && Instant::now() >= self.next_refresh {
            self.refresh().await;
        }
        Ok(())
    }

    /// Waits for a fetch, a heartbeat's news, or the deadline; `false` at the deadline.
    async fn wait(&mut self, deadline: Instant) -> Result<bool, ClientError> {
        // positions that pause for a moment have no fetch that would wake us
        let nap = Instant::now()
            + self
                .client
                .options()
                .retry_backoff
                .max(Duration::from_millis(10));
        let has_paused = self
            .positions
            .of
            .values()
            .any(|p| p.pause_until.is_some() || !p.is_busy);
        let until = if has_paused {
            deadline.min(nap)
        } else {
            deadline
        };
        let group = &mut self.group;
        let changed = async {
            match group {
                Some(group) => group.changed().await,
                None => std::future::pending().await,
            }
        };
        let done = tokio::select! {
            done = self.fetcher.next() => done,
            () = changed => return Ok(true),
            () = tokio::time::sleep_until(until) => return Ok(until < deadline),
        };
        let outcome = self.fetcher.finish(done, &mut self.positions);
        self.fetched.extend(outcome.batches);
        for partition in outcome.out_of_range {
            self.reset(&partition)?;
        }
        if outcome.must_refresh {
            self.refresh().await;
        }
        outcome.failed.map_or(Ok(true), Err)
    }

    /// The next records of the first answer that has any.
    fn take_records(&mut self) -> Result<Vec<ConsumerRecord>, ClientError> {
        loop {
            let Some((partition, mut records, end)) = self.decoded.take() else {
                let Some(batches) = self.fetched.pop_front() else {
                    return Ok(Vec::new());
                };
                let records =
                    batches.records(self.options.read_committed, self.options.max_batch_bytes)?;
                self.decoded = Some((batches.partition, records.into(), batches.next));
                continue;
            };
            let rest = records.split_off(records.len().min(self.options.max_poll_records));
            let next = rest.front().map_or(end, |r| r.offset);
            self.consumed(&partition, next, rest.is_empty());
            if !rest.is_empty() {
                self.decoded = Some((partition, rest, end));
            }
            if !records.is_empty() {
                return Ok(records.into());
            }
        }
    }

    fn consumed(&mut self, partition: &TopicPartition, next: Offset, is_drained: bool) {
        if let Some(position) = self.positions.of.get_mut(partition) {
            position.consumed = next;
            position.is_busy &= !is_drained;
        }
    }

    fn drop_fetched(&mut self) {
        self.fetched.clear();
        self.decoded = None;
    }

    /// A position that is not in the log.
    fn reset(&mut self, partition: &TopicPartition) -> Result<(), ClientError> {
        let start = match self.options.offset_reset {
            OffsetReset::Earliest => StartAt::Earliest,
            OffsetReset::Latest => StartAt::Latest,
            OffsetReset::Fail => {
                let what = format!("fetch {partition} at offset {:?}", self.position(partition));
                return Err(ClientError::Broker {
                    what,
                    code: ErrorCode::OffsetOutOfRange,
                    message: None,
                });
            }
        };
        tracing::info!(%partition, ?start, "the position is not in the log any more");
        if let Some(position) = self.positions.of.get_mut(partition) {
            position.start = Some(start);
        }
        Ok(())
    }

    /// Finds offsets for partitions that have none: committed ones first, then by policy.
    async fn resolve_starts(&mut self) -> Result<(), ClientError> {
        let unresolved = |start: fn(&StartAt) -> bool, positions: &Positions| {
            let of = positions
                .of
                .iter()
                .filter(move |(_, p)| p.start.as_ref().is_some_and(start));
            of.map(|(p, _)| p.clone()).collect::<BTreeSet<_>>()
        };
        let by_group = unresolved(|s| matches!(s, StartAt::Committed), &self.positions);
        if !by_group.is_empty() {
            let group_id = self.options.group_id()?;
            let committed = fetch_offsets(
                &self.client,
                group_id,
                Some(&by_group),
                self.options.read_committed,
            )
            .await?;
            for partition in by_group {
                match committed.get(&partition) {
                    Some(committed) => self.resolve(&partition, committed.offset),
                    None => self.reset(&partition)?,
                }
            }
        }
        for partition in unresolved(|_| true, &self.positions) {
            let start = self.positions.of.get(&partition).and_then(|p| p.start);
            let offset = match start {
                Some(StartAt::Offset(offset)) => offset,
                Some(StartAt::Earliest) => self
                    .listed(&partition, OffsetSpec::Earliest)
                    .await?
                    .unwrap_or(Offset(0)),
                Some(StartAt::Timestamp(at)) => {
                    match self.listed(&partition, OffsetSpec::Timestamp(at)).await? {
                        Some(offset) => offset,
                        None => self
                            .listed(&partition, OffsetSpec::Latest)
                            .await?
                            .unwrap_or(Offset(0)),
                    }
                }
                _ => self
                    .listed(&partition, OffsetSpec::Latest)
                    .await?
                    .unwrap_or(Offset(0)),
            };
            self.resolve(&partition, offset);
        }
        Ok(())
    }

    async fn listed(
        &self,
        partition: &TopicPartition,
        spec: OffsetSpec,
    ) -> Result<Option<Offset>, ClientError> {
        Ok(
            list_offset(&self.client, partition, spec, self.options.read_committed)
                .await?
                .offset,
        )
    }

    fn resolve(&mut self, partition: &TopicPartition, offset: Offset) {
        if let Some(position) = self.positions.of.get_mut(partition) {
            position.resolve(offset);
        }
    }

    async fn auto_commit(&mut self) -> Result<(), ClientError> {
        let offsets = self.positions.consumed();
        match &mut self.group {
            // without a membership (never joined, or lost) there is nothing that may be committed for a subscription
            Some(group)
                if self.options.auto_commit
                    && (group.topics.is_empty() || group.membership().is_some()) =>
            {
                group.commit(&offsets).await
            }
            _ => Ok(()),
        }
    }

    /// Joins the group when that is due.
    async fn keep_membership(&mut self) -> Result<(), ClientError> {
        let Some(group) = self.group.as_mut().filter(|g| !g.topics.is_empty()) else {
            return Ok(());
        };
        group.polled();
        let counts = partition_counts(&self.client.metadata(), group.topics.iter());
        let has_grown = group.is_leader && counts != self.counts;
        let (topics, signal) = (group.topics.clone(), group.signal());
        match signal {
            Some(Signal::Stable) if !has_grown => return Ok(()),
            Some(Signal::Stable | Signal::Rebalance) => {
                // partitions may go to another member: it has to know how far we are
                if let Err(error) = self.auto_commit().await {
                    tracing::warn!(%error, "commit before the rebalance failed");
                }
            }
            Some(Signal::CoordinatorLost) | None => {}
            Some(Signal::Evicted) => group.lose(true),
            Some(Signal::Fenced) => {
                let what = format!("stay in group {}", self.options.group_id()?);
                return Err(ClientError::Broker {
                    what,
                    code: ErrorCode::FencedInstanceId,
                    message: None,
                });
            }
        }
        self.drop_fetched();
        self.positions.assign([]);
        let Some(group) = self.group.as_mut() else {
            return Ok(());
        };
        let assignment = group.join().await?;
        // what the leader assigned may be newer than what is known here
        let names: Vec<String> = topics.iter().cloned().collect();
        let metadata = self.client.refresh_topics(&names).await?;
        self.counts = partition_counts(&metadata, topics.iter());
        tracing::debug!(partitions = assignment.len(), "joined the group");
        self.positions
            .assign(assignment.into_iter().map(|p| (p, StartAt::Committed)));
        self.next_auto_commit = Instant::now() + self.options.auto_commit_interval;
        Ok(())
    }

    /// Asks for the topics that are read; at most once per back-off.
    async fn refresh(&mut self) {
        self.next_refresh = Instant::now() + self.client.options().retry_backoff;
        let mut topics: BTreeSet<String> = self
            .positions
            .of
            .keys()
            .map(|p| p.topic.to_string())
            .collect();
        topics.extend(self.group.iter().flat_map(|g| g.topics.iter().cloned()));
        let topics: Vec<String> = topics.into_iter().collect();
        if let Err(error) = self.client.refresh_topics(&topics).await {
            tracing::debug!(%error, "metadata not refreshed");
        }
    }
}
