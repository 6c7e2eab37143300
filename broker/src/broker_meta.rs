//! Whose data directory is this?
//!
//! `broker.meta` ties a directory to one cluster, one node id and one disk uuid, as Kafka's `meta.properties` does. A
//! lock on `.lock` keeps a second process out.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use broker_core::metadata::BrokerUuid;
use types::NodeId;
use uuid::Uuid;

use crate::quorum::replace_file;
use crate::registered::RegisteredFile;

const FILE: &str = "broker.meta";
const LOCK: &str = ".lock";
/// Version of the data directory's format. An older build refuses a newer one.
const FORMAT_VERSION: u32 = 1;

/// The data directory cannot be used by this process.
#[derive(Debug, thiserror::Error)]
pub enum BrokerMetaError {
    /// The file system refused.
    #[error("failed to use the data directory {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process uses it.
    #[error("failed to lock the data directory {path}: another process uses it")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A line is missing or makes no sense.
    #[error("failed to read {path}: {what}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It belongs to somebody else.
    #[error(
        "failed to use the data directory: {path} says {key}={found}, this process is {key}={want}"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Which identity differs.
        key: &'static str,
        /// The directory's.
        found: String,
        /// The process's.
        want: String,
    },
}

/// A locked data directory. The lock ends with this value (or the process).
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    broker_uuid: BrokerUuid,
    registered: RegisteredFile,
    _lock: File,
}

impl DataDir {
    /// Opens `path` for node `node_id` of `cluster_id`; makes it, with a new uuid, when it does not exist.
    ///
    /// # Errors
    /// When it cannot be used, is in use, or belongs to another cluster or node.
    pub fn open(path: &Path, cluster_id: &str, node_id: NodeId) -> Result<Self, BrokerMetaError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| BrokerMetaError::Io { path, source }
        };
        fs::create_dir_all(path).map_err(at(path))?;
        let lock_path = path.join(LOCK);
        let lock = File::create(&lock_path).map_err(at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(BrokerMetaError::Locked { path: lock_path });
            }
            Err(TryLockError::Error(source)) => return Err(at(&lock_path)(source)),
        }
        let file = path.join(FILE);
        let broker_uuid = match fs::read_to_string(&file) {
            Ok(text) => check(&file, &text, cluster_id, node_id)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let uuid = BrokerUuid::from_bytes(*Uuid::new_v4().as_bytes());
                let text = format!(
                    "version={FORMAT_VERSION}\ncluster.id={cluster_id}\nnode.id={node_id}\nbroker.uuid={uuid}\n"
                );
                replace_file(&file, text.as_bytes()).map_err(at(&file))?;
                uuid
            }
            Err(error) => return Err(at(&file)(error)),
        };
        Ok(Self {
            path: path.to_owned(),
            broker_uuid,
            registered: RegisteredFile::open(path),
            _lock: lock,
        })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The identity of the disk.
    #[must_use]
    pub fn broker_uuid(&self) -> BrokerUuid {
        self.broker_uuid
    }

    /// What is written down of its registrations.
    #[must_use]
    pub fn registered(&self) -> &RegisteredFile {
        &self.registered
    }
}

fn check(
    file: &Path,
    text: &str,
    cluster_id: &str,
    node_id: NodeId,
) -> Result<BrokerUuid, BrokerMetaError> {
    let malformed = |what: String| BrokerMetaError::Malformed {
        path: file.to_owned(),
        what,
    };
    let value = |key: &'static str| {
        text.lines()
            .filter_map(|line| line.split_once('='))
            .find_map(|(name, value)| (name.trim() == key).then_some(value.trim()))
            .ok_or_else(|| malformed(format!("there is no line {key}=")))
    };
    let wants = [
        ("version", FORMAT_VERSION.to_string()),
        ("cluster.id", cluster_id.to_owned()),
        ("node.id", node_id.to_string()),
    ];
    for (key, want) in wants {
        let found = value(key)?;
        if found != want {
            return Err(BrokerMetaError::Foreign {
                path: file.to_owned(),
                key,
                found: found.to_owned(),
                want,
            });
        }
    }
    let uuid = value("broker.uuid")?;
    uuid.parse()
        .map(BrokerUuid)
        .map_err(|error| malformed(format!("broker.uuid: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

    #[test]
    fn a_directory_keeps_its_uuid_for_its_node_only() {
        let folder = tempfile::tempdir().unwrap();
        let open = |cluster, node| DataDir::open(folder.path(), cluster, NodeId(node));
        let first = open(CLUSTER, 3).unwrap().broker_uuid();
        assert_eq!(open(CLUSTER, 3).unwrap().broker_uuid(), first);
        for (cluster, node, names) in [(CLUSTER, 4, "node.id=3"), ("other", 3, "cluster.id=A")] {
            let error = open(cluster, node).unwrap_err().to_string();
            assert!(error.contains(names), "{error}");
        }
    }

    #[test]
    fn two_processes_cannot_use_one_directory() {
        let folder = tempfile::tempdir().unwrap();
        let held = DataDir::open(folder.path(), CLUSTER, NodeId(1)).unwrap();
        let error = DataDir::open(folder.path(), CLUSTER, NodeId(1)).unwrap_err();
        assert!(matches!(error, BrokerMetaError::Locked { .. }), "{error}");
        drop(held);
        DataDir::open(folder.path(), CLUSTER, NodeId(1)).unwrap();
    }
}
