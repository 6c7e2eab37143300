//! Where does a controller keep its Raft log, its vote and its snapshots, so that kill -9 at any byte loses
//! nothing that was acknowledged?
//!
//! ```text
//! metadata/node.uuid                 who this disk is (identity.rs)
//! metadata/vote                      what it voted for, checksummed, replaced by rename
//! metadata/purged                    the last log entry that a snapshot made unnecessary, likewise
//! metadata/log/<first index>.log     segments of frames, appended and synced before an answer (files.rs, frame.rs)
//! metadata/snapshot                  the newest snapshot, checksummed, replaced by rename (snapshot.rs)
//! ```
//!
//! One thread does all writes, in the order they were asked for (io.rs); reads are from memory (log.rs).

pub(crate) mod atomic_file;
mod files;
mod frame;
mod io;
pub(crate) mod log;
pub(crate) mod snapshot;

pub use files::LogFilesError;

#[cfg(test)]
mod tests;
