//! What is the last offset of each key in the dirty part of a log, in bounded memory?
//!
//! A key is known by 128 bits of a hash with a secret seed: two keys that share them would cost the older one its
//! record, so nobody must be able to make such a pair, and by chance it needs some 10^18 keys. An entry takes 24 bytes.

use std::hash::{DefaultHasher, Hasher};

use types::Offset;

/// Both halves of the hash, and the offset plus one; all zero where nothing is. Plain numbers, so that the operating
/// system gives the zeroed memory page by page as it is used.
type Slot = [u64; 3];

const SLOT_BYTES: u64 = size_of::<Slot>() as u64;

/// Fewer slots than this are never made: a batch or two have to fit.
const MIN_SLOTS: u64 = 1024;

/// Last offsets by key.
#[derive(Debug)]
pub(crate) struct OffsetMap {
    slots: Vec<Slot>,
    used: usize,
    /// How many entries are taken: probing gets slow in a full table.
    most: usize,
    seed: u64,
    /// The last offset that was looked at; -1 for none.
    latest: Offset,
}

impl OffsetMap {
    /// A map in at most `max_bytes`, and not more than `keys` entries need at a load of `load_factor`.
    pub(crate) fn new(max_bytes: u64, load_factor: f64, keys: u64, seed: u64) -> Self {
        let load = load_factor.clamp(0.01, 1.0);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a size is rounded"
        )]
        let wanted = (keys as f64 / load).ceil() as u64;
        let slots = (max_bytes / SLOT_BYTES)
            .min(wanted.saturating_add(1))
            .max(MIN_SLOTS);
        let slots = usize::try_from(slots).unwrap_or(usize::MAX);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a size is rounded"
        )]
        let most = (slots as f64 * load) as usize;
        Self {
            slots: vec![[0; 3]; slots],
            used: 0,
            // One stays empty, or a search for what is not there would not end.
            most: most.clamp(1, slots - 1),
            seed,
            latest: Offset(-1),
        }
    }

    /// Enters the key's newest offset; `false` if the map is full.
    pub(crate) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let [high, low] = self.hash(key);
        let (at, found) = self.find([high, low]);
        if !found && self.used == self.most {
            return false;
        }
        self.slots[at] = [high, low, stored(offset)];
        self.used += usize::from(!found);
        true
    }

    /// The newest offset of the key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Offset> {
        let (at, found) = self.find(self.hash(key));
        found.then(|| Offset(self.slots[at][2].cast_signed() - 1))
    }

    /// Offsets up to this one were looked at.
    pub(crate) const fn latest(&self) -> Offset {
        self.latest
    }

    pub(crate) fn advance_latest(&mut self, offset: Offset) {
        self.latest = self.latest.max(offset);
    }

    /// How much of the map is used, 0 to 1.
    pub(crate) fn utilization(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a share is rounded")]
        let share = self.used as f64 / self.slots.len() as f64;
        share
    }

    /// The key's slot, or the empty one where it belongs.
    fn find(&self, [high, low]: [u64; 2]) -> (usize, bool) {
        let slots = self.slots.len();
        let mut at = usize::try_from(high % slots as u64).unwrap_or(0);
        loop {
            let slot = &self.slots[at];
            if slot[2] == 0 {
                return (at, false);
            }
            if slot[0] == high && slot[1] == low {
                return (at, true);
            }
            at = (at + 1) % slots;
        }
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [0_u64, 1].map(|half| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(self.seed);
            hasher.write_u64(half);
            hasher.write(key);
            hasher.finish()
        })
    }
}

const fn stored(offset: Offset) -> u64 {
    // Offsets are not negative and less than 2^63 - 1.
    (offset.0 + 1).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_map_takes_known_keys_only() {
        let mut map = OffsetMap::new(0, 0.5, 10, 1);
        let taken = (0..2000_i64)
            .take_while(|n| map.put(&n.to_be_bytes(), Offset(*n)))
            .count();
        assert_eq!(taken, 512, "half of the least size");
        assert!(map.put(&3_i64.to_be_bytes(), Offset(9000)));
        assert_eq!(map.get(&3_i64.to_be_bytes()), Some(Offset(9000)));
        assert!(!map.put(b"new", Offset(9001)));
        assert_eq!(map.get(b"new"), None);
    }

    #[test]
    fn memory_is_bounded_by_bytes_and_by_what_is_to_come() {
        assert_eq!(
            OffsetMap::new(1 << 20, 0.9, u64::MAX, 1).slots.len(),
            43_690
        );
        assert!(OffsetMap::new(1 << 40, 0.9, 2_000, 1).slots.len() < 2_300);
    }

    proptest! {
        #[test]
        fn the_last_offset_of_every_key_is_found(
            keys in prop::collection::vec(prop::collection::vec(0..4_u8, 0..4), 0..600),
            seed: u64,
        ) {
            let mut map = OffsetMap::new(1 << 20, 0.9, 600, seed);
            let mut model = HashMap::new();
            for (offset, key) in keys.iter().enumerate() {
                let offset = Offset(offset as i64);
                prop_assert!(map.put(key, offset));
                model.insert(key.clone(), offset);
            }
            for key in &keys {
                prop_assert_eq!(map.get(key), model.get(key).copied());
            }
            prop_assert_eq!(map.get(b"not there"), None);
        }
    }
}
