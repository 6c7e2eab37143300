//! A broker with one replica: the core, the fake log, and what the shell does around them.

use broker_core::partition::{
    AlterPartitionAnswer, AlterPartitionProposal, BatchVerdict, EpochHistory, FollowerSession,
    HighWatermarkMove, LogPosition, Partition, PartitionConfig, RoleChange, Settlement,
    SubscribeVerdict, Subscription, SubscriptionAnswer, Truncation,
};
use types::{BrokerEpoch, LeaderEpoch, NodeId, Offset};

use crate::controller::Meta;
use crate::log::{Entry, FakeLog};
use crate::world::Rule;

/// What nodes say to each other.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Start(Subscription),
    Answer {
        epoch: LeaderEpoch,
        session: u64,
        answer: SubscriptionAnswer,
    },
    Batches {
        epoch: LeaderEpoch,
        from: Offset,
        entries: Vec<Entry>,
        high_watermark: Offset,
    },
    Position {
        epoch: LeaderEpoch,
        high_watermark: Offset,
    },
    Ack {
        epoch: LeaderEpoch,
        session: FollowerSession,
        log: LogPosition,
    },
}

/// What a node wants to happen after an event.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) send: Vec<(NodeId, Message)>,
    pub(crate) propose: Option<AlterPartitionProposal>,
    /// Acknowledged to the client: offset and value.
    pub(crate) acked: Vec<(Offset, u64)>,
    pub(crate) became_leader: Option<LeaderEpoch>,
}

/// What the leader sent to a follower so far.
#[derive(Debug, Clone, Copy)]
struct Push {
    node: NodeId,
    next: Offset,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) core: Partition,
    pub(crate) log: FakeLog,
    pub(crate) alive: bool,
    pub(crate) registered: bool,
    pub(crate) broker_epoch: BrokerEpoch,
    /// The next metadata record to read.
    pub(crate) next_record: usize,
    pub(crate) lost_records: bool,
    pub(crate) heard_ms: i64,
    rule: Rule,
    config: PartitionConfig,
    session: u64,
    pushes: Vec<Push>,
    waiting: Vec<(Offset, u64)>,
}

