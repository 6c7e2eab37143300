//! How is one record framed on disk, and where does a damaged file stop being readable?
//!
//! A file is an 8-byte magic with the format version, then records: length (u32 LE), CRC-32C of the payload (u32 LE),
//! payload. A crash can only tear the end: reading stops at the first frame that is short or fails its CRC.

use std::io::{self, Write};

/// `TMCP` + kind of file (`J`ournal or `S`napshot) + format version as three digits.
pub(super) const JOURNAL_MAGIC: &[u8; 8] = b"TMCPJ001";
pub(super) const SNAPSHOT_MAGIC: &[u8; 8] = b"TMCPS001";

/// No object comes near this (the API server's own limit is 3 MiB); a larger length is damage.
const MAX_RECORD: usize = 16 << 20;

/// Appends one frame.
pub(super) fn write_frame(out: &mut impl Write, payload: &[u8]) -> io::Result<u64> {
    let length =
        u32::try_from(payload.len()).map_err(|_| io::Error::other("record larger than 4 GiB"))?;
    let mut frame = Vec::with_capacity(payload.len() + 8);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    frame.extend_from_slice(payload);
    out.write_all(&frame)?;
    Ok(frame.len() as u64)
}

/// The whole frames of `bytes` (after the magic) and the offset where they end.
pub(super) fn read_frames(bytes: &[u8]) -> (Vec<&[u8]>, usize) {
    let mut frames = Vec::new();
    let mut offset = 8;
    while let Some(header) = bytes.get(offset..offset + 8) {
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let crc = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        if length > MAX_RECORD {
            break;
        }
        match bytes.get(offset + 8..offset + 8 + length) {
            Some(payload) if crc32c::crc32c(payload) == crc => {
                frames.push(payload);
                offset += 8 + length;
            }
            _ => break,
        }
    }
    (frames, offset)
}
