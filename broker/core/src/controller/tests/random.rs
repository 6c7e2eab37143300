//! Do the invariants hold whatever happens, in whatever order?

use proptest::prelude::*;

use super::*;
use crate::controller::eligibility::MIN_ISR;
use crate::metadata::{TopicImage, decode_records, encode_records};
use crate::partition::IsrMember;

const NODES: i32 = 4;

#[derive(Debug, Clone)]
enum Op {
    Register {
        node: i32,
        incarnation: u8,
        new_disk: bool,
        /// 0: an older build, 1: its disk has lost nothing, others: it may have.
        kind: u8,
    },
    Session {
        node: i32,
        open: bool,
    },
    Heartbeat {
        node: i32,
        behind: bool,
        fence: bool,
        stop: bool,
    },
    Tick {
        ms: i64,
    },
    Kill {
        node: i32,
    },
    Unregister {
        node: i32,
    },
    Create {
        name: u8,
        partitions: i32,
        replicas: i16,
    },
    Grow {
        name: u8,
        count: i32,
    },
    Delete {
        name: u8,
    },
    Alter {
        name: u8,
        partition: i32,
        members: u8,
        stale: bool,
    },
    Unclean {
        name: u8,
        allowed: bool,
    },
    MinIsr {
        name: u8,
        value: u8,
    },
    Elect {
        kind: ElectionKind,
    },
    Reassign {
        name: u8,
        partition: i32,
        target: Option<Vec<i32>>,
        keep_factor: bool,
    },
    ProducerIds {
        node: i32,
    },
    Commit,
    TakeOver,
}

fn op() -> impl Strategy<Value = Op> {
    let node = 0..NODES;
    let name = 0u8..4;
    let name_again = name.clone();
    let target = proptest::option::weighted(0.8, proptest::collection::vec(0..NODES, 0..5));
    prop_oneof![
        3 => (node.clone(), 0u8..3, proptest::bool::weighted(0.1), 0u8..4).prop_map(
            |(node, incarnation, new_disk, kind)| Op::Register { node, incarnation, new_disk, kind }),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, open)| Op::Session { node, open }),
        6 => (node.clone(), proptest::bool::weighted(0.1), proptest::bool::weighted(0.1), proptest::bool::weighted(0.2))
            .prop_map(|(node, behind, fence, stop)| Op::Heartbeat { node, behind, fence, stop }),
        2 => (0i64..2_000).prop_map(|ms| Op::Tick { ms }),
        1 => node.clone().prop_map(|node| Op::Kill { node }),
        1 => node.clone().prop_map(|node| Op::Unregister { node }),
        2 => (name.clone(), 1i32..5, 1i16..5)
            .prop_map(|(name, partitions, replicas)| Op::Create { name, partitions, replicas }),
        1 => (name.clone(), 1i32..8).prop_map(|(name, count)| Op::Grow { name, count }),
        1 => name.clone().prop_map(|name| Op::Delete { name }),
        4 => (name.clone(), 0i32..4, 0u8..16, proptest::bool::weighted(0.2))
            .prop_map(|(name, partition, members, stale)| Op::Alter { name, partition, members, stale }),
        1 => (name.clone(), any::<bool>()).prop_map(|(name, allowed)| Op::Unclean { name, allowed }),
        1 => (name, 1u8..4).prop_map(|(name, value)| Op::MinIsr { name, value }),
        1 => prop_oneof![Just(ElectionKind::Preferred), Just(ElectionKind::Unclean)]
            .prop_map(|kind| Op::Elect { kind }),
        4 => (name_again, 0i32..4, target, proptest::bool::weighted(0.2)).prop_map(
            |(name, partition, target, keep_factor)| Op::Reassign { name, partition, target, keep_factor }),
        1 => node.prop_map(|node| Op::ProducerIds { node }),
        6 => Just(Op::Commit),
        1 => Just(Op::TakeOver),
    ]
}

/// A controller whose decisions are committed when an op says so, or lost with it.
struct World {
    controller: Controller,
    committed: MetadataImage,
    in_flight: Vec<Vec<MetadataRecord>>,
    /// What the quorum's log holds.
    log: Vec<(u64, Vec<MetadataRecord>)>,
    disks: [u8; NODES as usize],
    now: i64,
    next_producer_id: i64,
}