impl Node {
    pub(crate) fn new(id: NodeId, rule: Rule, config: PartitionConfig) -> Self {
        Self {
            id,
            core: Partition::new(id, config, Offset(0)),
            log: FakeLog::default(),
            alive: true,
            registered: true,
            broker_epoch: BrokerEpoch(0),
            next_record: 0,
            lost_records: false,
            heard_ms: 0,
            rule,
            config,
            session: 0,
            pushes: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// The process dies; with `lossy` the machine does, and what was not synced is lost.
    pub(crate) fn crash(&mut self, lossy: bool) {
        self.alive = false;
        self.registered = false;
        self.waiting.clear();
        self.pushes.clear();
        if lossy {
            let before = self.log.end();
            self.log.lose_unsynced();
            self.lost_records |= self.log.end() < before;
        }
    }

    /// The process is back, with the HW of its last checkpoint, and knows nothing yet.
    pub(crate) fn restart(&mut self, checkpoint: Offset) {
        self.alive = true;
        // Each process counts anew.
        self.session = 0;
        self.core = Partition::new(self.id, self.config, checkpoint.min(self.log.end()));
    }

    /// The HW that the rule under test acts on.
    pub(crate) fn high_watermark(&self) -> Offset {
        match (self.rule, self.core.leader()) {
            (Rule::LogEnd, Some(leader)) => leader.log_end(),
            (Rule::CommittedIsr, Some(leader)) => leader
                .followers()
                .iter()
                .filter(|f| leader.isr().contains(&f.node))
                .map(|f| f.log_end.unwrap_or(Offset(0)))
                .fold(leader.log_end(), Offset::min)
                .max(leader.high_watermark()),
            _ => self.core.high_watermark(),
        }
    }

    pub(crate) fn on_record(&mut self, now_ms: i64, record: &Meta) -> Effects {
        let mut effects = Effects::default();
        match record {
            Meta::Eligible(node, eligible) => {
                if let Some(leader) = self.core.leader_mut() {
                    let moved = leader.set_eligible(now_ms, *node, *eligible);
                    self.after_move(moved, &mut effects);
                }
            }
            Meta::Partition(registration) => {
                let log = self.log.position();
                match self.core.apply(now_ms, registration, log) {
                    RoleChange::BecameLeader { epoch, moved, .. } => {
                        self.log.assign(epoch);
                        self.pushes.clear();
                        self.waiting.clear();
                        effects.became_leader = Some(epoch);
                        self.after_move(moved, &mut effects);
                    }
                    RoleChange::StillLeader { moved } => self.after_move(moved, &mut effects),
                    RoleChange::BecameFollower { .. } => {
                        self.waiting.clear();
                        self.pushes.clear();
                        self.start(&mut effects);
                    }
                    RoleChange::WentOffline { .. } => self.drop_replica(),
                    RoleChange::StillFollower | RoleChange::Stale => {}
                }
            }
        }
        effects
    }

    /// The partition is on other brokers now: the log goes, and if it comes back it begins anew.
    fn drop_replica(&mut self) {
        self.log = FakeLog::default();
        self.core = Partition::new(self.id, self.config, Offset(0));
        self.lost_records = false;
        self.pushes.clear();
        self.waiting.clear();
    }

    /// Subscribes (again) to the leader.
    pub(crate) fn start(&mut self, effects: &mut Effects) {
        let last_fetched_epoch = self.log.latest_epoch();
        let Some(follower) = self.core.follower_mut() else {
            return;
        };
        let Some(leader) = follower.leader() else {
            return;
        };
        self.session += 1;
        follower.on_subscribing(0, self.session);
        effects.send.push((
            leader,
            Message::Start(Subscription {
                node: self.id,
                broker_epoch: self.broker_epoch,
                session: self.session,
                leader_epoch: follower.leader_epoch(),
                fetch_offset: follower.log().end,
                last_fetched_epoch,
                log_start: follower.log().start,
            }),
        ));
    }

    pub(crate) fn produce(&mut self, now_ms: i64, value: u64) -> Effects {
        let mut effects = Effects::default();
        let Some(leader) = self.core.leader_mut() else {
            return effects;
        };
        if leader.check_produce(-1, None).is_err() {
            return effects;
        }
        let offset = self.log.end();
        self.log.append(Entry {
            epoch: leader.leader_epoch(),
            value,
        });
        self.waiting.push((offset, value));
        let moved = leader.on_append(now_ms, self.log.end());
        self.after_move(moved, &mut effects);
        self.push_batches(&mut effects);
        effects
    }

    pub(crate) fn on_message(&mut self, now_ms: i64, from: NodeId, message: Message) -> Effects {
        let mut effects = Effects::default();
        match message {
            Message::Start(subscription) => self.on_start(now_ms, &subscription, &mut effects),
            Message::Ack {
                epoch,
                session,
                log,
            } => {
                if let Some(leader) = self.core.leader_mut() {
                    let outcome = leader.on_follower_ack(now_ms, session, epoch, log);
                    if outcome.may_join {
                        effects.propose = leader.propose_expansion(now_ms);
                    }
                    self.after_move(outcome.moved, &mut effects);
                }
            }
            Message::Answer {
                epoch,
                session,
                answer,
            } => {
                self.heard_ms = now_ms;
                self.on_answer(epoch, session, &answer, &mut effects);
            }
            Message::Batches {
                epoch,
                from: at,
                entries,
                high_watermark,
            } => {
                self.hear(now_ms);
                self.on_batches(epoch, at, &entries, high_watermark, from, &mut effects);
            }
            Message::Position {
                epoch,
                high_watermark,
            } => {
                self.hear(now_ms);
                if let Some(follower) = self.core.follower_mut() {
                    follower.on_high_watermark(epoch, high_watermark);
                }
            }
        }
        effects
    }

    /// What comes while the answer to a subscription is lost does not make up for it.
    fn hear(&mut self, now_ms: i64) {
        if self
            .core
            .follower()
            .is_some_and(|follower| follower.is_matched())
        {
            self.heard_ms = now_ms;
        }
    }

    fn on_start(&mut self, now_ms: i64, subscription: &Subscription, effects: &mut Effects) {
        let Some(leader) = self.core.leader_mut() else {
            return;
        };
        let answer = leader.on_subscribe(now_ms, subscription, &self.log);
        let epoch = leader.leader_epoch();
        effects.send.push((
            subscription.node,
            Message::Answer {
                epoch,
                session: subscription.session,
                answer,
            },
        ));
        if let SubscriptionAnswer::Accepted {
            fetch_offset,
            outcome,
            ..
        } = answer
        {
            if outcome.may_join {
                effects.propose = leader.propose_expansion(now_ms);
            }
            self.pushes.retain(|push| push.node != subscription.node);
            self.pushes.push(Push {
                node: subscription.node,
                next: fetch_offset,
            });
            self.after_move(outcome.moved, effects);
            self.push_batches(effects);
        }
    }

    fn on_answer(
        &mut self,
        epoch: LeaderEpoch,
        session: u64,
        answer: &SubscriptionAnswer,
        effects: &mut Effects,
    ) {
        let Some(follower) = self.core.follower_mut() else {
            return;
        };
        match follower.on_answer(epoch, session, answer, &self.log) {
            SubscribeVerdict::Truncate(truncation) => {
                let to = match truncation {
                    Truncation::To(offset) => offset,
                    Truncation::FullyAndStartAt(_) => Offset(0),
                };
                self.log.truncate(to);
                follower.on_truncated(self.log.position());
                self.start(effects);
            }
            SubscribeVerdict::Resubscribe => self.start(effects),
            SubscribeVerdict::Matched { .. }
            | SubscribeVerdict::Ignore
            | SubscribeVerdict::WaitForMetadata => {}
        }
    }

    fn on_batches(
        &mut self,
        epoch: LeaderEpoch,
        at: Offset,
        entries: &[Entry],
        high_watermark: Offset,
        leader: NodeId,
        effects: &mut Effects,
    ) {
        let next = at.plus(i64::try_from(entries.len()).unwrap());
        let Some(follower) = self.core.follower_mut() else {
            return;
        };
        match follower.on_batches(epoch, at, next) {
            BatchVerdict::Append => {
                for entry in entries {
                    self.log.append(*entry);
                }
                follower.on_append(self.log.end());
                follower.on_high_watermark(epoch, high_watermark);
                effects.send.push((
                    leader,
                    Message::Ack {
                        epoch,
                        session: FollowerSession {
                            node: self.id,
                            broker_epoch: self.broker_epoch,
                            session: self.session,
                        },
                        log: self.log.position(),
                    },
                ));
            }
            BatchVerdict::Resubscribe => self.start(effects),
            BatchVerdict::Ignore => {}
        }
    }

    /// Periodic work: ISR changes of a leader, a follower's restart when nothing was heard.
    pub(crate) fn tick(&mut self, now_ms: i64, patience_ms: i64) -> Effects {
        let mut effects = Effects::default();
        if let Some(leader) = self.core.leader_mut() {
            effects.propose = leader
                .propose_shrink(now_ms)
                .or_else(|| leader.propose_expansion(now_ms));
        } else if now_ms - self.heard_ms > patience_ms {
            self.heard_ms = now_ms;
            self.start(&mut effects);
        }
        effects
    }

    pub(crate) fn on_alter_answer(
        &mut self,
        now_ms: i64,
        proposal: &AlterPartitionProposal,
        answer: &AlterPartitionAnswer,
    ) -> Effects {
        let mut effects = Effects::default();
        if let Some(leader) = self.core.leader_mut()
            && leader.leader_epoch() == proposal.leader_epoch
        {
            let moved = leader.on_alter_partition_answer(now_ms, proposal.partition_epoch, answer);
            self.after_move(moved, &mut effects);
        }
        effects
    }

    fn after_move(&mut self, moved: Option<HighWatermarkMove>, effects: &mut Effects) {
        let high_watermark = self.high_watermark();
        let Some(leader) = self.core.leader() else {
            return;
        };
        let (rule, epoch) = (self.rule, leader.leader_epoch());
        self.waiting.retain(|(offset, value)| {
            let end = offset.plus(1);
            let done = match rule {
                Rule::MaximalIsr => leader.settle(end) == Settlement::Done,
                Rule::LogEnd | Rule::CommittedIsr => high_watermark >= end,
            };
            if done {
                effects.acked.push((*offset, *value));
            }
            !done
        });
        if moved.is_some() {
            for push in &self.pushes {
                effects.send.push((
                    push.node,
                    Message::Position {
                        epoch,
                        high_watermark,
                    },
                ));
            }
        }
    }

    fn push_batches(&mut self, effects: &mut Effects) {
        let high_watermark = self.high_watermark();
        let Some(leader) = self.core.leader() else {
            return;
        };
        let epoch = leader.leader_epoch();
        for push in &mut self.pushes {
            let end = self.log.end();
            if push.next < end {
                effects.send.push((
                    push.node,
                    Message::Batches {
                        epoch,
                        from: push.next,
                        entries: self.log.range(push.next, end),
                        high_watermark,
                    },
                ));
                push.next = end;
            }
        }
    }
}
