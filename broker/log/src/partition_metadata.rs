//! Which topic id does a log's directory belong to? The `partition.metadata` file.

use std::path::Path;

use types::TopicId;

use crate::LogError;
use crate::vfs::{Durability, Vfs, read_file, replace_file};

/// The file's name.
pub(crate) const FILE: &str = "partition.metadata";

/// The topic id of a log's directory; `None` if there is no such file.
pub(crate) fn read<V: Vfs>(vfs: &V, dir: &Path) -> Result<Option<TopicId>, LogError> {
    let path = dir.join(FILE);
    let Some(bytes) = read_file(vfs, &path)? else {
        return Ok(None);
    };
    let parsed = std::str::from_utf8(&bytes).ok().and_then(parse);
    match parsed {
        Some(id) => Ok(Some(id)),
        None => Err(LogError::Format {
            path,
            reason: "want the lines \"version: 0\" and \"topic_id: ID\"".to_owned(),
        }),
    }
}

fn parse(text: &str) -> Option<TopicId> {
    let mut lines = text.lines();
    let version = lines.next()?.strip_prefix("version: ")?;
    let id = lines.next()?.strip_prefix("topic_id: ")?;
    (version == "0").then_some(())?;
    id.parse().ok()
}

/// Writes the file; it is durable with the log's first flush.
pub(crate) fn write<V: Vfs>(vfs: &V, dir: &Path, topic_id: TopicId) -> Result<(), LogError> {
    let text = format!("version: 0\ntopic_id: {topic_id}\n");
    replace_file(vfs, &dir.join(FILE), text.as_bytes(), Durability::Lazy)
}
