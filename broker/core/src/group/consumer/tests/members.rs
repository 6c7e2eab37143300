//! Consumers of the classic protocol, and what is asked of a coordinator in their name.

use std::collections::BTreeSet;

use bytes::Bytes;
use types::{ErrorCode, Offset, TopicPartition};

use super::fixture::{Fixture, GROUP};
use crate::group::Coordinator;
use crate::group::protocol::{Assignment, Named, encode_assignment};
use crate::group::request::{
    CommitPartition, CommitRequest, HeartbeatRequest, JoinReply, JoinRequest, LeavingMember, Reply,
    SyncReply, SyncRequest, Token,
};

pub(super) const SESSION_MS: i64 = 10_000;
pub(super) const REBALANCE_MS: i64 = 30_000;

/// A consumer that wants the topic `t`.
#[derive(Debug, Clone, Default)]
pub(super) struct Classic {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) instance: Option<String>,
    pub(super) generation: i32,
    /// Partitions of `t`.
    pub(super) owned: BTreeSet<i32>,
    pub(super) eager: bool,
    /// What it says before its metadata.
    pub(super) protocol: Option<&'static str>,
    /// How much its assignor says beside, in bytes.
    pub(super) user_data: usize,
}

pub(super) fn eager(name: &str) -> Classic {
    Classic {
        eager: true,
        ..cooperative(name)
    }
}

pub(super) fn cooperative(name: &str) -> Classic {
    Classic {
        name: name.to_owned(),
        generation: -1,
        ..Classic::default()
    }
}

impl Classic {
    pub(super) fn instance(mut self, instance: &str) -> Self {
        self.instance = Some(instance.to_owned());
        self
    }

    fn protocol(&self) -> &'static str {
        let default = if self.eager {
            "range"
        } else {
            "cooperative-sticky"
        };
        self.protocol.unwrap_or(default)
    }

    /// Version 3, as the Java client writes it.
    pub(super) fn subscription(&self) -> Bytes {
        let mut out = vec![0, 3, 0, 0, 0, 1, 0, 1, b't'];
        match self.user_data {
            0 => out.extend((-1i32).to_be_bytes()),
            size => {
                out.extend(i32::try_from(size).unwrap().to_be_bytes());
                out.resize(out.len() + size, 0);
            }
        }
        out.extend([0, 0, 0, u8::from(!self.owned.is_empty())]);
        if !self.owned.is_empty() {
            out.extend([0, 1, b't']);
            out.extend(i32::try_from(self.owned.len()).unwrap().to_be_bytes());
            self.owned
                .iter()
                .for_each(|one| out.extend(one.to_be_bytes()));
        }
        out.extend(self.generation.to_be_bytes());
        out.extend((-1i16).to_be_bytes()); // no rack
        Bytes::from(out)
    }

    pub(super) fn request(&self) -> JoinRequest {
        JoinRequest {
            group_id: GROUP.to_owned(),
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
            client_id: self.name.clone(),
            client_host: "/127.0.0.1".to_owned(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![(self.protocol().to_owned(), self.subscription())],
            session_timeout_ms: i32::try_from(SESSION_MS).unwrap(),
            rebalance_timeout_ms: i32::try_from(REBALANCE_MS).unwrap(),
            require_known_member_id: false,
            supports_skip_assignment: true,
            fresh_id: format!("fresh{}", self.generation),
        }
    }

    /// Takes the reply to a join.
    fn hear(&mut self, reply: &JoinReply) {
        self.id.clone_from(&reply.member_id);
        self.generation = reply.generation.expect("is in a generation");
    }
}

pub(super) fn of(partitions: &[i32]) -> Bytes {
    let all = partitions.iter().copied().collect();
    let named = Named::from([("t".to_owned(), all)]);
    encode_assignment(&named, &[0, 3])
}

pub(super) fn partitions(assignment: &[u8]) -> BTreeSet<i32> {
    let mut assignment = Assignment::decode(assignment).expect("can be read");
    assignment.partitions.remove("t").unwrap_or_default()
}

impl Fixture {
    pub(super) fn send_join(&mut self, request: &JoinRequest) -> Token {
        let token = self.token();
        self.see_topics();
        // No two requests bring the same one.
        let request = JoinRequest {
            fresh_id: format!("{}-{}", request.fresh_id, token.0),
            ..request.clone()
        };
        let outcome = self.coordinator.join(self.now, token, &request);
        self.take(outcome);
        token
    }

    pub(super) fn join_reply(&mut self, token: Token) -> JoinReply {
        match self.replies.remove(&token) {
            Some(Reply::Join(reply)) => reply,
            other => panic!("want the reply to a join, got {other:?}"),
        }
    }

    pub(super) fn ask_join(&mut self, request: &JoinRequest) -> JoinReply {
        let token = self.send_join(request);
        self.join_reply(token)
    }

    pub(super) fn send_sync(&mut self, one: &Classic, given: &[(String, Bytes)]) -> Token {
        let token = self.token();
        self.see_topics();
        let request = SyncRequest {
            group_id: GROUP.to_owned(),
            generation: one.generation,
            member_id: one.id.clone(),
            group_instance_id: one.instance.clone(),
            protocol_type: Some("consumer".to_owned()),
            protocol: Some(one.protocol().to_owned()),
            assignments: given.to_vec(),
        };
        let outcome = self.coordinator.sync(self.now, token, request);
        self.take(outcome);
        token
    }

    pub(super) fn sync_reply(&mut self, token: Token) -> SyncReply {
        match self.replies.remove(&token) {
            Some(Reply::Sync(reply)) => reply,
            other => panic!("want the reply to a sync, got {other:?}"),
        }
    }

