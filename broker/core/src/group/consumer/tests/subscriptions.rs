//! Does the group follow what its members want and what topics there are?

use types::ErrorCode;

use super::fixture::{Client, Fixture, client, of_t, topic_id};
use crate::group::consumer::record::{ConsumerRecord, Fact};
use crate::group::consumer::request::{ConsumerHeartbeat, Rejection};
use crate::group::{GroupRecord, GroupState};

fn topics(client: &Client) -> Vec<types::TopicId> {
    client.owned.topics().map(|(id, _)| id).collect()
}

#[test]
fn a_topic_that_grows_is_shared_anew() {
    let mut f = Fixture::new(1);
    let mut a = f.joined(client("a"));
    f.topic("t", 3);
    f.beat(&mut a);
    assert_eq!((a.epoch, &a.owned), (2, &of_t(&[0, 1, 2])));
}

#[test]
fn a_topic_that_comes_later_is_taken_when_it_is_there() {
    let mut f = Fixture::new(1);
    let mut a = f.joined(client("a").topics(&["later"]));
    assert_eq!((a.epoch, a.owned.len()), (1, 0));
    f.topic("later", 2);
    f.beat(&mut a);
    assert_eq!((a.epoch, a.owned.len()), (2, 2));
}

#[test]
fn a_topic_that_is_deleted_is_given_up() {
    let mut f = Fixture::new(2);
    f.topic("u", 2);
    let mut a = f.joined(client("a").topics(&["t", "u"]));
    f.delete_topic("u");
    f.converge(&mut [&mut a]);
    assert_eq!(a.owned, of_t(&[0, 1]));
}

#[test]
fn other_topics_of_the_cluster_start_no_rebalance() {
    let mut f = Fixture::new(1);
    let mut a = f.joined(client("a"));
    f.topic("unrelated", 9);
    f.beat(&mut a);
    assert_eq!(a.epoch, 1);
}

#[test]
fn a_member_that_wants_other_topics_starts_a_rebalance() {
    let mut f = Fixture::new(2);
    f.topic("u", 2);
    let mut a = f.joined(client("a"));
    a = a.topics(&["u"]);
    f.converge(&mut [&mut a]);
    assert_eq!(topics(&a), [topic_id("u")]);
    let none = ConsumerHeartbeat {
        topic_names: Some([].into()),
        ..a.full()
    };
    let answer = f.ask(none).unwrap();
    assert!(
        answer.assignment.unwrap().is_empty(),
        "it may want nothing and stay"
    );
}

#[test]
fn a_regular_expression_stands_for_whole_names() {
    let mut f = Fixture::new(1);
    for name in ["log-1", "log-2", "catalog-1"] {
        f.topic(name, 1);
    }
    let mut a = f.joined(client("a").regex("log-.|x"));
    assert_eq!(topics(&a), [topic_id("log-1"), topic_id("log-2")]);
    f.topic("log-3", 1);
    f.beat(&mut a);
    assert_eq!(a.owned.len(), 3, "topics that match later are taken, too");
    assert_eq!(a.epoch, 2);
    f.delete_topic("log-1");
    f.converge(&mut [&mut a]);
    assert_eq!(a.owned.len(), 2);
}

#[test]
fn names_and_an_expression_are_wanted_together() {
    let mut f = Fixture::new(1);
    f.topic("u", 1);
    let mut both = client("a").regex("u");
    both.topics.insert("t".to_owned());
    let a = f.joined(both);
    assert_eq!(a.owned.len(), 2);
}

#[test]
fn an_expression_that_nobody_uses_any_more_is_forgotten() {
    let mut f = Fixture::new(1);
    f.topic("u", 1);
    let mut a = f.joined(client("a").regex("u"));
    let mut b = f.joined(client("b").regex("u"));
    f.converge(&mut [&mut a, &mut b]);
    let regexes = |f: &Fixture| {
        let mut latest = std::collections::BTreeMap::new();
        for record in &f.log {
            let (key, value) = record.encode();
            latest.insert(key, value.is_some());
        }
        latest
            .iter()
            .filter(|(key, there)| key[1] == 16 && **there)
            .count()
    };
    a.regex = Some(String::new());
    a.topics = ["t".to_owned()].into();
    f.converge(&mut [&mut a, &mut b]);
    assert_eq!(regexes(&f), 1, "b uses it");
    f.ask(ConsumerHeartbeat {
        member_epoch: -1,
        ..b.short()
    })
    .unwrap();
    assert_eq!(regexes(&f), 0);
    f.converge(&mut [&mut a]);
    assert_eq!(topics(&a), [topic_id("t")]);
}

#[test]
fn what_is_no_regular_expression_is_refused() {
    let mut f = Fixture::new(1);
    let long = "a".repeat(1025);
    let unclosed = format!("({}", "a".repeat(1000));
    for regex in [
        "[",
        "(a",
        "a)|(b",
        "(((a{100}){100}){100})",
        "\\pL{1000}",
        &long,
        &unclosed,
    ] {
        let rejection = f.ask(client("a").regex(regex).full()).unwrap_err();
        let Rejection { error, message } = rejection;
        assert_eq!(error, ErrorCode::InvalidRegularExpression, "{regex}");
        assert!(message.len() <= 1024, "fits an answer: {message}");
    }
    assert_eq!(f.state(), GroupState::Dead, "no group came of it");
}

