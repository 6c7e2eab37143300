//! Which topics does a group want, and did they change?

use std::collections::BTreeSet;

use types::ErrorCode;

use super::change::Change;
use super::heartbeat::View;
use super::pattern::Pattern;
use super::record::{Fact, ResolvedRegex};
use super::request::Rejection;
use super::topics::Topics;

/// The most regular expressions of one group: each is held against the name of every topic when topics change.
const MAX_EXPRESSIONS: usize = 100;

/// Forgets an expression that a member was the last one to use, and looks up one that nobody used. Whether the topics of
/// the member changed.
pub(super) fn replace_regex(
    change: &mut Change,
    view: View<'_>,
    (old, new): (Option<&str>, Option<&str>),
    pattern: Option<&Pattern>,
) -> Result<bool, Rejection> {
    if old == new {
        return Ok(false);
    }
    if let Some(old) = old {
        forget_unused(change, old);
    }
    if let (Some(new), Some(pattern)) = (new, pattern)
        && !change.state.regexes.contains_key(new)
    {
        if change.state.regexes.len() >= MAX_EXPRESSIONS {
            let message = format!("the group has {MAX_EXPRESSIONS} regular expressions already");
            return Err(Rejection::new(ErrorCode::InvalidRegularExpression, message));
        }
        put(change, view, new, pattern.matching(view.topics));
    }
    Ok(true)
}

/// Takes back the record of an expression that no member uses any more.
pub(super) fn forget_unused(change: &mut Change, regex: &str) {
    if change.state.regexes.contains_key(regex) && !change.state.is_used(regex) {
        change.emit(Fact::Regex(regex.to_owned(), None));
    }
}

/// Looks every expression up again; whether one of them has other topics now.
pub(super) fn refresh(change: &mut Change, view: View<'_>) -> bool {
    let used: Vec<String> = change.state.expressions().map(str::to_owned).collect();
    let mut changed = false;
    for regex in used {
        // Another coordinator understood what this one does not: the topics stay those that it found.
        let Ok(pattern) = Pattern::compile(&regex) else {
            continue;
        };
        let names = pattern.matching(view.topics);
        let known = change.state.regexes.get(&regex);
        if known.is_none_or(|known| known.topics != names) {
            put(change, view, &regex, names);
            changed = true;
        }
    }
    changed
}

fn put(change: &mut Change, view: View<'_>, regex: &str, names: BTreeSet<String>) {
    let resolved = ResolvedRegex {
        topics: names,
        version: i64::try_from(view.topics.version()).unwrap_or(i64::MAX),
        timestamp_ms: view.now.wall_ms,
    };
    change.emit(Fact::Regex(regex.to_owned(), Some(resolved)));
}

/// Stands for the topics of these names as they are now: another number when one came, went, was made anew or grew. Not
/// the number that Kafka computes: a coordinator that takes over from it rebalances once. 0 without topics, as there.
pub(super) fn hash(names: &BTreeSet<String>, topics: &dyn Topics) -> i64 {
    // FNV-1a, 64 bits.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut any = false;
    let mut take = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for name in names {
        if let Some(topic) = topics.find(name) {
            take(name.as_bytes());
            take(&topic.id.0);
            take(&topic.partitions.to_be_bytes());
            any = true;
        }
    }
    if any { hash as i64 } else { 0 }
}
