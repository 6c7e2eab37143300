//! How are readers at the end of the log served without touching the file?
//!
//! Each partition keeps the chunks it appended last, all partitions together within one byte budget. A chunk is
//! what one append wrote: whole batches in a buffer of its own, so its length is what it costs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use types::{BatchIter, Offset};

/// The bytes that all tail caches of a broker may hold together.
#[derive(Debug)]
pub(crate) struct TailBudget {
    used: AtomicUsize,
    limit: usize,
    /// What one partition may hold of it, so that a busy one leaves room.
    partition_limit: usize,
}

impl TailBudget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            limit,
            partition_limit: (limit / 4).max(1 << 20),
        })
    }

    #[cfg(test)]
    fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Chunk {
    base: Offset,
    next: Offset,
    bytes: Bytes,
    appended_ms: i64,
}

/// The last chunks of one log, without a gap up to its end.
#[derive(Debug)]
pub(crate) struct TailCache {
    budget: Arc<TailBudget>,
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

impl TailCache {
    pub(crate) const fn new(budget: Arc<TailBudget>) -> Self {
        Self {
            budget,
            chunks: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Keeps what was appended at `[base, next)`, dropping older chunks for it.
    pub(crate) fn push(&mut self, now_ms: i64, base: Offset, next: Offset, bytes: Bytes) {
        let len = bytes.len();
        if self.chunks.back().is_some_and(|last| last.next != base) {
            // What lies between was appended while another broker led, or found no room.
            self.clear();
        }
        while !self.chunks.is_empty() && !self.fits(len) {
            self.pop_oldest();
        }
        if !self.fits(len) {
            // The others hold the budget: an expiry will free it, until then this partition reads its file.
            return;
        }
        self.budget.used.fetch_add(len, Ordering::Relaxed);
        self.bytes += len;
        self.chunks.push_back(Chunk {
            base,
            next,
            bytes,
            appended_ms: now_ms,
        });
    }

    fn fits(&self, len: usize) -> bool {
        self.bytes + len <= self.budget.partition_limit
            && self.budget.used.load(Ordering::Relaxed) + len <= self.budget.limit
    }

    fn pop_oldest(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.bytes -= chunk.bytes.len();
            self.budget
                .used
                .fetch_sub(chunk.bytes.len(), Ordering::Relaxed);
        }
    }

    /// Drops chunks appended before `before_ms`.
    pub(crate) fn expire(&mut self, before_ms: i64) {
        while self
            .chunks
            .front()
            .is_some_and(|chunk| chunk.appended_ms < before_ms)
        {
            self.pop_oldest();
        }
    }

    /// Drops everything: the log was truncated or closed.
    pub(crate) fn clear(&mut self) {
        while !self.chunks.is_empty() {
            self.pop_oldest();
        }
    }

    /// The first offset that is here, if any.
    pub(crate) fn start(&self) -> Option<Offset> {
        self.chunks.front().map(|chunk| chunk.base)
    }

    /// Whole batches from the one that contains `from`, up to `end` (exclusive) and about `max_bytes`; the first
    /// batch is given even if it is larger. Gives the offset after the last one as well. `None` if `from` is not
    /// here.
    pub(crate) fn read(
        &self,
        from: Offset,
        end: Offset,
        max_bytes: usize,
    ) -> Option<(Vec<Bytes>, Offset)> {
        if self.start().is_none_or(|start| from < start) {
            return None;
        }
        let first = self.chunks.partition_point(|chunk| chunk.next <= from);
        let (mut out, mut taken, mut at) = (Vec::new(), 0, from);
        for chunk in self.chunks.range(first..) {
            if chunk.base >= end {
                break;
            }
            let (begin, stop, next, full) = whole_batches(chunk, at, end, max_bytes, taken);
            if stop > begin {
                taken += stop - begin;
                out.push(chunk.bytes.slice(begin..stop));
                at = next;
            }
            if full {
                break;
            }
        }
        Some((out, at))
    }
}

/// The byte range of a chunk's batches that lie in `[from, end)` and fit, the offset after them, and whether the
/// limit is reached.
fn whole_batches(
    chunk: &Chunk,
    from: Offset,
    end: Offset,
    max_bytes: usize,
    taken: usize,
) -> (usize, usize, Offset, bool) {
    let whole = chunk.base >= from && chunk.next <= end;
    if whole && taken + chunk.bytes.len() <= max_bytes {
        return (0, chunk.bytes.len(), chunk.next, false);
    }
    let (mut begin, mut stop, mut next) = (None, 0, from);
    for batch in BatchIter::new(&chunk.bytes) {
        // What was appended was verified before.
        let Ok((header, bytes)) = batch else { break };
        let after = header.next_offset();
        if after <= from {
            stop += bytes.len();
            continue;
        }
        let start = *begin.get_or_insert(stop);
        let total = taken + (stop - start) + bytes.len();
        if after > end || (total > max_bytes && taken + (stop - start) > 0) {
            return (start, stop, next, true);
        }
        stop += bytes.len();
        next = after;
    }
    (begin.unwrap_or(stop), stop, next, false)
}

impl Drop for TailCache {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch header without records, of `size` bytes, for one record at `base`.
    fn batch(base: i64, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        let length = i32::try_from(size - types::batch::LOG_OVERHEAD).unwrap();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        bytes
    }

