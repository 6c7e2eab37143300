//! Does every partition go on when two brokers die shortly one after the other on a busy machine?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tests::cluster::{Cluster, Pod, await_some, await_true};
use tests::skipped;

use crate::faults::{PODS, assert_exactly_once_in_order, everything, report, steady};

/// A member of the ISR that does not follow holds its partition up for `replica.lag.time.max.ms`, 30 s. What is left to do
/// once all brokers are ready takes less than one, on a busy machine some.
const LONGEST: Duration = Duration::from_secs(10);

/// How often two brokers are killed; `TIDEMARK_ROUNDS` asks for more.
fn rounds() -> usize {
    let asked = std::env::var("TIDEMARK_ROUNDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Two threads that compete with the brokers for the CPU.
struct Busy {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let spin = |stop: Arc<AtomicBool>| {
            move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        };
        let threads = (0..2).map(|_| std::thread::spawn(spin(Arc::clone(&stop))));
        Self {
            threads: threads.collect(),
            stop,
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("it only spins");
        }
    }
}

fn kill(cluster: &Cluster, name: &str) -> Pod {
    let before = cluster.pod(name);
    cluster.signal(name, "KILL");
    before
}

fn await_another_process(cluster: &Cluster, before: &Pod) {
    await_some("the killed pod runs again", || {
        let now = cluster.pod(&before.name);
        (now.ready && now.pid.is_some() && now.pid != before.pid).then_some(())
    });
}

/// How long it took, once all brokers were ready, until each partition had acknowledged something more; `None` when there is
/// no Python client.
fn kill_two(round: usize) -> Option<Duration> {
    let cluster = Cluster::up("examples/quickstart");
    let load = steady(&cluster, 500, 40)?;
    await_true("the producer is under way", || load.acked_so_far() > 500);
    let busy = Busy::start();
    let first = kill(&cluster, PODS[round % 3]);
    // 1 s to 6 s: before and after the first one is back.
    let pause = Duration::from_millis(1_000 + (round as u64 * 1_300) % 5_000);
    let killed = Instant::now();
    await_true("the pause is over", || killed.elapsed() >= pause);
    let second = kill(&cluster, PODS[(round + 1) % 3]);
    await_another_process(&cluster, &first);
    await_another_process(&cluster, &second);
    let (began, before) = (Instant::now(), load.acked_by_partition());
    await_true("each partition has acknowledged something more", || {
        let now = load.acked_by_partition();
        now.len() == 6 && now.iter().all(|(p, n)| Some(n) > before.get(p))
    });
    let took = began.elapsed();
    drop(busy);
    let (acked, _) = load.finish();
    assert_exactly_once_in_order(&acked, &everything(&cluster));
    Some(took)
}

#[test]
fn two_kills_shortly_one_after_the_other_leave_no_partition_standing() {
    let mut taken = Vec::new();
    for round in 0..rounds() {
        let Some(took) = kill_two(round) else {
            return skipped(
                "kill -9 of two brokers",
                "the Python clients: run tests/platform/setup",
            );
        };
        taken.push(took);
    }
    report(&format!(
        "kill -9 of two brokers, {} rounds: each partition acknowledged again after {taken:.3?}",
        taken.len()
    ));
    let longest = taken.iter().max().expect("at least one round");
    assert!(
        *longest < LONGEST,
        "{longest:?} until each partition went on"
    );
}
