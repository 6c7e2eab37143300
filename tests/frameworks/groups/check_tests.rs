//! Is each anomaly seen in a history that has it, and none in one that has none?

use super::{Kind, Topic, check};
use crate::groups::history::{Event, parse};

/// Two partitions of two records; `a` has both, `b` joins and gets the second, `a` leaves, `b` has both.
const CLEAN: &str = "\
10 a joining
20 a assigned 0,1
30 a record 0 0 in-0
40 a record 1 0 in-1
50 a committing 0:1,1:1
60 a committed 0:1,1:1
70 b joining
80 a revoking 1
90 a revoked 1
100 b assigned 1
110 b record 1 1 in-3
120 b committing 1:2
130 b refused 1:2 REBALANCE_IN_PROGRESS
140 a leaving
150 a revoking 0
160 a revoked 0
170 a left
180 b assigned 0
190 b record 0 1 in-2
200 b committing 0:2,1:2
210 b committed 0:2,1:2
220 b leaving
230 b left";

fn topic() -> Topic {
    let records = [
        ((0, 0), "in-0"),
        ((1, 0), "in-1"),
        ((0, 1), "in-2"),
        ((1, 1), "in-3"),
    ];
    records
        .map(|(place, value)| (place, value.to_owned()))
        .into()
}

/// What is found in the clean history with some lines replaced by others (those that begin with the same time) or added.
fn found(changes: &[&str]) -> Vec<Kind> {
    let time = |line: &str| line.split(' ').next().unwrap().to_owned();
    let mut lines: Vec<&str> = CLEAN.lines().collect();
    for change in changes {
        lines.retain(|line| time(line) != time(change));
        lines.push(change);
    }
    let history: Vec<Event> = lines
        .into_iter()
        .filter(|line| line.contains(' '))
        .map(|line| parse(line).expect(line))
        .collect();
    let mut kinds: Vec<Kind> = check(&history, &topic())
        .into_iter()
        .map(|one| one.kind)
        .collect();
    kinds.dedup();
    kinds
}

#[test]
fn a_history_that_a_correct_coordinator_causes_has_no_anomaly() {
    assert_eq!(found(&[]), []);
}

#[test]
fn a_record_that_nobody_processed_is_found() {
    assert_eq!(found(&["190"]), [Kind::NotProcessed]);
}

#[test]
fn a_record_that_is_not_in_the_topic_is_found() {
    assert_eq!(found(&["195 b record 0 2 in-9"]), [Kind::NotInTheTopic]);
    assert_eq!(
        found(&["190 b record 0 1 in-9"]),
        [Kind::NotProcessed, Kind::NotInTheTopic]
    );
}

#[test]
fn a_partition_of_two_owners_is_found() {
    assert_eq!(found(&["75 b assigned 1", "100"]), [Kind::OwnedTwice]);
    // It gives the partition up only after the other one has got it.
    assert_eq!(found(&["90", "105 a revoked 1"]), [Kind::OwnedTwice]);
    assert_eq!(found(&["80", "90"]), [Kind::OwnedTwice]);
}

#[test]
fn an_owner_that_was_fenced_may_learn_of_it_late() {
    assert_eq!(found(&["80", "90", "115 a lost 1"]), []);
    assert_eq!(
        found(&["80", "90", "105 a record 1 1 in-3", "115 a lost 1"]),
        []
    );
}

#[test]
fn a_commit_of_a_fenced_owner_that_is_accepted_is_found() {
    let fenced = ["80", "90", "102 a committing 1:1", "115 a lost 1"];
    assert_eq!(found(&fenced), []);
    let accepted = [&fenced[..], &["104 a committed 1:1"]].concat();
    assert_eq!(found(&accepted), [Kind::StaleCommit]);
    // One that began before is a race that nobody can decide.
    let early = [
        "80",
        "90",
        "95 a committing 1:1",
        "104 a committed 1:1",
        "115 a lost 1",
    ];
    assert_eq!(found(&early), []);
}

#[test]
fn a_commit_by_a_member_that_owns_nothing_is_found() {
    assert_eq!(
        found(&["102 c committing 1:1", "104 c committed 1:1"]),
        [Kind::StaleCommit]
    );
}

#[test]
fn a_record_of_a_partition_that_is_not_owned_is_found() {
    assert_eq!(found(&["95 a record 1 1 in-3"]), [Kind::NotTheOwner]);
    assert_eq!(found(&["95 b record 1 1 in-3"]), [Kind::NotTheOwner]);
}

#[test]
fn a_commit_that_goes_back_is_found() {
    assert_eq!(
        found(&["212 b committing 0:1", "214 b committed 0:1"]),
        [Kind::CommitWentBack]
    );
    assert_eq!(found(&["212 b committing 0:2", "214 b committed 0:2"]), []);
    // Another one was not accepted before it began.
    assert_eq!(
        found(&[
            "51 c committing 0:1",
            "61 a committing 0:1",
            "62 a committed 0:1",
            "60",
            "63 a committed 1:1"
        ]),
        []
    );
}

#[test]
fn an_owner_that_begins_before_the_commit_is_found() {
    assert_eq!(found(&["185 b record 0 0 in-0"]), [Kind::BeganBeforeCommit]);
    // What was refused promises nothing.
    assert_eq!(
        found(&["60 a refused 0:1,1:1 X", "185 b record 0 0 in-0"]),
        []
    );
}

#[test]
fn a_member_that_goes_back_is_found() {
    assert_eq!(found(&["195 b record 0 1 in-2"]), [Kind::WentBack]);
}