impl World {
    fn new() -> Self {
        Self {
            controller: Controller::take_over(controller_config(&[]), MetadataImage::empty(), 0),
            committed: MetadataImage::empty(),
            in_flight: Vec::new(),
            log: Vec::new(),
            disks: [0, 50, 100, 150],
            now: 0,
            next_producer_id: 0,
        }
    }

    fn run(&mut self, op: &Op, seed: u64) {
        let before = self.controller.image().clone();
        match op {
            Op::Commit => self.commit_one(),
            Op::TakeOver => {
                self.in_flight.clear();
                self.controller =
                    Controller::take_over(controller_config(&[]), self.committed.clone(), self.now);
                return;
            }
            Op::Session { node, open } => self.session(*node, *open),
            Op::Tick { ms } => {
                self.now += ms;
                let records = self.controller.tick(self.now).expect("decisions fit");
                self.propose(records);
            }
            Op::Kill { node } => {
                if let Some(broker) = before.broker(NodeId(*node)) {
                    let records = self
                        .controller
                        .connection_lost(NodeId(*node), broker.incarnation)
                        .expect("decisions fit");
                    self.propose(records);
                }
            }
            _ => {
                if let Some(request) = self.request(op, &before) {
                    let decision = self
                        .controller
                        .decide(self.now, seed, &request)
                        .expect("decisions fit");
                    self.check_answer(&decision);
                    self.propose(decision.records);
                }
            }
        }
        check_step(&before, self.controller.image());
    }

    fn propose(&mut self, records: Vec<MetadataRecord>) {
        if !records.is_empty() {
            self.in_flight.push(records);
        }
    }

    fn commit_one(&mut self) {
        if self.in_flight.is_empty() {
            return;
        }
        let records = self.in_flight.remove(0);
        let offset = self.committed.offset() + 1 + u64::from(self.log.len().is_multiple_of(3));
        let bytes = encode_records(&records);
        let decoded = decode_records(&bytes).expect("own records");
        self.committed
            .apply(offset, &decoded)
            .expect("decided on this image");
        self.log.push((offset, decoded));
        self.controller.committed(offset);
    }

    /// All brokers are back, caught up, and everything is committed.
    fn heal(&mut self) {
        for node in 0..NODES {
            self.run(&Op::Kill { node }, 0);
        }
        for node in 0..NODES {
            let register = Op::Register {
                node,
                incarnation: 9,
                new_disk: false,
                kind: 1,
            };
            let heartbeat = Op::Heartbeat {
                node,
                behind: false,
                fence: false,
                stop: false,
            };
            for op in [register, heartbeat] {
                while !self.in_flight.is_empty() {
                    self.commit_one();
                }
                self.run(&op, 0);
            }
        }
    }

    /// Every leader finds all its replicas in sync. Gives how many moves that ended.
    fn catch_up(&mut self) -> usize {
        let image = self.controller.image().clone();
        let mut ended = 0;
        for topic in image.topics() {
            for (index, partition) in topic.iter().filter(|(_, p)| p.leader.is_some()) {
                let members = (partition.replicas.iter()).fold(0, |all, node| all | 1 << node.0);
                let request = alter(&image, topic, index, members, false).expect("it has a leader");
                let decided = self.controller.decide(self.now, 0, &request);
                self.propose(decided.expect("decisions fit").records);
                let after = self.controller.image().partition(topic.id, index);
                let after = after.expect("nothing is deleted");
                assert!(!after.is_reassigning(), "never ends: {after:?}");
                assert!(
                    after
                        .replicas
                        .iter()
                        .copied()
                        .eq(partition.target_replicas())
                );
                ended += usize::from(partition.is_reassigning());
            }
        }
        check_step(&image, self.controller.image());
        ended
    }

    fn session(&mut self, node: i32, open: bool) {
        let Some(broker) = self.controller.image().broker(NodeId(node)).cloned() else {
            return;
        };
        if open {
            self.controller
                .session_opened(self.now, NodeId(node), broker.incarnation);
        } else {
            self.controller
                .session_closed(NodeId(node), broker.incarnation);
        }
    }

