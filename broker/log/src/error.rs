//! What can go wrong with a log, and which Kafka error does a client get?

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};

use types::{BatchError, ErrorCode, Offset, RecordError};

/// Why an operation on a log failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk is full. Nothing was appended; reads and deletion go on, and so do appends once there is room.
    #[error("failed to write {path}: the disk is full")]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// An I/O error. After one in a write or a sync the log takes no more appends until it is opened anew, since what
    /// reached the disk is not known.
    #[error("failed to {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// An earlier I/O error took the log offline.
    #[error("the log in {path} is offline after an I/O error: {reason}")]
    Offline {
        /// The log's directory.
        path: PathBuf,
        /// The error that took it offline.
        reason: String,
    },
    /// A stored batch is not readable.
    #[error("{path} is corrupt at byte {position}")]
    Corrupt {
        /// The segment's file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong there.
        #[source]
        source: BatchError,
    },
    /// The records of a stored batch are not readable.
    #[error("{path} has unreadable records at byte {position}")]
    Records {
        /// The segment's file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong there.
        #[source]
        source: RecordError,
    },
    /// A small file (checkpoint, snapshot, metadata) does not have its format.
    #[error("failed to read {path}: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found, what would be right.
        reason: String,
    },
    /// There is an error in the program.
    #[error("a step panicked at the log {log}: {reason}")]
    Panicked {
        /// The log, or its directory.
        log: String,
        /// What the panic said.
        reason: String,
    },
    /// The bytes to append are not whole batches.
    #[error("failed to append: malformed batch")]
    Batch(#[from] BatchError),
    /// The batches to append do not follow the end of the log, or each other.
    #[error("failed to append at offset {got}: the next offset is {next}")]
    OutOfOrder {
        /// Base offset of the batch.
        got: Offset,
        /// The smallest acceptable one.
        next: Offset,
    },
    /// An offset outside the log.
    #[error("offset {offset} is out of range: the log holds {start} to {end} (exclusive)")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// Log start offset.
        start: Offset,
        /// Log end offset.
        end: Offset,
    },
}

impl LogError {
    /// Wraps an I/O error; "no space left" becomes [`LogError::DiskFull`].
    pub(crate) fn io(operation: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        let path = path.as_ref().to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io {
                operation,
                path,
                source,
            },
        }
    }

    /// What a caught panic of a step at the log said.
    #[must_use]
    pub fn panicked(log: String, panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::Panicked {
            log,
            reason: text.unwrap_or_else(|| "it does not say why".to_owned()),
        }
    }

    /// Whether what is stored is to blame, so that it would be the same the next time.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Corrupt { .. } | Self::Records { .. } | Self::Format { .. }
        )
    }

    /// The error code that a client gets.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::DiskFull { .. }
            | Self::Io { .. }
            | Self::Offline { .. }
            | Self::Corrupt { .. }
            | Self::Format { .. }
            | Self::Panicked { .. } => ErrorCode::KafkaStorageError,
            Self::Records { .. } | Self::Batch(_) => ErrorCode::CorruptMessage,
            Self::OutOfOrder { .. } => ErrorCode::UnknownServerError,
            Self::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        }
    }
}
