//! Target: record batches with a right checksum, through every reader of them.
#![no_main]

use bytes::Bytes;
use fuzz::batches::{is_dense, sealed};
use libfuzzer_sys::fuzz_target;
use types::batch::{verify, verify_produced};
use types::builder::recompress;
use types::record::RecordIter;
use types::{BatchIter, Compression, Retained, scan};

const LIMIT: usize = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let bytes = sealed(input);
    for step in BatchIter::new(&bytes) {
        let Ok((header, batch)) = step else { break };
        let batch = Bytes::copy_from_slice(batch);
        if verify(&batch).is_err() {
            continue;
        }
        let scanned = scan(&header, &batch, LIMIT);
        let Ok(records) = RecordIter::new(&batch, LIMIT) else {
            continue;
        };
        let read: Result<Vec<_>, _> = records.collect();
        if verify_produced(&batch).is_ok() && !header.is_log_append_time() {
            let is_sound = read.as_ref().is_ok_and(|read| is_dense(&header, read));
            assert_eq!(scanned.is_ok(), is_sound, "{scanned:?} of {read:?}");
        }
        let kept = Retained::of(&batch, LIMIT, |record| record.offset.0 % 2 == 0);
        assert!(
            read.is_err() || kept.is_ok(),
            "what can be read can be compacted: {kept:?}"
        );
        if let Ok(kept) = kept
            && let Ok(built) = kept.build(None)
        {
            verify(&built).expect("a compacted batch is a batch");
        }
        if let Ok(read) = read
            && let Ok(other) = recompress(&batch, LIMIT, Compression::Lz4, LIMIT)
        {
            verify(&other).expect("a compressed batch is a batch");
            let again: Result<Vec<_>, _> = RecordIter::new(&other, LIMIT)
                .expect("a compressed batch is read")
                .collect();
            assert_eq!(again.expect("with its records"), read, "{header:?}");
        }
    }
});
