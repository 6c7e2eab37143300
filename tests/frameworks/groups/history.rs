//! What do the members of a group say, in the order in which it happened?

use std::collections::BTreeMap;

/// What a member did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// It is about to subscribe.
    Joining,
    /// It was told of partitions, more or all; it processes none of them before.
    Assigned(Vec<i32>),
    /// It was told to give partitions up, and is about to commit what it processed of them.
    Revoking(Vec<i32>),
    /// It gave them up: only from now on may it say so to the coordinator.
    Revoked(Vec<i32>),
    /// It was told that it had lost them some time ago.
    Lost(Vec<i32>),
    /// It processed a record.
    Record {
        partition: i32,
        offset: i64,
        value: String,
    },
    /// It is about to commit offsets.
    Committing(BTreeMap<i32, i64>),
    /// They were accepted.
    Committed(BTreeMap<i32, i64>),
    /// They were refused, or nobody said what became of them.
    Refused(BTreeMap<i32, i64>),
    /// It is about to leave.
    Leaving,
    /// It has left.
    Left,
}

/// What a member did, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Nanoseconds of the machine's monotonic clock.
    pub(crate) at: u64,
    pub(crate) member: String,
    pub(crate) what: What,
}

fn numbers(text: &str) -> Option<Vec<i32>> {
    let words = text.split(',').filter(|word| !word.is_empty());
    words.map(|word| word.parse().ok()).collect()
}

/// `PARTITION:OFFSET,...`
fn offsets(text: &str) -> Option<BTreeMap<i32, i64>> {
    let pairs = text.split(',').map(|pair| {
        let (partition, offset) = pair.split_once(':')?;
        Some((partition.parse().ok()?, offset.parse().ok()?))
    });
    pairs.collect()
}

fn record(text: &str) -> Option<What> {
    let mut words = text.splitn(3, ' ');
    Some(What::Record {
        partition: words.next()?.parse().ok()?,
        offset: words.next()?.parse().ok()?,
        value: words.next()?.to_owned(),
    })
}

/// The event of a line `NANOSECONDS MEMBER WHAT ...`; `None` when it is none.
pub(crate) fn parse(line: &str) -> Option<Event> {
    let mut words = line.splitn(4, ' ');
    let at = words.next()?.parse().ok()?;
    let member = words.next()?.to_owned();
    let verb = words.next()?;
    let rest = words.next().unwrap_or_default();
    let what = match verb {
        "joining" => What::Joining,
        "assigned" => What::Assigned(numbers(rest)?),
        "revoking" => What::Revoking(numbers(rest)?),
        "revoked" => What::Revoked(numbers(rest)?),
        "lost" => What::Lost(numbers(rest)?),
        "record" => record(rest)?,
        "committing" => What::Committing(offsets(rest)?),
        "committed" => What::Committed(offsets(rest)?),
        "refused" => What::Refused(offsets(rest.split(' ').next()?)?),
        "leaving" => What::Leaving,
        "left" => What::Left,
        _ => return None,
    };
    Some(Event { at, member, what })
}
