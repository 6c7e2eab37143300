//! Is the producer's transaction open, as its coordinator knows it, before its batches are appended (KIP-890)?
//!
//! Where a transaction is open already nobody is asked. Clients of version 2 add the partition by producing to it; for
//! older ones the coordinator only confirms.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use broker_core::txn::request::Producer;
use bytes::Bytes;
use types::{BatchHeader, ErrorCode, TopicPartition};
use wire::messages::produce_request::TopicProduceData;
use wire::{ApiKey, RequestFrame};

use super::IDS_SINCE;
use crate::clock::wall_ms;
use crate::kafka::context::RequestContext;
use crate::kafka::handlers::transactional::{for_client, is_writable};
use crate::kafka::topics::{partition_of, resolve};
use crate::replication::{
    AppendChecks, FirstSequence, ProduceError, ProduceOk, TopicIdPartition, Verification,
};
use crate::transactions::{Membership, ask_coordinator};

/// A produce adds its partitions to the transaction, from this version on.
const VERSION_2_SINCE: i16 = 12;
/// `TRANSACTION_ABORTABLE` is known from this version on.
const ABORTABLE_SINCE: i16 = 11;
/// Versions from this one on have compact strings.
const FLEXIBLE_SINCE: i16 = 9;

/// Whether a produce names a transactional id, which is the first thing in it.
pub(in crate::kafka) fn is_transactional(frame: &RequestFrame) -> bool {
    if frame.api_key != ApiKey::Produce {
        return false;
    }
    if frame.version >= FLEXIBLE_SINCE {
        frame.body.first().is_some_and(|length| *length != 0)
    } else {
        frame.body.first().is_some_and(|high| *high != 0xff)
    }
}

/// How often the coordinator is asked again when its answer was out of date at the append.
const ASKED_AGAIN: usize = 3;

/// What the coordinator said of each partition that it was asked for.
#[derive(Debug, Default)]
pub(super) struct Guards {
    transactional_id: Option<String>,
    answers: HashMap<TopicPartition, Result<Option<u64>, ErrorCode>>,
}

impl Guards {
    /// The guard for an append of `records`.
    fn of(&self, target: &TopicIdPartition, records: &Bytes) -> Result<Option<u64>, ProduceError> {
        if self.transactional_id.is_none() {
            let claims = producer_of(records).is_some();
            return if claims {
                let message = "transactional records need a transactional id";
                let code = ErrorCode::TransactionalIdAuthorizationFailed;
                Err(ProduceError::new(code, message))
            } else {
                Ok(None)
            };
        }
        match self.answers.get(&target.topic_partition()) {
            None => Ok(None),
            Some(Ok(guard)) => Ok(*guard),
            Some(Err(code)) => Err(coordinator_says(*code)),
        }
    }
}

impl Guards {
    /// Appends `records`. When the end of the transaction before, or this broker's election, came between the coordinator's answer
    /// and the append, the answer is out of date, and it is asked again.
    pub(super) async fn append(
        &self,
        cx: &RequestContext,
        target: &TopicIdPartition,
        records: Bytes,
        (acks, is_behind_refused): (i16, bool),
        timeout: Duration,
    ) -> Result<ProduceOk, ProduceError> {
        let mut guard = self.of(target, &records)?;
        let mut again = ASKED_AGAIN;
        loop {
            let replicas = &cx.broker.replicas;
            let checks = AppendChecks {
                guard,
                is_behind_refused,
            };
            let produced = replicas.produce_guarded(
                target,
                records.clone(),
                (acks, checks),
                timeout,
                wall_ms(),
            );
            let error = match produced.await {
                Err(error) if error.code == ErrorCode::InvalidTxnState && again > 0 => error,
                ended => return ended,
            };
            let partition = target.topic_partition();
            // Nobody was asked while the transaction was open here, or while this broker was not the leader yet.
            let may_be_confirmed = self.answers.get(&partition).is_none_or(Result::is_ok);
            let (Some(id), Some(producer), true) = (
                &self.transactional_id,
                producer_of(&records),
                may_be_confirmed,
            ) else {
                return Err(error);
            };
            again -= 1;
            let asked = BTreeSet::from([partition]);
            match verified(cx, id, producer, asked).await.pop() {
                Some((_, Ok(next))) => guard = next,
                Some((_, Err(code))) => return Err(coordinator_says(code)),
                None => return Err(error),
            }
        }
    }
}

fn coordinator_says(code: ErrorCode) -> ProduceError {
    ProduceError::new(code, format!("the transaction's coordinator says {code}"))
}

/// The producer of a transactional batch.
fn producer_of(records: &Bytes) -> Option<Producer> {
    let header = BatchHeader::parse(records).ok()?;
    header.producer().filter(|_| header.is_transactional())
}

/// Asks the coordinator where the transaction is not open yet.
pub(super) async fn ask(
    cx: &RequestContext,
    transactional_id: &str,
    topics: &[TopicProduceData],
) -> Guards {
    let mut guards = Guards {
        transactional_id: Some(transactional_id.to_owned()),
        answers: HashMap::new(),
    };
    let image = cx.image();
    let mut asked: BTreeSet<TopicPartition> = BTreeSet::new();
    let mut producer: Option<Producer> = None;
    for topic in topics {
        let Ok(found) = resolve(&image, cx.version >= IDS_SINCE, &topic.name, topic.topic_id)
        else {
            continue;
        };
        for data in &topic.partition_data {
            let Some((this, first)) = data
                .records
                .as_ref()
                .and_then(|records| first_of(cx, records))
            else {
                continue;
            };
            let target = partition_of(found, data.index);
            let partition = target.topic_partition();
            if *producer.get_or_insert(this) != this {
                let refused = Err(ErrorCode::InvalidProducerIdMapping);
                guards.answers.insert(partition, refused);
            } else if is_writable(&image, &partition)
                && cx.broker.replicas.verification(&target, this, Some(first)) != Verification::Open
            {
                asked.insert(partition);
            }
        }
    }
    if let Some(producer) = producer.filter(|_| !asked.is_empty()) {
        guards
            .answers
            .extend(verified(cx, transactional_id, producer, asked).await);
    }
    guards
}

/// The producer of a transactional batch and the sequence number that it begins with.
fn first_of(cx: &RequestContext, records: &Bytes) -> Option<(Producer, FirstSequence)> {
    let first = FirstSequence {
        base: BatchHeader::parse(records).ok()?.base_sequence,
        from_zero: cx.version >= VERSION_2_SINCE,
    };
    Some((producer_of(records)?, first))
}

async fn verified(
    cx: &RequestContext,
    transactional_id: &str,
    producer: Producer,
    partitions: BTreeSet<TopicPartition>,
) -> Vec<(TopicPartition, Result<Option<u64>, ErrorCode>)> {
    let bumps = cx.version >= VERSION_2_SINCE;
    let membership = Membership {
        transactional_id: transactional_id.to_owned(),
        producer,
        verify_only: !bumps,
        partitions,
    };
    let answers = ask_coordinator(&cx.broker, &membership).await;
    let translated = answers.into_iter().map(|(partition, answer)| {
        let answer = answer.map_err(|code| for_client(code, bumps, cx.version >= ABORTABLE_SINCE));
        (partition, answer)
    });
    translated.collect()
}
