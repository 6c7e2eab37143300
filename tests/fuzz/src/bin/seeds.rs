//! Writes the inputs that the targets begin with: `seeds DIR` makes `DIR/decode`, `DIR/batches`, `DIR/log` and `DIR/dispatch`.

// What the counters in all crates are linked with.
use libfuzzer_sys as _;

use std::path::Path;

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use fuzz::steps::{Api, PRODUCE, apis};
use fuzz::subjects::all;
use types::{BatchBuilder, Compression, Offset, ProducerEpoch, ProducerId};
use wire::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use wire::messages::fetch_request::{FetchPartition, FetchTopic};
use wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use wire::messages::join_group_request::JoinGroupRequestProtocol;
use wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use wire::messages::metadata_request::MetadataRequestTopic;
use wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use wire::messages::*;
use wire::Request;

fn main() -> anyhow::Result<()> {
    let Some(root) = std::env::args().nth(1) else {
        bail!("failed to start: want the folder to write to");
    };
    let root = Path::new(&root);
    let decode = all().into_iter().enumerate().filter_map(|(at, subject)| {
        let number = u16::try_from(at).ok()?;
        let body = (subject.default)(subject.version)?;
        Some([&number.to_be_bytes(), &*body].concat())
    });
    write(&root.join("decode"), decode.collect())?;
    let batches = batches()?;
    let sealed = batches.iter().map(|batch| [&[0], &**batch].concat());
    write(&root.join("batches"), sealed.collect())?;
    let files = batches.iter().map(|batch| {
        let length = u16::try_from(batch.len() + 1).unwrap_or(0);
        [&[128], &length.to_be_bytes()[..], &[0], batch].concat()
    });
    write(&root.join("log"), files.collect())?;
    let mut steps = requests(&apis())?;
    steps.extend(batches.iter().map(|batch| {
        let length = u16::try_from(batch.len() + 1).unwrap_or(0);
        [&[PRODUCE, 20], &length.to_be_bytes()[..], &[0], batch].concat()
    }));
    write(&root.join("dispatch"), steps)
}

fn write(dir: &Path, inputs: Vec<Vec<u8>>) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
    for (at, input) in inputs.iter().enumerate() {
        let path = dir.join(format!("seed-{at:04}"));
        std::fs::write(&path, input)
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    println!("{}: {} inputs", dir.display(), inputs.len());
    Ok(())
}

fn batches() -> anyhow::Result<Vec<Bytes>> {
    let mut batches = Vec::new();
    for codec in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        for transactional in [false, true] {
            let mut builder = BatchBuilder::new()
                .base_offset(Offset(0))
                .compression(codec);
            if transactional {
                let producer = (ProducerId(0), ProducerEpoch(0));
                builder = builder.producer(producer.0, producer.1, 0).transactional();
            }
            for n in 0..4_u8 {
                let value = (n != 2).then_some([n; 20]);
                builder.push(
                    1000 + i64::from(n),
                    Some(b"key"),
                    value.as_ref().map(|v| &v[..]),
                );
            }
            batches.push(builder.build()?);
        }
    }
    Ok(batches)
}

/// Every request with its defaults at every version, and some that ask for something.
fn requests(apis: &[Api]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut steps = Vec::new();
    macro_rules! every {
        ($($api:ident, $request:ident, $response:ident, $a:ident, $b:ident;)*) => {
            $(steps.extend(at_every_version(apis, &$request::default())?);)*
        };
    }
    wire::for_each_api!(every);
    let step = |steps: &mut Vec<_>, more: anyhow::Result<Vec<Vec<u8>>>| -> anyhow::Result<()> {
        steps.extend(more?);
        Ok(())
    };
    step(&mut steps, at_every_version(apis, &create_topics()))?;
    step(&mut steps, at_every_version(apis, &fetch()))?;
    step(&mut steps, at_every_version(apis, &list_offsets()))?;
    step(&mut steps, at_every_version(apis, &metadata()))?;
    step(&mut steps, at_every_version(apis, &join_group()))?;
    step(&mut steps, at_every_version(apis, &commit()))?;
    step(&mut steps, at_every_version(apis, &consumer_heartbeat()))?;
    step(&mut steps, at_every_version(apis, &init_producer()))?;
    step(&mut steps, at_every_version(apis, &add_partitions()))?;
    step(&mut steps, at_every_version(apis, &alter_configs()))?;
    Ok(steps)
}

