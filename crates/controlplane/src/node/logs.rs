//! Where does a container's output go, and how is it kept from growing for ever?
//!
//! Children write straight into their file, so that output survives the agent's own death. The agent therefore rotates
//! by copy and truncate (the file is open in append mode): lines written in that instant can be lost, earlier ones not.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _};
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

/// What a kubelet takes over with `terminationMessagePolicy: FallbackToLogsOnError`: the last 80 lines, at most 2 KiB.
pub(crate) fn tail(path: &Path) -> io::Result<String> {
    const LINES: usize = 80;
    const BYTES: u64 = 2 << 10;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(io::SeekFrom::Start(length.saturating_sub(BYTES)))?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(LINES)..].join("\n"))
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
    fn the_tail_is_eighty_lines_and_two_kilobytes_at_most() {
        let directory = tempfile::tempdir().unwrap();
        let path = log_file(directory.path(), "default", "p", "c");
        let mut writer = open(&path).unwrap();
        for n in 0..100 {
            writeln!(writer, "{n}").unwrap();
        }
        let text = tail(&path).unwrap();
        assert_eq!(text.lines().count(), 80);
        assert!(text.starts_with("20\n") && text.ends_with("\n99"), "{text}");
        write!(writer, "{}", "x".repeat(5_000)).unwrap();
        assert_eq!(tail(&path).unwrap(), "x".repeat(2_048));
    }

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
