//! Does everything converge when the API and Kafka fail at random?
//!
//! Each seed is a world of its own, in which all scenarios run side by side while about one request in five meets a fault: 409, 429, 500
//! before or after the work was done, a lost connection, a slow answer, a watch that ends or is gone; and one call of Kafka in ten. The
//! seed is in every message. At the end of each scenario nothing is left without an owner, and its namespace goes when it is deleted.
//! `TIDEMARK_SEED=N` runs that one alone, `TIDEMARK_SEEDS=N` the first N.

use std::sync::Arc;
use std::time::Instant;

use crate::scenarios::ALL;
use crate::world::World;
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _};

/// What CI runs.
const SEEDS: u64 = 20;
/// Worlds at once: most of each is waiting.
const AT_ONCE: usize = 4;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

async fn one_world(seed: u64) {
    let world = Arc::new(World::in_process(Some(seed)));
    let runs = ALL.iter().map(|scenario| {
        let world = Arc::clone(&world);
        async move {
            let namespace = World::namespace(&world, scenario.namespace).await;
            (scenario.run)(namespace).await;
            World::again(&world, scenario.namespace).end().await;
        }
    });
    futures::future::join_all(runs).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_seed_of_faults_converges() {
    if crate::real::wanted() {
        eprintln!(
            "SKIPPED every_seed_of_faults_converges: faults are injected into the in-process API only"
        );
        return;
    }
    let seeds = number("TIDEMARK_SEED").map_or_else(
        || 0..number("TIDEMARK_SEEDS").unwrap_or(SEEDS),
        |seed| seed..seed + 1,
    );
    let count = seeds.end - seeds.start;
    let begun = Instant::now();
    let failed: Vec<u64> = stream::iter(seeds)
        .map(|seed| {
            tokio::spawn(one_world(seed)).map(move |ended| {
                if ended.is_err() {
                    eprintln!("seed {seed} failed, see above for why: TIDEMARK_SEED={seed}");
                }
                (seed, ended)
            })
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(|(seed, ended)| std::future::ready(ended.is_err().then_some(seed)))
        .collect()
        .await;
    println!(
        "{count} seeds of faults in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    assert!(failed.is_empty(), "these seeds failed: {failed:?}");
}