/// Versions that cannot carry a value are left out.
fn at_every_version<R: Request>(apis: &[Api], request: &R) -> anyhow::Result<Vec<Vec<u8>>> {
    let at = apis.iter().position(|api| api.key == R::KEY);
    let kind = u8::try_from(at.context("an API of the table")?)?;
    let mut steps = Vec::new();
    for (back, version) in R::VERSIONS.enumerate() {
        let mut body = BytesMut::new();
        if request.encode(&mut body, version).is_ok() {
            let length = u16::try_from(body.len())?.to_be_bytes();
            let head = [kind, u8::try_from(back)?, length[0], length[1]];
            steps.push([&head, &body[..]].concat());
        }
    }
    Ok(steps)
}

fn create_topics() -> CreateTopicsRequest {
    let config = CreatableTopicConfig {
        name: "cleanup.policy".to_owned(),
        value: Some("compact".to_owned()),
        ..CreatableTopicConfig::default()
    };
    let topic = CreatableTopic {
        name: "b".to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![config],
        ..CreatableTopic::default()
    };
    CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 1000,
        ..CreateTopicsRequest::default()
    }
}

fn fetch() -> FetchRequest {
    let partition = FetchPartition {
        partition_max_bytes: 1000,
        ..FetchPartition::default()
    };
    let topic = FetchTopic {
        topic: "a".to_owned(),
        partitions: vec![partition],
        ..FetchTopic::default()
    };
    FetchRequest {
        max_bytes: 1000,
        topics: vec![topic],
        ..FetchRequest::default()
    }
}

fn list_offsets() -> ListOffsetsRequest {
    let partition = ListOffsetsPartition {
        timestamp: -1,
        ..ListOffsetsPartition::default()
    };
    let topic = ListOffsetsTopic {
        name: "a".to_owned(),
        partitions: vec![partition],
        ..ListOffsetsTopic::default()
    };
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![topic],
        ..ListOffsetsRequest::default()
    }
}

fn metadata() -> MetadataRequest {
    let topic = MetadataRequestTopic {
        name: Some("a".to_owned()),
        ..MetadataRequestTopic::default()
    };
    MetadataRequest {
        topics: Some(vec![topic]),
        ..MetadataRequest::default()
    }
}

fn join_group() -> JoinGroupRequest {
    let metadata = [
        &b"\x00\x00\x00\x00\x00\x01\x00\x01a"[..],
        b"\xff\xff\xff\xff",
    ]
    .concat();
    let protocol = JoinGroupRequestProtocol {
        name: "range".to_owned(),
        metadata: metadata.into(),
        ..JoinGroupRequestProtocol::default()
    };
    JoinGroupRequest {
        group_id: "g".to_owned(),
        session_timeout_ms: 6000,
        rebalance_timeout_ms: 1000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    }
}

fn commit() -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        committed_offset: 1,
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: "a".to_owned(),
        partitions: vec![partition],
        ..OffsetCommitRequestTopic::default()
    };
    OffsetCommitRequest {
        group_id: "h".to_owned(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    }
}

fn consumer_heartbeat() -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "k".to_owned(),
        member_id: "m".to_owned(),
        rebalance_timeout_ms: 1000,
        subscribed_topic_names: Some(vec!["a".to_owned()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

fn init_producer() -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: Some("t".to_owned()),
        transaction_timeout_ms: 1000,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdRequest::default()
    }
}

fn add_partitions() -> AddPartitionsToTxnRequest {
    let topic = AddPartitionsToTxnTopic {
        name: "a".to_owned(),
        partitions: vec![0],
        ..AddPartitionsToTxnTopic::default()
    };
    let transaction = AddPartitionsToTxnTransaction {
        transactional_id: "t".to_owned(),
        topics: vec![topic],
        ..AddPartitionsToTxnTransaction::default()
    };
    AddPartitionsToTxnRequest {
        transactions: vec![transaction],
        ..AddPartitionsToTxnRequest::default()
    }
}

fn alter_configs() -> IncrementalAlterConfigsRequest {
    let config = AlterableConfig {
        name: "retention.ms".to_owned(),
        value: Some("1000".to_owned()),
        ..AlterableConfig::default()
    };
    let resource = AlterConfigsResource {
        resource_type: 2,
        resource_name: "a".to_owned(),
        configs: vec![config],
        ..AlterConfigsResource::default()
    };
    IncrementalAlterConfigsRequest {
        resources: vec![resource],
        ..IncrementalAlterConfigsRequest::default()
    }
}
