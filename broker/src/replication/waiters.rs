//! Who waits for the high watermark, and how are they woken without timers?
//!
//! Both lists live under the partition's lock. A waiter that gave up (its receiver is gone) is dropped when it is
//! met; a produce's own deadline lies with its task.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};
use types::{ErrorCode, Offset};

/// How a waiting produce ends.
pub(crate) type Outcome = Result<(), ErrorCode>;

/// Produces that wait until the log is replicated (or fsynced) up to their end, in log order.
#[derive(Debug, Default)]
pub(crate) struct ProduceWaiters {
    queue: VecDeque<(Offset, oneshot::Sender<Outcome>)>,
}

impl ProduceWaiters {
    /// Adds a produce whose records end at `end`; ends never go down, since appends happen in order.
    pub(crate) fn push(&mut self, end: Offset) -> oneshot::Receiver<Outcome> {
        // Those in front that gave up: the queue is as long as the produces that still wait, plus some in between.
        while self.queue.front().is_some_and(|(_, tx)| tx.is_closed()) {
            self.queue.pop_front();
        }
        let (tx, rx) = oneshot::channel();
        self.queue.push_back((end, tx));
        rx
    }

    /// Ends all whose end is at or below `reached` with `outcome`.
    pub(crate) fn complete(&mut self, reached: Offset, outcome: Outcome) {
        while self.queue.front().is_some_and(|(end, _)| *end <= reached) {
            if let Some((_, tx)) = self.queue.pop_front() {
                // The produce may have timed out meanwhile.
                let _ = tx.send(outcome);
            }
        }
    }

    /// Ends all with `code`: leadership was lost, the topic deleted, or the log failed.
    pub(crate) fn fail_all(&mut self, code: ErrorCode) {
        for (_, tx) in self.queue.drain(..) {
            // The produce may have timed out meanwhile.
            let _ = tx.send(Err(code));
        }
    }
}

/// DeleteRecords requests that wait until the logs of all live replicas begin at their offset or later.
#[derive(Debug, Default)]
pub(crate) struct DeleteWaiters {
    waiting: Vec<(Offset, oneshot::Sender<Outcome>)>,
}

impl DeleteWaiters {
    /// Adds one that wants everything below `offset` gone.
    pub(crate) fn push(&mut self, offset: Offset) -> oneshot::Receiver<Outcome> {
        self.waiting.retain(|(_, tx)| !tx.is_closed());
        let (tx, rx) = oneshot::channel();
        self.waiting.push((offset, tx));
        rx
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Ends those whose offset is at or below `low_watermark`.
    pub(crate) fn complete(&mut self, low_watermark: Offset) {
        for (_, tx) in (self.waiting).extract_if(.., |(offset, _)| *offset <= low_watermark) {
            // The request may have timed out meanwhile.
            let _ = tx.send(Ok(()));
        }
    }

    /// Ends all with `code`: leadership was lost or the topic deleted.
    pub(crate) fn fail_all(&mut self, code: ErrorCode) {
        for (_, tx) in self.waiting.drain(..) {
            // The request may have timed out meanwhile.
            let _ = tx.send(Err(code));
        }
    }
}

/// Fetches that wait until something beyond their offset may be read.
#[derive(Debug, Default)]
pub(crate) struct FetchWaiters {
    waiting: Vec<(Offset, Arc<Notify>)>,
}

impl FetchWaiters {
    /// Adds a fetch that found nothing from `offset` on. A fetch is in the list once.
    pub(crate) fn push(&mut self, offset: Offset, waiter: &Arc<Notify>) {
        // One strong count is ours: the fetch ended.
        self.waiting
            .retain(|(_, other)| Arc::strong_count(other) > 1 && !Arc::ptr_eq(other, waiter));
        self.waiting.push((offset, Arc::clone(waiter)));
    }

    /// Wakes and forgets those for whom `readable_end` means something to read.
    pub(crate) fn wake_below(&mut self, readable_end: Offset) {
        self.waiting.retain(|(offset, waiter)| {
            let wait = *offset >= readable_end;
            if !wait {
                waiter.notify_one();
            }
            wait
        });
    }

    /// Wakes all: what they asked of changed.
    pub(crate) fn wake_all(&mut self) {
        for (_, waiter) in self.waiting.drain(..) {
            waiter.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_produces_up_to_the_high_watermark_complete() {
        let mut waiters = ProduceWaiters::default();
        let mut first = waiters.push(Offset(10));
        let mut second = waiters.push(Offset(20));
        waiters.complete(Offset(19), Ok(()));
        assert_eq!(first.try_recv(), Ok(Ok(())));
        assert!(second.try_recv().is_err());
        waiters.fail_all(ErrorCode::NotLeaderOrFollower);
        assert_eq!(second.try_recv(), Ok(Err(ErrorCode::NotLeaderOrFollower)));
    }

    #[test]
    fn only_deletions_up_to_the_low_watermark_complete_in_any_order() {
        let mut waiters = DeleteWaiters::default();
        let mut late = waiters.push(Offset(20));
        let mut early = waiters.push(Offset(10));
        waiters.complete(Offset(10));
        assert_eq!(early.try_recv(), Ok(Ok(())));
        assert!(late.try_recv().is_err() && !waiters.is_empty());
        waiters.fail_all(ErrorCode::NotLeaderOrFollower);
        assert_eq!(late.try_recv(), Ok(Err(ErrorCode::NotLeaderOrFollower)));
        assert!(waiters.is_empty());
    }

    #[tokio::test]
    async fn a_fetch_is_woken_once_and_only_beyond_its_offset() {
        let mut waiters = FetchWaiters::default();
        let waiter = Arc::new(Notify::new());
        waiters.push(Offset(5), &waiter);
        waiters.push(Offset(5), &waiter);
        waiters.wake_below(Offset(5));
        assert_eq!(waiters.waiting.len(), 1, "nothing beyond offset 5 yet");
        waiters.wake_below(Offset(6));
        assert!(waiters.waiting.is_empty());
        waiter.notified().await;
    }
}
