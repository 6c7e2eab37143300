//! Which records wait for which partition, and which batch may be sent now?
//!
//! Invariants: (a) the batches of a partition are queued in the order of their sequences, retried ones in front;
//! (b) while a retried batch is queued, it is sent alone, so that no later batch can overtake it; (c) until the first
//! batch under a producer epoch is acknowledged there is no second one in flight, because a broker takes any sequence
//! from a producer it does not know, so that a second batch could be appended where the first was refused; (d) reserved
//! memory is given back when a batch finishes, whichever way.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use types::TopicPartition;

use super::batch::{Batch, Delivery, Outcome, Records};
use super::{ProducerOptions, ProducerRecord};
use crate::error::ClientError;

/// Queues of all partitions.
#[derive(Debug)]
pub(super) struct Accumulator {
    state: Mutex<State>,
    memory: Semaphore,
    batch_bytes: usize,
    linger: Duration,
    /// Wakes the sender.
    pub(super) wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    queues: Vec<Queue>,
    by_partition: HashMap<TopicPartition, usize>,
    /// The partition that records without key and partition go to, until its batch is full.
    sticky: HashMap<Arc<str>, i32>,
    /// Batches that are not finished, for `flush`.
    unfinished: BTreeMap<u64, Arc<Outcome>>,
    next_batch_id: u64,
    /// Batches with a smaller id are sent without lingering.
    flush_below: u64,
    /// Where the next drain begins, so that no partition starves.
    first: usize,
    closed: bool,
}

#[derive(Debug)]
struct Queue {
    partition: TopicPartition,
    open: Option<Batch>,
    closed: VecDeque<Batch>,
    in_flight: usize,
    next_sequence: i32,
    /// Whether a batch was acknowledged under the present producer epoch.
    established: bool,
    /// Nothing is sent before this.
    pause_until: Option<Instant>,
}

/// A batch taken out to be sent.
#[derive(Debug)]
pub(super) struct Drained {
    pub(super) queue: usize,
    pub(super) partition: TopicPartition,
    pub(super) batch: Batch,
    /// The first sequence to use if the batch has no stamp yet.
    pub(super) sequence: i32,
}

/// Whether a partition's next batch may go.
pub(super) enum Admission {
    /// It has a place in a request.
    Yes,
    /// Its leader is not known, or the leader has no place for more requests.
    No,
}

impl Accumulator {
    pub(super) fn new(options: &ProducerOptions) -> Self {
        Self {
            state: Mutex::default(),
            memory: Semaphore::new(options.buffer_memory),
            batch_bytes: options.batch_bytes,
            linger: options.linger,
            wake: Notify::new(),
        }
    }

    /// Waits until there is room for `size` bytes.
    pub(super) async fn reserve(&self, size: usize, patience: Duration) -> Result<(), ClientError> {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        if let Ok(permits) = self.memory.try_acquire_many(size) {
            permits.forget();
            return Ok(());
        }
        self.wake.notify_one();
        match tokio::time::timeout(patience, self.memory.acquire_many(size)).await {
            Ok(Ok(permits)) => {
                permits.forget();
                Ok(())
            }
            Ok(Err(_)) => Err(ClientError::Stopped("producer")),
            Err(_) => {
                let what = "find room in the producer's buffer".to_owned();
                Err(ClientError::Deadline {
                    what,
                    after: patience,
                    last: None,
                })
            }
        }
    }

