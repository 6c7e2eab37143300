//! Has every configuration key the effect that the reference says, on a broker that runs?
//!
//! `described`: each key is set, described and refused with a wrong value; keys that are not there are refused by name.
//! The other modules see the effects: `topics` those that a topic has of its own or from its brokers, the others those
//! of brokers only. [`every_key_has_an_effect_that_some_test_sees`] compares them with the tables of keys.

mod brokers;
mod described;

mod topics;

mod cleaners;
mod clusters;
mod coordinators;
mod front;

use std::collections::BTreeSet;

use config::{ConfigKey, Scope, broker_keys, topic_keys};
use tests::root;

use brokers::{Brokers, Settings};

/// Keys of brokers whose effect a function sees, where the file has them as the fixture's settings say.
struct Effect {
    keys: &'static [&'static str],
    see: fn(&Brokers),
}

/// Effects that tests elsewhere see: the key, the file, the test.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "log.dir.reserve.bytes",
        "tests/e2e/full_disk.rs",
        "a_disk_that_is_almost_full_takes_no_produces_but_all_else_until_there_is_room",
    ),
    (
        "replica.selector.class",
        "tests/clients/follower_reads.rs",
        "librdkafka_reads_from_the_replica_in_its_rack",
    ),
];

/// The settings of brokers' files and the effects that are seen under them.
const FIXTURES: &[(&Settings<'_>, &[Effect])] = &[
    (front::SETTINGS, front::EFFECTS),
    (front::CROWDED, front::CROWDED_EFFECTS),
    (coordinators::SETTINGS, coordinators::EFFECTS),
    (cleaners::SETTINGS, cleaners::EFFECTS),
];

/// Looks at all effects at once, and says which are not there.
fn in_parallel<'a, F: FnOnce() + Send>(effects: impl Iterator<Item = (&'a str, F)>) {
    let missing: Vec<&str> = std::thread::scope(|scope| {
        let effects = effects.map(|(what, see)| (what, scope.spawn(see)));
        let running: Vec<_> = effects.collect();
        let ended = running.into_iter().map(|(what, one)| (what, one.join()));
        let failed = ended.filter_map(|(what, end)| end.is_err().then_some(what));
        failed.collect()
    });
    assert!(
        missing.is_empty(),
        "these keys have not the effect that is printed above: {missing:?}"
    );
}

fn see_all(brokers: &Brokers, effects: &[Effect]) {
    let effects = effects.iter();
    in_parallel(effects.map(|effect| (effect.keys[0], || (effect.see)(brokers))));
}

fn names(keys: &'static [ConfigKey]) -> BTreeSet<&'static str> {
    keys.iter().map(|key| key.name).collect()
}

fn elsewhere(table: &BTreeSet<&'static str>) -> impl Iterator<Item = &'static str> {
    let keys = ELSEWHERE.iter().map(|(key, ..)| *key);
    keys.filter(|key| table.contains(key))
}

#[test]
fn every_key_has_an_effect_that_some_test_sees() {
    let of_topics = names(topic_keys::EFFECTIVE);
    let seen = topics::TOPIC_KEYS.iter().map(|key| key.name);
    let seen = seen.chain(clusters::TOPIC_KEYS.iter().copied());
    let seen: BTreeSet<_> = seen.chain(elsewhere(&of_topics)).collect();
    assert_eq!(seen, of_topics, "keys of topics");

    let of_brokers = names(broker_keys::EFFECTIVE);
    let fixtures = FIXTURES.iter().flat_map(|(_, effects)| effects.iter());
    let seen = fixtures.flat_map(|effect| effect.keys.iter().copied());
    let seen = seen.chain(topics::TOPIC_KEYS.iter().map(|key| key.of_brokers));
    let seen = seen.chain(clusters::keys());
    let seen: BTreeSet<_> = seen.chain(elsewhere(&of_brokers)).collect();
    assert_eq!(seen, of_brokers, "keys of brokers");
}

#[test]
fn effects_are_seen_where_the_file_sets_the_key_to_something_else_than_its_default() {
    let fixtures = FIXTURES.iter().flat_map(|(settings, effects)| {
        let keys = effects.iter().flat_map(|effect| effect.keys.iter());
        keys.map(move |key| (*settings, *key))
    });
    for (settings, name) in fixtures.chain(clusters::settings()) {
        let key = broker_keys::get(name).unwrap();
        let set = settings.iter().find(|(set, _)| *set == name);
        let (_, value) = set.expect(name);
        assert_ne!(Some(*value), key.default, "{name}");
        assert_eq!(key.check(value), Ok(()), "{name}");
    }
}

#[test]
fn keys_that_change_while_brokers_run_are_those_whose_effect_is_seen_then() {
    let keys = broker_keys::EFFECTIVE.iter();
    let dynamic = keys.filter(|key| key.scope != Scope::Static);
    let dynamic: BTreeSet<_> = dynamic.map(|key| key.name).collect();
    let seen = topics::TOPIC_KEYS.iter().map(|key| key.of_brokers);
    let seen = seen.chain(clusters::DYNAMIC_KEYS.iter().copied());
    let seen: BTreeSet<_> = seen.chain(elsewhere(&dynamic)).collect();
    assert_eq!(seen, dynamic);
}

#[test]
fn the_tests_that_see_an_effect_elsewhere_are_there_and_set_the_key() {
    for (key, file, test) in ELSEWHERE {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let head = format!("#[test]\nfn {test}() {{");
        assert!(text.contains(&head), "{file} has no test {test}");
        assert!(
            text.contains(&format!("{key}: ")),
            "{file} does not set {key}"
        );
    }
}
