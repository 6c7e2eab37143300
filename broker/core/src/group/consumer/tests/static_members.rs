//! Do members with a `group.instance.id` keep their place (KIP-345 in the words of KIP-848)?

use types::ErrorCode;

use super::fixture::{Client, Fixture, client, of_t};
use crate::group::GroupRecord;
use crate::group::consumer::record::{ConsumerRecord, Fact};
use crate::group::consumer::request::ConsumerHeartbeat;

fn leave_for_a_while(f: &mut Fixture, client: &Client) {
    let answer = f
        .ask(ConsumerHeartbeat {
            member_epoch: -2,
            ..client.short()
        })
        .unwrap();
    assert_eq!(answer.member_epoch, -2);
}

#[test]
fn a_static_member_that_comes_back_gets_its_partitions_without_a_rebalance() {
    let mut f = Fixture::new(4);
    let mut a = f.joined(client("a").instance("1"));
    let mut b = f.joined(client("b"));
    f.converge(&mut [&mut a, &mut b]);
    let epoch = f.epoch();
    leave_for_a_while(&mut f, &a);
    f.beat(&mut b);
    assert_eq!(b.owned.len(), 2, "its partitions wait for it");
    let back = f.joined(client("a2").instance("1"));
    assert_eq!((back.epoch, &back.owned), (epoch, &a.owned));
    assert_eq!(f.epoch(), epoch);
    let members = f.describe().unwrap().members;
    assert!(
        members.iter().all(|member| member.member_id != "a"),
        "the old id is gone"
    );
}

#[test]
fn the_records_take_the_former_self_out_before_they_put_the_new_one_in() {
    let mut f = Fixture::new(4);
    let a = f.joined(client("a").instance("1"));
    leave_for_a_while(&mut f, &a);
    let written = f.log.len();
    f.joined(client("a2").instance("1"));
    let kafkas = [
        "no current a",
        "no target a",
        "no member a",
        "member a2",
        "target a2",
        "current a2",
    ];
    let order: Vec<String> = f.log[written..].iter().map(words).collect();
    assert_eq!(order[..kafkas.len()], kafkas, "{order:?}");
    f.check_owners();
}

fn words(record: &GroupRecord) -> String {
    let GroupRecord::Consumer(ConsumerRecord { fact, .. }) = record else {
        panic!("{record:?}");
    };
    let no = if fact.is_tombstone() { "no " } else { "" };
    match fact {
        Fact::Member(id, _) => format!("{no}member {id}"),
        Fact::Target(id, _) => format!("{no}target {id}"),
        Fact::Current(id, _) => format!("{no}current {id}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn an_instance_that_is_in_use_is_not_given_to_another() {
    let mut f = Fixture::new(1);
    f.joined(client("a").instance("1"));
    assert_eq!(
        f.error(client("a2").instance("1").full()),
        ErrorCode::UnreleasedInstanceId
    );
}

#[test]
fn a_static_member_that_did_not_hear_of_its_join_joins_again() {
    let mut f = Fixture::new(1);
    f.joined(client("a").instance("1"));
    let again = f.joined(client("a").instance("1"));
    assert_eq!(again.owned, of_t(&[0]));
}

#[test]
fn the_former_holder_of_an_instance_is_fenced() {
    let mut f = Fixture::new(1);
    let a = f.joined(client("a").instance("1"));
    leave_for_a_while(&mut f, &a);
    f.joined(client("a2").instance("1"));
    assert_eq!(f.error(a.full()), ErrorCode::FencedInstanceId);
    let leave = ConsumerHeartbeat {
        member_epoch: -1,
        ..a.short()
    };
    assert_eq!(f.error(leave), ErrorCode::FencedInstanceId);
}

#[test]
fn an_unknown_instance_is_an_unknown_member() {
    let mut f = Fixture::new(1);
    f.joined(client("a"));
    let mut stranger = client("x").instance("9");
    stranger.epoch = 1;
    assert_eq!(f.error(stranger.full()), ErrorCode::UnknownMemberId);
}

#[test]
fn a_static_member_that_left_is_fenced_until_it_joins() {
    let mut f = Fixture::new(1);
    let a = f.joined(client("a").instance("1"));
    leave_for_a_while(&mut f, &a);
    assert_eq!(f.error(a.full()), ErrorCode::FencedMemberEpoch);
}

#[test]
fn a_static_member_that_stays_away_for_its_session_is_removed() {
    let mut f = Fixture::new(2);
    let mut a = f.joined(client("a").instance("1"));
    let mut b = f.joined(client("b"));
    f.converge(&mut [&mut a, &mut b]);
    leave_for_a_while(&mut f, &a);
    for _ in 0..3 {
        f.advance(15_000);
        f.beat(&mut b);
    }
    f.converge(&mut [&mut b]);
    assert_eq!(b.owned, of_t(&[0, 1]));
}

#[test]
fn a_static_member_that_leaves_for_good_is_gone() {
    let mut f = Fixture::new(1);
    let a = f.joined(client("a").instance("1"));
    f.ask(ConsumerHeartbeat {
        member_epoch: -1,
        ..a.short()
    })
    .unwrap();
    assert!(f.describe().unwrap().members.is_empty());
    assert_eq!(f.error(client("a2").instance("1").full()), ErrorCode::None);
}
