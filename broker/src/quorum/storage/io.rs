//! Which thread writes the quorum's files, and in which order?
//!
//! Raft needs every write (votes included) carried out in the order it was asked for. One thread takes them from
//! one queue. After a failed write the disk's content is unknown, so the thread refuses everything from then on.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use openraft::storage::LogFlushed;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};

use super::super::codec;
use super::super::types::{LogId, TypeConfig, Vote};
use super::atomic_file;
use super::files::{IndexedPayload, LogFiles, LogFilesError};

/// Raft waits for each write before the next, so the queue holds little more than one.
const QUEUE: usize = 16;

/// Told of a finished write.
pub(crate) type Done = oneshot::Sender<io::Result<()>>;

pub(crate) enum Write {
    Append {
        first: u64,
        payloads: Vec<Vec<u8>>,
        flushed: LogFlushed<TypeConfig>,
    },
    Truncate {
        index: u64,
        done: Done,
    },
    Purge {
        upto: LogId,
        done: Done,
    },
    Vote {
        vote: Vote,
        done: Done,
    },
    /// A disk that answers nothing until the other end is dropped.
    #[cfg(test)]
    Stall(std::sync::mpsc::Receiver<()>),
}

/// What the files held when they were opened.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) entries: Vec<IndexedPayload>,
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
}

struct Files {
    folder: PathBuf,
    log: LogFiles,
}

/// Opens the files below `metadata` and starts the thread, which ends when the sender is dropped.
pub(crate) fn start(metadata: &Path) -> Result<(mpsc::Sender<Write>, Loaded), LogFilesError> {
    let at = |path: PathBuf| move |source| LogFilesError::Io { path, source };
    let (log, entries) = LogFiles::open(&metadata.join("log"))?;
    let read = |name: &str| {
        let path = metadata.join(name);
        atomic_file::read_checked(&path).map_err(at(path))
    };
    let mut loaded = Loaded {
        entries,
        ..Loaded::default()
    };
    if let Some(bytes) = read("vote")? {
        let vote = rpc::quorum::v1::Vote::decode(bytes.as_slice())
            .map_err(io::Error::other)
            .and_then(|vote| codec::vote_from_wire(Some(vote)).map_err(io::Error::other))
            .map_err(at(metadata.join("vote")))?;
        loaded.vote = Some(vote);
    }
    if let Some(bytes) = read("purged")? {
        let id = rpc::quorum::v1::LogId::decode(bytes.as_slice())
            .map_err(io::Error::other)
            .map_err(at(metadata.join("purged")))?;
        loaded.purged = Some(codec::log_id_from_wire(id));
    }
    let mut files = Files {
        folder: metadata.to_owned(),
        log,
    };
    if let Some(purged) = loaded.purged {
        // A crash between the two steps of a purge left segments behind.
        files.log.purge(purged.index)?;
    }
    let (sender, receiver) = mpsc::channel(QUEUE);
    thread::Builder::new()
        .name("quorum-log".to_owned())
        .spawn(move || files.run(receiver))
        .map_err(at(metadata.to_owned()))?;
    Ok((sender, loaded))
}

impl Files {
    fn run(mut self, mut writes: mpsc::Receiver<Write>) {
        let mut broken: Option<String> = None;
        while let Some(write) = writes.blocking_recv() {
            let refused = broken.as_ref().map(|first| {
                io::Error::other(format!("refused after an earlier failure: {first}"))
            });
            let result = match refused {
                Some(error) => Err(error),
                None => self.carry_out(&write),
            };
            if let (Err(error), None) = (&result, &broken) {
                tracing::error!(%error, "the metadata log cannot be written any more");
                broken = Some(error.to_string());
            }
            match write {
                Write::Append { flushed, .. } => flushed.log_io_completed(result),
                Write::Truncate { done, .. }
                | Write::Purge { done, .. }
                | Write::Vote { done, .. } => {
                    // The asker may have been stopped meanwhile: then nobody needs the answer.
                    let _ = done.send(result);
                }
                #[cfg(test)]
                Write::Stall(_) => {}
            }
        }
    }

    fn carry_out(&mut self, write: &Write) -> io::Result<()> {
        match write {
            Write::Append {
                first, payloads, ..
            } => self.log.append(*first, payloads).map_err(io::Error::other),
            Write::Truncate { index, .. } => self.log.truncate(*index).map_err(io::Error::other),
            Write::Purge { upto, .. } => {
                let bytes = codec::log_id_to_wire(*upto).encode_to_vec();
                atomic_file::replace_checked(&self.folder.join("purged"), &bytes)?;
                self.log.purge(upto.index).map_err(io::Error::other)
            }
            Write::Vote { vote, .. } => {
                let bytes = codec::vote_to_wire(*vote).encode_to_vec();
                atomic_file::replace_checked(&self.folder.join("vote"), &bytes)
            }
            #[cfg(test)]
            Write::Stall(over) => {
                // Nothing is ever sent: the error is the end of the stall.
                let _ = over.recv();
                Ok(())
            }
        }
    }
}
