//! Does a crash at any operation leave a sound prefix that has all that was synced?
//!
//! A history is a sequence of operations drawn from a seed. It crashes at a chosen operation of the file system (the
//! power is lost), the log is opened again, compared with the model, and the history goes on. `TIDEMARK_SEEDS` says how
//! many histories run, 200 by default; a failure names its seed and operation and prints the history. `TIDEMARK_SEED` runs
//! only that one.

mod world;

use world::{Mode, World};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

pub(super) fn seeds() -> std::ops::Range<u64> {
    match variable("TIDEMARK_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("TIDEMARK_SEEDS").unwrap_or(200),
    }
}

/// How many operations the file system sees without a crash.
fn length(seed: u64, mode: Mode) -> u64 {
    let mut world = World::new(seed, mode, None);
    world.run();
    world.operations()
}

#[test]
fn a_crash_at_every_operation_keeps_a_prefix_with_all_that_was_synced() {
    for seed in 0..2 {
        for at in 1..=length(seed, Mode::Honest) {
            World::new(seed, Mode::Honest, Some(at)).run();
        }
    }
}

/// Operation to crash at: anywhere in the history, from its seed.
pub(super) fn somewhere(seed: u64, length: u64) -> u64 {
    1 + seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) % length
}

fn run_seeds(mode: Mode) {
    for seed in seeds() {
        let at = somewhere(seed, length(seed, mode));
        World::new(seed, mode, Some(at)).run();
    }
}

#[test]
fn a_crash_in_any_history_keeps_a_prefix_with_all_that_was_synced() {
    run_seeds(Mode::Honest);
}

#[test]
fn a_disk_that_loses_syncs_still_leaves_a_prefix() {
    run_seeds(Mode::LostSyncs);
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    run_seeds(Mode::Full);
}

#[test]
fn an_io_error_loses_nothing_that_was_synced() {
    run_seeds(Mode::Error);
}
