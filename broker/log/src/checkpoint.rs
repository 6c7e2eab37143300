//! How are Kafka's checkpoint files (a version line, a count line, one line an entry) read and written?

use std::path::Path;

use crate::LogError;
use crate::vfs::{Durability, Vfs, read_file, replace_file};

/// Reads a checkpoint; `None` if there is no file. Each line after the first two is given to `parse`.
///
/// # Errors
/// An I/O error, or a file that is not a whole checkpoint: a torn file is refused, never half believed.
pub(crate) fn read<V: Vfs, T>(
    vfs: &V,
    path: &Path,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<Vec<T>>, LogError> {
    let Some(bytes) = read_file(vfs, path)? else {
        return Ok(None);
    };
    parse_content(&bytes, parse)
        .map(Some)
        .map_err(|reason| LogError::Format {
            path: path.to_owned(),
            reason,
        })
}

fn parse_content<T>(bytes: &[u8], parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    // Without this a last number that lost its last digits would pass.
    if !text.ends_with('\n') {
        return Err("its last line is cut short".to_owned());
    }
    let mut lines = text.lines();
    if lines.next() != Some("0") {
        return Err("its first line is not the version 0".to_owned());
    }
    let count: usize = lines
        .next()
        .and_then(|line| line.parse().ok())
        .ok_or("its second line is not the number of entries")?;
    let entries = lines
        .map(|line| parse(line).ok_or_else(|| format!("the line {line:?} is not an entry")))
        .collect::<Result<Vec<_>, _>>()?;
    if entries.len() == count {
        Ok(entries)
    } else {
        Err(format!("it has {} of {count} entries", entries.len()))
    }
}

/// Writes a checkpoint of the given lines.
pub(crate) fn write<V: Vfs>(
    vfs: &V,
    path: &Path,
    lines: impl ExactSizeIterator<Item = String>,
    durability: Durability,
) -> Result<(), LogError> {
    let mut text = format!("0\n{}\n", lines.len());
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    replace_file(vfs, path, text.as_bytes(), durability)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Vec<i64>, String> {
        parse_content(bytes, |line| line.parse().ok())
    }

    #[test]
    fn a_whole_checkpoint_is_read() {
        assert_eq!(parse(b"0\n2\n17\n4\n"), Ok(vec![17, 4]));
        assert_eq!(parse(b"0\n0\n"), Ok(vec![]));
    }

    #[test]
    fn any_cut_of_a_checkpoint_is_refused() {
        let whole = b"0\n2\n17\n425\n";
        for cut in 0..whole.len() {
            parse(&whole[..cut]).expect_err("cut");
        }
        for bytes in [
            &b"1\n0\n"[..],
            b"0\nx\n",
            b"0\n1\nx\n",
            b"0\n1\n\0\0\n",
            b"\xff",
        ] {
            parse(bytes).expect_err("malformed");
        }
    }
}
