//! Is a history of a group one that a correct coordinator can cause?
//!
//! Pure: the members' history and the topic's records in, the anomalies out. A member owns a partition from the moment it is told so
//! until it has given it up (when its callback ends), has left, or is told that it lost it. The last is told late: its session ended
//! or it was fenced before, and Kafka gives the partition to another one at once. Such an ownership may overlap the next one, but
//! the coordinator must refuse what the older owner commits from then on.

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::history::{Event, What};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A record that nobody processed.
    NotProcessed,
    /// A record that was processed and is not in the topic.
    NotInTheTopic,
    /// Two members own a partition, and neither is told that it lost it.
    OwnedTwice,
    /// A member processed a record of a partition that it does not own.
    NotTheOwner,
    /// A commit was accepted that began after somebody else had got the partition.
    StaleCommit,
    /// A commit was accepted that is lower than one accepted before it began.
    CommitWentBack,
    /// A new owner began before an offset that was committed before it owned the partition.
    BeganBeforeCommit,
    /// A member processed an offset that is not higher than the one before, within one ownership.
    WentBack,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Anomaly {
    pub(crate) kind: Kind,
    /// Who, what and when.
    pub(crate) story: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.story)
    }
}

/// The records of the topic: partition, offset and value.
pub(crate) type Topic = BTreeMap<(i32, i64), String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The member gave the partition up, or left.
    Given,
    /// It was told that it lost it.
    Lost,
    /// The history ends.
    Open,
}

/// A member owns a partition.
#[derive(Debug, Clone)]
struct Ownership<'a> {
    member: &'a str,
    from: u64,
    until: u64,
    end: End,
    /// The offsets that it processed, in its order.
    processed: Vec<i64>,
}

impl fmt::Display for Ownership<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            member,
            from,
            until,
            end,
            ..
        } = self;
        write!(f, "{member} ({from} to {until}, {end:?})")
    }
}

/// A commit of one partition that was accepted.
#[derive(Debug, Clone, Copy)]
struct Commit<'a> {
    member: &'a str,
    partition: i32,
    offset: i64,
    began: u64,
    accepted: u64,
}

