//! A coordinator with topics, a clock, a log, and clients that behave.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use types::{ErrorCode, TopicId};

use crate::group::consumer::partitions::Partitions;
use crate::group::consumer::record::Fact;
use crate::group::consumer::request::{
    ConsumerGroupDescription, ConsumerHeartbeat, HeartbeatAnswer, Rejection,
};
use crate::group::consumer::state::State;
use crate::group::consumer::topics::{Topic, Topics};
use crate::group::request::{Reply, Token};
use crate::group::{AppendId, Coordinator, GroupConfig, GroupRecord, GroupState, Now, Outcome};

pub(super) const GROUP: &str = "orders";

/// The topics of a cluster.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    version: u64,
    topics: BTreeMap<String, Topic>,
}

impl Topics for World {
    fn version(&self) -> u64 {
        self.version
    }

    fn find(&self, name: &str) -> Option<Topic> {
        self.topics.get(name).copied()
    }

    fn name_of(&self, id: TopicId) -> Option<&str> {
        let mut topics = self.topics.iter();
        let found = topics.find(|(_, topic)| topic.id == id);
        found.map(|(name, _)| name.as_str())
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.topics.keys().map(String::as_str))
    }
}

/// A client: what it wants and what it believes.
#[derive(Debug, Clone, Default)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) epoch: i32,
    pub(super) owned: Partitions,
    pub(super) topics: BTreeSet<String>,
    pub(super) regex: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) assignor: Option<String>,
}

pub(super) fn client(id: &str) -> Client {
    Client {
        id: id.to_owned(),
        topics: BTreeSet::from(["t".to_owned()]),
        ..Client::default()
    }
}

impl Client {
    pub(super) fn instance(mut self, instance: &str) -> Self {
        self.instance = Some(instance.to_owned());
        self
    }

    pub(super) fn topics(mut self, topics: &[&str]) -> Self {
        self.topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        self
    }

    pub(super) fn regex(mut self, regex: &str) -> Self {
        self.topics.clear();
        self.regex = Some(regex.to_owned());
        self
    }

    pub(super) fn assignor(mut self, assignor: &str) -> Self {
        self.assignor = Some(assignor.to_owned());
        self
    }

    /// A heartbeat that says everything.
    pub(super) fn full(&self) -> ConsumerHeartbeat {
        ConsumerHeartbeat {
            rebalance_timeout_ms: Some(30_000),
            topic_names: Some(self.topics.clone()),
            topic_regex: self.regex.clone(),
            server_assignor: self.assignor.clone(),
            owned: Some(self.owned.clone()),
            ..self.short()
        }
    }

    /// A heartbeat that says that nothing changed.
    pub(super) fn short(&self) -> ConsumerHeartbeat {
        ConsumerHeartbeat {
            group_id: GROUP.to_owned(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance.clone(),
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            ..ConsumerHeartbeat::default()
        }
    }

    /// Takes an answer as a consumer does: it drops what it may not have, then takes what is new.
    pub(super) fn hear(&mut self, answer: &HeartbeatAnswer) {
        self.id.clone_from(&answer.member_id);
        self.epoch = answer.member_epoch;
        if let Some(assignment) = &answer.assignment {
            self.owned = assignment.clone();
        }
    }

    pub(super) fn fenced(&mut self) {
        self.epoch = 0;
        self.owned = Partitions::default();
    }
}

/// The world of one test. Appends succeed at once unless `hold` is set.
pub(super) struct Fixture {
    pub(super) coordinator: Coordinator,
    pub(super) config: GroupConfig,
    pub(super) now: Now,
    pub(super) world: World,
    pub(super) log: Vec<GroupRecord>,
    pub(super) hold: bool,
    held: VecDeque<(AppendId, Vec<GroupRecord>)>,
    pub(super) replies: BTreeMap<Token, Reply>,
    tokens: u64,
}

impl Fixture {
    /// A cluster with the topic `t` of that many partitions.
    pub(super) fn new(partitions: i32) -> Self {
        let mut fixture = Self::with(GroupConfig {
            initial_rebalance_delay_ms: 0,
            ..GroupConfig::default()
        });
        fixture.topic("t", partitions);
        fixture
    }

    pub(super) fn with(config: GroupConfig) -> Self {
        Self {
            coordinator: Coordinator::new(config),
            config,
            now: Now {
                monotonic_ms: 1_000,
                wall_ms: 1_700_000_000_000,
            },
            world: World::default(),
            log: Vec::new(),
            hold: false,
            held: VecDeque::new(),
            replies: BTreeMap::new(),
            tokens: 0,
        }
    }

    /// Makes a topic, or gives it another number of partitions.
    pub(super) fn topic(&mut self, name: &str, partitions: i32) -> TopicId {
        self.world.version += 1;
        let id = topic_id(name);
        let topic = Topic { id, partitions };
        self.world.topics.insert(name.to_owned(), topic);
        id
    }

