//! A cluster of brokers in memory, which keeps logs and producer state as Kafka does and fails on purpose. What serves
//! readers and groups is in `fake_reads`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use client::{BoxFuture, ClientOptions, Connector, Stream};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use types::{BatchHeader, ErrorCode, Offset, RecordIter, TopicId};
use wire::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use wire::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use wire::messages::produce_response::{
    PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use wire::messages::{
    InitProducerIdRequest, InitProducerIdResponse, MetadataRequest, ProduceRequest,
};
use wire::{ApiKey, RequestFrame, Response, encode_response};

use crate::fake_reads::FakeGroup;

pub(crate) const TOPIC: &str = "orders";
pub(crate) const TOPIC_ID: TopicId = TopicId([7; 16]);

/// Reads one frame; `None` at the end of the stream.
pub(crate) async fn read_frame(stream: &mut DuplexStream) -> Option<Bytes> {
    let length = stream.read_u32().await.ok()?;
    let mut frame = BytesMut::zeroed(usize::try_from(length).unwrap());
    stream.read_exact(&mut frame).await.ok()?;
    Some(frame.freeze())
}

/// Answers a request.
pub(crate) async fn answer<R: Response>(
    stream: &mut DuplexStream,
    frame: &RequestFrame,
    response: &R,
) {
    let bytes = encode_response(frame.correlation_id, frame.version, response).unwrap();
    // the client may be gone
    let _ = stream.write_all(&bytes).await;
}

/// Every API that the codec knows, in all its versions.
pub(crate) fn all_versions() -> ApiVersionsResponse {
    let api = |key: &ApiKey| ApiVersion {
        api_key: key.as_i16(),
        min_version: *key.valid_versions().start(),
        max_version: *key.valid_versions().end(),
        ..ApiVersion::default()
    };
    ApiVersionsResponse {
        api_keys: ApiKey::ALL.iter().map(api).collect(),
        ..ApiVersionsResponse::default()
    }
}

/// Epoch and the last five batches: first and last sequence, base offset.
type Producer = (i16, VecDeque<(i32, i32, i64)>);

#[derive(Debug, Default)]
pub(crate) struct Partition {
    pub(crate) leader: i32,
    pub(crate) epoch: i32,
    /// Base offset and bytes of every batch.
    pub(crate) batches: Vec<(i64, Bytes)>,
    pub(crate) log_start_offset: i64,
    /// Values in the order of their offsets.
    pub(crate) log: Vec<String>,
    /// By producer id.
    producers: HashMap<i64, Producer>,
}

#[derive(Debug)]
pub(crate) struct State {
    brokers: i32,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) group: FakeGroup,
    next_producer_id: i64,
    seed: u64,
    /// Faults still to come.
    faults: u32,
    /// No produce request is answered any more.
    dead: bool,
    /// Produce requests that are still refused, because the leader does not yet know that it is one.
    pub(crate) not_ready_for: u32,
    pub(crate) faults_done: BTreeMap<&'static str, u32>,
}

/// The cluster; also how a client connects to it.
#[derive(Debug, Clone)]
pub(crate) struct FakeCluster {
    pub(crate) state: Arc<Mutex<State>>,
}

enum Reply {
    Send,
    Drop,
}

impl FakeCluster {
    pub(crate) fn new(brokers: i32, partitions: usize, seed: u64, faults: u32) -> Self {
        let partition = |i: i32| Partition {
            leader: i % brokers,
            ..Partition::default()
        };
        let partitions = (0..i32::try_from(partitions).unwrap())
            .map(partition)
            .collect();
        let faults_done = BTreeMap::new();
        let state = State {
            brokers,
            partitions,
            group: FakeGroup::default(),
            next_producer_id: 100,
            seed,
            faults,
            dead: false,
            not_ready_for: 0,
            faults_done,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub(crate) fn options(&self) -> ClientOptions {
        ClientOptions {
            connector: Arc::new(self.clone()),
            retry_backoff: Duration::from_millis(1),
            retry_backoff_max: Duration::from_millis(5),
            ..ClientOptions::new("fake:0")
        }
    }

    /// What each partition holds.
    pub(crate) fn logs(&self) -> Vec<Vec<String>> {
        self.state
            .lock()
            .partitions
            .iter()
            .map(|p| p.log.clone())
            .collect()
    }

    async fn serve(self, broker: i32, mut stream: DuplexStream) {
        while let Some(frame) = read_frame(&mut stream).await {
            let frame = RequestFrame::parse(frame).unwrap();
            match frame.api_key {
                ApiKey::ApiVersions => answer(&mut stream, &frame, &all_versions()).await,
                ApiKey::Metadata => {
                    frame.decode::<MetadataRequest>().unwrap();
                    let response = self.state.lock().metadata();
                    answer(&mut stream, &frame, &response).await;
                }
                ApiKey::InitProducerId => {
                    let request = frame.decode::<InitProducerIdRequest>().unwrap();
                    let response = self.state.lock().init_producer_id(&request);
                    answer(&mut stream, &frame, &response).await;
                }
                ApiKey::Produce => {
                    let request = frame.decode::<ProduceRequest>().unwrap();
                    let (response, reply) = self.state.lock().produce(broker, &request);
                    match reply {
                        Reply::Send => answer(&mut stream, &frame, &response).await,
                        Reply::Drop => return,
                    }
                }
                _ => {
                    if !self.serve_read(broker, &mut stream, &frame).await {
                        return;
                    }
                }
            }
        }
    }
}

impl Connector for FakeCluster {
    fn connect<'a>(
        &'a self,
        _host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(self.clone().serve(i32::from(port), theirs));
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn Stream>) })
    }
}