    pub(super) fn ask_sync(&mut self, one: &Classic) -> SyncReply {
        let token = self.send_sync(one, &[]);
        self.sync_reply(token)
    }

    pub(super) fn heartbeat(&mut self, one: &Classic) -> ErrorCode {
        self.see_topics();
        let request = HeartbeatRequest {
            group_id: GROUP.to_owned(),
            generation: one.generation,
            member_id: one.id.clone(),
            group_instance_id: one.instance.clone(),
        };
        let result = self.coordinator.heartbeat(self.now, &request);
        result.err().unwrap_or(ErrorCode::None)
    }

    pub(super) fn leave(&mut self, member_id: &str, instance: Option<&str>) -> ErrorCode {
        let leaving = [LeavingMember {
            member_id: member_id.to_owned(),
            group_instance_id: instance.map(str::to_owned),
        }];
        let (errors, outcome) = self.coordinator.leave(self.now, GROUP, &leaving);
        self.take(outcome);
        errors[0]
    }

    pub(super) fn commit(&mut self, one: &Classic, generation: i32) -> ErrorCode {
        self.commit_reply(one, generation)
            .expect("is answered at once")
    }

    /// The error of a commit, if it is answered at once.
    pub(super) fn commit_reply(&mut self, one: &Classic, generation: i32) -> Option<ErrorCode> {
        let token = self.token();
        let request = CommitRequest {
            group_id: GROUP.to_owned(),
            generation: Some(generation),
            member_id: one.id.clone(),
            group_instance_id: one.instance.clone(),
            knows_epochs: false,
            retention_ms: None,
            partitions: vec![CommitPartition {
                partition: TopicPartition::new("t", 0),
                offset: Offset(5),
                leader_epoch: None,
                metadata: String::new(),
                error: ErrorCode::None,
            }],
        };
        let outcome = self.coordinator.commit(self.now, token, request);
        self.take(outcome);
        match self.replies.remove(&token) {
            None => None,
            Some(Reply::Commit(reply)) => Some(reply.partitions[0].1),
            other => panic!("want the reply to a commit, got {other:?}"),
        }
    }

    /// Joins a consumer group as a consumer does, until it has what it may have; `false` if the group is not of that kind.
    pub(super) fn rejoin(&mut self, one: &mut Classic) -> bool {
        for _ in 0..5 {
            if one.eager {
                one.owned.clear();
            }
            let reply = self.ask_join(&one.request());
            assert_eq!(reply.error, ErrorCode::None);
            assert_eq!(reply.leader, "", "the coordinator leads");
            one.hear(&reply);
            let reply = self.ask_sync(one);
            if reply.error == ErrorCode::RebalanceInProgress {
                continue;
            }
            assert_eq!(reply.error, ErrorCode::None);
            let assigned = partitions(&reply.assignment);
            let lost = !one.owned.is_subset(&assigned);
            one.owned = assigned;
            if !lost {
                return true;
            }
        }
        panic!("joins again and again: {one:?}")
    }

    /// A heartbeat, and what a consumer does about its answer.
    pub(super) fn pulse(&mut self, one: &mut Classic) -> ErrorCode {
        let error = self.heartbeat(one);
        if error == ErrorCode::RebalanceInProgress {
            self.rejoin(one);
        }
        error
    }

    pub(super) fn pulse_all(&mut self, members: &mut [&mut Classic]) {
        for one in members {
            self.pulse(one);
        }
    }

    /// A stable classic group, the first of which leads; each with its partitions.
    pub(super) fn classic_group(&mut self, members: &mut [(&mut Classic, &[i32])]) {
        let first = self.ask_join(&members[0].0.request());
        members[0].0.hear(&first);
        let mut waiting = Vec::new();
        for (at, (one, _)) in members.iter().enumerate().skip(1) {
            waiting.push((at, self.send_join(&one.request())));
        }
        if !waiting.is_empty() {
            waiting.push((0, self.send_join(&members[0].0.request())));
        }
        for (at, token) in waiting {
            let reply = self.join_reply(token);
            members[at].0.hear(&reply);
        }
        self.lead(members);
    }

    /// The first of all members of a generation gives each its partitions.
    pub(super) fn lead(&mut self, members: &mut [(&mut Classic, &[i32])]) {
        let given = members.iter();
        let given: Vec<_> = given.map(|(one, all)| (one.id.clone(), of(all))).collect();
        let first = self.send_sync(members[0].0, &given);
        for (at, (one, _)) in members.iter_mut().enumerate() {
            let token = if at == 0 {
                first
            } else {
                self.send_sync(one, &[])
            };
            let reply = self.sync_reply(token);
            assert_eq!(reply.error, ErrorCode::None);
            one.owned = partitions(&reply.assignment);
        }
    }

    fn see_topics(&mut self) {
        let topics = std::sync::Arc::new(self.world.clone());
        self.coordinator.see_topics(topics);
    }

    /// The log, read by another coordinator, amounts to the same group.
    pub(super) fn check_replay(&self) {
        let mut other = Coordinator::new(self.config);
        for record in &self.log {
            other.load(self.now, record.clone());
        }
        other.loaded(self.now);
        let consumer = |coordinator: &Coordinator| {
            let group = coordinator.groups.get(GROUP)?;
            group
                .consumer
                .as_ref()
                .map(|consumer| consumer.state().clone())
        };
        assert_eq!(consumer(&other), consumer(&self.coordinator));
        let classic = |coordinator: &Coordinator| {
            let group = coordinator.groups.get(GROUP)?;
            let members = group.members.iter();
            let members: Vec<_> = members
                .map(|(id, one)| (id.clone(), one.instance_id.clone(), one.assignment.clone()))
                .collect();
            Some((group.current_state(), group.generation, members))
        };
        assert_eq!(classic(&other), classic(&self.coordinator));
    }
}