    pub(super) fn delete_topic(&mut self, name: &str) {
        self.world.version += 1;
        self.world.topics.remove(name);
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
                    self.held.push_back((append.id, append.records));
                } else {
                    self.log.extend(append.records);
                    queue.push_back(self.coordinator.appended(self.now, append.id, Ok(())));
                }
            }
        }
    }

    pub(super) fn holds_something(&self) -> bool {
        !self.held.is_empty()
    }

    /// Bytes of the records of the oldest append that is held back.
    pub(super) fn held_bytes(&self) -> usize {
        let (_, records) = self.held.front().expect("an append is held");
        let encoded = records.iter().map(GroupRecord::encode);
        encoded
            .map(|(key, value)| key.len() + value.map_or(0, |value| value.len()))
            .sum()
    }

    /// Reports the result of the oldest append that is held back.
    pub(super) fn release(&mut self, result: Result<(), ErrorCode>) {
        let (id, records) = self.held.pop_front().expect("an append is held");
        if result.is_ok() {
            self.log.extend(records);
        }
        let outcome = self.coordinator.appended(self.now, id, result);
        self.take(outcome);
    }

    pub(super) fn send(&mut self, request: ConsumerHeartbeat) -> Token {
        let token = self.token();
        let topics = Arc::new(self.world.clone());
        self.send_with(token, topics, request);
        token
    }

    /// A heartbeat that came when the topics were these.
    pub(super) fn send_with(
        &mut self,
        token: Token,
        topics: Arc<World>,
        request: ConsumerHeartbeat,
    ) {
        let outcome = match request.validate(&self.config.consumer) {
            Ok(valid) => (self.coordinator).consumer_heartbeat(self.now, token, topics, valid),
            Err(rejection) => Outcome {
                replies: vec![(token, Reply::ConsumerHeartbeat(Err(rejection)))],
                ..Outcome::default()
            },
        };
        self.take(outcome);
    }

    pub(super) fn answer(&mut self, token: Token) -> Option<Result<HeartbeatAnswer, Rejection>> {
        match self.replies.remove(&token) {
            None => None,
            Some(Reply::ConsumerHeartbeat(answer)) => Some(answer),
            Some(other) => panic!("want the answer to a heartbeat, got {other:?}"),
        }
    }

    /// The answer to a heartbeat that is not held up.
    pub(super) fn ask(&mut self, request: ConsumerHeartbeat) -> Result<HeartbeatAnswer, Rejection> {
        let token = self.send(request);
        self.answer(token).expect("is answered at once")
    }

    /// The error of a heartbeat, `NONE` without.
    pub(super) fn error(&mut self, request: ConsumerHeartbeat) -> ErrorCode {
        self.ask(request)
            .err()
            .map_or(ErrorCode::None, |rejection| rejection.error)
    }

    /// One full heartbeat of a client that hears the answer.
    pub(super) fn beat(&mut self, client: &mut Client) {
        let answer = self.ask(client.full()).expect("is a member");
        client.hear(&answer);
    }

    /// A client that joined and has all it shall have for now.
    pub(super) fn joined(&mut self, client: Client) -> Client {
        let mut client = client;
        self.beat(&mut client);
        client
    }

    /// Heartbeats of all until nothing moves.
    pub(super) fn converge(&mut self, clients: &mut [&mut Client]) {
        for _ in 0..10 {
            clients.iter_mut().for_each(|client| self.beat(client));
        }
        assert_eq!(self.state(), GroupState::Stable);
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

    pub(super) fn describe(&self) -> Option<ConsumerGroupDescription> {
        self.coordinator.describe_consumer_group(GROUP)
    }

    pub(super) fn state(&self) -> GroupState {
        self.describe()
            .map_or(GroupState::Dead, |group| group.state)
    }

    /// Everything the records amount to.
    pub(super) fn state_of_group(&self) -> Option<State> {
        let consumer = self.coordinator.groups.get(GROUP)?.consumer.as_ref()?;
        Some(consumer.state().clone())
    }

    /// Kafka reads the log, too: nobody is given a partition before a record has taken it from its owner.
    pub(super) fn check_owners(&self) {
        let mut owners: BTreeMap<(TopicId, i32), &str> = BTreeMap::new();
        for record in &self.log {
            let GroupRecord::Consumer(record) = record else {
                continue;
            };
            let Fact::Current(id, current) = &record.fact else {
                continue;
            };
            owners.retain(|_, owner| *owner != id.as_str());
            let Some(current) = current else { continue };
            let given = current.assigned.iter();
            for key in given.chain(current.pending_revocation.iter()) {
                let owner = owners.insert(key, id);
                assert_eq!(owner, None, "{key:?} is given to {id}");
            }
        }
    }

    pub(super) fn epoch(&self) -> i32 {
        self.describe().map_or(0, |group| group.epoch)
    }

    /// The same coordinator after losing its memory: loaded from `log`.
    pub(super) fn reload_from(&mut self, log: &[GroupRecord]) {
        self.coordinator = Coordinator::new(self.config);
        self.held.clear();
        for record in log {
            let (key, value) = record.encode();
            let read = GroupRecord::decode(&key, value.as_deref())
                .expect("what was encoded decodes")
                .expect("a known key version");
            assert_eq!(&read, record);
            self.coordinator.load(self.now, read);
        }
        self.coordinator.loaded(self.now);
    }

    pub(super) fn reload(&mut self) {
        let log = self.log.clone();
        self.reload_from(&log);
    }
}

pub(super) fn topic_id(name: &str) -> TopicId {
    let mut id = [7; 16];
    for (at, byte) in name.bytes().take(16).enumerate() {
        id[at] = byte;
    }
    TopicId(id)
}

/// Partitions of the topic `t`.
pub(super) fn of_t(partitions: &[i32]) -> Partitions {
    partitions.iter().map(|one| (topic_id("t"), *one)).collect()
}