/// A history by what is asked of it.
#[derive(Debug, Default)]
struct Facts<'a> {
    ownerships: BTreeMap<i32, Vec<Ownership<'a>>>,
    /// The ownership of a member and a partition that is open, by its place in the list above.
    open: BTreeMap<(&'a str, i32), usize>,
    commits: Vec<Commit<'a>>,
    /// When each member began its latest commit; it makes one at a time.
    began: BTreeMap<&'a str, u64>,
    processed: BTreeSet<(i32, i64, &'a str)>,
    anomalies: Vec<Anomaly>,
}

/// Every anomaly of a history.
pub(crate) fn check(history: &[Event], topic: &Topic) -> Vec<Anomaly> {
    let mut ordered: Vec<&Event> = history.iter().collect();
    ordered.sort_by_key(|event| event.at);
    let mut facts = Facts::default();
    for event in ordered {
        facts.note(event);
    }
    facts.check_records(topic);
    facts.check_owners();
    facts.check_commits();
    facts.check_beginnings();
    facts.anomalies
}

impl<'a> Facts<'a> {
    fn found(&mut self, kind: Kind, story: String) {
        self.anomalies.push(Anomaly { kind, story });
    }

    fn note(&mut self, event: &'a Event) {
        let (at, member) = (event.at, event.member.as_str());
        match &event.what {
            What::Assigned(partitions) => {
                for partition in partitions {
                    self.own(member, *partition, at);
                }
            }
            What::Revoked(partitions) => self.end(member, partitions, at, End::Given),
            What::Lost(partitions) => self.end(member, partitions, at, End::Lost),
            What::Left => {
                let open = self.open.keys().filter(|(owner, _)| *owner == member);
                let partitions: Vec<i32> = open.map(|(_, partition)| *partition).collect();
                self.end(member, &partitions, at, End::Given);
            }
            What::Record {
                partition,
                offset,
                value,
            } => self.process(event, *partition, *offset, value),
            What::Committing(_) => {
                self.began.insert(member, at);
            }
            What::Committed(offsets) => {
                let began = self.began.get(member).copied().unwrap_or(at);
                let commits = offsets.iter().map(|(partition, offset)| Commit {
                    member,
                    partition: *partition,
                    offset: *offset,
                    began,
                    accepted: at,
                });
                self.commits.extend(commits);
            }
            What::Joining | What::Revoking(_) | What::Refused(_) | What::Leaving => {}
        }
    }

    fn own(&mut self, member: &'a str, partition: i32, at: u64) {
        let all = self.ownerships.entry(partition).or_default();
        self.open.entry((member, partition)).or_insert_with(|| {
            all.push(Ownership {
                member,
                from: at,
                until: u64::MAX,
                end: End::Open,
                processed: Vec::new(),
            });
            all.len() - 1
        });
    }

    fn opened(&mut self, member: &'a str, partition: i32) -> Option<&mut Ownership<'a>> {
        let place = *self.open.get(&(member, partition))?;
        self.ownerships.get_mut(&partition)?.get_mut(place)
    }

    fn end(&mut self, member: &'a str, partitions: &[i32], at: u64, end: End) {
        for partition in partitions {
            if let Some(ownership) = self.opened(member, *partition) {
                ownership.until = at;
                ownership.end = end;
            }
            self.open.remove(&(member, *partition));
        }
    }

    fn process(&mut self, event: &'a Event, partition: i32, offset: i64, value: &'a str) {
        self.processed.insert((partition, offset, value));
        let (member, at) = (event.member.as_str(), event.at);
        let story = format!("{member} at {at}: {value} at {partition}-{offset}");
        let Some(ownership) = self.opened(member, partition) else {
            return self.found(Kind::NotTheOwner, story);
        };
        let last = ownership.processed.last().copied();
        ownership.processed.push(offset);
        if let Some(last) = last.filter(|last| *last >= offset) {
            self.found(Kind::WentBack, format!("{story} after {last}"));
        }
    }

    /// Every record of the topic is processed, and nothing else.
    fn check_records(&mut self, topic: &Topic) {
        for ((partition, offset), value) in topic {
            if !self.processed.contains(&(*partition, *offset, value)) {
                self.found(
                    Kind::NotProcessed,
                    format!("{value} at {partition}-{offset}"),
                );
            }
        }
        let strange: Vec<_> = self
            .processed
            .iter()
            .filter(|(partition, offset, value)| {
                topic.get(&(*partition, *offset)).map(String::as_str) != Some(*value)
            })
            .map(|(partition, offset, value)| format!("{value} at {partition}-{offset}"))
            .collect();
        for story in strange {
            self.found(Kind::NotInTheTopic, story);
        }
    }

    /// Of two ownerships that overlap, the older one was lost.
    fn check_owners(&mut self) {
        let mut stories = Vec::new();
        for (partition, all) in &self.ownerships {
            for (at, later) in all.iter().enumerate() {
                let overlapped = all[..at].iter().filter(|earlier| {
                    earlier.member != later.member
                        && earlier.until > later.from
                        && earlier.end != End::Lost
                });
                stories.extend(
                    overlapped.map(|earlier| format!("{partition}: {earlier} and {later}")),
                );
            }
        }
        for story in stories {
            self.found(Kind::OwnedTwice, story);
        }
    }

    /// Commits of a partition come from its newest owner, and never go back.
    fn check_commits(&mut self) {
        let commits = std::mem::take(&mut self.commits);
        for commit in &commits {
            let all = self.ownerships.get(&commit.partition);
            let newest = all
                .into_iter()
                .flatten()
                .rfind(|ownership| ownership.from < commit.began);
            if newest.is_none_or(|ownership| ownership.member != commit.member) {
                let newest = newest.map(ToString::to_string);
                self.found(Kind::StaleCommit, format!("{commit:?} while {newest:?}"));
            }
        }
        let mut highest: BTreeMap<i32, Commit<'a>> = BTreeMap::new();
        // By when they were accepted: a commit that began after that of another one was accepted has to be as high.
        let mut by_beginning = commits.clone();
        by_beginning.sort_by_key(|commit| commit.began);
        let mut accepted = commits.iter().peekable();
        for commit in by_beginning {
            while let Some(before) = accepted.next_if(|before| before.accepted < commit.began) {
                let high = highest.entry(before.partition).or_insert(*before);
                if before.offset > high.offset {
                    *high = *before;
                }
            }
            if let Some(high) = highest.get(&commit.partition).copied()
                && high.offset > commit.offset
            {
                self.found(Kind::CommitWentBack, format!("{commit:?} after {high:?}"));
            }
        }
        self.commits = commits;
    }

    /// An owner goes on where the last one committed, or after.
    fn check_beginnings(&mut self) {
        let mut stories = Vec::new();
        for (partition, all) in &self.ownerships {
            for ownership in all {
                let Some(first) = ownership.processed.first() else {
                    continue;
                };
                let committed = self
                    .commits
                    .iter()
                    .filter(|one| one.partition == *partition && one.accepted < ownership.from)
                    .max_by_key(|one| one.offset);
                if let Some(commit) = committed.filter(|commit| commit.offset > *first) {
                    stories.push(format!("{ownership} began at {first} after {commit:?}"));
                }
            }
        }
        for story in stories {
            self.found(Kind::BeganBeforeCommit, story);
        }
    }
}
