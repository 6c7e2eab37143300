//! Target: two bytes choose a message and its version, the rest is read as it.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use fuzz::subjects::{Subject, all};
use libfuzzer_sys::fuzz_target;

static SUBJECTS: LazyLock<Vec<Subject>> = LazyLock::new(all);

fuzz_target!(|input: &[u8]| {
    if let [high, low, body @ ..] = input {
        let at = usize::from(u16::from_be_bytes([*high, *low])) % SUBJECTS.len();
        let subject = SUBJECTS[at];
        (subject.check)(Bytes::copy_from_slice(body), subject.version);
    }
});
