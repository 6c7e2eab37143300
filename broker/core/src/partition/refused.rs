//! Which batches of idempotent producers were refused on a connection, so that the ones behind them have to wait?
//!
//! A log that does not know a producer takes any sequence number (KIP-360). Of several batches in flight the first may come
//! before this broker leads, and the second after: taken, it would be a beginning, and a client that hears of the second's
//! acknowledgement may conclude that the first was written (librdkafka does), which is a lost record. So a connection
//! remembers what was refused on it. (a) A batch behind a refused one of the same producer and epoch is refused too, where
//! the log knows nothing of the producer; where it does, its ordinary check decides. (b) Only the last
//! [`BEHIND`] refused batches count: a client that has sent more without the refused one will not send that again, say because
//! it gave up on a topic that was deleted, and is taken at its word. (c) What is not remembered is as in Kafka.

use std::collections::VecDeque;
use std::sync::Arc;

use types::{BatchHeader, ProducerEpoch, ProducerId, TopicId};

/// Partitions and producers that are remembered for a connection: a producer has one connection to a broker, and refused
/// batches in some partitions of it at a time. The one that was refused the longest ago is forgotten first.
pub const REMEMBERED: usize = 64;

/// Batches in flight behind a refused one: an idempotent client has at most five on a connection.
pub const BEHIND: usize = 4;

/// A batch as its client sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentBatch<'a> {
    topic: (&'a str, TopicId),
    partition: i32,
    producer: (ProducerId, ProducerEpoch),
    sequence: i32,
}

impl<'a> SentBatch<'a> {
    /// The batch with this header for a partition, as the request names it; `None` without a sequence number.
    #[must_use]
    pub fn new(topic: (&'a str, TopicId), partition: i32, header: &BatchHeader) -> Option<Self> {
        Some(Self {
            topic,
            partition,
            producer: header.producer()?,
            sequence: header.base_sequence,
        })
        .filter(|batch| batch.sequence >= 0)
    }
}

#[derive(Debug)]
struct Refused {
    topic: (Arc<str>, TopicId),
    partition: i32,
    producer: (ProducerId, ProducerEpoch),
    /// First sequence numbers, in the order of the refusals; [`BEHIND`] at most.
    sequences: VecDeque<i32>,
}

impl Refused {
    /// Whether it is about the same producer, in whichever epoch, and partition.
    fn is_about(&self, batch: &SentBatch<'_>) -> bool {
        self.producer.0 == batch.producer.0
            && self.partition == batch.partition
            && self.topic.1 == batch.topic.1
            && *self.topic.0 == *batch.topic.0
    }
}

/// Whether sequence number `one` comes after `other`; they wrap at 2^31.
const fn is_after(one: i32, other: i32) -> bool {
    let distance = one.wrapping_sub(other) & i32::MAX;
    distance > 0 && distance <= i32::MAX / 2
}

/// What was refused on one connection.
#[derive(Debug, Default)]
pub struct RefusedBatches {
    /// The one that was refused last stands last.
    all: VecDeque<Refused>,
}

impl RefusedBatches {
    fn find(&self, batch: &SentBatch<'_>) -> Option<usize> {
        self.all.iter().position(|refused| refused.is_about(batch))
    }

    /// Whether a batch before this one was refused, and has not come again.
    #[must_use]
    pub fn is_behind_refused(&self, batch: &SentBatch<'_>) -> bool {
        let refused = self.find(batch).map(|at| &self.all[at]);
        refused.is_some_and(|refused| {
            let mut sequences = refused.sequences.iter();
            refused.producer == batch.producer
                && sequences.any(|first| is_after(batch.sequence, *first))
        })
    }

    /// The batch was refused with an error after which its client sends it again.
    pub fn on_refused(&mut self, batch: &SentBatch<'_>) {
        let known = self.find(batch).and_then(|at| self.all.remove(at));
        if known.is_none() && self.all.len() == REMEMBERED {
            self.all.pop_front();
        }
        let mut refused = match known {
            Some(known) if known.producer.1 > batch.producer.1 => known,
            Some(known) if known.producer == batch.producer => known,
            Some(_) | None => Refused {
                topic: (batch.topic.0.into(), batch.topic.1),
                partition: batch.partition,
                producer: batch.producer,
                sequences: VecDeque::with_capacity(BEHIND),
            },
        };
        if refused.producer == batch.producer {
            if refused.sequences.len() == BEHIND {
                refused.sequences.pop_front();
            }
            refused.sequences.push_back(batch.sequence);
        }
        self.all.push_back(refused);
    }