    fn request(&mut self, op: &Op, image: &MetadataImage) -> Option<ControllerRequest> {
        let epoch = |node: i32| {
            image
                .broker(NodeId(node))
                .map_or(BrokerEpoch(0), |b| b.epoch)
        };
        Some(match op {
            Op::Register {
                node,
                incarnation,
                new_disk,
                kind,
            } => {
                let disk = &mut self.disks[usize::try_from(*node).expect("small")];
                *disk += u8::from(*new_disk && !(*disk + 1).is_multiple_of(50));
                let mut request = registration(*node, *incarnation, *disk);
                request.reads_elr = *kind > 0;
                request.previous_epoch = (*kind == 1).then(|| epoch(*node));
                ControllerRequest::RegisterBroker(request)
            }
            Op::Heartbeat {
                node,
                behind,
                fence,
                stop,
            } => ControllerRequest::BrokerHeartbeat(BrokerHeartbeatRequest {
                node_id: NodeId(*node),
                broker_epoch: epoch(*node),
                metadata_offset: if *behind { 1 } else { self.committed.offset() },
                want_fence: *fence,
                want_shut_down: *stop,
                reads_elr: true,
            }),
            Op::Unregister { node } => {
                ControllerRequest::UnregisterBroker(UnregisterBrokerRequest {
                    node_id: NodeId(*node),
                })
            }
            Op::ProducerIds { node } => {
                ControllerRequest::AllocateProducerIds(AllocateProducerIdsRequest {
                    node_id: NodeId(*node),
                    broker_epoch: epoch(*node),
                })
            }
            _ => return topic_request(op, image),
        })
    }

    /// What is refused leaves no records.
    fn check_answer(&mut self, decision: &Decision<ControllerResponse>) {
        use ControllerResponse as A;
        let refused = match &decision.response {
            A::CreateTopics(results) => results.iter().all(|r| r.result.is_err()),
            A::DeleteTopics(results) => results.iter().all(|r| r.result.is_err()),
            A::CreatePartitions(results) => results.iter().all(|r| r.result.is_err()),
            A::IncrementalAlterConfigs(results) | A::AlterConfigs(results) => {
                results.iter().all(|r| r.result.is_err())
            }
            A::AlterPartition(Ok(results)) => results.iter().all(|r| r.result.is_err()),
            A::AlterPartition(Err(_)) => true,
            A::ElectLeaders(results) => results.iter().all(|r| r.result.is_err()),
            A::AlterPartitionReassignments(results) => results.iter().all(|r| r.result.is_err()),
            A::ListPartitionReassignments(_) => true,
            A::AllocateProducerIds(result) => {
                if let Ok(block) = result {
                    // Blocks that were lost with a controller were never answered.
                    assert!(block.first.0 >= self.committed.next_producer_id().0);
                    self.next_producer_id = self.next_producer_id.max(block.first.0);
                }
                result.is_err()
            }
            A::RegisterBroker(result) => result.is_err(),
            A::BrokerHeartbeat(result) => result.is_err(),
            A::UnregisterBroker(result) | A::UpdateFeatures(result) => result.is_err(),
        };
        assert!(
            !refused || decision.records.is_empty(),
            "a refusal has records: {decision:?}"
        );
    }
}

/// The request of an op on topics; `None` for others, and where there is nothing to ask about.
fn topic_request(op: &Op, image: &MetadataImage) -> Option<ControllerRequest> {
    let name = |name: &u8| format!("topic-{name}");
    Some(match op {
        Op::Create {
            name: n,
            partitions,
            replicas,
        } => ControllerRequest::CreateTopics(CreateTopicsRequest {
            topics: vec![topic(&name(n), *partitions, *replicas)],
            validate_only: false,
        }),
        Op::Grow { name: n, count } => {
            ControllerRequest::CreatePartitions(CreatePartitionsRequest {
                topics: vec![CreatePartitionsTopic {
                    name: name(n),
                    count: *count,
                    assignments: None,
                }],
                validate_only: false,
            })
        }
        Op::Delete { name: n } => ControllerRequest::DeleteTopics(DeleteTopicsRequest {
            topics: vec![TopicRef::Name(name(n))],
        }),
        Op::Alter {
            name: n,
            partition,
            members,
            stale,
        } => alter(
            image,
            image.topic_by_name(&name(n))?,
            *partition,
            *members,
            *stale,
        )?,
        Op::Unclean { name: n, allowed } => set(
            &name(n),
            "unclean.leader.election.enable",
            allowed.to_string(),
        ),
        Op::MinIsr { name: n, value } => set(&name(n), MIN_ISR, value.to_string()),
        Op::Elect { kind } => ControllerRequest::ElectLeaders(ElectLeadersRequest {
            kind: *kind,
            partitions: None,
        }),
        Op::Reassign {
            name: n,
            partition,
            target,
            keep_factor,
        } => ControllerRequest::AlterPartitionReassignments(AlterPartitionReassignmentsRequest {
            partitions: vec![ReassignablePartition {
                topic: name(n),
                partition: *partition,
                target: target
                    .as_ref()
                    .map(|t| t.iter().copied().map(NodeId).collect()),
            }],
            allow_replication_factor_change: !*keep_factor,
        }),
        _ => return None,
    })
}

