//! Which values do the tests give to a message? Any that the version can carry, from a seed.

use bytes::Bytes;
use types::TopicId;
use wire::TaggedFields;

/// A value of a message at a version, with every field that the version lacks at its default.
pub(crate) trait Arbitrary: Sized {
    fn arbitrary(g: &mut Gen, version: i16) -> Self;
}

/// SplitMix64 with a bound for lengths: one seed, one value.
pub(crate) struct Gen {
    state: u64,
    size: u64,
}

macro_rules! numbers {
    ($($name:ident),*) => {$(
        pub(crate) fn $name(&mut self) -> $name {
            // the edges as often as the middle
            match self.next() % 8 {
                0 => $name::MIN,
                1 => $name::MAX,
                2 => 0,
                _ => self.next() as $name,
            }
        }
    )*};
}

impl Gen {
    /// Arrays, strings and bytes have at most `size` elements.
    pub(crate) fn new(seed: u64, size: u64) -> Self {
        Self { state: seed, size }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    numbers!(i8, i16, u16, i32, i64);

    pub(crate) fn f64(&mut self) -> f64 {
        f64::from(self.i32()) / 8.0
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.next() & 1 == 1
    }

    pub(crate) fn len(&mut self) -> u64 {
        self.next() % (self.size + 1)
    }

    pub(crate) fn uuid(&mut self) -> TopicId {
        let (high, low) = (self.next(), self.next());
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        TopicId(bytes)
    }

    pub(crate) fn string(&mut self) -> String {
        const LETTERS: [char; 8] = ['a', 'Z', '0', '.', '-', 'é', '\u{2603}', '\u{1f980}'];
        // now and then long enough for a varint of two bytes
        let len = if self.next().is_multiple_of(64) {
            200
        } else {
            self.len() * 3
        };
        (0..len)
            .map(|_| LETTERS[(self.next() % 8) as usize])
            .collect()
    }

    pub(crate) fn bytes(&mut self) -> Bytes {
        let len = if self.next().is_multiple_of(64) {
            3000
        } else {
            self.len() * 5
        };
        (0..len).map(|_| self.next() as u8).collect()
    }

    pub(crate) fn items<T>(&mut self, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.len()).map(|_| item(self)).collect()
    }

    /// Tags far above those of any table.
    pub(crate) fn unknown_tags(&mut self) -> TaggedFields {
        let mut fields = TaggedFields::default();
        if self.next().is_multiple_of(8) {
            for tag in 0..self.len() as u32 {
                let value = self.bytes();
                fields.push(1000 * (tag + 1), value);
            }
        }
        fields
    }
}

#[allow(clippy::all, unused_parens)] // generated
mod generated {
    use super::{Arbitrary, Gen};

    include!(concat!(env!("OUT_DIR"), "/arbitrary.rs"));
}