#[test]
fn expressions_as_people_write_them_are_small_enough() {
    let mut f = Fixture::new(1);
    let names = "orders|payments|".repeat(60) + "t";
    for regex in [
        r"[a-z]+\.\w+\.[\w.]+-\d+",
        r"(?i)T",
        r"\pL+",
        r"\w{1,200}",
        &names,
    ] {
        assert_eq!(
            f.error(client("a").regex(regex).full()),
            ErrorCode::None,
            "{regex}"
        );
    }
}

#[test]
fn messages_are_cut_between_characters() {
    let message = "a".to_owned() + &"\u{e9}".repeat(2_000);
    let cut = Rejection::new(ErrorCode::InvalidRequest, message.as_str()).message;
    assert_eq!(cut.len(), 1023);
    assert!(message.starts_with(&cut));
}

#[test]
fn a_group_has_so_many_expressions_and_no_more() {
    let mut f = Fixture::new(1);
    let regex = |at: i32| client(&format!("m{at}")).regex(&format!("t{at}"));
    for at in 0..100 {
        f.joined(regex(at));
    }
    let rejection = f.ask(regex(100).full()).unwrap_err();
    assert_eq!(rejection.error, ErrorCode::InvalidRegularExpression);
    assert!(rejection.message.contains("100"), "{}", rejection.message);
    assert_eq!(f.describe().unwrap().members.len(), 100);
    let same = client("same").regex("t1");
    assert_eq!(f.error(same.full()), ErrorCode::None, "one that is known");
    let mut other = f.joined(regex(0));
    other.regex = Some("other".to_owned());
    assert_eq!(
        f.error(other.full()),
        ErrorCode::None,
        "in place of its own"
    );
}

/// The log with one regular expression in the place of another.
fn rewrite(log: &[GroupRecord], from: &str, to: &str) -> Vec<GroupRecord> {
    let rewritten = log.iter().cloned().map(|mut record| {
        if let GroupRecord::Consumer(ConsumerRecord { fact, .. }) = &mut record {
            if let Fact::Regex(regex, _) = fact
                && regex == from
            {
                to.clone_into(regex);
            }
            if let Fact::Member(_, Some(member)) = fact
                && member.topic_regex.as_deref() == Some(from)
            {
                member.topic_regex = Some(to.to_owned());
            }
        }
        record
    });
    rewritten.collect()
}

#[test]
fn an_expression_of_another_coordinator_that_means_nothing_here_keeps_its_topics() {
    let mut f = Fixture::new(1);
    f.topic("u", 1);
    let mut a = f.joined(client("a").regex("t.*"));
    let mut b = f.joined(client("b").regex("u.*"));
    f.converge(&mut [&mut a, &mut b]);
    let log = rewrite(&f.log, "t.*", "(?=t).*");
    f.reload_from(&log);
    let foreign: Vec<_> = f.coordinator.foreign_expressions().collect();
    assert_eq!(foreign, [("orders", "(?=t).*")]);
    f.topic("t", 2);
    f.topic("t2", 1);
    f.topic("u2", 1);
    for _ in 0..4 {
        for client in [&mut a, &mut b] {
            let answer = f.ask(client.short()).expect("goes on");
            client.hear(&answer);
        }
    }
    assert_eq!(a.owned, of_t(&[0, 1]), "grown, but no other topic");
    assert_eq!(topics(&b), [topic_id("u"), topic_id("u2")]);
}

#[test]
fn an_expression_that_the_log_has_no_topics_of_is_looked_up() {
    let mut f = Fixture::new(2);
    let mut a = f.joined(client("a").regex("t"));
    let log: Vec<_> = (f.log.iter())
        .filter(|record| record.encode().0[1] != 16)
        .cloned()
        .collect();
    f.reload_from(&log);
    f.beat(&mut a);
    assert_eq!(a.owned, of_t(&[0, 1]));
    assert!(
        f.state_of_group()
            .unwrap()
            .subscribed_topics()
            .contains("t")
    );
}

#[test]
fn topics_from_before_those_the_group_knows_change_nothing() {
    let mut f = Fixture::new(1);
    let mut a = f.joined(client("a"));
    let before = std::sync::Arc::new(f.world.clone());
    f.topic("t", 3);
    f.beat(&mut a);
    let token = f.token();
    f.send_with(token, before.clone(), a.full());
    assert_eq!(f.answer(token).unwrap().unwrap().member_epoch, 2);
    // Nor do those of a heartbeat that waited while others came with newer ones.
    f.hold = true;
    f.send(client("b").full());
    let token = f.token();
    f.send_with(token, before, a.full());
    f.topic("t", 4);
    f.send(a.short());
    f.hold = false;
    f.release(Ok(()));
    assert_eq!(f.answer(token).unwrap().unwrap().member_epoch, 2);
    let mut b = client("b");
    f.converge(&mut [&mut a, &mut b]);
    assert_eq!(a.owned.len() + b.owned.len(), 4);
}
