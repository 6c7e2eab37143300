//! Who is told of a new state of the metadata, and how?
//!
//! A reader that is slower than the metadata changes skips states, never changes: each difference is computed from
//! the state that the reader saw last. So nothing queues up for anybody and applying entries waits for nobody.

use std::collections::VecDeque;
use std::sync::Arc;

use broker_core::metadata::{MetadataDelta, MetadataImage, decode_records};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::quorum::{Freeze, Machine, MachineError};

/// Batches kept for observers that were away for a moment; others get a snapshot.
const TAIL_BATCHES: usize = 4096;
/// Bytes of the batches kept; a batch is alone worth a few KiB.
const TAIL_BYTES: usize = 8 * 1024 * 1024;

/// The newest committed metadata known on this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MetadataPublisher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    image: watch::Sender<Arc<MetadataImage>>,
    tail: Mutex<Tail>,
}

/// The last batches that led to the image.
#[derive(Debug)]
struct Tail {
    batches: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// Every batch from this offset on is here.
    complete_from: u64,
}

impl Default for MetadataPublisher {
    fn default() -> Self {
        Self(Arc::new(Inner {
            image: watch::Sender::new(Arc::new(MetadataImage::empty())),
            tail: Mutex::new(Tail {
                batches: VecDeque::new(),
                bytes: 0,
                complete_from: 0,
            }),
        }))
    }
}

impl MetadataPublisher {
    /// The newest state.
    #[must_use]
    pub fn image(&self) -> Arc<MetadataImage> {
        self.0.image.borrow().clone()
    }

    /// The newest state, and when there is a newer one.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.0.image.subscribe()
    }

    /// States from now on, each with its difference from the one before; the first one with its difference from
    /// nothing.
    #[must_use]
    pub fn stream(&self) -> MetadataStream {
        let mut images = self.0.image.subscribe();
        images.mark_changed();
        MetadataStream {
            images,
            seen: Arc::new(MetadataImage::empty()),
        }
    }

    fn publish(&self, offset: u64, records: Bytes, image: MetadataImage) {
        let mut tail = self.0.tail.lock();
        tail.bytes += records.len();
        tail.batches.push_back((offset, records));
        while tail.batches.len() > TAIL_BATCHES || tail.bytes > TAIL_BYTES {
            let Some((dropped, records)) = tail.batches.pop_front() else {
                break;
            };
            tail.bytes -= records.len();
            tail.complete_from = dropped + 1;
        }
        // Within the lock, so that the tail never lacks a batch of the image.
        self.0.image.send_replace(Arc::new(image));
    }

    fn reset(&self, image: MetadataImage) {
        let mut tail = self.0.tail.lock();
        tail.batches.clear();
        tail.bytes = 0;
        tail.complete_from = image.offset() + 1;
        self.0.image.send_replace(Arc::new(image));
    }

    /// The batches from offset `from` on; `None` when some of them are not kept any more.
    pub(crate) fn batches_from(&self, from: u64) -> Option<Vec<(u64, Bytes)>> {
        let tail = self.0.tail.lock();
        if from < tail.complete_from {
            return None;
        }
        let start = tail.batches.partition_point(|(offset, _)| *offset < from);
        Some(tail.batches.range(start..).cloned().collect())
    }
}

/// States of the metadata in order, each with what changed.
#[derive(Debug)]
pub struct MetadataStream {
    images: watch::Receiver<Arc<MetadataImage>>,
    seen: Arc<MetadataImage>,
}

impl MetadataStream {
    /// Waits for a state that was not seen yet; `None` when there will be none, because the node stops.
    pub async fn next(&mut self) -> Option<(Arc<MetadataImage>, Arc<MetadataDelta>)> {
        self.images.changed().await.ok()?;
        let image = self.images.borrow_and_update().clone();
        let delta = MetadataDelta::between(&self.seen, &image);
        self.seen = image.clone();
        Some((image, Arc::new(delta)))
    }
}

/// The metadata as the quorum (or the observer) changes it; publishes every state.
#[derive(Debug)]
pub struct MetadataMachine {
    image: MetadataImage,
    publisher: MetadataPublisher,
}

impl MetadataMachine {
    /// No metadata yet.
    #[must_use]
    pub fn new(publisher: MetadataPublisher) -> Self {
        Self {
            image: MetadataImage::empty(),
            publisher,
        }
    }

    /// The offset of the last batch applied.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.image.offset()
    }
}

impl Machine for MetadataMachine {
    fn apply(&mut self, offset: u64, records: &Bytes) -> Result<(), MachineError> {
        let failed = |what: String| MachineError { offset, what };
        let decoded = decode_records(records).map_err(|error| failed(error.to_string()))?;
        self.image
            .apply(offset, &decoded)
            .map_err(|error| failed(error.to_string()))?;
        self.publisher
            .publish(offset, records.clone(), self.image.clone());
        Ok(())
    }

    fn freeze(&self) -> Freeze {
        let image = self.image.clone();
        Box::new(move || image.to_snapshot())
    }

    fn restore(&mut self, offset: u64, image: &Bytes) -> Result<(), MachineError> {
        self.image = MetadataImage::from_snapshot(image).map_err(|error| MachineError {
            offset,
            what: error.to_string(),
        })?;
        self.publisher.reset(self.image.clone());
        Ok(())
    }
}