impl State {
    pub(crate) fn next(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 29)
    }

    /// How many faults are still to come.
    pub(crate) fn set_faults(&mut self, faults: u32) {
        self.faults = faults;
    }

    /// From now on every produce request ends its connection.
    pub(crate) fn lose_everything(&mut self) {
        self.dead = true;
    }

    /// One time in three, while faults remain: which one.
    pub(crate) fn fault(&mut self) -> Option<&'static str> {
        const KINDS: [&str; 4] = [
            "lost request",
            "lost answer",
            "leader moves",
            "timed out after append",
        ];
        if self.faults == 0 || !self.next().is_multiple_of(3) {
            return None;
        }
        self.faults -= 1;
        let kind = KINDS[usize::try_from(self.next() % 4).unwrap()];
        *self.faults_done.entry(kind).or_insert(0) += 1;
        Some(kind)
    }

    fn metadata(&self) -> MetadataResponse {
        let broker = |id: i32| MetadataResponseBroker {
            node_id: id,
            host: "fake".to_owned(),
            port: id,
            ..MetadataResponseBroker::default()
        };
        let partition = |(index, p): (i32, &Partition)| MetadataResponsePartition {
            partition_index: index,
            leader_id: p.leader,
            leader_epoch: p.epoch,
            ..MetadataResponsePartition::default()
        };
        MetadataResponse {
            brokers: (0..self.brokers).map(broker).collect(),
            topics: vec![MetadataResponseTopic {
                name: Some(TOPIC.to_owned()),
                topic_id: TOPIC_ID,
                partitions: (0..).zip(&self.partitions).map(partition).collect(),
                ..MetadataResponseTopic::default()
            }],
            ..MetadataResponse::default()
        }
    }

    fn init_producer_id(&mut self, request: &InitProducerIdRequest) -> InitProducerIdResponse {
        let (producer_id, producer_epoch) = if request.producer_id >= 0 {
            (request.producer_id, request.producer_epoch + 1)
        } else {
            self.next_producer_id += 1;
            (self.next_producer_id, 0)
        };
        InitProducerIdResponse {
            producer_id,
            producer_epoch,
            ..InitProducerIdResponse::default()
        }
    }

    fn produce(&mut self, broker: i32, request: &ProduceRequest) -> (ProduceResponse, Reply) {
        let fault = self.fault();
        if fault == Some("lost request") || self.dead {
            return (ProduceResponse::default(), Reply::Drop);
        }
        let mut answers = Vec::new();
        for data in request.topic_data.iter().flat_map(|t| &t.partition_data) {
            let at = usize::try_from(data.index).unwrap();
            if fault == Some("leader moves") {
                let brokers = self.brokers;
                let partition = &mut self.partitions[at];
                partition.leader = (partition.leader + 1) % brokers;
                partition.epoch += 1;
            }
            let is_ready = self.not_ready_for == 0;
            self.not_ready_for = self.not_ready_for.saturating_sub(1);
            let (mut code, base_offset) = if is_ready && self.partitions[at].leader == broker {
                self.partitions[at].append(data.records.as_ref().unwrap())
            } else {
                (ErrorCode::NotLeaderOrFollower, -1)
            };
            if fault == Some("timed out after append") && code == ErrorCode::None {
                code = ErrorCode::NotEnoughReplicasAfterAppend;
            }
            answers.push(PartitionProduceResponse {
                index: data.index,
                error_code: code.code(),
                base_offset,
                ..PartitionProduceResponse::default()
            });
        }
        let topic = TopicProduceResponse {
            name: TOPIC.to_owned(),
            topic_id: TOPIC_ID,
            partition_responses: answers,
            ..TopicProduceResponse::default()
        };
        let response = ProduceResponse {
            responses: vec![topic],
            ..ProduceResponse::default()
        };
        (
            response,
            if fault == Some("lost answer") {
                Reply::Drop
            } else {
                Reply::Send
            },
        )
    }
}

impl Partition {
    /// As Kafka: duplicates among the last five batches are acknowledged again, gaps are refused, and a producer that
    /// is not known may begin anywhere.
    fn append(&mut self, batch: &Bytes) -> (ErrorCode, i64) {
        let header: BatchHeader = types::batch::verify_produced(batch).unwrap();
        let base = i64::try_from(self.log.len()).unwrap();
        if let Some((id, epoch)) = header.producer() {
            let (first, last) = (header.base_sequence, header.last_sequence());
            let known = self
                .producers
                .entry(id.0)
                .or_insert((epoch.0, VecDeque::new()));
            if epoch.0 < known.0 {
                return (ErrorCode::InvalidProducerEpoch, -1);
            }
            if epoch.0 > known.0 {
                if first != 0 {
                    return (ErrorCode::OutOfOrderSequenceNumber, -1);
                }
                *known = (epoch.0, VecDeque::new());
            }
            if let Some((_, _, offset)) = known.1.iter().find(|(f, l, _)| (*f, *l) == (first, last))
            {
                return (ErrorCode::None, *offset);
            }
            if known.1.back().is_some_and(|(_, l, _)| l + 1 != first) {
                return (ErrorCode::OutOfOrderSequenceNumber, -1);
            }
            known.1.push_back((first, last, base));
            if known.1.len() > 5 {
                known.1.pop_front();
            }
        }
        let mut stored = batch.to_vec();
        types::batch::set_base_offset(&mut stored, Offset(base));
        self.batches.push((base, stored.into()));
        for record in RecordIter::new(batch, 1 << 20).unwrap() {
            self.log
                .push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
        (ErrorCode::None, base)
    }
}
