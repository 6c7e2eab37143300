//! Does the group follow what its members want and what topics there are?

use types::ErrorCode;

use super::fixture::{Client, Fixture, client, of_t, topic_id};
use crate::group::GroupState;
use crate::group::consumer::request::ConsumerHeartbeat;

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
    for regex in ["[", "(a", "a)|(b", "(((a{100}){100}){100})"] {
        let error = f.error(client("a").regex(regex).full());
        assert_eq!(error, ErrorCode::InvalidRegularExpression, "{regex}");
    }
    assert_eq!(f.state(), GroupState::Dead, "no group came of it");
}