    /// Appends a record, for which `size` bytes are reserved, to the open batch of its partition (the sticky one for
    /// `None`).
    pub(super) fn append(
        &self,
        record: ProducerRecord,
        partition: Option<i32>,
        partitions: i32,
        size: usize,
        now_ms: i64,
    ) -> Result<Delivery, ClientError> {
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            self.memory.add_permits(size);
            return Err(ClientError::Stopped("producer"));
        }
        let is_sticky = partition.is_none();
        let mut index =
            partition.unwrap_or_else(|| state.sticky_partition(&record.topic, partitions));
        let mut at = state.queue(&record.topic, index);
        if state.queues[at].close_if_full(size, self.batch_bytes) {
            if is_sticky {
                index = state.rotate(&record.topic, partitions);
                at = state.queue(&record.topic, index);
                // the next sticky partition's batch may be as full as this one was
                state.queues[at].close_if_full(size, self.batch_bytes);
            }
            self.wake.notify_one();
        }
        let opened = state.open(at);
        let queue = &mut state.queues[at];
        let Some(batch) = &mut queue.open else {
            return Err(ClientError::Stopped("producer")); // not reached: `open` has just put one there
        };
        let delivery = Delivery {
            outcome: Arc::clone(&batch.outcome),
            partition: index,
            index: batch.count,
        };
        batch.push(&record, size, now_ms);
        if let Some(opened) = opened {
            let outcome = Arc::clone(&delivery.outcome);
            state.unfinished.insert(opened, outcome);
            self.wake.notify_one();
        }
        Ok(delivery)
    }

    /// Lets everything queued so far go at once; gives what to wait for.
    pub(super) fn start_flush(&self) -> Vec<Arc<Outcome>> {
        let mut state = self.state.lock();
        state.flush_below = state.next_batch_id;
        self.wake.notify_one();
        state.unfinished.values().cloned().collect()
    }

    /// Refuses further records.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().unfinished.is_empty()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.state.lock().queues.iter().map(|q| q.in_flight).sum()
    }

    /// Takes out the next batch of every partition that may send one and is admitted. Also gives the time at which
    /// another one may be due.
    pub(super) fn drain(
        &self,
        now: Instant,
        max_in_flight: usize,
        mut admit: impl FnMut(&TopicPartition, usize) -> Admission,
    ) -> (Vec<Drained>, Option<Instant>) {
        let mut state = self.state.lock();
        let (flush_below, count) = (state.flush_below, state.queues.len());
        let is_tight = self.memory.available_permits() < self.batch_bytes;
        let mut drained = Vec::new();
        let mut next_due: Option<Instant> = None;
        let mut rotated = Vec::new();
        let first = state.first;
        for step in 0..count {
            let at = (first + step) % count;
            let queue = &mut state.queues[at];
            match queue.due(now, self.linger, flush_below, is_tight, max_in_flight) {
                Due::Never => continue,
                Due::At(time) => {
                    next_due = Some(next_due.map_or(time, |t| t.min(time)));
                    continue;
                }
                Due::Now => {}
            }
            let length = queue
                .closed
                .front()
                .or(queue.open.as_ref())
                .map_or(0, Batch::len);
            if matches!(admit(&queue.partition, length), Admission::No) {
                continue;
            }
            let from_open = queue.closed.is_empty();
            if let Some(taken) = queue.take(at) {
                if from_open {
                    rotated.push(Arc::clone(&taken.partition.topic));
                }
                drained.push(taken);
            }
        }
        state.first = if count == 0 { 0 } else { (first + 1) % count };
        for topic in rotated {
            state.sticky.remove(&topic);
        }
        (drained, next_due)
    }

    /// A batch finished.
    pub(super) fn finish(
        &self,
        queue: usize,
        batch: &Batch,
        result: Result<i64, ClientError>,
        was_in_flight: bool,
    ) {
        {
            let mut state = self.state.lock();
            state.unfinished.remove(&batch.id);
            if was_in_flight {
                state.queues[queue].in_flight -= 1;
            }
            state.queues[queue].established |= result.is_ok();
        }
        self.memory.add_permits(batch.memory);
        batch.outcome.set(result);
    }

    /// Puts a batch back to be sent again, before those that came after it.
    pub(super) fn put_back(&self, queue: usize, mut batch: Batch, pause_until: Instant) {
        let mut state = self.state.lock();
        let queue = &mut state.queues[queue];
        queue.in_flight -= 1;
        queue.pause_until = Some(pause_until);
        batch.retried = true;
        // ids grow in the order of opening, which is the order of sequences
        let at = queue.closed.partition_point(|other| other.id < batch.id);
        queue.closed.insert(at, batch);
    }

    /// Whether a batch of the partition that came before this one is not finished.
    pub(super) fn has_earlier(&self, queue: usize, batch: &Batch, in_flight_ids: &[u64]) -> bool {
        let state = self.state.lock();
        let earlier = |id: &u64| *id < batch.id;
        state.queues[queue].closed.iter().any(|b| earlier(&b.id))
            || in_flight_ids.iter().any(earlier)
    }

    /// Every partition starts at sequence 0 again, under a new producer epoch; nothing is in flight.
    pub(super) fn reset_sequences(&self) {
        for queue in &mut self.state.lock().queues {
            queue.next_sequence = 0;
            queue.established = false;
            for batch in &mut queue.closed {
                batch.stamp = None;
            }
        }
    }

    /// Takes out batches that were opened before `before` and are not in flight.
    pub(super) fn expired(&self, before: Instant) -> Vec<(usize, TopicPartition, Batch)> {
        let mut state = self.state.lock();
        let mut expired = Vec::new();
        for (at, queue) in state.queues.iter_mut().enumerate() {
            while let Some(batch) = queue.closed.pop_front_if(|b| b.opened < before) {
                expired.push((at, queue.partition.clone(), batch));
            }
            if queue.closed.is_empty()
                && let Some(batch) = queue.open.take_if(|b| b.opened < before)
            {
                expired.push((at, queue.partition.clone(), batch));
            }
        }
        expired
    }

    /// Fails everything that is queued, and what comes later.
    pub(super) fn abandon(&self) {
        let batches: Vec<(usize, Batch)> = {
            let mut state = self.state.lock();
            state.closed = true;
            let take = |(at, q): (usize, &mut Queue)| {
                let batches: Vec<Batch> = q.closed.drain(..).chain(q.open.take()).collect();
                batches.into_iter().map(move |b| (at, b))
            };
            state.queues.iter_mut().enumerate().flat_map(take).collect()
        };
        for (queue, batch) in batches {
            self.finish(queue, &batch, Err(ClientError::Stopped("producer")), false);
        }
        let in_flight: Vec<Arc<Outcome>> = self.state.lock().unfinished.values().cloned().collect();
        for outcome in in_flight {
            outcome.set(Err(ClientError::Stopped("producer")));
        }
        self.memory.close();
    }
}

