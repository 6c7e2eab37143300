//! Which topics does a group want, and did they change?

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use types::ErrorCode;

use super::change::Change;
use super::record::{Fact, ResolvedRegex};
use super::request::Rejection;
use super::topics::Topics;
use crate::group::Now;

/// The most memory a compiled expression may take. Names of topics need little; a repetition that is nested could take
/// all there is.
const MAX_COMPILED: usize = 1 << 20;

/// An expression that a whole name has to match.
pub(super) fn compile(regex: &str) -> Result<Regex, Rejection> {
    // Alone first, so that it cannot close the group it is put into.
    let alone = build(regex).and_then(|_| build(&format!("^(?:{regex})$")));
    alone.map_err(|error| {
        let message = format!("`{regex}` is not a valid regular expression: {error}");
        Rejection::new(ErrorCode::InvalidRegularExpression, message)
    })
}

fn build(regex: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(regex).size_limit(MAX_COMPILED).build()
}

/// The names of the topics that match.
fn resolve(regex: &str, topics: &dyn Topics) -> Result<BTreeSet<String>, Rejection> {
    let compiled = compile(regex)?;
    let names = topics.names().filter(|name| compiled.is_match(name));
    Ok(names.map(str::to_owned).collect())
}

/// Forgets an expression that a member was the last one to use, and looks up one that nobody used. Whether the topics of
/// the member changed.
pub(super) fn replace_regex(
    change: &mut Change,
    now: Now,
    topics: &dyn Topics,
    (old, new): (Option<&str>, Option<&str>),
) -> Result<bool, Rejection> {
    if old == new {
        return Ok(false);
    }
    if let Some(old) = old {
        forget_unused(change, old);
    }
    if let Some(new) = new
        && !change.state.regexes.contains_key(new)
    {
        let names = resolve(new, topics)?;
        put(change, now, topics, new, names);
    }
    Ok(true)
}

/// Takes back the record of an expression that no member uses any more.
pub(super) fn forget_unused(change: &mut Change, regex: &str) {
    if change.state.regexes.contains_key(regex) && change.state.subscribers(regex) == 0 {
        change.emit(Fact::Regex(regex.to_owned(), None));
    }
}

/// Looks every expression up again; whether one of them has other topics now.
pub(super) fn refresh(
    change: &mut Change,
    now: Now,
    topics: &dyn Topics,
) -> Result<bool, Rejection> {
    let known: Vec<(String, Arc<ResolvedRegex>)> = (change.state.regexes.iter())
        .map(|(regex, resolved)| (regex.clone(), resolved.clone()))
        .collect();
    let mut changed = false;
    for (regex, resolved) in known {
        let names = resolve(&regex, topics)?;
        if names != resolved.topics {
            put(change, now, topics, &regex, names);
            changed = true;
        }
    }
    Ok(changed)
}

fn put(change: &mut Change, now: Now, topics: &dyn Topics, regex: &str, names: BTreeSet<String>) {
    let resolved = ResolvedRegex {
        topics: names,
        version: i64::try_from(topics.version()).unwrap_or(i64::MAX),
        timestamp_ms: now.wall_ms,
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
