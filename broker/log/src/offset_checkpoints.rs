//! What do the checkpoints of a log directory say at present?
//!
//! They name partitions by their topics' names, so (A) a log is made under a name only when no checkpoint speaks of an
//! earlier log of that name any more: it would vouch for what is not there. (B) Nothing is written that is there already.

use std::collections::{BTreeMap, HashMap};

use types::{Offset, TopicPartition};

use crate::vfs::Vfs;
use crate::{LogDir, LogError, OffsetCheckpoint};

/// The checkpoints of a log directory, as they were written last.
#[derive(Debug)]
pub struct OffsetCheckpoints<V: Vfs> {
    dir: LogDir<V>,
    /// None for one that may be anything, a damaged file say.
    written: HashMap<OffsetCheckpoint, BTreeMap<TopicPartition, Offset>>,
}

impl<V: Vfs> OffsetCheckpoints<V> {
    /// Those that the last process left.
    ///
    /// # Errors
    /// An I/O error; a damaged file is none, it counts as empty whenever it is read.
    pub fn read(dir: LogDir<V>) -> Result<Self, LogError> {
        let mut written = HashMap::new();
        for which in OffsetCheckpoint::ALL {
            match dir.read_checkpoint(which) {
                Ok(offsets) => {
                    written.insert(which, offsets.into_iter().collect());
                }
                Err(LogError::Format { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { dir, written })
    }

    /// Replaces a checkpoint, if it differs from what was written last.
    ///
    /// # Errors
    /// An I/O error.
    pub fn write(
        &mut self,
        which: OffsetCheckpoint,
        offsets: BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), LogError> {
        if self.written.get(&which) == Some(&offsets) {
            return Ok(());
        }
        // Should it fail, nobody knows what is there.
        self.written.remove(&which);
        let lines = offsets.iter().map(|(name, offset)| (name, *offset));
        self.dir.write_checkpoint(which, lines)?;
        self.written.insert(which, offsets);
        Ok(())
    }

    /// Sees to it that no checkpoint speaks of `name`, before a log is made there.
    ///
    /// # Errors
    /// An I/O error.
    pub fn forget(&mut self, name: &TopicPartition) -> Result<(), LogError> {
        for which in OffsetCheckpoint::ALL {
            let mut offsets = match self.written.get(&which) {
                Some(known) => known.clone(),
                // A write failed: the file may be the old one.
                None => match self.dir.read_checkpoint(which) {
                    Ok(offsets) => offsets.into_iter().collect(),
                    Err(LogError::Format { .. }) => continue,
                    Err(error) => return Err(error),
                },
            };
            if offsets.remove(name).is_none() {
                continue;
            }
            self.write(which, offsets)?;
        }
        Ok(())
    }
}
