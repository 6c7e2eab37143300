//! Do partitions keep their promises when messages are lost, doubled, late and out of order, and nodes die?
//!
//! N partition cores with fake logs and a controller double run on a simulated network and clock. Everything random
//! comes from one seed, which is in every failure; `TIDEMARK_SEEDS=1` with `TIDEMARK_FIRST_SEED=S` replays seed S.
//! A run has two phases: faults, then heal. The invariants, one file each, are looked at after every event.

#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed expectation in a test is the point"
)]

mod controller;
mod invariants;
mod log;
mod node;
mod world;

use world::{Rule, World};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[test]
fn the_invariants_hold_for_every_seed() {
    let first = number("TIDEMARK_FIRST_SEED", 1);
    let seeds = number("TIDEMARK_SEEDS", 200);
    let mut acked = 0;
    let mut elections = 0;
    let mut from_elr = 0;
    let mut moves = 0;
    for seed in first..first + seeds {
        match World::new(seed, Rule::MaximalIsr).run() {
            Ok(stats) => {
                acked += stats.acked;
                elections += stats.elections;
                from_elr += stats.from_elr;
                moves += stats.moves;
            }
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
    // A simulation in which nothing happens proves nothing.
    assert!(acked > 20 * seeds, "only {acked} acks in {seeds} seeds");
    assert!(elections > 2 * seeds, "only {elections} elections");
    assert!(from_elr > seeds, "only {from_elr} leaders from the ELR");
    assert!(moves > seeds, "only {moves} reassignments ended");
}

#[test]
fn a_high_watermark_that_is_the_log_end_is_caught() {
    let caught = (1..=50).find_map(|seed| {
        let result = World::new(seed, Rule::LogEnd).run();
        result.err().map(|violation| (seed, violation))
    });
    let (seed, violation) = caught.expect("the mutant passed 50 seeds");
    println!("caught with seed {seed}: {violation}");
}

#[test]
fn a_leader_that_forgets_its_pending_isr_changes_is_caught() {
    let caught = (1..=2000).find_map(|seed| {
        let result = World::new(seed, Rule::CommittedIsr).run();
        result.err().map(|violation| (seed, violation))
    });
    let (seed, violation) = caught.expect("the mutant passed 2,000 seeds");
    println!("caught with seed {seed}: {violation}");
}

#[test]
fn a_seed_replays_to_the_same_run() {
    let run = |seed| World::new(seed, Rule::MaximalIsr).run().expect("holds");
    assert_eq!(run(42), run(42));
}
