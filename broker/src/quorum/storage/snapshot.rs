//! How is the newest snapshot of the metadata kept? (One file, replaced by rename.)
//!
//! ```text
//! crc u32 | magic and version 8 bytes | meta length u32 | meta (protobuf) | serialised image
//! ```

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes};
use prost::Message as _;

use super::super::codec;
use super::super::types::{SnapshotData, SnapshotMeta};
use super::atomic_file;

const MAGIC: [u8; 8] = *b"TMQSNP\0\x01";

/// The snapshot file of one disk.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile {
    path: PathBuf,
}

impl SnapshotFile {
    /// The snapshot below `metadata`.
    pub(crate) fn new(metadata: &Path) -> Self {
        Self {
            path: metadata.join("snapshot"),
        }
    }

    /// Replaces the snapshot; it is durable afterwards.
    pub(crate) fn save(&self, meta: &SnapshotMeta, data: &SnapshotData) -> io::Result<()> {
        let meta = codec::snapshot_meta_to_wire(meta).encode_to_vec();
        let meta_length = u32::try_from(meta.len()).map_err(io::Error::other)?;
        let mut content = Vec::with_capacity(MAGIC.len() + 4 + meta.len() + data.0.len());
        content.extend_from_slice(&MAGIC);
        content.extend_from_slice(&meta_length.to_le_bytes());
        content.extend_from_slice(&meta);
        content.extend_from_slice(&data.0);
        atomic_file::replace_checked(&self.path, &content)
    }

    /// The snapshot, when there is one.
    pub(crate) fn load(&self) -> io::Result<Option<(SnapshotMeta, SnapshotData)>> {
        let Some(content) = atomic_file::read_checked(&self.path)? else {
            return Ok(None);
        };
        let malformed = |what: String| {
            let text = format!("{} is not a metadata snapshot: {what}", self.path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        let mut content = Bytes::from(content);
        if content.len() < 12 || content[..8] != MAGIC {
            return Err(malformed("wrong magic or version".to_owned()));
        }
        content.advance(8);
        let length = content.get_u32_le() as usize;
        if length > content.len() {
            return Err(malformed("its description is cut short".to_owned()));
        }
        let meta = rpc::quorum::v1::SnapshotMeta::decode(content.split_to(length))
            .map_err(|error| malformed(error.to_string()))?;
        let meta =
            codec::snapshot_meta_from_wire(meta).map_err(|error| malformed(error.to_string()))?;
        Ok(Some((meta, SnapshotData(content))))
    }
}