impl State {
    fn queue(&mut self, topic: &Arc<str>, partition: i32) -> usize {
        let partition = TopicPartition {
            topic: Arc::clone(topic),
            partition,
        };
        if let Some(at) = self.by_partition.get(&partition) {
            return *at;
        }
        let at = self.queues.len();
        self.queues.push(Queue {
            partition: partition.clone(),
            open: None,
            closed: VecDeque::new(),
            in_flight: 0,
            next_sequence: 0,
            established: false,
            pause_until: None,
        });
        self.by_partition.insert(partition, at);
        at
    }

    /// Opens a batch if none is open; gives its id then.
    fn open(&mut self, at: usize) -> Option<u64> {
        if self.queues[at].open.is_some() {
            return None;
        }
        let id = self.next_batch_id;
        self.next_batch_id += 1;
        self.queues[at].open = Some(Batch::open(id, Instant::now()));
        Some(id)
    }

    fn sticky_partition(&mut self, topic: &Arc<str>, partitions: i32) -> i32 {
        match self.sticky.get(topic) {
            Some(partition) if *partition < partitions => *partition,
            _ => self.rotate(topic, partitions),
        }
    }

    /// Another sticky partition; the batch counter spreads topics and batches well enough.
    fn rotate(&mut self, topic: &Arc<str>, partitions: i32) -> i32 {
        let mixed = self.next_batch_id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let partition = i32::try_from(mixed).unwrap_or(0) % partitions.max(1);
        self.sticky.insert(Arc::clone(topic), partition);
        partition
    }
}

enum Due {
    Now,
    At(Instant),
    Never,
}

impl Queue {
    /// Closes the open batch when another record of `size` bytes has no place in it.
    fn close_if_full(&mut self, size: usize, batch_bytes: usize) -> bool {
        let Some(batch) = self
            .open
            .take_if(|b| b.count > 0 && b.len() + size > batch_bytes)
        else {
            return false;
        };
        self.closed.push_back(batch);
        true
    }

    fn due(
        &self,
        now: Instant,
        linger: Duration,
        flush_below: u64,
        is_tight: bool,
        max_in_flight: usize,
    ) -> Due {
        let is_retry = self.closed.front().is_some_and(|b| b.retried);
        let allowed = if self.established { max_in_flight } else { 1 };
        if self.in_flight >= allowed || (is_retry && self.in_flight > 0) {
            return Due::Never; // an answer wakes the sender
        }
        let ready = match (self.closed.front(), &self.open) {
            (Some(_), _) => now,
            (None, Some(open)) if open.id < flush_below || is_tight => now,
            (None, Some(open)) => open.opened + linger,
            (None, None) => return Due::Never,
        };
        let ready = self.pause_until.map_or(ready, |pause| pause.max(ready));
        if ready <= now {
            Due::Now
        } else {
            Due::At(ready)
        }
    }

    fn take(&mut self, at: usize) -> Option<Drained> {
        let batch = self.closed.pop_front().or_else(|| self.open.take())?;
        self.in_flight += 1;
        self.pause_until = None;
        let sequence = self.next_sequence;
        if batch.stamp.is_none() {
            self.next_sequence = super::batch::advance_sequence(sequence, batch.count);
        }
        Some(Drained {
            queue: at,
            partition: self.partition.clone(),
            batch,
            sequence,
        })
    }
}

impl Batch {
    fn push(&mut self, record: &ProducerRecord, size: usize, now_ms: i64) {
        let Records::Open(builder) = &mut self.records else {
            return;
        }; // not reached: only open batches are pushed to
        let timestamp = record.timestamp.unwrap_or(now_ms);
        let headers: Vec<(&[u8], Option<&[u8]>)> = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_deref()))
            .collect();
        builder.push_with_headers(
            timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            &headers,
        );
        self.count += 1;
        self.memory += size;
    }
}
