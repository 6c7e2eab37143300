//! A coordinator with a clock, a log and the replies so far.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use types::{ErrorCode, Offset, TopicPartition};

use crate::group::request::{
    CommitPartition, CommitRequest, HeartbeatRequest, JoinReply, JoinRequest, LeavingMember, Reply,
    SyncReply, SyncRequest, Token,
};
use crate::group::{AppendId, Coordinator, GroupConfig, GroupRecord, GroupState, Now, Outcome};

pub(super) const GROUP: &str = "orders";

/// The world of one test. Appends succeed at once unless `hold` is set.
pub(super) struct Fixture {
    pub(super) coordinator: Coordinator,
    pub(super) config: GroupConfig,
    pub(super) now: Now,
    pub(super) log: Vec<GroupRecord>,
    pub(super) hold: bool,
    pub(super) held: VecDeque<AppendId>,
    replies: BTreeMap<Token, Reply>,
    tokens: u64,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(GroupConfig {
            initial_rebalance_delay_ms: 0,
            ..GroupConfig::default()
        })
    }

    pub(super) fn with(config: GroupConfig) -> Self {
        Self {
            coordinator: Coordinator::new(config),
            config,
            now: Now {
                monotonic_ms: 1_000,
                wall_ms: 1_700_000_000_000,
            },
            log: Vec::new(),
            hold: false,
            held: VecDeque::new(),
            replies: BTreeMap::new(),
            tokens: 0,
        }
    }

    pub(super) fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    pub(super) fn take(&mut self, outcome: Outcome) {
        let mut queue = VecDeque::from([outcome]);
        while let Some(outcome) = queue.pop_front() {
            for (token, reply) in outcome.replies {
                let before = self.replies.insert(token, reply);
                assert!(before.is_none(), "{token:?} was answered twice");
            }
            for append in outcome.appends {
                if self.hold {
                    self.log.extend(append.records);
                    self.held.push_back(append.id);
                } else {
                    self.log.extend(append.records);
                    queue.push_back(self.coordinator.appended(self.now, append.id, Ok(())));
                }
            }
        }
    }

    /// Reports the result of the oldest append that is held back.
    pub(super) fn release(&mut self, result: Result<(), ErrorCode>) {
        let id = self.held.pop_front().expect("an append is held");
        let outcome = self.coordinator.appended(self.now, id, result);
        self.take(outcome);
    }

    /// Lets time pass, firing timers when they are due.
    pub(super) fn advance(&mut self, ms: i64) {
        let end = self.now.monotonic_ms + ms;
        for _ in 0..10_000 {
            let Some(at) = self.coordinator.next_deadline().filter(|at| *at <= end) else {
                break;
            };
            let step = (at - self.now.monotonic_ms).max(0);
            self.now.monotonic_ms += step;
            self.now.wall_ms += step;
            let outcome = self.coordinator.tick(self.now);
            self.take(outcome);
        }
        self.now.wall_ms += end - self.now.monotonic_ms;
        self.now.monotonic_ms = end;
    }

    pub(super) fn request(&self, member_id: &str, client: &str) -> JoinRequest {
        JoinRequest {
            group_id: GROUP.to_owned(),
            member_id: member_id.to_owned(),
            group_instance_id: None,
            client_id: client.to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), subscription(&["t"]))],
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 30_000,
            require_known_member_id: false,
            supports_skip_assignment: false,
            fresh_id: format!("uuid{}", self.tokens),
        }
    }

    pub(super) fn send_join(&mut self, request: &JoinRequest) -> Token {
        let token = self.token();
        let outcome = self.coordinator.join(self.now, token, request);
        self.take(outcome);
        token
    }

    pub(super) fn join(&mut self, member_id: &str, client: &str) -> Token {
        let request = self.request(member_id, client);
        self.send_join(&request)
    }

    pub(super) fn waits(&self, token: Token) -> bool {
        !self.replies.contains_key(&token)
    }

    pub(super) fn joined(&mut self, token: Token) -> JoinReply {
        match self.replies.remove(&token) {
            Some(Reply::Join(reply)) => reply,
            other => panic!("want the reply to a join, got {other:?}"),
        }
    }

    pub(super) fn synced(&mut self, token: Token) -> SyncReply {
        match self.replies.remove(&token) {
            Some(Reply::Sync(reply)) => reply,
            other => panic!("want the reply to a sync, got {other:?}"),
        }
    }

    pub(super) fn committed(&mut self, token: Token) -> Vec<ErrorCode> {
        match self.replies.remove(&token) {
            Some(Reply::Commit(reply)) => reply.partitions.iter().map(|(_, e)| *e).collect(),
            other => panic!("want the reply to a commit, got {other:?}"),
        }
    }

    pub(super) fn deleted(&mut self, token: Token) -> ErrorCode {
        match self.replies.remove(&token) {
            Some(Reply::DeleteGroup(error)) => error,
            other => panic!("want the reply to a deletion, got {other:?}"),
        }
    }

    pub(super) fn sync(
        &mut self,
        member_id: &str,
        generation: i32,
        assignments: &[(&str, &'static str)],
    ) -> Token {
        self.sync_as(member_id, None, generation, assignments)
    }

    pub(super) fn sync_as(
        &mut self,
        member_id: &str,
        instance: Option<&str>,
        generation: i32,
        assignments: &[(&str, &'static str)],
    ) -> Token {
        let token = self.token();
        let request = SyncRequest {
            group_id: GROUP.to_owned(),
            generation,
            member_id: member_id.to_owned(),
            group_instance_id: instance.map(str::to_owned),
            protocol_type: None,
            protocol: None,
            assignments: assignments
                .iter()
                .map(|(id, text)| ((*id).to_owned(), Bytes::from(*text)))
                .collect(),
        };
        let outcome = self.coordinator.sync(self.now, token, request);
        self.take(outcome);
        token
    }

    pub(super) fn heartbeat(&mut self, member_id: &str, generation: i32) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: GROUP.to_owned(),
            generation,
            member_id: member_id.to_owned(),
            group_instance_id: None,
        };
        match self.coordinator.heartbeat(self.now, &request) {
            Ok(()) => ErrorCode::None,
            Err(error) => error,
        }
    }

    pub(super) fn leave(&mut self, member_id: &str, instance: Option<&str>) -> ErrorCode {
        let members = [LeavingMember {
            member_id: member_id.to_owned(),
            group_instance_id: instance.map(str::to_owned),
        }];
        let (errors, outcome) = self.coordinator.leave(self.now, GROUP, &members);
        self.take(outcome);
        errors[0]
    }

    pub(super) fn commit(
        &mut self,
        member_id: &str,
        generation: Option<i32>,
        offset: i64,
    ) -> Token {
        let token = self.token();
        let request = CommitRequest {
            group_id: GROUP.to_owned(),
            generation,
            member_id: member_id.to_owned(),
            group_instance_id: None,
            knows_epochs: false,
            retention_ms: None,
            partitions: vec![CommitPartition {
                partition: TopicPartition::new("t", 0),
                offset: Offset(offset),
                leader_epoch: None,
                metadata: String::new(),
                error: ErrorCode::None,
            }],
        };
        let outcome = self.coordinator.commit(self.now, token, request);
        self.take(outcome);
        token
    }

    pub(super) fn committed_offset(&self) -> Option<i64> {
        let wanted = [TopicPartition::new("t", 0)];
        let fetched = self.coordinator.fetch(GROUP, Some(&wanted));
        fetched[0].1.as_ref().map(|value| value.offset.0)
    }

    pub(super) fn state(&self) -> GroupState {
        self.coordinator
            .describe(GROUP)
            .map_or(GroupState::Dead, |group| group.state)
    }

    /// A stable group of `clients`; their member ids, the leader first.
    pub(super) fn stable(&mut self, clients: &[&str]) -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        let mut waiting = Vec::new();
        let first = self.join("", clients[0]);
        ids.push(self.joined(first).member_id);
        for client in &clients[1..] {
            waiting.push(self.join("", client));
        }
        if !waiting.is_empty() {
            let leader = ids[0].clone();
            let rejoin = self.join(&leader, clients[0]);
            self.joined(rejoin);
            for token in waiting {
                ids.push(self.joined(token).member_id);
            }
        }
        let generation = i32::from(clients.len() > 1) + 1;
        let leader = ids[0].clone();
        for id in ids.iter().rev() {
            let token = self.sync(id, generation, &[]);
            if *id == leader {
                assert_eq!(self.synced(token).error, ErrorCode::None);
            }
        }
        self.replies.clear();
        assert_eq!(self.state(), GroupState::Stable);
        ids
    }

    /// The same coordinator after losing its memory: loaded from the log.
    pub(super) fn reload(&mut self) {
        self.coordinator = Coordinator::new(self.config);
        self.held.clear();
        for record in &self.log {
            let (key, value) = record.encode();
            let read = GroupRecord::decode(&key, value.as_deref())
                .expect("what was encoded decodes")
                .expect("a known key version");
            assert_eq!(&read, record);
            self.coordinator.load(self.now, read);
        }
        self.coordinator.loaded(self.now);
    }
}

/// Consumer subscription metadata, version 0, for `topics`.
pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let mut out = vec![0, 0];
    out.extend(i32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        out.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
        out.extend(topic.as_bytes());
    }
    out.extend((-1i32).to_be_bytes());
    Bytes::from(out)
}
