//! How is a small file replaced so that a crash leaves the old content or the new, never a mixture?

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Replaces the content of `path`: written beside it, synced, renamed over it, the folder synced.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let scratch = path.with_extension("tmp");
    let mut file = File::create(&scratch)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&scratch, path)?;
    sync_folder_of(path)
}

/// As [`replace`], with a checksum in front that [`read_checked`] verifies.
pub(crate) fn replace_checked(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut framed = Vec::with_capacity(content.len() + 4);
    framed.extend_from_slice(&crc32c::crc32c(content).to_le_bytes());
    framed.extend_from_slice(content);
    replace(path, &framed)
}

/// The content that [`replace_checked`] wrote, `None` when there is no such file.
pub(crate) fn read_checked(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let framed = match fs::read(path) {
        Ok(framed) => framed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damaged = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is damaged: its checksum does not match", path.display()),
        )
    };
    let (crc, content) = framed.split_first_chunk::<4>().ok_or_else(damaged)?;
    if u32::from_le_bytes(*crc) != crc32c::crc32c(content) {
        return Err(damaged());
    }
    Ok(Some(content.to_vec()))
}

/// Makes the creation, renaming or deletion of `path` durable.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vote");
        assert_eq!(read_checked(&path).unwrap(), None);
        replace_checked(&path, b"term 7").unwrap();
        assert_eq!(read_checked(&path).unwrap().unwrap(), b"term 7");
        for position in 0..fs::metadata(&path).unwrap().len() as usize {
            let mut bytes = fs::read(&path).unwrap();
            bytes[position] ^= 1;
            let flipped = folder.path().join("flipped");
            fs::write(&flipped, bytes).unwrap();
            assert!(read_checked(&flipped).is_err(), "bit at {position}");
        }
    }

    #[test]
    fn an_interrupted_replacement_leaves_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vote");
        replace_checked(&path, b"old").unwrap();
        fs::write(path.with_extension("tmp"), b"half of the n").unwrap();
        assert_eq!(read_checked(&path).unwrap().unwrap(), b"old");
        replace_checked(&path, b"new").unwrap();
        assert_eq!(read_checked(&path).unwrap().unwrap(), b"new");
    }
}