fn set(topic: &str, key: &str, value: String) -> ControllerRequest {
    let change = ConfigChange {
        name: key.to_owned(),
        op: ConfigOp::Set,
        value: Some(value),
    };
    ControllerRequest::IncrementalAlterConfigs(IncrementalAlterConfigsRequest {
        resources: vec![(ConfigResource::Topic(topic.into()), vec![change])],
        validate_only: false,
    })
}

fn alter(
    image: &MetadataImage,
    topic: &TopicImage,
    partition: i32,
    members: u8,
    stale: bool,
) -> Option<ControllerRequest> {
    let now = topic.partition(partition)?;
    let leader = now.leader?;
    let isr = (0..NODES)
        .map(NodeId)
        .filter(|node| *node == leader || members & (1 << node.0) != 0)
        .map(|node| IsrMember {
            node,
            broker_epoch: image
                .broker(node)
                .map(|b| BrokerEpoch(b.epoch.0 - i64::from(stale))),
        })
        .collect();
    Some(ControllerRequest::AlterPartition(AlterPartitionRequest {
        node_id: leader,
        broker_epoch: image.broker(leader)?.epoch,
        partitions: vec![AlterPartitionItem {
            topic_id: topic.id,
            partition,
            leader_epoch: now.leader_epoch,
            partition_epoch: now.partition_epoch,
            isr,
        }],
    }))
}

/// The invariants of one image.
fn check_image(image: &MetadataImage) {
    for topic in image.topics() {
        assert_eq!(
            image.topic_by_name(&topic.name).map(|t| t.id),
            Some(topic.id)
        );
        for (index, p) in topic.iter() {
            let what = format!("{}-{index}: {p:?}", topic.name);
            for (at, node) in p.replicas.iter().enumerate() {
                assert!(
                    !p.replicas[..at].contains(node),
                    "two replicas on one broker: {what}"
                );
            }
            assert!(
                p.isr.iter().all(|n| p.replicas.contains(n)),
                "ISR beyond replicas: {what}"
            );
            let listed = p.adding_replicas.iter().chain(&p.removing_replicas);
            let counted: BTreeSet<_> = listed.clone().collect();
            assert_eq!(
                counted.len(),
                listed.clone().count(),
                "comes and goes: {what}"
            );
            assert!(
                listed.clone().all(|n| p.replicas.contains(n)),
                "comes or goes beyond replicas: {what}"
            );
            assert!(
                p.original_replicas().next().is_some() && p.target_replicas().next().is_some(),
                "from or to nowhere: {what}"
            );
            let active = p.isr.iter().filter(|n| image.is_active(**n)).count();
            match p.leader {
                Some(leader) => {
                    assert!(p.isr.contains(&leader), "leader outside the ISR: {what}");
                    assert!(image.is_active(leader), "leader is not active: {what}");
                    assert_eq!(
                        active,
                        p.isr.len(),
                        "inactive member beside a leader: {what}"
                    );
                }
                None => assert_eq!(active, 0, "no leader though one could be: {what}"),
            }
            check_eligible(image, topic, p);
        }
    }
}

/// Whether those beside the ISR are who they should be.
fn check_eligible(image: &MetadataImage, topic: &TopicImage, p: &PartitionRegistration) {
    let what = format!("{}: {p:?}", topic.name);
    let strange = p
        .elr
        .iter()
        .any(|n| !p.replicas.contains(n) || p.isr.contains(n));
    assert!(!strange, "eligible, but no replica or in the ISR: {what}");
    let min_isr = image.topic_config(&topic.name).get(MIN_ISR);
    let min_isr = min_isr.map_or(1, |value| value.parse().expect("a number"));
    assert!(
        p.elr.is_empty() || p.isr.len() < p.replication_factor().min(min_isr),
        "something may be acknowledged that the ELR lacks: {what}"
    );
    if p.leader.is_some() {
        assert_eq!(p.last_known_elr, [], "two leaders to wait for: {what}");
    } else {
        let waits = |n: &&NodeId| p.elr.is_empty() && p.isr.is_empty() && image.is_active(**n);
        let could_lead = p.elr.iter().find(|n| image.is_active(**n));
        let could_lead = could_lead.or_else(|| p.last_known_elr.iter().find(waits));
        assert_eq!(could_lead, None, "no leader though one could be: {what}");
    }
}

