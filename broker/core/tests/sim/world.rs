//! The simulated cluster: a clock, a network with faults, nodes that die, a client that writes.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use broker_core::partition::{AlterPartitionAnswer, AlterPartitionProposal, PartitionConfig};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use types::{NodeId, Offset};

use crate::controller::Controller;
use crate::invariants::Invariants;
use crate::node::{Effects, Message, Node};

/// Which rule moves the HW: the real one, or a mutant that the invariants have to catch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    MaximalIsr,
    LogEnd,
    CommittedIsr,
}

/// What happened in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) events: u64,
    pub(crate) acked: u64,
    pub(crate) elections: u64,
    pub(crate) from_elr: u64,
    pub(crate) moves: u64,
    pub(crate) log_end: Offset,
}

const FAULTS_MS: i64 = 4_000;
const HEAL_MS: i64 = 3_000;
/// The client stops before the end, so that everything can settle.
const QUIET_MS: i64 = 1_500;

#[derive(Debug, Clone)]
enum Event {
    Deliver {
        from: NodeId,
        to: NodeId,
        message: Message,
    },
    ReadMetadata(NodeId),
    Tick(NodeId),
    Sync(NodeId),
    Produce,
    Fault,
    ControllerTick,
    Restart(NodeId),
    Alter {
        leader: NodeId,
        proposal: AlterPartitionProposal,
    },
    AlterAnswer {
        leader: NodeId,
        proposal: AlterPartitionProposal,
        answer: AlterPartitionAnswer,
    },
}

/// How bad the network is.
#[derive(Debug, Clone, Copy)]
struct Weather {
    loss: f64,
    doubling: f64,
    delay_ms: i64,
}

pub(crate) struct World {
    rng: SmallRng,
    now_ms: i64,
    sequence: u64,
    queue: BinaryHeap<Reverse<(i64, u64)>>,
    events: std::collections::HashMap<u64, Event>,
    nodes: Vec<Node>,
    controller: Controller,
    invariants: Invariants,
    /// Pairs that cannot talk; -1 is the controller.
    blocked: BTreeSet<(i32, i32)>,
    /// Since when a node is out of the controller's sight.
    unseen_since: Vec<Option<i64>>,
    session_timeout_ms: i64,
    patience_ms: i64,
    weather: Weather,
    healed: bool,
    /// `TIDEMARK_TRACE=1` prints every event.
    traced: bool,
    next_value: u64,
    handled: u64,
}

const CONTROLLER: i32 = -1;

