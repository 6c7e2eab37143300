//! Which retries of an idempotent producer does a leader know that was elected, or that truncated its log; and which batches of one
//! that it does not know does it take?

use tests::cluster::{Cluster, Pod, await_some, await_true};
use tests::disk;
use tests::raw::Raw;
use types::builder::BatchBuilder;
use types::{ErrorCode, ProducerEpoch, ProducerId};
use wire::messages::elect_leaders_request::TopicPartitions;
use wire::messages::{ElectLeadersRequest, InitProducerIdRequest};

use crate::replication::leadership;

const TOPIC: &str = "orders";
const PARTITION: i32 = 0;
/// Long enough that every batch is a message of its own between brokers.
const VALUE_BYTES: usize = 64 * 1024;
/// Batches that a leader takes while its followers are frozen: more than a follower has room for in its sockets.
const UNREPLICATED: i32 = 60;

/// A producer whose requests are made by hand: one record a batch, so that sequence numbers are offsets.
struct Producer {
    id: ProducerId,
}

impl Producer {
    fn new(address: &str) -> Self {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let answer = Raw::connect(address).call(4, &request);
        assert_eq!(answer.error_code, 0);
        Self {
            id: ProducerId(answer.producer_id),
        }
    }

    /// The offset that the broker tells for the batch of this sequence number, or its error.
    fn send(&self, leader: &str, sequence: i32, acks: i16) -> Result<i64, ErrorCode> {
        self.send_on(&mut Raw::connect(leader), sequence, acks)
    }

    fn send_on(&self, leader: &mut Raw, sequence: i32, acks: i16) -> Result<i64, ErrorCode> {
        let mut batch = BatchBuilder::new().producer(self.id, ProducerEpoch(0), sequence);
        batch.push(i64::from(sequence), None, Some(&[7; VALUE_BYTES]));
        let batch = batch.build().map_err(|_| ErrorCode::InvalidRecord)?;
        let partition = leader.produce((TOPIC, PARTITION), acks, batch);
        match ErrorCode::from_code(partition.error_code) {
            Some(ErrorCode::None) => Ok(partition.base_offset),
            error => Err(error.unwrap_or(ErrorCode::UnknownServerError)),
        }
    }

    /// Exactly the last five batches before `next` are known as retries, and what leaves a gap is refused.
    #[track_caller]
    fn assert_window(&self, leader: &str, next: i32) {
        for known in next - 5..next {
            assert_eq!(self.send(leader, known, -1), Ok(i64::from(known)), "retry");
        }
        for refused in [next - 6, next + 1] {
            let answer = self.send(leader, refused, -1);
            assert_eq!(
                answer,
                Err(ErrorCode::OutOfOrderSequenceNumber),
                "{refused} when {next} is next"
            );
        }
    }
}

fn address(pod: &Pod) -> String {
    format!("{}:9092", pod.ip)
}

/// The pod that leads the partition, as the broker of `asked` says; `replicas` are then in sync.
fn await_leader(cluster: &Cluster, asked: &Pod, replicas: usize, not: Option<&str>) -> Pod {
    await_some("the partition has a leader and its ISR", || {
        let (leader, _, isr) = leadership(&address(asked), TOPIC).remove(&PARTITION)?;
        let pod = cluster
            .pods()
            .into_iter()
            .find(|pod| pod.name.ends_with(&format!("-{leader}")))?;
        (isr.len() == replicas && not != Some(&*pod.name)).then_some(pod)
    })
}

/// Batches on the disk of a pod.
fn batches(cluster: &Cluster, pod: &Pod) -> i32 {
    let dir = disk::log_dirs(&cluster.data_dir())
        .into_iter()
        .find(|dir| dir.to_string_lossy().contains(&pod.name))
        .expect("it has a log directory");
    let log = disk::partitions(&dir, TOPIC).remove(&format!("{TOPIC}-{PARTITION}"));
    i32::try_from(log.expect("a replica").len()).unwrap()
}

fn elect_preferred(address: &str) {
    let request = ElectLeadersRequest {
        election_type: 0,
        topic_partitions: Some(vec![TopicPartitions {
            topic: TOPIC.to_owned(),
            partitions: vec![PARTITION],
            ..Default::default()
        }]),
        timeout_ms: 10_000,
        ..Default::default()
    };
    let answer = Raw::connect(address).call(2, &request);
    assert_eq!(answer.error_code, 0);
    let partition = &answer.replica_election_results[0].partition_result[0];
    assert_eq!(partition.error_code, 0, "{:?}", partition.error_message);
}