/// What must be true of two images after each other.
fn check_step(before: &MetadataImage, after: &MetadataImage) {
    check_image(after);
    assert!(after.last_broker_epoch() >= before.last_broker_epoch());
    assert!(after.next_producer_id() >= before.next_producer_id());
    for topic in after.topics() {
        let Some(old) = before.topic(topic.id) else {
            continue;
        };
        assert!(
            topic.partitions.len() >= old.partitions.len(),
            "partitions shrank"
        );
        for (index, was) in old.iter() {
            let is = topic.partition(index).expect("partitions only grow");
            let same_leader = was.leader == is.leader;
            assert!(
                is.leader_epoch >= was.leader_epoch && is.partition_epoch >= was.partition_epoch
            );
            assert!(
                same_leader || is.leader_epoch > was.leader_epoch,
                "leader without epoch"
            );
            assert!(
                was == is || is.partition_epoch > was.partition_epoch,
                "change without epoch"
            );
            assert!(
                was.replicas.iter().all(|node| is.replicas.contains(node))
                    || is.leader_epoch > was.leader_epoch,
                "those that went are listened to"
            );
            let stayed = was
                .original_replicas()
                .all(|node| is.replicas.contains(&node));
            assert!(
                stayed || is.replicas.iter().all(|node| is.holds_everything(*node)),
                "a replica went before the target was in sync: {was:?} {is:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn invariants_hold_and_every_node_replays_the_same_image(
        ops in proptest::collection::vec(op(), 1..160),
        snapshot_at in any::<proptest::sample::Index>(),
    ) {
        let mut world = World::new();
        for node in 0..NODES - 1 {
            world.run(&Op::Register { node, incarnation: 0, new_disk: false, kind: 1 }, 0);
            world.run(&Op::Commit, 0);
            world.run(&Op::Heartbeat { node, behind: false, fence: false, stop: false }, 0);
        }
        for (seed, op) in (1..).zip(&ops) {
            world.run(op, seed);
        }
        let mut speculative = world.committed.clone();
        for records in &world.in_flight {
            speculative.speculate(records).expect("decided on this image");
        }
        prop_assert_eq!(world.controller.image(), &speculative);

        // A node that starts from a snapshot taken anywhere and reads the rest of the log.
        let cut = snapshot_at.index(world.log.len() + 1);
        let mut early = MetadataImage::empty();
        for (offset, records) in &world.log[..cut] {
            early.apply(*offset, records).expect("committed");
        }
        let mut late = MetadataImage::from_snapshot(&early.to_snapshot()).expect("own snapshot");
        let mut merged = crate::metadata::MetadataDelta::default();
        for (offset, records) in &world.log[cut..] {
            merged.merge(&late.apply(*offset, records).expect("committed"));
        }
        prop_assert_eq!(late.to_snapshot(), world.committed.to_snapshot());
        let between = crate::metadata::MetadataDelta::between(&early, &late);
        prop_assert_eq!(&merged.topics_created, &between.topics_created);
        let deleted = |delta: &crate::metadata::MetadataDelta| -> Vec<TopicId> {
            delta.topics_deleted.keys().copied().collect()
        };
        prop_assert_eq!(deleted(&merged), deleted(&between));
        for (topic, partitions) in &between.partitions {
            prop_assert!(partitions.is_subset(&merged.partitions[topic]));
        }
    }

    #[test]
    fn every_move_ends_once_all_brokers_are_back(ops in proptest::collection::vec(op(), 1..160)) {
        let mut world = World::new();
        for node in 0..NODES {
            world.run(&Op::Register { node, incarnation: 0, new_disk: false, kind: 1 }, 0);
            world.run(&Op::Commit, 0);
            world.run(&Op::Heartbeat { node, behind: false, fence: false, stop: false }, 0);
        }
        world.run(&Op::Create { name: 0, partitions: 1, replicas: 2 }, 0);
        world.run(&Op::Reassign { name: 0, partition: 0, target: Some((0..NODES).collect()), keep_factor: false }, 0);
        for (seed, op) in (1..).zip(&ops) {
            world.run(op, seed);
        }
        world.heal();
        world.catch_up();
        prop_assert_eq!(world.catch_up(), 0);
    }
}
