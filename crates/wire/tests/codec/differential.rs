//! Does `kafka-protocol`, written by others, read our bytes and write the same, and we theirs?

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, Message as TheirMessage};
use proptest::prelude::*;
use wire::Message;

use crate::values::{Arbitrary, Gen};

/// Our bytes of a random value are read by them and written again as the same bytes, which we read as the same value.
fn check<Ours, Theirs>(seed: u64, size: u64)
where
    Ours: Message + Arbitrary,
    Theirs: TheirMessage + Encodable + Decodable + std::fmt::Debug,
{
    for version in Ours::VERSIONS {
        if !(Theirs::VERSIONS.min..=Theirs::VERSIONS.max).contains(&version) {
            continue;
        }
        let value = Ours::arbitrary(&mut Gen::new(seed, size), version);
        let place = format!("{} v{version}, seed {seed}, size {size}", Ours::NAME);
        let mut ours = BytesMut::new();
        value
            .encode(&mut ours, version)
            .unwrap_or_else(|e| panic!("{place}: {e}"));
        let ours = ours.freeze();

        let mut rest = ours.clone();
        let theirs = Theirs::decode(&mut rest, version)
            .unwrap_or_else(|e| panic!("{place}: they do not read {ours:?}: {e}"));
        assert_eq!(rest, Bytes::new(), "{place}: they leave bytes of {ours:?}");
        let mut again = BytesMut::new();
        theirs
            .encode(&mut again, version)
            .unwrap_or_else(|e| panic!("{place}: {e}"));
        assert_eq!(
            again.freeze(),
            ours,
            "{place}: they write other bytes than they read, {theirs:?}"
        );
        assert_eq!(Ours::decode_exact(ours, version).unwrap(), value, "{place}");
    }
}

/// The versions that only we know, so that nobody believes them covered by this test.
fn versions_only_ours<Ours: Message, Theirs: TheirMessage>() -> Option<String> {
    let theirs = Theirs::VERSIONS.min..=Theirs::VERSIONS.max;
    let only: Vec<i16> = Ours::VERSIONS.filter(|v| !theirs.contains(v)).collect();
    (!only.is_empty()).then(|| format!("{} {only:?}", Ours::NAME))
}

macro_rules! pairs {
    ($($api:ident, $request:ident, $response:ident, $a:ident, $b:ident;)*) => {
        fn check_all(seed: u64, size: u64) {
            $(
                check::<wire::messages::$request, kafka_protocol::messages::$request>(seed, size);
                check::<wire::messages::$response, kafka_protocol::messages::$response>(seed, size);
            )*
        }
        fn all_versions_only_ours() -> Vec<String> {
            [$(
                versions_only_ours::<wire::messages::$request, kafka_protocol::messages::$request>(),
                versions_only_ours::<wire::messages::$response, kafka_protocol::messages::$response>(),
            )*].into_iter().flatten().collect()
        }
    };
}
wire::for_each_api!(pairs);

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 32, ..ProptestConfig::default() })]

    #[test]
    fn kafka_protocol_reads_our_bytes_and_writes_the_same(seed in any::<u64>(), size in 0_u64..4) {
        check_all(seed, size);
        check::<wire::messages::ConsumerProtocolSubscription, kafka_protocol::messages::ConsumerProtocolSubscription>(seed, size);
        check::<wire::messages::ConsumerProtocolAssignment, kafka_protocol::messages::ConsumerProtocolAssignment>(seed, size);
        check::<wire::messages::RequestHeader, kafka_protocol::messages::RequestHeader>(seed, size);
        check::<wire::messages::ResponseHeader, kafka_protocol::messages::ResponseHeader>(seed, size);
        check::<wire::messages::EndTxnMarker, kafka_protocol::messages::EndTxnMarker>(seed, size);
    }
}

#[test]
fn only_these_versions_are_newer_than_the_oracle() {
    assert_eq!(all_versions_only_ours(), ONLY_OURS);
}

const ONLY_OURS: &[&str] = &[
    "ListOffsetsRequest [11]",
    "ListOffsetsResponse [11]",
    "OffsetCommitRequest [10]",
    "OffsetFetchRequest [10]",
    "InitProducerIdRequest [6]",
    "WriteTxnMarkersRequest [2]",
    "WriteTxnMarkersResponse [2]",
    "DescribeLogDirsRequest [5]",
    "DescribeLogDirsResponse [5]",
    "AddRaftVoterRequest [1]",
    "AddRaftVoterResponse [1]",
];