#[test]
fn the_last_five_batches_are_known_after_a_leader_change_and_forgotten_with_a_truncation() {
    let cluster = Cluster::up("examples/quickstart");
    let any = cluster.pods().remove(0);
    let first = await_leader(&cluster, &any, 3, None);
    let producer = Producer::new(&address(&first));
    for sequence in 0..8 {
        let told = producer.send(&address(&first), sequence, -1);
        assert_eq!(told, Ok(i64::from(sequence)));
    }
    let others: Vec<Pod> = cluster
        .pods()
        .into_iter()
        .filter(|pod| pod.name != first.name)
        .collect();

    // The leader goes on alone, and what it took is lost but for what was in its followers' sockets.
    others
        .iter()
        .for_each(|pod| cluster.signal(&pod.name, "STOP"));
    for sequence in 8..8 + UNREPLICATED {
        let told = producer.send(&address(&first), sequence, 1);
        assert_eq!(told, Ok(i64::from(sequence)));
    }
    cluster.signal(&first.name, "STOP");
    others
        .iter()
        .for_each(|pod| cluster.signal(&pod.name, "CONT"));
    let second = await_leader(&cluster, &others[0], 2, Some(&first.name));
    let next = batches(&cluster, &second);
    assert!(
        (8..8 + UNREPLICATED - 6).contains(&next),
        "{next} batches reached {}: nothing is left to truncate",
        second.name
    );
    producer.assert_window(&address(&second), next);
    let told = producer.send(&address(&second), next, -1);
    assert_eq!(told, Ok(i64::from(next)));

    // The old leader wakes, truncates, and leads again.
    cluster.signal(&first.name, "CONT");
    await_leader(&cluster, &second, 3, None);
    elect_preferred(&address(&second));
    await_true("the first leader leads again", || {
        let now = leadership(&address(&first), TOPIC);
        now[&PARTITION].0 == leadership(&address(&second), TOPIC)[&PARTITION].0
            && first.name.ends_with(&format!("-{}", now[&PARTITION].0))
    });
    let forgotten = producer.send(&address(&first), 8 + UNREPLICATED - 1, -1);
    assert_eq!(forgotten, Err(ErrorCode::OutOfOrderSequenceNumber));
    producer.assert_window(&address(&first), next + 1);
    let told = producer.send(&address(&first), next + 1, -1);
    assert_eq!(told, Ok(i64::from(next + 1)));
}

/// The first of two batches in flight comes before the broker is elected, the second after: taken as a beginning, it would make
/// librdkafka believe that the first was written.
#[test]
fn a_new_leader_takes_no_batch_behind_one_that_it_refused_before_its_election() {
    let cluster = Cluster::up("examples/quickstart");
    let any = cluster.pods().remove(0);
    let first = await_leader(&cluster, &any, 3, None);
    let (producer, witness) = (
        Producer::new(&address(&first)),
        Producer::new(&address(&first)),
    );
    let mut others: Vec<(Pod, Raw)> = cluster
        .pods()
        .into_iter()
        .filter(|pod| pod.name != first.name)
        .map(|pod| {
            let connection = Raw::connect(&address(&pod));
            (pod, connection)
        })
        .collect();
    for (_, connection) in &mut others {
        let told = producer.send_on(connection, 0, -1);
        assert_eq!(told, Err(ErrorCode::NotLeaderOrFollower));
    }
    cluster.signal(&first.name, "STOP");
    let second = await_leader(&cluster, &others[0].0, 2, Some(&first.name));
    await_true("the new leader takes records", || {
        witness.send(&address(&second), 0, -1) == Ok(0)
    });
    let (_, connection) = others
        .iter_mut()
        .find(|(pod, _)| pod.name == second.name)
        .expect("one of the two");
    let behind = producer.send_on(connection, 1, -1);
    assert_eq!(behind, Err(ErrorCode::NotLeaderOrFollower));
    for sequence in 0..3 {
        let told = producer.send_on(connection, sequence, -1);
        assert_eq!(told, Ok(i64::from(sequence) + 1));
    }
    cluster.signal(&first.name, "CONT");
}
