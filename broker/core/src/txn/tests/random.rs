//! Do the laws hold over any history of instances, timeouts, failed appends and failovers?
//!
//! (a) A producer id and epoch is given to one instance only. (b) A decided outcome never changes. (c) A marker ends only
//! what was written before the decision: with version 2 its epoch is above that of the transaction. (d) The log gives back
//! the state.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use types::{ErrorCode, ProducerId};

use super::fixture::{ABORT, COMMIT, One, V1, V2};
use crate::txn::request::Producer;
use crate::txn::{Step, TransactionRecord, TransactionState, TransactionVersion, Write};

#[derive(Debug, Clone)]
enum Op {
    Init,
    Resume(usize),
    Add(usize),
    End(usize, bool),
    Markers,
    Wait,
    Failover,
}

fn op() -> impl Strategy<Value = (Op, bool)> {
    let who = 0_usize..4;
    let kind = prop_oneof![
        1 => Just(Op::Init),
        1 => who.clone().prop_map(Op::Resume),
        5 => who.clone().prop_map(Op::Add),
        5 => (who, any::<bool>()).prop_map(|(who, commit)| Op::End(who, commit)),
        5 => Just(Op::Markers),
        1 => Just(Op::Wait),
        1 => Just(Op::Failover),
    ];
    (kind, prop::bool::weighted(0.1))
}

struct World {
    one: One,
    /// What each client believes to be.
    clients: Vec<Producer>,
    version: TransactionVersion,
    given: BTreeSet<(i64, i16)>,
    next_id: i64,
    /// Outcome of the transaction that is being completed.
    decided: Option<TransactionState>,
}

impl World {
    /// Carries out a step; the append fails if `fail`.
    fn carry_out(
        &mut self,
        step: Result<Step, ErrorCode>,
        fail: bool,
    ) -> Result<Producer, ErrorCode> {
        match step? {
            Step::Done(producer) => Ok(producer),
            Step::Write(write) => self.append(&write, fail),
            Step::NeedsProducerId => unreachable!("ids are always given"),
        }
    }

    fn append(&mut self, write: &Write, fail: bool) -> Result<Producer, ErrorCode> {
        if fail {
            let error = ErrorCode::CoordinatorNotAvailable;
            self.one
                .coordinator
                .appended(self.one.now(), write, Err(error));
            return Err(error);
        }
        self.check(&write.record);
        self.one.append(write)
    }

    fn check(&mut self, record: &TransactionRecord) {
        let Some(value) = &record.value else { return };
        if let Some(decided) = self.decided {
            let complete = match decided {
                TransactionState::PrepareCommit => TransactionState::CompleteCommit,
                _ => TransactionState::CompleteAbort,
            };
            assert_eq!(value.state, complete, "(b)");
        }
        self.decided = Some(value.state).filter(|state| state.is_completing());
    }

    fn fresh(&mut self) -> Option<ProducerId> {
        self.next_id += 1;
        Some(ProducerId(self.next_id))
    }

    fn init(&mut self, expected: Option<Producer>, fail: bool) -> Option<Producer> {
        let request = crate::txn::request::InitProducerId {
            transactional_id: "x".to_owned(),
            timeout_ms: super::fixture::TIMEOUT_MS,
            expected,
        };
        let fresh = self.fresh();
        let step = self
            .one
            .coordinator
            .init_producer_id(self.one.now(), &request, fresh);
        self.carry_out(step, fail).ok()
    }

    fn end(&mut self, who: usize, commit: bool, fail: bool) {
        let request = crate::txn::request::EndTransaction {
            transactional_id: "x".to_owned(),
            producer: self.clients[who],
            result: if commit { COMMIT } else { ABORT },
            version: self.version,
        };
        let fresh = self.fresh();
        let step = self.one.coordinator.end(self.one.now(), &request, fresh);
        if let Ok(next) = self.carry_out(step, fail) {
            self.clients[who] = next;
        }
    }

    fn markers(&mut self, fail: bool) {
        for completion in std::mem::take(&mut self.one.completions) {
            let step = self
                .one
                .coordinator
                .markers_written(self.one.now(), &completion);
            if self.carry_out(step, fail).is_err() {
                self.one.completions.push(completion);
            }
        }
    }

    fn run(&mut self, op: Op, fail: bool) {
        match op {
            Op::Init => {
                if let Some((id, epoch)) = self.init(None, fail) {
                    assert!(self.given.insert((id.0, epoch.0)), "(a) {id} {epoch}");
                    self.clients.push((id, epoch));
                }
            }
            Op::Resume(who) => {
                let who = who % self.clients.len();
                let before = self.clients[who];
                if let Some((id, epoch)) = self.init(Some(before), fail) {
                    let others = self.clients.iter().enumerate();
                    let shared = others.filter(|(other, _)| *other != who);
                    assert!(!shared.map(|(_, p)| *p).any(|p| p == (id, epoch)), "(a)");
                    self.given.insert((id.0, epoch.0));
                    self.clients[who] = (id, epoch);
                }
            }
            Op::Add(who) => {
                let from = self.clients[who % self.clients.len()];
                let request = super::fixture::add("x", from, self.version);
                let step = self
                    .one
                    .coordinator
                    .add_partitions(self.one.now(), &request);
                // Whoever is refused has not begun.
                let _ = self.carry_out(step, fail);
            }
            Op::End(who, commit) => self.end(who % self.clients.len(), commit, fail),
            Op::Markers => self.markers(fail),
            Op::Wait => {
                self.one.now_ms += 40_000;
                for write in self.one.coordinator.abort_timed_out(self.one.now()) {
                    // A failed one is tried again at the next pass.
                    let _ = self.append(&write, fail);
                }
            }
            Op::Failover => {
                let (coordinator, completions) = self.one.reloaded();
                self.one.coordinator = coordinator;
                self.one.completions = completions;
            }
        }
    }

    fn assert_laws(&self) {
        for completion in &self.one.completions {
            if completion.version.bumps_epoch() {
                let written: BTreeMap<i64, i16> = self.open_epochs();
                let open = written.get(&completion.producer.0.0).copied().unwrap_or(-1);
                assert!(completion.producer.1.0 > open, "(c) {completion:?}");
            }
        }
        let (other, _) = self.one.reloaded();
        let seen = |coordinator: &crate::txn::TransactionCoordinator| {
            let described = coordinator.describe("x");
            described.map(|all| (all.state, all.producer, all.partitions, all.start_ms))
        };
        assert_eq!(seen(&other), seen(&self.one.coordinator), "(d)");
    }

    /// The epoch that each producer id's last open transaction had.
    fn open_epochs(&self) -> BTreeMap<i64, i16> {
        let values = self
            .one
            .log
            .iter()
            .filter_map(|record| record.value.as_ref());
        values
            .filter(|value| value.state == TransactionState::Ongoing)
            .map(|value| (value.producer_id.0, value.producer_epoch.0))
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_history_obeys_the_laws(
        version in prop_oneof![Just(V1), Just(V2)],
        epoch in prop_oneof![Just(0_i16), Just(i16::MAX - 4)],
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let one = One::at_epoch(epoch);
        let mut world = World {
            one,
            clients: vec![super::fixture::producer(100, epoch)],
            version,
            given: BTreeSet::from([(100, epoch)]),
            next_id: 1_000,
            decided: None,
        };
        for (op, fail) in ops {
            world.run(op, fail);
            world.assert_laws();
        }
    }
}
