//! Which names may a topic have, and which topics are the broker's own?

/// The longest topic name: `NAME-PARTITION.UUID-delete` must still be a file name of 255 bytes.
pub const MAX_LEN: usize = 249;

/// Topics that brokers write to themselves; clients may read but not produce to them.
pub const INTERNAL: &[&str] = &["__consumer_offsets", "__transaction_state"];

/// Whether the topic is the broker's own.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Whether `name` can be a topic's.
///
/// # Errors
/// The reason, in Kafka's words.
pub fn check(name: &str) -> Result<(), String> {
    let problem = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if name == "." || name == ".." {
        format!("'{name}' is not allowed")
    } else if name.len() > MAX_LEN {
        format!("the length of '{name}' is longer than the max allowed length {MAX_LEN}")
    } else if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    {
        format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        )
    } else {
        return Ok(());
    };
    Err(format!("Topic name is invalid: {problem}"))
}

/// What a name becomes in metric names, where `.` and `_` are the same: two topics must not meet there.
#[must_use]
pub fn collision_key(name: &str) -> String {
    name.replace('.', "_")
}

/// Whether a name contains a character by which it could collide with another.
#[must_use]
pub fn has_collision_chars(name: &str) -> bool {
    name.contains(['.', '_'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_kafka_does() {
        for good in ["a", "A.b_c-9", &"x".repeat(MAX_LEN), "...", "__x"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, reason) in [
            ("", "empty string"),
            (".", "not allowed"),
            ("..", "not allowed"),
            ("a b", "other than ASCII"),
            ("é", "other than ASCII"),
            ("a/b", "other than ASCII"),
            (&"x".repeat(MAX_LEN + 1) as &str, "longer than"),
        ] {
            let error = check(bad).expect_err(bad);
            assert!(error.contains(reason), "{bad}: {error}");
        }
    }
}
