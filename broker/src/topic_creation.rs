//! How do topics come into being that nobody created: those a client asks for, and the one for offsets?

use std::collections::BTreeSet;
use std::time::Duration;

use broker_core::controller::request::{
    ControllerRequest, ControllerResponse, CreatableTopic, CreateTopicsRequest,
};
use tokio::sync::Mutex;
use tracing::{debug, info, warn};
use types::ErrorCode;

use crate::broker::Broker;
use crate::coordinator::OFFSETS_TOPIC;
use crate::transactions::TRANSACTIONS_TOPIC;

/// The largest batch of `__consumer_offsets`, above what clients may send to other topics: one record has all that a
/// member shall consume, or all topics that match a regular expression. 8 MiB are two million partitions.
const OFFSETS_RECORD_MAX: usize = 8 << 20;
/// How long a client's request waits for the topic to be there; it asks again otherwise.
const WAIT: Duration = Duration::from_secs(5);

/// One creation at a time: whoever comes second finds what the first made.
#[derive(Debug, Default)]
pub(crate) struct TopicCreation {
    busy: Mutex<()>,
}

impl TopicCreation {
    /// Creates those of `names` that do not exist, with the broker's defaults, and waits until they are known here.
    pub(crate) async fn create(&self, broker: &Broker, names: BTreeSet<String>) {
        let topics = names.into_iter().map(|name| {
            if name == OFFSETS_TOPIC {
                offsets_topic(broker)
            } else if name == TRANSACTIONS_TOPIC {
                transactions_topic(broker)
            } else {
                CreatableTopic {
                    name,
                    num_partitions: -1,
                    replication_factor: -1,
                    ..CreatableTopic::default()
                }
            }
        });
        self.create_all(broker, topics.collect()).await;
    }

    /// Creates `__consumer_offsets`.
    pub(crate) async fn create_offsets_topic(&self, broker: &Broker) {
        let topic = offsets_topic(broker);
        self.create_all(broker, vec![topic]).await;
    }

    /// Creates `__transaction_state`.
    pub(crate) async fn create_transactions_topic(&self, broker: &Broker) {
        let topic = transactions_topic(broker);
        self.create_all(broker, vec![topic]).await;
    }

    async fn create_all(&self, broker: &Broker, mut topics: Vec<CreatableTopic>) {
        let _busy = self.busy.lock().await;
        {
            let image = broker.metadata.borrow();
            topics.retain(|topic| image.topic_by_name(&topic.name).is_none());
        }
        if topics.is_empty() {
            return;
        }
        let asked = ControllerRequest::CreateTopics(CreateTopicsRequest {
            topics,
            validate_only: false,
        });
        let created = match broker.controller.submit(asked, WAIT).await {
            Ok(ControllerResponse::CreateTopics(created)) => created,
            Ok(other) => {
                debug_assert!(false, "the answer is of the request's variant: {other:?}");
                return;
            }
            Err(error) => {
                warn!(%error, "failed to create topics that clients ask for");
                return;
            }
        };
        let mut expected = Vec::new();
        for topic in created {
            match topic.result {
                Ok(detail) => {
                    let (topic, partitions) = (&topic.name, detail.num_partitions);
                    info!(topic, partitions, "created a topic that clients ask for");
                    expected.push(topic.clone());
                }
                Err(error) if error.code == ErrorCode::TopicAlreadyExists => {
                    expected.push(topic.name);
                }
                Err(error) => debug!(topic = topic.name, %error, "a topic was not created"),
            }
        }
        let known = broker.until(WAIT, |image| {
            expected
                .iter()
                .all(|name| image.topic_by_name(name).is_some())
        });
        if !known.await {
            debug!(?expected, "created topics are not known here yet");
        }
    }
}

fn offsets_topic(broker: &Broker) -> CreatableTopic {
    let settings = &broker.settings;
    // As Kafka's: a small cluster cannot have more replicas than brokers.
    let brokers = i32::try_from(broker.broker_count).unwrap_or(i32::MAX);
    let replicas = settings
        .offsets_topic_replication_factor
        .min(brokers.max(1));
    let config = |name: &str, value: String| (name.to_owned(), Some(value));
    CreatableTopic {
        name: OFFSETS_TOPIC.to_owned(),
        num_partitions: settings.offsets_topic_num_partitions,
        replication_factor: i16::try_from(replicas).unwrap_or(i16::MAX),
        configs: vec![
            config("cleanup.policy", "compact".to_owned()),
            config("compression.type", "producer".to_owned()),
            config(
                "segment.bytes",
                settings.offsets_topic_segment_bytes.to_string(),
            ),
            config("max.message.bytes", OFFSETS_RECORD_MAX.to_string()),
        ],
        ..CreatableTopic::default()
    }
}

fn transactions_topic(broker: &Broker) -> CreatableTopic {
    let settings = &broker.settings;
    // As the offsets topic; with fewer replicas fewer can be in sync.
    let brokers = i32::try_from(broker.broker_count).unwrap_or(i32::MAX);
    let replicas = settings
        .transaction_state_log_replication_factor
        .min(brokers.max(1));
    let in_sync = settings.transaction_state_log_min_isr.min(replicas);
    let config = |name: &str, value: String| (name.to_owned(), Some(value));
    CreatableTopic {
        name: TRANSACTIONS_TOPIC.to_owned(),
        num_partitions: settings.transaction_state_log_num_partitions,
        replication_factor: i16::try_from(replicas).unwrap_or(i16::MAX),
        configs: vec![
            config("cleanup.policy", "compact".to_owned()),
            config("compression.type", "uncompressed".to_owned()),
            config("min.insync.replicas", in_sync.to_string()),
            config("unclean.leader.election.enable", "false".to_owned()),
            config(
                "segment.bytes",
                settings.transaction_state_log_segment_bytes.to_string(),
            ),
        ],
        ..CreatableTopic::default()
    }
}
