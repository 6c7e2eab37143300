//! Which of the input's bytes are made right, so that the code behind a checksum is reached?

use types::batch::{CRC_START, HEADER_LEN, LOG_OVERHEAD};
use types::{BatchHeader, Record};

/// Gives the batches in `bytes` the length, magic and checksum that a broker looks at first: without it, next to
/// no input would come further. The first byte of `bytes` says how many pieces of the rest are made batches of.
#[must_use]
pub fn sealed(bytes: &[u8]) -> Vec<u8> {
    let Some((&pieces, rest)) = bytes.split_first() else {
        return Vec::new();
    };
    let pieces = usize::from(pieces % 4) + 1;
    let size = rest.len().div_ceil(pieces).max(1);
    rest.chunks(size).flat_map(seal).collect()
}

/// Whether the records have the offsets that a producer gives: one after another from the first.
#[must_use]
pub fn is_dense(header: &BatchHeader, records: &[Record]) -> bool {
    let wanted = header.base_offset.0..;
    records.iter().map(|record| record.offset.0).zip(wanted).all(|(offset, wanted)| offset == wanted)
}

fn seal(piece: &[u8]) -> Vec<u8> {
    let mut batch = piece.to_vec();
    batch.resize(batch.len().max(HEADER_LEN), 0);
    let length = i32::try_from(batch.len() - LOG_OVERHEAD).unwrap_or(i32::MAX);
    batch[8..LOG_OVERHEAD].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
    batch
}
