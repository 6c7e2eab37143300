//! How is the producer state kept in `.snapshot` files?
//!
//! The format is Kafka's, version 1. Kafka writes one entry a producer, with its last batch only; a client that retries
//! an older one after a restart then gets an error. So one entry is written for each remembered batch, oldest first: of
//! several entries of a producer Kafka's own reader keeps the last, which is what it would have written itself. An entry
//! has one timestamp, here that of the batch, which a retry is answered with.

use std::path::{Path, PathBuf};

use types::{Offset, ProducerEpoch, ProducerId};

use crate::LogError;
use crate::producer_state::{BatchMetadata, ProducerEntry, ProducerState};
use crate::vfs::{Durability, Vfs, read_file, replace_file};

const VERSION: i16 = 1;
/// Version and CRC come before what the CRC covers.
const CRC_FROM: usize = 6;
const ENTRY_LEN: usize = 46;

/// The name of the snapshot of the state before `offset`.
pub(crate) fn path(dir: &Path, offset: Offset) -> PathBuf {
    dir.join(format!("{:020}.snapshot", offset.0))
}

/// Writes the state before `offset`.
pub(crate) fn write<V: Vfs>(
    vfs: &V,
    dir: &Path,
    offset: Offset,
    state: &ProducerState,
) -> Result<(), LogError> {
    replace_file(vfs, &path(dir, offset), &encode(state), Durability::Lazy)
}

fn encode(state: &ProducerState) -> Vec<u8> {
    let mut body = Vec::with_capacity(4 + ENTRY_LEN);
    body.extend_from_slice(&[0; 4]);
    let mut count = 0_i32;
    for (id, entry) in state.iter() {
        let none = [BatchMetadata {
            last_sequence: -1,
            last_offset: Offset(-1),
            offset_delta: 0,
            timestamp: entry.last_timestamp,
        }];
        let batches = match entry.batches() {
            [] => &none[..],
            batches => batches,
        };
        for batch in batches {
            body.extend_from_slice(&id.0.to_be_bytes());
            body.extend_from_slice(&entry.epoch.0.to_be_bytes());
            body.extend_from_slice(&batch.last_sequence.to_be_bytes());
            body.extend_from_slice(&batch.last_offset.0.to_be_bytes());
            body.extend_from_slice(&batch.offset_delta.to_be_bytes());
            body.extend_from_slice(&batch.timestamp.to_be_bytes());
            body.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
            let txn = entry.current_txn_first_offset.map_or(-1, |first| first.0);
            body.extend_from_slice(&txn.to_be_bytes());
            count += 1;
        }
    }
    body[..4].copy_from_slice(&count.to_be_bytes());
    let mut out = Vec::with_capacity(CRC_FROM + body.len());
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    out.extend_from_slice(&body);
    out
}

/// Reads the snapshot before `offset`; `now_ms` is when its producers count as seen.
///
/// # Errors
/// [`LogError::Format`] for what is not a whole, sound snapshot.
pub(crate) fn read<V: Vfs>(
    vfs: &V,
    dir: &Path,
    offset: Offset,
    now_ms: i64,
) -> Result<ProducerState, LogError> {
    let path = path(dir, offset);
    let bytes = read_file(vfs, &path)?.unwrap_or_default();
    decode(&bytes, now_ms).map_err(|reason| LogError::Format {
        path,
        reason: reason.to_owned(),
    })
}

fn decode(bytes: &[u8], now_ms: i64) -> Result<ProducerState, &'static str> {
    let short = "it is cut short";
    let mut rest = bytes;
    if i16::from_be_bytes(take(&mut rest).ok_or(short)?) != VERSION {
        return Err("its version is not 1");
    }
    let crc = u32::from_be_bytes(take(&mut rest).ok_or(short)?);
    if crc32c::crc32c(rest) != crc {
        return Err("its CRC does not match its content");
    }
    let count = i32::from_be_bytes(take(&mut rest).ok_or(short)?);
    if usize::try_from(count).ok() != Some(rest.len() / ENTRY_LEN)
        || !rest.len().is_multiple_of(ENTRY_LEN)
    {
        return Err("its number of entries contradicts its size");
    }
    let mut state = ProducerState::default();
    for mut entry in rest.chunks_exact(ENTRY_LEN) {
        let (id, read) = decode_entry(&mut entry, now_ms).ok_or(short)?;
        match state.get(id) {
            // A further batch of a producer that came before.
            Some(known) if known.epoch == read.epoch => {
                let mut merged = known.clone();
                for &batch in read.batches() {
                    merged.push(batch);
                }
                merged.last_timestamp = read.last_timestamp;
                state.restore(id, merged);
            }
            Some(_) | None => state.restore(id, read),
        }
    }
    Ok(state)
}

fn decode_entry(entry: &mut &[u8], now_ms: i64) -> Option<(ProducerId, ProducerEntry)> {
    let id = ProducerId(i64::from_be_bytes(take(entry)?));
    let epoch = ProducerEpoch(i16::from_be_bytes(take(entry)?));
    let last_sequence = i32::from_be_bytes(take(entry)?);
    let last_offset = Offset(i64::from_be_bytes(take(entry)?));
    let offset_delta = i32::from_be_bytes(take(entry)?);
    let timestamp = i64::from_be_bytes(take(entry)?);
    let mut read = ProducerEntry::new(epoch, now_ms);
    read.last_timestamp = timestamp;
    read.coordinator_epoch = i32::from_be_bytes(take(entry)?);
    let txn = i64::from_be_bytes(take(entry)?);
    read.current_txn_first_offset = (txn >= 0).then_some(Offset(txn));
    if last_offset.0 >= 0 {
        read.push(BatchMetadata {
            last_sequence,
            last_offset,
            offset_delta,
            timestamp,
        });
    }
    Some((id, read))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}
