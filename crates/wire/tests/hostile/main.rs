//! Can bytes from the network make the codec panic, or allocate more than a small multiple of their own number?

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::panic)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Bytes, BytesMut};
use peak_alloc::PeakAlloc;
use wire::{Message, RequestFrame};

#[path = "../codec/values.rs"]
mod values;

use values::{Arbitrary, Gen};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What decoding a frame may allocate at most: the floor and the factor of the reader, the copied strings, and slack
/// for the error.
fn bound(frame: usize) -> usize {
    (1 << 20) + 9 * frame + (64 << 10)
}

/// One kind of message at one version: how its bytes are made and read.
struct Subject {
    name: &'static str,
    version: i16,
    bytes: fn(&mut Gen, i16) -> Bytes,
    /// Decodes and drops; whether it was a message.
    decode: fn(Bytes, i16) -> bool,
}

fn subjects_of<M: Message + Arbitrary>(into: &mut Vec<Subject>) {
    for version in M::VERSIONS {
        into.push(Subject {
            name: M::NAME,
            version,
            bytes: |g, version| {
                let mut buf = BytesMut::new();
                M::arbitrary(g, version).encode(&mut buf, version).unwrap();
                buf.freeze()
            },
            decode: |bytes, version| M::decode_exact(bytes, version).is_ok(),
        });
    }
}

macro_rules! apis {
    ($($api:ident, $request:ident, $response:ident, $a:ident, $b:ident;)*) => {
        fn apis(into: &mut Vec<Subject>) {
            $(subjects_of::<wire::messages::$request>(into); subjects_of::<wire::messages::$response>(into);)*
        }
    };
}
macro_rules! records {
    ($($message:ident, $module:ident;)*) => {
        fn records(into: &mut Vec<Subject>) {
            $(subjects_of::<wire::messages::$message>(into);)*
        }
    };
}
wire::for_each_api!(apis);
wire::for_each_record!(records);

/// Decodes, and fails the test on a panic or on too much memory.
fn check(subject: &Subject, bytes: &[u8], what: &str) -> bool {
    let frame = Bytes::copy_from_slice(bytes);
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = catch_unwind(AssertUnwindSafe(|| {
        (subject.decode)(frame, subject.version)
    }));
    let used = ALLOCATOR.peak_usage().saturating_sub(before);
    let Subject { name, version, .. } = subject;
    let shown = &bytes[..bytes.len().min(300)];
    assert!(
        used <= bound(bytes.len()),
        "{name} v{version}: {used} bytes of memory for {} bytes, {what}: {shown:?}",
        bytes.len()
    );
    result.unwrap_or_else(|_| panic!("{name} v{version} panics, {what}: {shown:?}"))
}

/// Bytes that claim more than there is, put over every position of a valid message.
fn huge_counts(subject: &Subject, valid: &[u8]) {
    const CLAIMS: [&[u8]; 5] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0x7f, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0x07],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
    ];
    for claim in CLAIMS {
        for at in 0..valid.len() {
            let mut bytes = valid.to_vec();
            let end = (at + claim.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&claim[..end - at]);
            check(subject, &bytes, "huge count");
        }
    }
}

/// Bits flipped, bytes replaced, pieces cut out, doubled or appended.
fn mutations(subject: &Subject, valid: &[u8], g: &mut Gen, rounds: usize) {
    for _ in 0..rounds {
        let mut bytes = valid.to_vec();
        for _ in 0..=g.next() % 4 {
            let at = (g.next() % (bytes.len() as u64 + 1)) as usize;
            let to = (at + (g.next() % 8) as usize).min(bytes.len());
            match g.next() % 5 {
                0 if at < bytes.len() => bytes[at] ^= 1 << (g.next() % 8),
                1 if at < bytes.len() => bytes[at] = g.next() as u8,
                2 => drop(bytes.drain(at..to)),
                3 => {
                    let piece = bytes[at..to].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => bytes.truncate(at),
            }
        }
        check(subject, &bytes, "mutation");
    }
}

/// A frame of half a megabyte that repeats one byte, behind counts that the bytes could just hold: the worst ratio of
/// memory to bytes.
fn amplification(subject: &Subject) {
    const FILL: usize = 512 << 10;
    let counts: [&[u8]; 5] = [
        &[0x00, 0x01, 0x00, 0x00],
        &[0x00, 0x04, 0x00, 0x00],
        &[0x80, 0x80, 0x10],
        &[0x80, 0x80, 0x04],
        &[],
    ];
    for count in counts {
        for prefix in [0, 2, 4, 6, 8, 12] {
            for fill in [0x00, 0x01, 0x02] {
                let mut bytes = vec![0; prefix];
                bytes.extend_from_slice(count);
                bytes.resize(FILL, fill);
                check(subject, &bytes, "amplification");
            }
        }
    }
}

/// One test, because the allocator counts for the whole process.
#[test]
fn hostile_bytes_are_refused_within_bounded_memory() {
    let mut subjects = Vec::new();
    apis(&mut subjects);
    records(&mut subjects);
    assert!(subjects.len() > 500, "{} subjects", subjects.len());
    let mut g = Gen::new(20_260_101, 2);
    for subject in &subjects {
        let valid = (subject.bytes)(&mut g, subject.version);
        assert!(
            check(subject, &valid, "valid"),
            "{} v{}",
            subject.name,
            subject.version
        );
        for length in [0, 1, 64, 4096] {
            check(
                subject,
                &[0x7f, 0xff, 0xff, 0xff].repeat(length),
                "7fffffff everywhere",
            );
            check(subject, &vec![0xff; length], "ff everywhere");
        }
        huge_counts(subject, &valid);
        mutations(subject, &valid, &mut g, 200);
    }
    // The newest version has every kind of field; older ones differ in the encoding of lengths only.
    let newest = |s: &&Subject| {
        !subjects
            .iter()
            .any(|o| o.name == s.name && o.version > s.version)
    };
    subjects.iter().filter(newest).for_each(amplification);
    frames(&mut g);
}

/// Request headers, with every API and version that fits.
fn frames(g: &mut Gen) {
    for round in 0..50_000_u32 {
        let mut frame = vec![0, (round % 96) as u8, 0, (g.next() % 20) as u8];
        frame.extend((0..g.next() % 40).map(|_| g.next() as u8));
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let length = frame.len();
        let parsed = catch_unwind(|| drop(RequestFrame::parse(Bytes::from(frame))));
        assert!(parsed.is_ok(), "panic in round {round}");
        assert!(ALLOCATOR.peak_usage().saturating_sub(before) <= bound(length));
    }
}
