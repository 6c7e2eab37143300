//! Which partition does a record with a key go to? The one that Kafka's Java client would choose.

/// MurmurHash2 (32 bits, seed 0x9747b28c) as Kafka's Java client computes it.
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ low_32(data.len());
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    for (i, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * i);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a key among `partitions` (at least 1).
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: i32) -> i32 {
    let positive = i32::try_from(murmur2(key) & 0x7fff_ffff).unwrap_or(0); // fits: the sign bit is off
    positive % partitions.max(1)
}

/// The hash takes the length in 32 bits; a longer key wraps as Java's int would.
fn low_32(len: usize) -> u32 {
    u32::try_from(len & 0xffff_ffff).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes published in the Java client's own tests, as signed ints.
    #[test]
    fn murmur2_equals_the_java_client() {
        for (text, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
    }

    #[test]
    fn a_key_has_one_partition_within_bounds() {
        for n in [1, 2, 3, 12, 1000] {
            for key in 0..200_u32 {
                let partition = partition_for_key(&key.to_be_bytes(), n);
                assert!((0..n).contains(&partition));
            }
        }
        assert_eq!(partition_for_key(b"", 7), partition_for_key(b"", 7));
    }
}