impl World {
    pub(crate) fn new(seed: u64, rule: Rule) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let nodes: i32 = rng.random_range(2..=4);
        let config = PartitionConfig {
            min_insync_replicas: rng.random_range(1..=2),
            replica_lag_time_max_ms: rng.random_range(60..400),
            await_flush: false,
        };
        let controllers_min_isr = rng.random_range(1..=3);
        let weather = Weather {
            loss: rng.random_range(0.0..0.2),
            doubling: rng.random_range(0.0..0.2),
            delay_ms: rng.random_range(1..60),
        };
        let mut world = Self {
            session_timeout_ms: rng.random_range(50..300),
            patience_ms: rng.random_range(40..200),
            rng,
            now_ms: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            events: std::collections::HashMap::new(),
            nodes: (0..nodes)
                .map(|id| Node::new(NodeId(id), rule, config))
                .collect(),
            controller: Controller::new(nodes, controllers_min_isr),
            invariants: Invariants::default(),
            blocked: BTreeSet::new(),
            unseen_since: vec![None; usize::try_from(nodes).unwrap()],
            weather,
            healed: false,
            traced: std::env::var_os("TIDEMARK_TRACE").is_some(),
            next_value: 1,
            handled: 0,
        };
        for id in (0..nodes).map(NodeId) {
            world.at(0, Event::ReadMetadata(id));
            world.at(1, Event::Tick(id));
            world.at(7, Event::Sync(id));
        }
        world.at(2, Event::Produce);
        world.at(3, Event::ControllerTick);
        world.at(100, Event::Fault);
        world
    }

    /// Runs both phases.
    pub(crate) fn run(mut self) -> Result<Stats, String> {
        while let Some(Reverse((at, key))) = self.queue.pop() {
            if at > FAULTS_MS + HEAL_MS {
                break;
            }
            self.now_ms = at;
            if at > FAULTS_MS && !self.healed {
                self.heal();
            }
            let event = self.events.remove(&key).expect("queued with its event");
            self.handled += 1;
            let what = format!("{event:?}");
            if self.traced {
                println!("{at:>6} {what}");
            }
            self.handle(event)
                .and_then(|()| self.check())
                .map_err(|error| format!("at {at} ms, after {what}: {error}"))?;
        }
        self.invariants
            .at_the_end(&self.nodes, &self.controller)
            .map_err(|error| format!("after the heal phase: {error}"))?;
        Ok(Stats {
            events: self.handled,
            acked: self.invariants.acked_count(),
            elections: self.controller.elections,
            from_elr: self.controller.from_elr,
            moves: self.controller.moves,
            log_end: (self.nodes.iter().map(|node| node.log.end()).max()).unwrap_or_default(),
        })
    }

    fn check(&mut self) -> Result<(), String> {
        self.invariants.after_event(&self.nodes, &self.controller)?;
        if self.handled.is_multiple_of(64) {
            self.invariants.now_and_then(&self.nodes)?;
        }
        Ok(())
    }

    fn at(&mut self, delay_ms: i64, event: Event) {
        self.sequence += 1;
        self.queue
            .push(Reverse((self.now_ms + delay_ms, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[usize::try_from(id.0).unwrap()]
    }

    fn talks(&self, a: i32, b: i32) -> bool {
        !self.blocked.contains(&(a.min(b), a.max(b)))
    }

    fn sees_controller(&self, id: NodeId) -> bool {
        self.talks(CONTROLLER, id.0)
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        let now_ms = self.now_ms;
        match event {
            Event::Deliver { from, to, message } => {
                if self.talks(from.0, to.0) && self.node(to).alive {
                    let effects = self.node(to).on_message(now_ms, from, message);
                    self.take(to, effects)?;
                }
            }
            Event::ReadMetadata(id) => self.read_metadata(id)?,
            Event::Tick(id) => {
                self.at(20, Event::Tick(id));
                let patience_ms = self.patience_ms;
                if self.node(id).alive {
                    let effects = self.node(id).tick(now_ms, patience_ms);
                    self.take(id, effects)?;
                }
            }
            Event::Sync(id) => {
                let pause = self.rng.random_range(20..400);
                self.at(pause, Event::Sync(id));
                self.node(id).log.sync();
            }
            Event::Produce => self.produce()?,
            Event::Fault => self.fault(),
            Event::ControllerTick => self.controller_tick(),
            Event::Restart(id) => self.restart(id),
            Event::Alter { leader, proposal } => {
                // The connection died with the machine; else the shrink of a leader that lost records would make
                // it the only one that may lead, which nothing short of an fsync protects from.
                let lost = self.node(leader).lost_records || self.would_rely_on_lost_records();
                if self.sees_controller(leader) && !lost {
                    let answer = self.controller.alter(leader, &proposal);
                    self.answer_alter(leader, proposal, answer);
                }
            }
            Event::AlterAnswer {
                leader,
                proposal,
                answer,
            } => {
                // "No answer" needs no controller to be heard.
                let heard = answer == AlterPartitionAnswer::Unknown || self.sees_controller(leader);
                if self.node(leader).alive && heard {
                    let effects = self
                        .node(leader)
                        .on_alter_answer(now_ms, &proposal, &answer);
                    self.take(leader, effects)?;
                }
            }
        }
        Ok(())
    }

    /// Does what a node wants.
    fn take(&mut self, id: NodeId, effects: Effects) -> Result<(), String> {
        if let Some(epoch) = effects.became_leader {
            let index = usize::try_from(id.0).unwrap();
            self.invariants.on_leader(epoch, &self.nodes[index])?;
        }
        let acked_in = self.node(id).core.leader_epoch();
        for (offset, value) in effects.acked {
            self.invariants.on_ack(acked_in, offset, value)?;
        }
        for (to, message) in effects.send {
            self.send(id, to, &message);
        }
        if let Some(proposal) = effects.propose {
            self.propose(id, proposal);
        }
        Ok(())
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: &Message) {
        if self.rng.random_bool(self.weather.loss) {
            return;
        }
        let copies = 1 + usize::from(self.rng.random_bool(self.weather.doubling));
        for _ in 0..copies {
            // A healthy stream keeps the order.
            let delay = if self.healed {
                self.weather.delay_ms
            } else {
                self.rng.random_range(0..=self.weather.delay_ms)
            };
            let message = message.clone();
            self.at(delay, Event::Deliver { from, to, message });
        }
    }

    fn propose(&mut self, leader: NodeId, proposal: AlterPartitionProposal) {
        // Without an answer in time the leader does not know what became of it.
        let unknown = Event::AlterAnswer {
            leader,
            proposal: proposal.clone(),
            answer: AlterPartitionAnswer::Unknown,
        };
        self.at(150, unknown);
        if !self.rng.random_bool(self.weather.loss) {
            let delay = self.rng.random_range(0..=self.weather.delay_ms);
            self.at(delay, Event::Alter { leader, proposal });
        }
    }

    fn answer_alter(
        &mut self,
        leader: NodeId,
        proposal: AlterPartitionProposal,
        answer: AlterPartitionAnswer,
    ) {
        if !self.rng.random_bool(self.weather.loss) {
            let delay = self.rng.random_range(0..=self.weather.delay_ms);
            self.at(
                delay,
                Event::AlterAnswer {
                    leader,
                    proposal,
                    answer,
                },
            );
        }
    }

    fn read_metadata(&mut self, id: NodeId) -> Result<(), String> {
        let pause = self.rng.random_range(1..=self.weather.delay_ms.max(2));
        self.at(pause, Event::ReadMetadata(id));
        if !self.sees_controller(id) || !self.node(id).registered {
            return Ok(());
        }
        let (now_ms, next) = (self.now_ms, self.node(id).next_record);
        if let Some(record) = self.controller.records.get(next).cloned() {
            self.node(id).next_record += 1;
            let effects = self.node(id).on_record(now_ms, &record);
            self.take(id, effects)?;
        }
        Ok(())
    }

    fn produce(&mut self) -> Result<(), String> {
        let pause = self.rng.random_range(2..20);
        if self.now_ms < FAULTS_MS + HEAL_MS - QUIET_MS {
            self.at(pause, Event::Produce);
        }
        let leaders: Vec<NodeId> = self
            .nodes
            .iter()
            .filter(|node| node.alive && node.core.leader().is_some())
            .map(|node| node.id)
            .collect();
        if leaders.is_empty() {
            return Ok(());
        }
        let id = leaders[self.rng.random_range(0..leaders.len())];
        let (now_ms, value) = (self.now_ms, self.next_value);
        self.next_value += 1;
        let effects = self.node(id).produce(now_ms, value);
        self.take(id, effects)
    }

    fn fault(&mut self) {
        if self.healed {
            return;
        }
        let pause = self.rng.random_range(20..250);
        self.at(pause, Event::Fault);
        let any = i32::try_from(self.nodes.len()).unwrap();
        let id = NodeId(self.rng.random_range(0..any));
        match self.rng.random_range(0..10) {
            0 | 1 => self.crash(id),
            2 => {
                let other = self.rng.random_range(CONTROLLER..any);
                if other != id.0 {
                    self.blocked.insert((other.min(id.0), other.max(id.0)));
                }
            }
            3 | 4 => {
                let index = self.rng.random_range(0..=self.blocked.len());
                if let Some(pair) = self.blocked.iter().nth(index).copied() {
                    self.blocked.remove(&pair);
                }
            }
            5 => self.controller.elect(Some(id)),
            6 | 7 => self.reassign(),
            8 => self.weather.delay_ms = self.rng.random_range(1..80),
            _ => self.weather.loss = self.rng.random_range(0.0..0.3),
        }
    }

    fn crash(&mut self, id: NodeId) {
        if !self.node(id).alive {
            return;
        }
        // Losing records (a machine's crash, without fsync) is part of the promise for one machine at a time: until it
        // has registered again and so left ISR and ELR, it counts as one that has everything.
        if self.another_lost(id) {
            return;
        }
        let partition = &self.controller.partition;
        let spared = partition.isr.iter().chain(&partition.elr).any(|member| {
            *member != id && !self.nodes[usize::try_from(member.0).unwrap()].lost_records
        });
        let lossy = spared && self.rng.random_bool(0.5);
        self.node(id).crash(lossy);
        let pause = self.rng.random_range(10..600);
        self.at(pause, Event::Restart(id));
    }

    /// An operator moves the partition to some of the nodes, or gives up the move that runs.
    fn reassign(&mut self) {
        let mut target: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        target.shuffle(&mut self.rng);
        target.truncate(self.rng.random_range(1..=self.nodes.len()));
        if self.nodes.iter().any(|node| node.lost_records) {
            return; // as in `would_rely_on_lost_records`
        }
        let give_up = self.controller.partition.is_reassigning() && self.rng.random_bool(0.3);
        self.controller
            .reassign((!give_up).then_some(target.as_slice()));
    }

    /// A step of a move takes members out of the ISR, among them maybe all that spared a machine's crash: until the
    /// machine has registered again, it counts as one that has everything.
    fn would_rely_on_lost_records(&self) -> bool {
        self.controller.partition.is_reassigning()
            && self.nodes.iter().any(|node| node.lost_records)
    }

    /// Where one copy is enough, the others must stay in the ISR while one of it has lost records and nobody knows. Where
    /// it is not, they may leave: the last of them is in the ELR.
    fn must_stay(&self, id: NodeId) -> bool {
        self.another_lost(id) && self.controller.min_isr() < 2
    }

    fn another_lost(&self, id: NodeId) -> bool {
        self.nodes
            .iter()
            .any(|node| node.lost_records && node.id != id)
    }

    fn restart(&mut self, id: NodeId) {
        if self.node(id).alive {
            return;
        }
        let end = self.node(id).log.end().0;
        let known = self.node(id).core.high_watermark().0.min(end);
        let checkpoint = Offset(self.rng.random_range(0..=known));
        self.node(id).restart(checkpoint);
    }

    /// Registration, fencing and unfencing, as far as nodes can be seen.
    fn controller_tick(&mut self) {
        self.at(25, Event::ControllerTick);
        for index in 0..self.nodes.len() {
            let id = self.nodes[index].id;
            let seen = self.nodes[index].alive && self.sees_controller(id);
            if !seen {
                let since = *self.unseen_since[index].get_or_insert(self.now_ms);
                if self.now_ms - since > self.session_timeout_ms && !self.must_stay(id) {
                    self.controller.fence(id);
                }
                continue;
            }
            self.unseen_since[index] = None;
            if !self.nodes[index].registered {
                if !self.must_stay(id) {
                    self.register(index);
                }
            } else if self.controller.is_fenced(id)
                && self.nodes[index].next_record == self.controller.records.len()
            {
                self.controller.unfence(id);
            }
        }
    }

    fn register(&mut self, index: usize) {
        let lost_records = self.nodes[index].lost_records;
        let id = self.nodes[index].id;
        let epoch = self.controller.register(id, lost_records);
        let node = &mut self.nodes[index];
        // It is in neither ISR nor ELR any more, and `crash` has seen to it that somebody else is.
        node.lost_records = false;
        node.broker_epoch = epoch;
        node.registered = true;
        // It reads on from the last state of the partition before its registration.
        node.next_record = self
            .controller
            .records
            .iter()
            .rposition(|record| matches!(record, crate::controller::Meta::Partition(_)))
            .unwrap_or(0);
    }

    fn heal(&mut self) {
        self.healed = true;
        self.blocked.clear();
        self.weather = Weather {
            loss: 0.0,
            doubling: 0.0,
            delay_ms: 5,
        };
        for id in (0..self.nodes.len()).map(|i| NodeId(i32::try_from(i).unwrap())) {
            self.restart(id);
        }
    }
}