    fn cache_of(budget: &Arc<TailBudget>, chunks: &[&[i64]]) -> TailCache {
        let mut cache = TailCache::new(Arc::clone(budget));
        for chunk in chunks {
            let bytes: Vec<u8> = chunk.iter().flat_map(|base| batch(*base, 100)).collect();
            let (first, last) = (chunk[0], chunk[chunk.len() - 1]);
            cache.push(0, Offset(first), Offset(last + 1), bytes.into());
        }
        cache
    }

    #[track_caller]
    fn check(from: i64, end: i64, max_bytes: usize, expected: Option<(usize, i64)>) {
        let budget = TailBudget::new(1 << 20);
        let cache = cache_of(&budget, &[&[5, 6], &[7], &[8, 9, 10]]);
        let got = cache
            .read(Offset(from), Offset(end), max_bytes)
            .map(|(chunks, next)| (chunks.iter().map(Bytes::len).sum(), next.0));
        assert_eq!(got, expected);
    }

    #[test]
    fn reads_give_whole_batches_between_the_offset_and_the_end() {
        check(4, 11, 1000, None);
        check(5, 11, 1000, Some((600, 11)));
        check(6, 11, 1000, Some((500, 11)));
        check(6, 9, 1000, Some((300, 9)));
        check(11, 11, 1000, Some((0, 11)));
    }

    #[test]
    fn reads_stop_at_the_byte_limit_but_give_one_batch_at_least() {
        check(5, 11, 250, Some((200, 7)));
        check(5, 11, 10, Some((100, 6)));
        check(8, 11, 10, Some((100, 9)));
    }

    #[test]
    fn what_lies_before_a_gap_is_dropped() {
        let budget = TailBudget::new(1 << 20);
        let cache = cache_of(&budget, &[&[5, 6], &[9, 10]]);
        assert_eq!(cache.start(), Some(Offset(9)));
        assert_eq!(cache.read(Offset(7), Offset(11), 1000), None);
        assert_eq!(budget.used(), 200);
    }

    #[test]
    fn the_budget_is_shared_and_given_back() {
        let budget = TailBudget::new(1000);
        let mut first = cache_of(&budget, &[&[0, 1, 2, 3, 4, 5]]);
        let second = cache_of(&budget, &[&[0, 1, 2, 3, 4]]);
        assert_eq!(second.start(), None, "no room left by the first");
        assert_eq!(budget.used(), 600);
        first.expire(1);
        assert_eq!(budget.used(), 0);
        drop((first, second));
    }
}
