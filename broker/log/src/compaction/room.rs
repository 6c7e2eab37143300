//! Is there room on the disk for a copy, beside those that others are making?

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::backlog::{Plan, Source};
use super::{CompactionSettings, Stop};
use crate::LogError;
use crate::vfs::Vfs;

/// Bytes of a disk that copies may still take, by all of its cleaners. A copy counts as a whole until it is done, with
/// what is written of it already: rather one cleaner waits than a disk is full.
#[derive(Debug, Clone, Default)]
pub struct Room(Arc<Mutex<u64>>);

impl Room {
    pub(crate) fn taken(&self) -> MutexGuard<'_, u64> {
        // It is whole after every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one copy, while it lives.
#[derive(Debug)]
pub(super) struct Reserved<'r> {
    room: &'r Room,
    bytes: u64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        *self.room.taken() -= self.bytes;
    }
}

/// Reserves room for a copy of the group beside it, should compaction remove nothing: a disk that is full refuses
/// producers.
pub(super) fn reserve<'r, V: Vfs>(
    plan: &Plan<V>,
    group: &[Source],
    settings: &'r CompactionSettings,
) -> Result<Reserved<'r>, Stop> {
    let room = &settings.room;
    // What a cleaner that is done gives back, it has written: that is looked at under the same lock.
    let mut taken = room.taken();
    let free = plan
        .vfs
        .free_bytes(&plan.dir)
        .map_err(|source| LogError::io("look at", &plan.dir, source))?
        .saturating_sub(*taken);
    let bytes = plan.room_for(group);
    let needed = bytes.saturating_add(settings.left_free);
    if needed > free {
        return Err(Stop::NoRoom { needed, free });
    }
    *taken += bytes;
    Ok(Reserved { room, bytes })
}
