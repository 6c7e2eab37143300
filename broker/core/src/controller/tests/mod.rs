//! Does the controller decide what Kafka's would, and does every decision replay?

mod brokers;
mod configs;
mod eligibility;
mod features;
mod losses;
mod partitions;
mod random;
mod reassignment;
mod topics;

use std::collections::BTreeMap;

use config::{BrokerSettings, ConfigMap};
use types::{BrokerEpoch, NodeId, TopicId};

use super::request::*;
use super::*;
use crate::metadata::{BrokerEndpoint, BrokerUuid};
use crate::partition::PartitionRegistration;

const CLUSTER: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

/// A controller whose decisions are committed at once, and the image that everybody else has.
struct Cluster {
    controller: Controller,
    committed: MetadataImage,
    now: i64,
    seed: u64,
    epochs: BTreeMap<i32, BrokerEpoch>,
}

fn controller_config(file: &[(&str, &str)]) -> ControllerConfig {
    let file: ConfigMap = file
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let layers = config::BrokerLayers {
        file: Some(&file),
        ..Default::default()
    };
    let settings = BrokerSettings::resolve(&layers).expect("valid");
    ControllerConfig {
        cluster_id: CLUSTER.to_owned(),
        node_id: NodeId(0),
        file,
        settings,
    }
}

fn registration(node: i32, incarnation: u8, disk: u8) -> RegisterBrokerRequest {
    let endpoint = |name: &str, port| BrokerEndpoint {
        name: name.to_owned(),
        host: format!("host-{node}"),
        port,
    };
    RegisterBrokerRequest {
        cluster_id: CLUSTER.to_owned(),
        node_id: NodeId(node),
        incarnation: Incarnation::from_bytes([incarnation; 16]),
        broker_uuid: BrokerUuid::from_bytes([disk; 16]),
        endpoints: vec![endpoint("internal", 9092)],
        rpc: endpoint("rpc", 9090),
        rack: None,
        software_version: "0.1.0".to_owned(),
        previous_epoch: None,
        had_registered: true,
        reads_elr: true,
    }
}

impl Cluster {
    /// Brokers 0 to `brokers - 1`, all serving.
    fn new(brokers: i32) -> Self {
        Self::with_file(brokers, &[])
    }

    fn with_file(brokers: i32, file: &[(&str, &str)]) -> Self {
        let mut cluster = Self {
            controller: Controller::take_over(controller_config(file), MetadataImage::empty(), 0),
            committed: MetadataImage::empty(),
            now: 0,
            seed: 1,
            epochs: BTreeMap::new(),
        };
        cluster.tick(0);
        for node in 0..brokers {
            cluster.start(node, 1);
        }
        cluster
    }

    fn commit(&mut self, records: &[MetadataRecord]) {
        if !records.is_empty() {
            // Offsets have gaps.
            let offset = self.committed.offset() + 2;
            self.committed
                .apply(offset, records)
                .expect("decided on this image");
            self.controller.committed(offset);
        }
        assert_eq!(self.controller.image(), &self.committed);
    }

    fn ask(&mut self, request: &ControllerRequest) -> ControllerResponse {
        self.seed += 1;
        let bytes = request.encode();
        assert_eq!(ControllerRequest::decode(&bytes).as_ref(), Ok(request));
        let decision = self
            .controller
            .decide(self.now, self.seed, request)
            .expect("decisions fit");
        self.commit(&decision.records);
        let bytes = decision.response.encode();
        assert_eq!(
            ControllerResponse::decode(&bytes).as_ref(),
            Ok(&decision.response)
        );
        decision.response
    }

    fn tick(&mut self, ms: i64) {
        self.now += ms;
        let records = self.controller.tick(self.now).expect("decisions fit");
        self.commit(&records);
    }

    fn register(&mut self, request: RegisterBrokerRequest) -> Result<BrokerEpoch, ApiError> {
        let node = request.node_id.0;
        let ControllerResponse::RegisterBroker(result) =
            self.ask(&ControllerRequest::RegisterBroker(request))
        else {
            panic!("another response");
        };
        if let Ok(epoch) = result {
            self.epochs.insert(node, epoch);
        }
        result
    }

