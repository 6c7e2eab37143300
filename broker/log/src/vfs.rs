//! What does a log ask of a file system?
//!
//! Contract: a write or a change of a directory is visible to later calls at once, and durable only after `sync_data`
//! of the file or `sync_dir` of the directory. Reads may be short. [`crate::faulty::FaultyVfs`] breaks things within
//! this contract.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::LogError;

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name in the directory; names that are not UTF-8 are not listed.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Bytes of a file.
    pub len: u64,
    /// When a file was last written, ms since the epoch.
    pub modified_ms: i64,
}

/// An open file. Handles stay usable after the file was renamed or removed.
pub trait VfsFile: Debug + Send + Sync + 'static {
    /// Appends to `out` up to `max` bytes from `position`; fewer when the file ends, 0 at its end, and sometimes fewer
    /// for no reason.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, position: u64, max: usize, out: &mut Vec<u8>) -> io::Result<usize>;

    /// Writes all of `bytes` at `position`, growing the file as needed.
    ///
    /// # Errors
    /// The system's; some of the bytes may then have been written.
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()>;

    /// Bytes of the file.
    ///
    /// # Errors
    /// The system's.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// The system's.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// The system's.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Sets when the file was last written, as [`DirEntry::modified_ms`] tells it; ms since the epoch.
    ///
    /// # Errors
    /// The system's.
    fn set_modified_ms(&self, modified_ms: i64) -> io::Result<()>;

    /// Makes all writes so far durable, and the length.
    ///
    /// # Errors
    /// The system's; what is durable is then unknown.
    fn sync_data(&self) -> io::Result<()>;

    /// Appends to `out` `len` bytes from `position`, or what there is before the end of the file.
    ///
    /// # Errors
    /// The system's.
    fn read_full_at(&self, position: u64, len: usize, out: &mut Vec<u8>) -> io::Result<usize> {
        let mut done = 0;
        while done < len {
            match self.read_at(position + done as u64, len - done, out)? {
                0 => break,
                n => done += n,
            }
        }
        Ok(done)
    }
}

/// A file system. Clones are the same file system.
pub trait Vfs: Debug + Clone + Send + Sync + 'static {
    /// Its files.
    type File: VfsFile;

    /// Opens a new file for reading and writing; one that exists is emptied.
    ///
    /// # Errors
    /// The system's.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file that exists for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, or the system's.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Renames within one directory; a file that has the new name is replaced.
    ///
    /// # Errors
    /// `NotFound`, or the system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound`, or the system's.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with all that is in it.
    ///
    /// # Errors
    /// `NotFound`, or the system's.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory and its parents; one that exists is fine.
    ///
    /// # Errors
    /// The system's.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// What is in a directory, sorted by name.
    ///
    /// # Errors
    /// `NotFound`, or the system's.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// The system's.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that an unprivileged process may still write to the file system of `path`.
    ///
    /// # Errors
    /// The system's.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// The whole content of a small file; `None` if there is no such file.
pub(crate) fn read_file<V: Vfs>(vfs: &V, path: &Path) -> Result<Option<Vec<u8>>, LogError> {
    let failed = |source| LogError::io("read", path, source);
    let file = match vfs.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let len = usize::try_from(file.len().map_err(failed)?)
        .map_err(|error| failed(io::Error::other(error)))?;
    let mut out = Vec::with_capacity(len);
    file.read_full_at(0, len, &mut out).map_err(failed)?;
    Ok(Some(out))
}

/// How far [`replace_file`] goes for durability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// After a power loss the file may be the old one, the new one, or damaged: its reader must cope.
    Lazy,
    /// When the call returns the new content is durable.
    Synced,
}

/// Replaces a file's content as a whole, through a `.tmp` file beside it.
pub(crate) fn replace_file<V: Vfs>(
    vfs: &V,
    path: &Path,
    content: &[u8],
    durability: Durability,
) -> Result<(), LogError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let tmp = PathBuf::from(name);
    let write = || -> io::Result<()> {
        let file = vfs.create(&tmp)?;
        file.write_at(0, content)?;
        if durability == Durability::Synced {
            file.sync_data()?;
        }
        vfs.rename(&tmp, path)?;
        match path.parent() {
            Some(dir) if durability == Durability::Synced => vfs.sync_dir(dir),
            _ => Ok(()),
        }
    };
    write().map_err(|source| LogError::io("write", path, source))
}

/// Removes a file that may not be there.
pub(crate) fn remove_if_there<V: Vfs>(vfs: &V, path: &Path) -> Result<(), LogError> {
    match vfs.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LogError::io("remove", path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealVfs;

/// A file of [`RealVfs`].
#[derive(Debug)]
#[expect(
    clippy::disallowed_types,
    reason = "the one place that is made for it: everything else goes through Vfs"
)]
pub struct RealFile(std::fs::File);

impl VfsFile for RealFile {
    fn read_at(&self, position: u64, max: usize, out: &mut Vec<u8>) -> io::Result<usize> {
        out.reserve(max);
        // Reads straight into the spare capacity (nothing is zeroed first), which may be more than was asked for.
        let before = out.len();
        let n = if out.capacity() - before == max {
            rustix::io::pread(&self.0, rustix::buffer::spare_capacity(out), position)?
        } else {
            out.resize(before + max, 0);
            let read = rustix::io::pread(&self.0, &mut out[before..], position);
            out.truncate(before + read.unwrap_or(0));
            read?
        };
        Ok(n)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, position)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn set_modified_ms(&self, modified_ms: i64) -> io::Result<()> {
        let since = Duration::from_millis(u64::try_from(modified_ms).unwrap_or(0));
        self.0.set_modified(UNIX_EPOCH + since)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl Vfs for RealVfs {
    type File = RealFile;

    fn create(&self, path: &Path) -> io::Result<RealFile> {
        std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map(RealFile)
    }

    fn open(&self, path: &Path) -> io::Result<RealFile> {
        std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map(RealFile)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                // Removed since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let modified = meta.modified()?.duration_since(UNIX_EPOCH);
            entries.push(DirEntry {
                name,
                is_dir: meta.is_dir(),
                len: meta.len(),
                modified_ms: modified
                    .ok()
                    .and_then(|since| i64::try_from(since.as_millis()).ok())
                    .unwrap_or(0),
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = rustix::fs::open(
            dir,
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )?;
        Ok(rustix::fs::fsync(dir)?)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
