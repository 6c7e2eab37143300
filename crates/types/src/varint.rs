//! How are the zigzag varints inside records (those of Protocol Buffers) read and written?

/// Takes a 32-bit zigzag varint off the front of `bytes`; `None` when it is cut short or too long.
pub(crate) fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    let raw = u32::try_from(take(bytes, 5)?).ok()?;
    Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

/// Takes a 64-bit zigzag varint off the front of `bytes`; `None` when it is cut short or too long.
pub(crate) fn take_i64(bytes: &mut &[u8]) -> Option<i64> {
    let raw = take(bytes, 10)?;
    Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

fn take(bytes: &mut &[u8], longest: usize) -> Option<u64> {
    let mut value = 0_u64;
    for (n, &byte) in bytes.iter().take(longest).enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte holds one bit only.
        if n == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * n);
        if byte & 0x80 == 0 {
            *bytes = &bytes[n + 1..];
            return Some(value);
        }
    }
    None
}

/// Appends `value` as a zigzag varint (a 32-bit one is written alike).
pub(crate) fn put(out: &mut Vec<u8>, value: i64) {
    let mut raw = zigzag(value);
    while raw >= 0x80 {
        out.push((raw & 0x7f) as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// Bytes that [`put`] appends.
pub(crate) fn len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values_have_their_known_bytes() {
        for (value, bytes) in [
            (0, &[0x00_u8][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(take_i32(&mut &out[..]).map(i64::from), Some(value));
        }
    }

    #[test]
    fn cut_and_overlong_varints_are_refused() {
        for bytes in [
            &[][..],
            &[0x80],
            &[0xff; 5],
            &[0xff, 0xff, 0xff, 0xff, 0x1f],
        ] {
            assert_eq!(take_i32(&mut &bytes[..]), None, "{bytes:?}");
        }
        assert_eq!(take_i64(&mut &[0xff; 11][..]), None);
        assert_eq!(
            take_i64(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02][..]),
            None
        );
    }

    proptest! {
        #[test]
        fn every_value_comes_back(value: i64, tail: Vec<u8>) {
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            out.extend_from_slice(&tail);
            let mut rest = &out[..];
            prop_assert_eq!(take_i64(&mut rest), Some(value));
            prop_assert_eq!(rest, &tail[..]);
        }
    }
}