    fn heartbeat_with(
        &mut self,
        node: i32,
        change: impl FnOnce(&mut BrokerHeartbeatRequest),
    ) -> Result<BrokerState, ApiError> {
        let mut request = BrokerHeartbeatRequest {
            node_id: NodeId(node),
            broker_epoch: self.epochs.get(&node).copied().unwrap_or_default(),
            metadata_offset: self.committed.offset(),
            want_fence: false,
            want_shut_down: false,
            reads_elr: false,
        };
        change(&mut request);
        let ControllerResponse::BrokerHeartbeat(result) =
            self.ask(&ControllerRequest::BrokerHeartbeat(request))
        else {
            panic!("another response");
        };
        result
    }

    fn heartbeat(&mut self, node: i32) -> BrokerState {
        self.heartbeat_with(node, |_| {}).expect("registered")
    }

    /// Registers a process of `node` and lets it serve.
    fn start(&mut self, node: i32, incarnation: u8) {
        let disk = u8::try_from(node + 100).expect("few nodes");
        self.register(registration(node, incarnation, disk))
            .expect("accepted");
        self.heartbeat(node);
        assert!(self.committed.is_active(NodeId(node)));
    }

    /// The process of `node` dies and everybody knows.
    fn kill(&mut self, node: i32) {
        let incarnation = self
            .committed
            .broker(NodeId(node))
            .expect("registered")
            .incarnation;
        let records = self
            .controller
            .connection_lost(NodeId(node), incarnation)
            .expect("decisions fit");
        self.commit(&records);
    }

    fn create(&mut self, topic: CreatableTopic) -> Result<CreatedTopicDetail, ApiError> {
        let request = CreateTopicsRequest {
            topics: vec![topic],
            validate_only: false,
        };
        let ControllerResponse::CreateTopics(mut results) =
            self.ask(&ControllerRequest::CreateTopics(request))
        else {
            panic!("another response");
        };
        results.remove(0).result
    }

    /// A topic of one partition with these replicas.
    fn create_on(&mut self, name: &str, replicas: &[i32]) -> TopicId {
        let assignment = ReplicaAssignment {
            partition: 0,
            replicas: replicas.iter().copied().map(NodeId).collect(),
        };
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: vec![assignment],
            configs: Vec::new(),
        };
        self.create(topic).expect("accepted").topic_id
    }

    fn partition(&self, topic: TopicId) -> PartitionRegistration {
        self.committed
            .partition(topic, 0)
            .expect("exists")
            .as_ref()
            .clone()
    }

    /// Leader (-1 for none) and ISR of partition 0.
    fn state(&self, topic: TopicId) -> (i32, Vec<i32>) {
        let partition = self.partition(topic);
        (
            partition.leader.map_or(-1, |node| node.0),
            partition.isr.iter().map(|node| node.0).collect(),
        )
    }

    /// ISR and ELR of partition 0.
    fn holders(&self, topic: TopicId) -> (Vec<i32>, Vec<i32>) {
        let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
        let partition = self.partition(topic);
        (ids(&partition.isr), ids(&partition.elr))
    }

    fn set(&mut self, resource: ConfigResource, key: &str, value: &str) -> Result<(), ApiError> {
        self.change(resource, ConfigOp::Set, key, Some(value))
    }

    fn change(
        &mut self,
        resource: ConfigResource,
        op: ConfigOp,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), ApiError> {
        let change = ConfigChange {
            name: key.to_owned(),
            op,
            value: value.map(str::to_owned),
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![(resource, vec![change])],
            validate_only: false,
        };
        let ControllerResponse::IncrementalAlterConfigs(mut results) =
            self.ask(&ControllerRequest::IncrementalAlterConfigs(request))
        else {
            panic!("another response");
        };
        results.remove(0).result
    }
}

use crate::metadata::ConfigResource;

fn topic(name: &str, partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor,
        ..CreatableTopic::default()
    }
}

/// Whether `result` is the refusal with this code and this text in its message.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(
    result: Result<T, ApiError>,
    code: types::ErrorCode,
    says: &str,
) {
    let error = result.expect_err(says);
    assert_eq!(error.code, code, "{error}");
    assert!(error.message.contains(says), "{error}");
}
