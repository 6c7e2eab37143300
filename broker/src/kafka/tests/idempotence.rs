//! Which batches does a partition take from an idempotent producer that it does not know? A broker on its own, asked in the
//! protocol's bytes.

use types::{BatchBuilder, ErrorCode, ProducerEpoch, ProducerId};
use wire::messages::delete_topics_request::DeleteTopicState;
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, InitProducerIdRequest, ProduceRequest,
};

use super::semantics::{Client, solo, topic};

const T: &str = "t";

/// A producer whose batches of one record are made by hand.
struct Producer {
    client: Client,
    id: i64,
    epoch: i16,
}

impl Producer {
    async fn new(mut client: Client) -> Self {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let answer = client.call(4, &request).await;
        assert_eq!(answer.error_code, 0);
        Self {
            client,
            id: answer.producer_id,
            epoch: answer.producer_epoch,
        }
    }

    fn batch(&self, sequence: i32) -> ProduceRequest {
        let (id, epoch) = (ProducerId(self.id), ProducerEpoch(self.epoch));
        let mut batch = BatchBuilder::new().producer(id, epoch, sequence);
        batch.push(crate::clock::wall_ms(), None, Some(b"x"));
        ProduceRequest {
            acks: -1,
            timeout_ms: 5_000,
            topic_data: vec![TopicProduceData {
                name: T.to_owned(),
                partition_data: vec![PartitionProduceData {
                    index: 0,
                    records: Some(batch.build().unwrap()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    /// The offset that the broker tells for the batch with this sequence number, or its error.
    async fn send(&mut self, sequence: i32) -> Result<i64, ErrorCode> {
        let request = self.batch(sequence);
        let answer = self.client.call(9, &request).await;
        let partition = &answer.responses[0].partition_responses[0];
        match ErrorCode::from_code(partition.error_code).unwrap() {
            ErrorCode::None => Ok(partition.base_offset),
            error => Err(error),
        }
    }

    async fn create_topic(&mut self) {
        let request = CreateTopicsRequest {
            topics: vec![topic(T)],
            timeout_ms: 5_000,
            ..Default::default()
        };
        let answer = self.client.call(7, &request).await;
        assert_eq!(answer.topics[0].error_code, 0);
    }

    async fn delete_topic(&mut self) {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: Some(T.to_owned()),
                ..Default::default()
            }],
            timeout_ms: 5_000,
            ..Default::default()
        };
        let answer = self.client.call(6, &request).await;
        assert_eq!(answer.responses[0].error_code, 0);
    }
}

const ABSENT: Result<i64, ErrorCode> = Err(ErrorCode::UnknownTopicOrPartition);
const LATER: Result<i64, ErrorCode> = Err(ErrorCode::NotLeaderOrFollower);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_behind_a_refused_one_waits_for_it_and_is_no_beginning() {
    let (_data, solo) = solo(&[]).await;
    let mut producer = Producer::new(Client::to(&solo).await).await;
    assert_eq!(producer.send(0).await, ABSENT);
    producer.create_topic().await;
    // What was in flight behind the first, in whichever order it comes again.
    for sequence in [1, 2, 1] {
        assert_eq!(producer.send(sequence).await, LATER, "{sequence}");
    }
    for sequence in 0..4 {
        let told = producer.send(sequence).await;
        assert_eq!(told, Ok(i64::from(sequence)));
    }
    // The log knows the producer now, and decides itself.
    assert_eq!(producer.send(0).await, Ok(0));
    let gap = producer.send(9).await;
    assert_eq!(gap, Err(ErrorCode::OutOfOrderSequenceNumber));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_holds_up_no_other_epoch_and_no_other_connection() {
    let (_data, solo) = solo(&[]).await;
    let mut producer = Producer::new(Client::to(&solo).await).await;
    assert_eq!(producer.send(0).await, ABSENT);
    producer.create_topic().await;
    assert_eq!(producer.send(1).await, LATER);
    let mut elsewhere = Producer {
        client: Client::to(&solo).await,
        ..producer
    };
    // As in Kafka: there this is the first that is heard of the producer.
    assert_eq!(elsewhere.send(1).await, Ok(0));
    elsewhere.delete_topic().await;
    assert_eq!(elsewhere.send(2).await, ABSENT);
    elsewhere.create_topic().await;
    assert_eq!(elsewhere.send(3).await, LATER);
    elsewhere.epoch += 1;
    assert_eq!(elsewhere.send(0).await, Ok(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_goes_on_in_a_topic_that_was_made_anew_even_if_it_gave_up_on_a_batch() {
    let (_data, solo) = solo(&[]).await;
    let mut producer = Producer::new(Client::to(&solo).await).await;
    producer.create_topic().await;
    for sequence in 0..3 {
        let told = producer.send(sequence).await;
        assert_eq!(told, Ok(i64::from(sequence)));
    }
    producer.delete_topic().await;
    producer.create_topic().await;
    assert_eq!(producer.send(3).await, Ok(0));
    producer.delete_topic().await;
    assert_eq!(producer.send(4).await, ABSENT);
    producer.create_topic().await;
    // It does not send 4 again: as many tries as batches may be in flight.
    for _ in 0..4 {
        assert_eq!(producer.send(5).await, LATER);
    }
    assert_eq!(producer.send(5).await, Ok(0));
}
