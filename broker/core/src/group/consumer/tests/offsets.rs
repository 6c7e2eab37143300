//! Who may commit and read offsets of a consumer group?

use types::{ErrorCode, Offset, ProducerEpoch, ProducerId, TopicPartition};

use super::fixture::{Fixture, GROUP, client};
use crate::group::TransactionalCommit;
use crate::group::consumer::request::ConsumerHeartbeat;
use crate::group::request::{CommitPartition, CommitRequest, Reply, Token};

fn request(member_id: &str, epoch: Option<i32>, knows_epochs: bool) -> CommitRequest {
    CommitRequest {
        group_id: GROUP.to_owned(),
        generation: epoch,
        member_id: member_id.to_owned(),
        group_instance_id: None,
        knows_epochs,
        retention_ms: None,
        partitions: vec![CommitPartition {
            partition: TopicPartition::new("t", 0),
            offset: Offset(5),
            leader_epoch: None,
            metadata: String::new(),
            error: ErrorCode::None,
        }],
    }
}

fn commit(f: &mut Fixture, member_id: &str, epoch: Option<i32>, knows_epochs: bool) -> ErrorCode {
    let token = f.token();
    let request = request(member_id, epoch, knows_epochs);
    let outcome = f.coordinator.commit(f.now, token, request);
    f.take(outcome);
    reply(f, token)
}

fn commit_in_transaction(f: &mut Fixture, member_id: &str, epoch: Option<i32>) -> ErrorCode {
    let token = f.token();
    let transaction = TransactionalCommit {
        producer: (ProducerId(1), ProducerEpoch(0)),
        guard: None,
    };
    let request = request(member_id, epoch, false);
    let outcome = (f.coordinator).commit_in_transaction(f.now, token, request, transaction);
    f.take(outcome);
    reply(f, token)
}

fn reply(f: &mut Fixture, token: Token) -> ErrorCode {
    match f.replies.remove(&token) {
        Some(Reply::Commit(reply)) => reply.partitions[0].1,
        other => panic!("want the reply to a commit, got {other:?}"),
    }
}

#[test]
fn a_member_commits_in_its_epoch_only() {
    let mut f = Fixture::new(2);
    let mut a = f.joined(client("a"));
    assert_eq!(commit(&mut f, "a", Some(1), true), ErrorCode::None);
    f.topic("t", 3);
    f.beat(&mut a);
    assert_eq!(
        commit(&mut f, "a", Some(1), true),
        ErrorCode::StaleMemberEpoch
    );
    assert_eq!(
        commit(&mut f, "a", Some(3), true),
        ErrorCode::StaleMemberEpoch
    );
    assert_eq!(
        commit(&mut f, "x", Some(2), true),
        ErrorCode::UnknownMemberId
    );
    assert_eq!(
        commit(&mut f, "", None, true),
        ErrorCode::UnknownMemberId,
        "not while it has members"
    );
    assert_eq!(
        commit(&mut f, "a", Some(2), false),
        ErrorCode::UnsupportedVersion
    );
    assert_eq!(commit(&mut f, "a", Some(2), true), ErrorCode::None);
}

/// As `ConsumerGroup.validateOffsetCommit` of Kafka 4.3 decides.
#[test]
fn a_commit_in_a_transaction_names_a_member_or_nobody() {
    let mut f = Fixture::new(1);
    f.joined(client("a"));
    let cases = [
        ("", None, ErrorCode::None),
        ("a", Some(1), ErrorCode::None),
        ("a", Some(2), ErrorCode::IllegalGeneration),
        ("a", None, ErrorCode::IllegalGeneration),
        ("x", None, ErrorCode::UnknownMemberId),
        ("", Some(1), ErrorCode::UnknownMemberId),
    ];
    for (member, epoch, want) in cases {
        let got = commit_in_transaction(&mut f, member, epoch);
        assert_eq!(got, want, "{member} {epoch:?}");
    }
    f.ask(ConsumerHeartbeat {
        member_epoch: -1,
        ..client("a").short()
    })
    .unwrap();
    for (member, epoch, want) in [
        ("", None, ErrorCode::None),
        ("x", None, ErrorCode::None),
        ("x", Some(1), ErrorCode::UnknownMemberId),
    ] {
        let got = commit_in_transaction(&mut f, member, epoch);
        assert_eq!(got, want, "{member} {epoch:?} of an empty group");
    }
}

#[test]
fn an_administrator_commits_while_the_group_is_empty() {
    let mut f = Fixture::new(1);
    f.joined(client("a"));
    f.ask(ConsumerHeartbeat {
        member_epoch: -1,
        ..client("a").short()
    })
    .unwrap();
    assert_eq!(commit(&mut f, "", None, false), ErrorCode::None);
}

#[test]
fn an_unknown_group_is_named_to_who_knows_of_epochs() {
    let mut f = Fixture::new(1);
    assert_eq!(
        commit(&mut f, "a", Some(1), true),
        ErrorCode::GroupIdNotFound
    );
    assert_eq!(
        commit(&mut f, "a", Some(1), false),
        ErrorCode::IllegalGeneration
    );
}

#[test]
fn a_member_reads_offsets_in_its_epoch_only() {
    let mut f = Fixture::new(1);
    f.joined(client("a"));
    let check = |member: Option<&str>, epoch| f.coordinator.check_fetch(GROUP, member, epoch);
    assert_eq!(check(None, -1), Ok(()), "an administrator");
    assert_eq!(check(Some("a"), 1), Ok(()));
    assert_eq!(check(Some("a"), 2), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(check(Some("x"), 1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(
        f.coordinator.check_fetch("other", Some("x"), 1),
        Ok(()),
        "nothing is known of it"
    );
}

#[test]
fn offsets_of_topics_nobody_wants_expire_and_others_do_not() {
    let mut f = Fixture::new(1);
    let mut a = f.joined(client("a"));
    assert_eq!(commit(&mut f, "a", Some(1), true), ErrorCode::None);
    f.now.wall_ms += f.config.offsets_retention_ms;
    let outcome = f.coordinator.expire(f.now);
    f.take(outcome);
    let wanted = [TopicPartition::new("t", 0)];
    assert!(
        f.coordinator.fetch(GROUP, Some(&wanted))[0].1.is_some(),
        "subscribed"
    );
    a = a.topics(&["u"]);
    f.beat(&mut a);
    let outcome = f.coordinator.expire(f.now);
    f.take(outcome);
    assert!(f.coordinator.fetch(GROUP, Some(&wanted))[0].1.is_none());
    assert!(f.describe().is_some(), "the members stay");
}
