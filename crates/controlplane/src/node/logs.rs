//! Where does a container's output go, and how is it kept from growing for ever?
//!
//! Children write straight into their file, so that output survives the agent's own death. The agent therefore rotates
//! by copy and truncate (the file is open in append mode): lines written in that instant can be lost, earlier ones not.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// A log is rotated at this size and [`KEPT`] older files stay: kubelet's defaults (10 MiB, 5 files).
const ROTATE_AT: u64 = 10 << 20;
const KEPT: u32 = 4;

/// The log file of a container.
pub fn log_file(data_dir: &Path, namespace: &str, pod: &str, container: &str) -> PathBuf {
    data_dir
        .join("logs")
        .join(format!("{namespace}_{pod}_{container}.log"))
}

/// Opens a log to append to, making its folder.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// Rotates the log when it has grown too large.
pub(crate) fn rotate(path: &Path) -> io::Result<()> {
    rotate_at(path, ROTATE_AT)
}

fn rotate_at(path: &Path, limit: u64) -> io::Result<()> {
    let file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if file.metadata()?.len() < limit {
        return Ok(());
    }
    let older = |n: u32| PathBuf::from(format!("{}.{n}", path.display()));
    for n in (1..KEPT).rev() {
        match std::fs::rename(older(n), older(n + 1)) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    std::fs::copy(path, older(1))?;
    file.set_len(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_grown_log_is_rotated_and_its_writer_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = log_file(directory.path(), "default", "p", "c");
        let mut writer = open(&path).unwrap();
        for round in 0..7 {
            writeln!(writer, "round {round}").unwrap();
            rotate_at(&path, 4).unwrap();
        }
        writeln!(writer, "now").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "now\n");
        let older = |n: u32| std::fs::read_to_string(format!("{}.{n}", path.display())).ok();
        assert_eq!(older(1).as_deref(), Some("round 6\n"));
        assert_eq!(older(KEPT).as_deref(), Some("round 3\n"));
        assert_eq!(older(KEPT + 1), None);
    }
}
