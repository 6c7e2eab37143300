//! How does one entry lie in a segment file, and what does a damaged frame mean?
//!
//! ```text
//! magic u32 | crc u32 | length u32 | batch start u64 | payload        (little endian)
//! ```
//!
//! The checksum covers everything after it. `batch start` is the file position of the first frame of the write
//! that this frame belongs to: the file is synced after each write, before the next. So a damaged frame at `p`
//! followed by an intact frame whose batch starts after `p` cannot be a torn write: something that had been
//! acknowledged is damaged, and forgetting it could make this disk vote against what it promised.

/// Bytes in front of each payload.
pub(crate) const FRAME_HEADER: usize = 20;
/// Largest payload that is believed; a snapshot never travels in an entry.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;
const MAGIC: [u8; 4] = *b"TMQ1";

/// Appends the frame of `payload` to `buffer`; the write will start at `batch_start` in the file.
pub(crate) fn write(buffer: &mut Vec<u8>, batch_start: u64, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    assert!(
        payload.len() <= PAYLOAD_BYTES_MAX,
        "a metadata entry of {length} bytes was decided: the request limit is far below"
    );
    let start = buffer.len();
    buffer.extend_from_slice(&MAGIC);
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&batch_start.to_le_bytes());
    buffer.extend_from_slice(payload);
    let crc = crc32c::crc32c(&buffer[start + 8..]);
    buffer[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// What lies at a position of a segment file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// The end of the file.
    End,
    /// An intact frame.
    Intact {
        /// The entry.
        payload: &'a [u8],
        /// Where the write of this frame started.
        batch_start: u64,
        /// Where the next frame starts.
        next: usize,
    },
    /// Anything else.
    Damaged,
}

/// Reads the frame at `position` of `file`.
pub(crate) fn read(file: &[u8], position: usize) -> Frame<'_> {
    let Some(rest) = file.get(position..) else {
        return Frame::End;
    };
    if rest.is_empty() {
        return Frame::End;
    }
    let Some((header, rest)) = rest.split_first_chunk::<FRAME_HEADER>() else {
        return Frame::Damaged;
    };
    let word = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let length = word(8) as usize;
    if header[..4] != MAGIC || length > PAYLOAD_BYTES_MAX {
        return Frame::Damaged;
    }
    let Some(payload) = rest.get(..length) else {
        return Frame::Damaged;
    };
    if crc32c::crc32c_append(crc32c::crc32c(&header[8..]), payload) != word(4) {
        return Frame::Damaged;
    }
    Frame::Intact {
        payload,
        batch_start: u64::from(word(12)) | u64::from(word(16)) << 32,
        next: position + FRAME_HEADER + length,
    }
}

/// Whether the damage at `position` may be the tail of a write that never finished (and so was never
/// acknowledged): no intact frame of a later write follows it.
pub(crate) fn is_torn_tail(file: &[u8], position: usize) -> bool {
    let mut at = position;
    while let Some(found) = find(&file[at..], &MAGIC) {
        at += found;
        if let Frame::Intact { batch_start, .. } = read(file, at)
            && batch_start > position as u64
        {
            return false;
        }
        at += 1;
    }
    true
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
