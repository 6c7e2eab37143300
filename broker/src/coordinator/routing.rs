//! Which partition of `__consumer_offsets` does a group belong to?

/// The partition of `group_id` among `partitions`, as Kafka computes it: Java's `String.hashCode` (over UTF-16 units),
/// its absolute value, modulo.
pub(crate) fn partition_for(group_id: &str, partitions: i32) -> i32 {
    let hash = group_id.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // Java's Utils.abs gives 0 for the smallest integer, whose absolute value does not exist.
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::partition_for;

    #[test]
    fn groups_lie_where_java_puts_them() {
        // By hashCode: "" 0, "a" 97, "console-consumer" -648006740, the next Integer.MIN_VALUE, the last 1772899.
        let cases = [
            ("", 0),
            ("a", 47),
            ("console-consumer", 40),
            ("polygenelubricants", 0),
            ("\u{1F600}", 49),
        ];
        for (group, want) in cases {
            assert_eq!(partition_for(group, 50), want, "{group:?}");
        }
    }
}
