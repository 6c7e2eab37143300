//! Which batches lie in a file, one after another, and where do they stop being sound?

use std::path::Path;

use types::batch::{self, CRC_START};
use types::{BatchError, BatchHeader, HEADER_LEN};

use crate::LogError;
use crate::vfs::VfsFile;

/// Batches larger than this are not brought into memory as a whole; their CRC is computed piece by piece, so that a
/// damaged length field costs no memory.
const LARGE_BATCH: usize = 16 << 20;

/// What a scan looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Headers only.
    Header,
    /// The content too.
    Crc,
}

/// One step of a scan.
#[derive(Debug)]
pub(crate) enum Step<'s> {
    /// A batch.
    Batch {
        position: u64,
        header: BatchHeader,
        /// The whole batch if it is a control batch (of a sane size), else perhaps less.
        bytes: &'s [u8],
    },
    /// What is at `position` is not a whole, sound batch.
    Invalid { position: u64, error: BatchError },
    /// The end was reached exactly after a batch.
    End,
}

/// Walks the batches in bytes `position..end` of a file.
#[derive(Debug)]
pub(crate) struct Scanner<'f, F> {
    file: &'f F,
    path: &'f Path,
    position: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    window_len: usize,
}

impl<'f, F: VfsFile> Scanner<'f, F> {
    /// Starts at `position`, reading `window_len` bytes at a time.
    pub(crate) const fn new(
        file: &'f F,
        path: &'f Path,
        position: u64,
        end: u64,
        window_len: usize,
    ) -> Self {
        Self {
            file,
            path,
            position,
            end,
            window: Vec::new(),
            window_at: 0,
            window_len,
        }
    }

    /// Where the next batch begins.
    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    /// The next step; after `Invalid` and `End` it is the same again.
    pub(crate) fn step(&mut self, check: Check) -> Result<Step<'_>, LogError> {
        let position = self.position;
        let remaining = self.end.saturating_sub(position);
        if remaining == 0 {
            return Ok(Step::End);
        }
        self.fill(HEADER_LEN)?;
        let header = match BatchHeader::parse(self.view()) {
            Ok(header) => header,
            Err(error) => return Ok(Step::Invalid { position, error }),
        };
        let size = header.size();
        if size as u64 > remaining {
            let error = BatchError::Truncated {
                have: usize::try_from(remaining).unwrap_or(usize::MAX),
                need: size,
            };
            return Ok(Step::Invalid { position, error });
        }
        let whole = size <= LARGE_BATCH && (check == Check::Crc || header.is_control());
        if whole {
            self.fill(size)?;
        }
        if check == Check::Crc
            && let Err(error) = self.verify(&header)?
        {
            return Ok(Step::Invalid { position, error });
        }
        self.position += size as u64;
        let start = usize::try_from(position - self.window_at).unwrap_or(usize::MAX);
        let view = self.window.get(start..).unwrap_or(&[]);
        Ok(Step::Batch {
            position,
            header,
            bytes: &view[..size.min(view.len())],
        })
    }

    fn verify(&self, header: &BatchHeader) -> Result<Result<(), BatchError>, LogError> {
        let size = header.size();
        if size <= LARGE_BATCH {
            return Ok(batch::verify(&self.view()[..size.min(self.view().len())]).map(|_| ()));
        }
        let (mut at, mut computed) = (CRC_START, 0);
        let mut piece = Vec::new();
        while at < size {
            piece.clear();
            let read = self
                .file
                .read_full_at(
                    self.position + at as u64,
                    (size - at).min(1 << 20),
                    &mut piece,
                )
                .map_err(|source| LogError::io("read", self.path, source))?;
            if read == 0 {
                let (have, need) = (at, size);
                return Ok(Err(BatchError::Truncated { have, need }));
            }
            computed = crc32c::crc32c_append(computed, &piece);
            at += read;
        }
        Ok(if computed == header.crc {
            Ok(())
        } else {
            Err(BatchError::Crc {
                base_offset: header.base_offset.0,
                stored: header.crc,
                computed,
            })
        })
    }

    /// The window from the current position on.
    fn view(&self) -> &[u8] {
        usize::try_from(self.position - self.window_at)
            .ok()
            .and_then(|start| self.window.get(start..))
            .unwrap_or(&[])
    }

    /// Makes `need` bytes (or those that there are) from the current position on visible in the window.
    fn fill(&mut self, need: usize) -> Result<(), LogError> {
        if self.position >= self.window_at && self.view().len() >= need {
            return Ok(());
        }
        let remaining = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let want = need.max(self.window_len).min(remaining);
        self.window.clear();
        self.window_at = self.position;
        self.file
            .read_full_at(self.position, want, &mut self.window)
            .map_err(|source| LogError::io("read", self.path, source))?;
        Ok(())
    }
}
