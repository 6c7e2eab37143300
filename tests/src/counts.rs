//! In what does that which was read differ from what was wanted?

use std::collections::BTreeMap;

/// More would hide the message that they are in.
const SHOWN: usize = 5;

/// Some keys whose values differ: what was wanted, what was got.
#[must_use]
pub fn differences<'a, V: PartialEq>(
    want: &'a BTreeMap<String, V>,
    got: &'a BTreeMap<String, V>,
) -> Vec<(&'a str, Option<&'a V>, Option<&'a V>)> {
    let keys = want.keys().chain(got.keys());
    keys.filter(|key| want.get(*key) != got.get(*key))
        .take(SHOWN)
        .map(|key| (key.as_str(), want.get(key), got.get(key)))
        .collect()
}

#[test]
fn what_is_missing_wrong_or_too_much_differs() {
    let map = |pairs: &[(&str, u64)]| -> BTreeMap<String, u64> {
        let owned = pairs.iter().map(|(key, value)| ((*key).to_owned(), *value));
        owned.collect()
    };
    let (want, got) = (map(&[("a", 1), ("b", 1)]), map(&[("b", 2), ("c", 1)]));
    assert!(differences(&want, &want).is_empty());
    let all = [
        ("a", Some(&1), None),
        ("b", Some(&1), Some(&2)),
        ("b", Some(&1), Some(&2)),
        ("c", None, Some(&1)),
    ];
    assert_eq!(differences(&want, &got), all);
}
