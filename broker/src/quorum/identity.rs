//! Who is this disk? A uuid that is written once, and lost with the disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::storage::atomic_file;

const FILE: &str = "node.uuid";

/// The disk's identity could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system refused.
    #[error("failed to read or write {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file does not hold a uuid.
    #[error("failed to read the disk's uuid in {path}: {text:?} is not a uuid")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
}

/// The uuid of the disk that holds `metadata`, made now (and synced) when there is none.
///
/// # Errors
/// When the file cannot be read or written, or holds something else than a uuid.
pub fn disk_uuid(metadata: &Path) -> Result<Uuid, IdentityError> {
    let path = metadata.join(FILE);
    let io_error = |source| IdentityError::Io {
        path: path.clone(),
        source,
    };
    fs::create_dir_all(metadata).map_err(io_error)?;
    match fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .parse()
            .map_err(|_| IdentityError::Malformed { path, text }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let uuid = Uuid::new_v4();
            atomic_file::replace(&path, format!("{uuid}\n").as_bytes()).map_err(io_error)?;
            Ok(uuid)
        }
        Err(error) => Err(io_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_keeps_its_uuid_and_a_wiped_one_gets_another() {
        let folder = tempfile::tempdir().unwrap();
        let first = disk_uuid(folder.path()).unwrap();
        assert_eq!(disk_uuid(folder.path()).unwrap(), first);
        fs::remove_file(folder.path().join(FILE)).unwrap();
        assert_ne!(disk_uuid(folder.path()).unwrap(), first);
    }

    #[test]
    fn a_damaged_uuid_is_refused_instead_of_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "not a uuid").unwrap();
        let error = disk_uuid(folder.path()).unwrap_err();
        assert!(error.to_string().contains("not a uuid"), "{error}");
    }
}