    /// The batch was appended, or had been: nothing of its producer up to it is missing.
    pub fn on_appended(&mut self, batch: &SentBatch<'_>) {
        let Some(at) = self.find(batch) else {
            return;
        };
        let refused = &mut self.all[at];
        if refused.producer == batch.producer {
            refused
                .sequences
                .retain(|first| is_after(*first, batch.sequence));
        }
        if refused.sequences.is_empty() || refused.producer.1 < batch.producer.1 {
            self.all.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BEHIND, REMEMBERED, RefusedBatches, SentBatch};
    use types::{ProducerEpoch, ProducerId, TopicId};

    const fn batch(partition: i32, epoch: i16, sequence: i32) -> SentBatch<'static> {
        SentBatch {
            topic: ("t", TopicId::ZERO),
            partition,
            producer: (ProducerId(7), ProducerEpoch(epoch)),
            sequence,
        }
    }

    fn refused(sequences: &[i32]) -> RefusedBatches {
        let mut all = RefusedBatches::default();
        for sequence in sequences {
            all.on_refused(&batch(0, 0, *sequence));
        }
        all
    }

    #[test]
    fn a_batch_waits_for_the_refused_one_before_it_until_that_is_appended() {
        let mut all = refused(&[10, 20]);
        for (sequence, waits) in [(0, false), (10, false), (11, true), (20, true), (99, true)] {
            let batch = batch(0, 0, sequence);
            assert_eq!(all.is_behind_refused(&batch), waits, "{sequence}");
        }
        all.on_appended(&batch(0, 0, 10));
        assert!(!all.is_behind_refused(&batch(0, 0, 20)));
        assert!(all.is_behind_refused(&batch(0, 0, 30)));
        all.on_appended(&batch(0, 0, 20));
        assert!(!all.is_behind_refused(&batch(0, 0, 30)));
        assert!(all.all.is_empty());
    }

    #[test]
    fn sequence_numbers_wrap() {
        let all = refused(&[i32::MAX - 1]);
        for (sequence, waits) in [
            (i32::MAX - 2, false),
            (i32::MAX, true),
            (0, true),
            (5, true),
        ] {
            let batch = batch(0, 0, sequence);
            assert_eq!(all.is_behind_refused(&batch), waits, "{sequence}");
        }
        assert!(!refused(&[0]).is_behind_refused(&batch(0, 0, i32::MAX)));
    }

    #[test]
    fn other_partitions_topics_producers_and_epochs_do_not_wait() {
        let all = refused(&[0]);
        assert!(all.is_behind_refused(&batch(0, 0, 1)));
        let of = batch(0, 0, 1);
        let others = [
            batch(1, 0, 1),
            batch(0, 1, 1),
            SentBatch {
                topic: ("u", TopicId::ZERO),
                ..of
            },
            SentBatch {
                topic: ("t", TopicId([1; 16])),
                ..of
            },
            SentBatch {
                producer: (ProducerId(8), ProducerEpoch(0)),
                ..of
            },
        ];
        for other in others {
            assert!(!all.is_behind_refused(&other), "{other:?}");
        }
    }

    #[test]
    fn an_epoch_ends_what_was_refused_in_the_one_before() {
        let mut all = refused(&[3]);
        all.on_appended(&batch(0, 1, 0));
        assert!(all.all.is_empty());
        let mut all = refused(&[3]);
        all.on_refused(&batch(0, 1, 0));
        assert!(all.is_behind_refused(&batch(0, 1, 1)));
        // One that is late says nothing of the epoch that is.
        all.on_refused(&batch(0, 0, 4));
        assert!(all.is_behind_refused(&batch(0, 1, 1)));
        assert!(!all.is_behind_refused(&batch(0, 0, 5)));
    }

    /// At most five batches are in flight: the last of them still waits for the first, and a client that goes round with later
    /// ones only is let in, in their order.
    #[test]
    fn a_client_that_will_not_send_the_refused_batch_again_is_taken_at_its_word() {
        let mut all = refused(&[0]);
        for sequence in 1..=BEHIND {
            let behind = batch(0, 0, i32::try_from(sequence).unwrap());
            assert!(all.is_behind_refused(&behind), "{behind:?}");
            all.on_refused(&behind);
        }
        // 0 is not remembered any more, 1 to 4 are.
        assert!(!all.is_behind_refused(&batch(0, 0, 1)));
        assert!(all.is_behind_refused(&batch(0, 0, 2)));
        let mut all = refused(&[0]);
        let mut tries = 0;
        while all.is_behind_refused(&batch(0, 0, 8)) {
            all.on_refused(&batch(0, 0, 8));
            tries += 1;
        }
        assert_eq!(tries, BEHIND);
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_are_too_many() {
        let mut all = RefusedBatches::default();
        let last = i32::try_from(REMEMBERED).unwrap();
        for partition in 0..last {
            all.on_refused(&batch(partition, 0, 0));
        }
        all.on_refused(&batch(0, 0, 0));
        all.on_refused(&batch(last, 0, 0));
        assert_eq!(all.all.len(), REMEMBERED);
        assert!(all.is_behind_refused(&batch(0, 0, 1)));
        assert!(!all.is_behind_refused(&batch(1, 0, 1)));
        assert!(all.is_behind_refused(&batch(last, 0, 1)));
    }
}
