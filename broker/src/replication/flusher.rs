//! Who makes logs durable, and how do those who wait for it learn of it?
//!
//! Dedicated threads take replicas from a queue. With `durability: fsync` every append queues its replica, and all
//! appends until the flush begins share it; otherwise a replica is queued when it has [`UNFLUSHED_BYTES`] or by the
//! periodic sweep, so that the page cache is written back steadily instead of in one stall.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::{Condvar, Mutex};

use super::links::Links;
use super::replica::Replica;

/// Appended bytes after which a replica is flushed in the background.
pub(crate) const UNFLUSHED_BYTES: u64 = 8 << 20;

/// Replicas that wait for a flush. Bounded by the replicas: each is in it once.
#[derive(Debug, Default)]
pub(crate) struct FlushQueue {
    queue: Mutex<Queue>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Arc<Replica>>,
    stopped: bool,
}

impl FlushQueue {
    /// Queues the replica unless it is queued already.
    pub(crate) fn request(&self, replica: &Arc<Replica>) {
        if replica.set_flush_queued(true) {
            return;
        }
        self.queue.lock().waiting.push_back(Arc::clone(replica));
        self.ready.notify_one();
    }

    /// Ends the threads once the queue is empty.
    pub(crate) fn stop(&self) {
        self.queue.lock().stopped = true;
        self.ready.notify_all();
    }

    fn next(&self) -> Option<Arc<Replica>> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(replica) = queue.waiting.pop_front() {
                return Some(replica);
            }
            if queue.stopped {
                return None;
            }
            self.ready.wait(&mut queue);
        }
    }
}

/// Flushes queued replicas until [`FlushQueue::stop`].
pub(crate) fn run(shared: &super::shared::Shared, links: &Weak<Links>) {
    while let Some(replica) = shared.flush.next() {
        replica.set_flush_queued(false);
        replica.flush(links);
    }
}

impl Replica {
    /// Makes the log durable up to its present end and tells those who wait for that.
    pub(crate) fn flush(&self, links: &Weak<Links>) {
        let handle = {
            let mut state = self.lock();
            if state.closed {
                return;
            }
            state.unflushed_bytes = 0;
            state.log.flush_handle()
        };
        let flushed = match handle {
            Ok(handle) => handle.flush(),
            Err(error) => return self.fail(&error),
        };
        let now_ms = self.now_ms();
        let mut state = self.lock();
        if state.closed {
            // Its directory may be that of another log by now.
            return;
        }
        if let Err(error) = state.log.finish_flush(flushed) {
            drop(state);
            return self.fail(&error);
        }
        let durable = state.log.recovery_point();
        state.flushes.complete(durable, Ok(()));
        if let Some(leader) = state.core.leader_mut() {
            let moved = leader.on_flushed(now_ms, durable);
            state.after_move(moved);
        } else if self.shared.await_flush
            && let Some(leader) = state.core.follower().and_then(|f| f.leader())
        {
            let progress = self.progress(&state, durable.min(state.log.log_end_offset()));
            drop(state);
            if let Some(links) = links.upgrade() {
                links.progress(leader, &progress);
            }
        }
    }
}
