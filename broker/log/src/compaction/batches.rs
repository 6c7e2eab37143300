//! What are the batches of a segment, one after another, whole and sound?

use std::path::Path;

use bytes::Bytes;
use types::{BatchError, BatchHeader, BuildError, RecordError, RecordIter};

use crate::LogError;
use crate::scan::{Check, Scanner, Step};
use crate::timestamps::MAX_DECOMPRESSED;
use crate::vfs::VfsFile;

/// A batch of a segment.
#[derive(Debug)]
pub(crate) struct Batch<'p> {
    pub(crate) header: BatchHeader,
    pub(crate) bytes: Bytes,
    path: &'p Path,
    position: u64,
}

impl Batch<'_> {
    pub(crate) fn unreadable(&self, source: RecordError) -> LogError {
        LogError::Records {
            path: self.path.to_owned(),
            position: self.position,
            source,
        }
    }

    /// # Errors
    /// [`LogError::Records`].
    pub(crate) fn records(&self) -> Result<RecordIter, LogError> {
        RecordIter::new(&self.bytes, MAX_DECOMPRESSED).map_err(|source| self.unreadable(source))
    }

    pub(crate) fn unbuildable(&self, error: &BuildError) -> LogError {
        LogError::Format {
            path: self.path.to_owned(),
            reason: format!(
                "the batch at byte {} cannot be written anew: {error}",
                self.position
            ),
        }
    }
}

/// Reads a segment's batches in order, checking each one's CRC.
#[derive(Debug)]
pub(crate) struct Batches<'f, F> {
    file: &'f F,
    path: &'f Path,
    scanner: Scanner<'f, F>,
}

impl<'f, F: VfsFile> Batches<'f, F> {
    /// The batches in the first `size` bytes of the file, read `window` bytes at a time.
    pub(crate) const fn new(file: &'f F, path: &'f Path, size: u64, window: usize) -> Self {
        Self {
            file,
            path,
            scanner: Scanner::new(file, path, 0, size, window),
        }
    }

    /// The next batch; `None` at the end.
    ///
    /// # Errors
    /// An I/O error, [`LogError::Corrupt`].
    pub(crate) fn next(&mut self) -> Result<Option<Batch<'f>>, LogError> {
        let path = self.path;
        let (header, position, mut bytes) = match self.scanner.step(Check::Crc)? {
            Step::Batch {
                position,
                header,
                bytes,
            } => (header, position, bytes.to_vec()),
            Step::End => return Ok(None),
            Step::Invalid { position, error } => {
                return Err(LogError::Corrupt {
                    path: path.to_owned(),
                    position,
                    source: error,
                });
            }
        };
        let size = header.size();
        // A very large one is not brought into memory by a scan.
        if bytes.len() < size {
            bytes.clear();
            let read = self.file.read_full_at(position, size, &mut bytes);
            let have = read.map_err(|source| LogError::io("read", path, source))?;
            if have < size {
                return Err(LogError::Corrupt {
                    path: path.to_owned(),
                    position,
                    source: BatchError::Truncated { have, need: size },
                });
            }
        }
        Ok(Some(Batch {
            header,
            bytes: Bytes::from(bytes),
            path,
            position,
        }))
    }
}
